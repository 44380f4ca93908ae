"""A person's 2-D pictures: greyscale TIFF and PNG files, in a folder or in its zip.

Volumes (NIfTI, DICOM, NumPy) are read by `volumes`.
"""

import contextlib
import io
import os
import pathlib
import sys
import threading
import warnings
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from prnet_jax.errors import InputError

_BITS_PER_SAMPLE, _SAMPLE_FORMAT = 258, 339  # TIFF tags
_KINDS = {1: "uint", 2: "int", 3: "float"}  # by SampleFormat
_INT16 = np.iinfo(np.int16)

_stderr_lock = threading.Lock()


def files_below(folder: pathlib.Path) -> list[pathlib.Path]:
    """All files at any depth, sorted; links to files and folders are followed.

    Hidden files and `__MACOSX` are passed over. A link that leads nowhere is listed, since reading
    it should fail instead of silently losing the file; a folder that links back to one it lies in
    is not entered. No files where `folder` is none.

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

    Files may lie at any depth, since a zip may hold the folder itself and unpacking may nest it;
    hidden files and `__MACOSX` are passed over.
    """

    def __init__(self, parent: str | os.PathLike, name: str):
        """Lists `<parent>/<name>/` or, where that holds no TIFF, `<parent>/<name>.zip`.

        Raises:
            InputError: neither exists, the zip is damaged, or two files share an id.
        """
        parent = pathlib.Path(parent)
        folder, archive = parent / name, parent / f"{name}.zip"
        if not folder.is_dir() and not archive.is_file():
            raise InputError(
                f"{parent} holds neither a folder {name} nor {name}.zip; "
                "give the directory that holds them"
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
        """The name by which messages call a file, such as `2d_masks/ID_0003_Z_0132.tif`."""
        return f"{self.name}/{self._files[id].name}"

    def read(self, id: str) -> bytes:
        """The bytes of a file.

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
                    "an id must be there once: remove one"
                )
            self._files[file.stem] = file
        self.ids: tuple[str, ...] = tuple(sorted(self._files))

    def _damaged_zip(self, error: Exception) -> InputError:
        return InputError(f"{self.path} is not a whole zip file ({error}); download it again")


def read_tiff(file: pathlib.Path | bytes, name: str | None = None) -> np.ndarray:
    """Pixels of a greyscale, single-page TIFF.

    Args:
        file: a path, or the file's bytes.
        name: what messages call the file; the path where not given.

    Returns:
        [H, W] in the file's own type: bool, uint8, int16, uint16, int32, float32, ...

    Raises:
        InputError: truncated, damaged, not a TIFF, in colour, or of several pages.
    """
    name = str(file) if name is None else name
    try:
        data = file if isinstance(file, bytes) else pathlib.Path(file).read_bytes()
        with _silent_decoder(), Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            mode, pages = image.mode, image.n_frames
            bits = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))[0]
            kind = _KINDS.get(image.tag_v2.get(_SAMPLE_FORMAT, (1,))[0])
            pixels = np.asarray(image)
    except Exception as error:  # a damaged header can fail anywhere in Pillow, with any error
        raise InputError(
            f"{name} cannot be read: it is truncated, damaged or no TIFF that Pillow knows; "
            "export or download it again"
        ) from error
    if pages != 1:
        raise InputError(f"{name} has {pages} pages; expected one slice a file: export it alone")
    if pixels.ndim != 2 or mode == "P":
        raise InputError(f"{name} is in colour ({mode}); expected greyscale: export it as such")
    if bits == 1 or kind is None:
        return pixels
    return pixels.astype(f"{kind}{bits}")  # Pillow widens int16 to int32


def read_png(file: pathlib.Path | bytes, name: str | None = None) -> np.ndarray:
    """Pixels of a greyscale PNG.

    A palette, RGB or RGBA file whose channels are all equal is grey too: many tools write masks so.
    Full opacity is passed over; grey of 2 or 4 bits is spread over 0 to 255.

    Args:
        file: a path, or the file's bytes.
        name: what messages call the file; the path where not given.

    Returns:
        [H, W]: bool of a 1-bit grey file, uint16 of a 16-bit one, else uint8.

    Raises:
        InputError: truncated, damaged, not a PNG, in colour, partly transparent, or animated.
    """
    name = str(file) if name is None else name
    try:
        data = file if isinstance(file, bytes) else pathlib.Path(file).read_bytes()
        if b"IEND" not in data[-4096:]:  # Pillow is content when only the end is missing
            raise EOFError
        with _silent_decoder(), Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            bits, mode, pages = data[24], image.mode, getattr(image, "n_frames", 1)
            image.load()
            if mode in ("P", "PA"):
                image = image.convert("RGBA" if "transparency" in image.info else "RGB")
            pixels = np.asarray(image)
    except Exception as error:  # as for TIFF
        raise InputError(
            f"{name} cannot be read: it is truncated, damaged or no PNG that Pillow knows; "
            "export or download it again"
        ) from error
    if pages != 1:
        raise InputError(f"{name} has {pages} frames; expected one slice a file: export it alone")
    if pixels.ndim == 2:
        return pixels.astype(np.uint16) if bits == 16 else pixels  # older Pillow: int32
    if bits == 16:  # Pillow drops the lower eight
        raise InputError(f"{name} has 16 bits in each of several channels; export it as greyscale")
    if pixels.shape[2] in (2, 4):
        if np.any(pixels[..., -1] != 255):
            raise InputError(f"{name} is partly transparent; export it without an alpha channel")
        pixels = pixels[..., :-1]
    if np.any(pixels != pixels[..., :1]):
        raise InputError(f"{name} is in colour ({mode}); expected greyscale: export it as such")
    return np.ascontiguousarray(pixels[..., 0])


def read_hu(file: pathlib.Path | bytes, name: str | None = None) -> np.ndarray:
    """A CT slice: `read_tiff`, then `as_hu`, with the errors of both. int16 [H, W]."""
    name = str(file) if name is None else name
    return as_hu(read_tiff(file, name), name)


def as_hu(pixels: np.ndarray, name: str) -> np.ndarray:
    """Pixels of a file of Hounsfield units as int16, values unchanged.

    Args:
        pixels: [H, W], any real type.
        name: what messages call the file.

    Raises:
        InputError: 8-bit pixels (a windowed picture, no longer HU), or values that are not whole
            or not within int16.
    """
    if pixels.dtype.itemsize == 1:
        raise InputError(
            f"{name} is an 8-bit picture; expected Hounsfield units in 16 bits: "
            "export the slice without windowing"
        )
    low, high = pixels.min(), pixels.max()
    whole = pixels.dtype.kind != "f" or bool(np.all(pixels == np.rint(pixels)))
    if not whole or not (_INT16.min <= low and high <= _INT16.max):
        raise InputError(
            f"{name} holds {pixels.dtype} from {low} to {high}; expected whole Hounsfield units "
            f"from {_INT16.min} to {_INT16.max}: export it as 16-bit signed"
        )
    return pixels.astype(np.int16)


@contextlib.contextmanager
def _silent_decoder() -> Iterator[None]:
    """Keeps libtiff, which prints about damaged files by itself, and Pillow's warnings quiet.

    libtiff writes to file descriptor 2, below Python's `sys.stderr`; hence the redirection there.
    """
    with _stderr_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kept = os.dup(2)
        except OSError:  # no standard error at all
            yield
            return
        if sys.stderr is not None:
            sys.stderr.flush()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
