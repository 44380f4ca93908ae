"""What is to be predicted: files, folders, patterns, zips and DICOM series, each with a name."""

import collections
import dataclasses
import glob
import os
import pathlib
import shutil
import zipfile
from collections.abc import Iterable, Sequence

from prnet_jax.commands import one_line
from prnet_jax.data.folders import files_below
from prnet_jax.data.scan import import_library
from prnet_jax.data.volumes import SUFFIXES, format_of
from prnet_jax.errors import InputError

_RESULTS = ("", "_prob", "_preview")  # ends of the names of what is written
_MAX_UNZIPPED = 32 << 30  # bytes that a zip may hold


@dataclasses.dataclass(frozen=True)
class Input:
    """A picture or volume to predict."""

    name: str  # for messages and tables
    stem: str  # of the names of its results: a path without suffix, relative to their folder
    files: tuple[pathlib.Path, ...]  # one, or the DICOM files of a series
    format: str  # a value of `SUFFIXES`


@dataclasses.dataclass
class Found:
    """What `find_inputs` found."""

    inputs: list[Input] = dataclasses.field(default_factory=list)
    problems: dict[str, str] = dataclasses.field(default_factory=dict)  # by name: what is wrong
    skipped: list[str] = dataclasses.field(default_factory=list)  # of folders: unknown formats
    left_out: list[str] = dataclasses.field(default_factory=list)  # in the folder of the results

    def check(self, out: pathlib.Path) -> None:
        """Refuses to go on without anything to predict; `out` is the folder of the results.

        Raises:
            InputError: there is nothing, not even a problem.
        """
        if self.inputs or self.problems:
            return
        if self.left_out:
            raise InputError(
                f"nothing to predict: all that was found, such as {self.left_out[0]}, lies in the "
                f"folder of the results, {out}; name another one with --out"
            )
        but = f", found only other files, such as {self.skipped[0]}" if self.skipped else ""
        raise InputError(
            f"nothing to predict: expected files of a known format ({', '.join(SUFFIXES)}){but}; "
            "name files or a folder that holds some"
        )


def find_inputs(
    paths: Sequence[str | os.PathLike], scratch: pathlib.Path, leave_out: pathlib.Path
) -> Found:
    """Lists what the paths name.

    The DICOM files of a folder are grouped by series, each of which is one volume. Everything else
    is one picture or volume per file.

    Args:
        paths: files, folders (at any depth), zips of them, and patterns such as `ct/*.nii.gz`.
        scratch: an existing folder, where zips are unpacked.
        leave_out: the folder of the results, which may lie inside one of the others; no file in it
            is an input, since masks of an earlier run lie there.
    """
    found = Found()
    dicom: dict[tuple[str, pathlib.Path], list[pathlib.Path]] = collections.defaultdict(list)
    candidates: list[Input] = []
    leave_out = leave_out.resolve()
    for path in map(pathlib.Path, paths):
        try:
            for root, prefix, file in _files_of(path, scratch):
                # What a zip was unpacked to is no result, even in an enclosing folder.
                if not prefix and leave_out in file.resolve().parents:
                    found.left_out.append(str(file))
                    continue
                known, where = format_of(file), (pathlib.Path(prefix) / file.relative_to(root))
                name = str(file) if not prefix else f"{path}/{file.relative_to(root)}"
                if known is None and file == path:
                    raise InputError(
                        f"{file} has no known format; expected one of {', '.join(SUFFIXES)}, or "
                        "a zip of them"
                    )
                if known is None:
                    found.skipped.append(name)
                elif known[1] == "DICOM":
                    dicom[prefix, root].append(file)
                else:
                    stem = where.with_name(known[0]).as_posix()
                    candidates.append(Input(name, stem, (file,), known[1]))
        except InputError as error:
            found.problems[str(path)] = one_line(error)
    for (prefix, root), files in dicom.items():
        try:
            candidates += _series(root, prefix, files)
        except InputError as error:
            found.problems[str(root)] = one_line(error)
    _keep_unique(candidates, found)
    return found


