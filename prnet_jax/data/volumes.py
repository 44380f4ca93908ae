"""Files of every format as `Scan` objects: NIfTI, DICOM, NumPy, PNG, TIFF and JPEG."""

import dataclasses
import pathlib
from collections.abc import Sequence

from prnet_jax.data.dicom import read_dicom
from prnet_jax.data.grey import grey_of_normalised
from prnet_jax.data.integrity import listed
from prnet_jax.data.nifti import read_nifti
from prnet_jax.data.numpy_files import read_numpy
from prnet_jax.data.preprocess import check_finite
from prnet_jax.data.readers import JPEG_MASK, read_jpeg, read_png, read_tiff
from prnet_jax.data.scan import Scan
from prnet_jax.data.untrusted import one_line
from prnet_jax.errors import InputError

SUFFIXES = {
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".npy": "NumPy",
    ".npz": "NumPy",
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
    ".ima": "DICOM",
}
JPEG_NOTE = "JPEG has 8 bits and has lost detail"

# First bytes of the pictures that are often renamed.
_FIRST_BYTES = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_NIBABEL = "nibabel.save(nibabel.load({0!r}), 'NAME.nii.gz')"
_SIMPLE_ITK = "SimpleITK.WriteImage(SimpleITK.ReadImage({0!r}), 'NAME.nii.gz')"
_CONVERSIONS = {  # formats that are not read, and how Python converts them
    ".hdr": ("half of an ANALYZE or NIfTI pair .hdr and .img", _NIBABEL),
    ".img": ("half of an ANALYZE or NIfTI pair .hdr and .img", _NIBABEL),
    ".mgz": ("FreeSurfer", _NIBABEL),
    ".mgh": ("FreeSurfer", _NIBABEL),
    ".mha": ("MetaImage", _SIMPLE_ITK),
    ".mhd": ("MetaImage", _SIMPLE_ITK),
    ".nrrd": ("NRRD", _SIMPLE_ITK),
    ".nhdr": ("NRRD", _SIMPLE_ITK),
}


def format_of(file: pathlib.Path) -> tuple[str, str] | None:
    """(name without suffix, format as in `SUFFIXES`), or None for an unknown format.

    DICOM files often have no suffix or a number as suffix; their first bytes tell.
    """
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if file.name.lower().endswith(suffix):
            return file.name[: -len(suffix)], SUFFIXES[suffix]
    if file.name.upper() == "DICOMDIR" or not (not file.suffix or file.suffix[1:].isdigit()):
        return None
    try:
        return (file.name, "DICOM") if _is_dicom(_start_of(file)) else None
    except OSError:
        return None


def how_to_convert(name: str) -> str:
    """What a file of another format is and how to make it one that is read."""
    known = _CONVERSIONS.get(pathlib.PurePath(name).suffix.lower())
    if known is None:
        return f"convert {name} to PNG, TIFF, NumPy, NIfTI or DICOM"
    form, how = known
    return f"{name} is {form}: convert it to NIfTI, in Python {how.format(name)}"


def read_scan(
    files: Sequence[pathlib.Path],
    name: str | None = None,
    key: str = "image",
    mask: bool = False,
    axes: str | None = None,
    rescale_required: bool = True,
) -> Scan:
    """Reads one file of a known format, or the DICOM files of one series.

    PNG, TIFF and JPEG are told apart by their first bytes, whatever their suffix.

    Args:
        files: one, or several DICOM files.
        name: what messages call it; the first path by default.
        key: the array to take from a `.npz` that holds several.
        mask: whether the values are labels: DICOM's rescaling does not apply, a palette's index
            counts, and JPEG is refused.
        axes: "HWD" or "DHW", which axis of a NumPy volume counts its slices; None: see
            `read_numpy`.
        rescale_required: as for `read_dicom`.

    Raises:
        InputError: an unknown format, several files of which not all are DICOM, a library that is
            not installed, or a file that the format's reader refuses.
    """
    file = pathlib.Path(files[0])
    name = str(file) if name is None else name
    _check_one(files, name)
    known = format_of(file)
    if known is None:
        raise InputError(
            f"{name} has no known format; expected one of {', '.join(SUFFIXES)}: "
            + how_to_convert(name)
        )
    form = known[1]
    with one_line(name, form):
        if form in ("PNG", "TIFF", "JPEG"):
            start = _start_of(file)
            form = next((f for first, f in _FIRST_BYTES.items() if start.startswith(first)), form)
        match form:
            case "PNG":
                return Scan(read_png(file, name, mask))
            case "TIFF":
                return Scan(read_tiff(file, name, mask))
            case "JPEG":
                if mask:
                    raise InputError(f"{name} is a JPEG, {JPEG_MASK}")
                return Scan(read_jpeg(file, name), notes=(JPEG_NOTE,))
            case "NumPy":
                return read_numpy(file, name, key, axes)
            case "NIfTI":
                return read_nifti(file, name)
            case "DICOM":
                return read_dicom(files, name, not mask, rescale_required)


def read_as_trained(
    files: Sequence[pathlib.Path], name: str, unit: str, axes: str | None = None
) -> Scan:
    """Reads what is to be predicted: `read_scan`, with values as `image_folder` stores them.

    Args:
        files: one, or the DICOM files of a series.
        name: what messages call them.
        unit: "HU" or "grey", of the images that the network was trained on; for grey, normalised
            pictures become grey values.
        axes: of NumPy volumes.

    Raises:
        InputError: as for `read_scan`, or a value that is not finite.
    """
    scan = read_scan(files, name, axes=axes)
    check_finite(scan.pixels, name)
    normalised = grey_of_normalised(scan.pixels) if unit == "grey" else None
    if normalised is None:
        return scan
    grey, note = normalised
    return dataclasses.replace(scan, pixels=grey, notes=(*scan.notes, note))


def _check_one(files: Sequence[pathlib.Path], name: str) -> None:
    """Refuses several files that cannot be the slices of one DICOM series."""
    if len(files) == 1:
        return
    known = {file: format_of(file) for file in map(pathlib.Path, files)}
    others = [file.name for file, form in known.items() if form is None or form[1] != "DICOM"]
    if others:
        raise InputError(
            f"{name} holds {len(files)} files, of which are not DICOM {listed(others)}; expected "
            f"one file, or one DICOM series: name one, or use python -m prnet_jax.predict {name}"
        )


def _start_of(file: pathlib.Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(132)


def _is_dicom(start: bytes) -> bool:
    return start[128:] == b"DICM"
