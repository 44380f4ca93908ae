"""A person's files: listed below a folder, and TIFF files by id in a folder or its zip."""

import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator

from prnet_jax.errors import InputError


def files_below(folder: pathlib.Path) -> list[pathlib.Path]:
    """All files at any depth, sorted; links to files and folders are followed.

    Hidden files and `__MACOSX` are skipped. A broken link is listed, so that reading it fails
    instead of silently losing the file. A link back to an enclosing folder is not followed. The
    list is empty where `folder` does not exist.

    Raises:
        InputError: a folder that cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename} cannot be listed ({error.strerror}); check its permissions"
        ) from error

    if not folder.is_dir():
        return []
    found = []
    for path, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        here = pathlib.Path(path)
        real = here.resolve()
        above = {real, *real.parents}
        folders[:] = [
            name for name in folders if not _hidden(name) and (here / name).resolve() not in above
        ]
        found += [here / name for name in names if not _hidden(name)]
    return sorted(found)


def read_bytes(file: pathlib.Path) -> bytes:
    """The content of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(
            f"{file} cannot be read ({error.strerror}); check its permissions"
        ) from error


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


class Folder:
    """The TIFF files of a folder or of a zip, by id (the file's name without `.tif` or `.tiff`).

    Files may lie at any depth, since a zip may contain the folder itself and unpacking may nest
    it. Hidden files and `__MACOSX` are skipped.
    """

    def __init__(self, parent: str | os.PathLike, name: str):
        """Lists `<parent>/<name>/` or, where that holds no TIFF files, `<parent>/<name>.zip`.

        Raises:
            InputError: neither exists, the zip is damaged, or two files share an id.
        """
        parent = pathlib.Path(parent)
        folder, archive = parent / name, parent / f"{name}.zip"
        if not folder.is_dir() and not archive.is_file():
            raise InputError(
                f"{parent} holds neither a folder {name} nor {name}.zip; "
                "give the directory that holds one of them"
            )
        self.name = name
        self.path = folder
        self._zip: zipfile.ZipFile | None = None
        self._list(file.relative_to(folder) for file in files_below(folder))
        if not self.ids and archive.is_file():
            self.path = archive
            try:
                self._zip = zipfile.ZipFile(archive)
            except (zipfile.BadZipFile, OSError) as error:
                raise self._damaged_zip(error) from error
            names = (info.filename for info in self._zip.infolist() if not info.is_dir())
            self._list(pathlib.PurePosixPath(name) for name in names)

    def file(self, id: str) -> str:
        """The name of a file in messages, such as `2d_masks/ID_0003_Z_0132.tif`."""
        return f"{self.name}/{self._files[id].name}"

    def read(self, id: str) -> bytes:
        """The content of a file.

        Raises:
            InputError: the file cannot be read, or the zip is damaged.
        """
        file = str(self._files[id])
        if self._zip is None:
            return read_bytes(self.path / file)
        try:
            return self._zip.read(file)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise self._damaged_zip(error) from error
        except (NotImplementedError, RuntimeError) as error:  # other compression, or a password
            raise InputError(
                f"{self.path} cannot be read ({error}); unpack it into a folder {self.name}"
            ) from error

    def _list(self, files: Iterator[pathlib.PurePath]) -> None:
        self._files: dict[str, pathlib.PurePath] = {}
        for file in files:
            if any(map(_hidden, file.parts)) or file.suffix.lower() not in (".tif", ".tiff"):
                continue
            if file.stem in self._files:
                raise InputError(
                    f"{self.name} holds both {self._files[file.stem]} and {file}; "
                    "an id must be unique: remove one"
                )
            self._files[file.stem] = file
        self.ids: tuple[str, ...] = tuple(sorted(self._files))

    def _damaged_zip(self, error: Exception) -> InputError:
        return InputError(f"{self.path} is a damaged zip file ({error}); download it again")