def _keep_unique(candidates: Iterable[Input], found: Found) -> None:
    """Moves inputs whose results would have one name to the problems."""
    owners: dict[str, Input] = {}
    for one in candidates:
        results = [one.stem + end for end in _RESULTS]
        first = next((owners[stem] for stem in results if stem in owners), one)
        if first is one:
            found.inputs.append(one)
            owners |= dict.fromkeys(results, one)
        elif first.files != one.files:
            found.problems[one.name] = (
                f"{one.name} and {first.name} would have results of one name: "
                "predict them into two folders"
            )


def _files_of(
    path: pathlib.Path, scratch: pathlib.Path
) -> Iterable[tuple[pathlib.Path, str, pathlib.Path]]:
    """(the folder that names are relative to, what goes before them, file)."""
    if not path.exists():
        matches = sorted(map(pathlib.Path, glob.glob(str(path), recursive=True)))
        if not matches:
            raise InputError(f"{path} does not exist, and as a pattern it matches nothing")
        for match in matches:
            yield from _files_of(match, scratch)
    elif path.is_dir():
        for file in files_below(path):
            yield path, "", file
    elif path.suffix.lower() == ".zip":
        folder = scratch / f"zip_{len(list(scratch.iterdir()))}"
        _unzip(path, folder)
        for file in files_below(folder):
            yield folder, path.stem, file
    else:
        yield path.parent, "", path


def _unzip(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Unpacks a zip. Nothing is written outside `folder`, and no more than the zip declares."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            size = sum(entry.file_size for entry in entries)
            free = shutil.disk_usage(folder.parent).free
            if size > min(_MAX_UNZIPPED, free):
                raise InputError(
                    f"{path} unpacks to {size / 2**30:.1f} GB; expected at most "
                    f"{min(_MAX_UNZIPPED, free) / 2**30:.1f} GB: unpack it yourself and name files"
                )
            for entry in entries:
                target = (folder / entry.filename).resolve()
                if folder.resolve() not in target.parents or "\\" in entry.filename:
                    raise InputError(f"{path} holds {entry.filename!r}, which leaves its folder")
                target.parent.mkdir(parents=True, exist_ok=True)
                # Reading checks the size and the sum of the entry; a link becomes a text file.
                with archive.open(entry) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
    except InputError:
        raise
    except Exception as error:  # a damaged zip fails in many ways
        raise InputError(
            f"{path} is a damaged or encrypted zip ({type(error).__name__}): unpack it yourself"
        ) from error


def _series(root: pathlib.Path, prefix: str, files: list[pathlib.Path]) -> list[Input]:
    """One input for each folder and series."""
    pydicom = import_library("pydicom", str(files[0]))
    groups: dict[tuple[pathlib.Path, str], list[pathlib.Path]] = collections.defaultdict(list)
    numbers: dict[tuple[pathlib.Path, str], str] = {}
    for file in files:
        uid, number = "", ""
        try:
            tags = ["SeriesInstanceUID", "SeriesNumber"]
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
            uid = str(header.get("SeriesInstanceUID") or "")
            number = str(header.get("SeriesNumber") or "")
        except Exception:  # damaged: whoever reads it says so
            pass
        groups[file.parent, uid].append(file)
        numbers[file.parent, uid] = number
    in_folder = collections.Counter(folder for folder, _ in groups)
    inputs = []
    for (folder, uid), members in groups.items():
        if len(members) == 1:
            name, _ = format_of(members[0])
            place, shown = folder / name, members[0]
        else:
            place, shown = folder, folder
            if in_folder[folder] > 1:
                place = folder / f"series_{numbers[folder, uid] or uid or 'unnamed'}"
        stem = pathlib.Path(prefix) / place.relative_to(root)
        if not stem.name:  # the series lies in the folder that was named
            stem = pathlib.Path(folder.resolve().name)
        inputs.append(Input(str(shown), stem.as_posix(), tuple(members), "DICOM"))
    return inputs
