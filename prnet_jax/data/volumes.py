"""Files of every format as `Scan`s: NIfTI, DICOM, NumPy, PNG and TIFF."""

import logging
import pathlib
import warnings
from collections.abc import Sequence

import numpy as np

from prnet_jax.data.dicom import read_dicom
from prnet_jax.data.readers import read_png, read_tiff
from prnet_jax.data.scan import Scan, import_library, upright
from prnet_jax.errors import InputError

SUFFIXES = {
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".npy": "NumPy",
    ".npz": "NumPy",
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
    ".ima": "DICOM",
}
_MM = {"meter": 1000.0, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}  # by NIfTI's unit


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
        with file.open("rb") as opened:
            return (file.name, "DICOM") if opened.read(132)[128:] == b"DICM" else None
    except OSError:
        return None


def read_scan(
    files: Sequence[pathlib.Path], name: str | None = None, key: str = "image", mask: bool = False
) -> Scan:
    """Reads one file of a known format, or the DICOM files of one series.

    Args:
        files: one, or several DICOM files.
        name: what messages call it; the first path by default.
        key: the array to take from a `.npz` that holds several.
        mask: whether the values are labels, to which DICOM's rescaling does not apply.

    Raises:
        InputError: an unknown format, a library that is not installed, or a file that the format's
            reader refuses.
    """
    file = pathlib.Path(files[0])
    name = str(file) if name is None else name
    form = format_of(file)
    match form and form[1]:
        case "PNG":
            return Scan(read_png(file, name))
        case "TIFF":
            return Scan(read_tiff(file, name))
        case "NumPy":
            return read_numpy(file, name, key)
        case "NIfTI":
            return read_nifti(file, name)
        case "DICOM":
            return read_dicom(files, name, rescale=not mask)
    raise InputError(f"{name} has no known format; expected one of {', '.join(SUFFIXES)}")


def read_numpy(file: pathlib.Path, name: str | None = None, key: str = "image") -> Scan:
    """Reads a `.npy` or `.npz` file of [H, W] or [H, W, D] numbers, kept in their order.

    Raises:
        InputError: damaged, Python objects (which are never unpickled), several arrays of which
            none is called `key`, other dimensions, or slices first.
    """
    name = str(file) if name is None else name
    try:
        pixels = np.load(file, allow_pickle=False)
        if isinstance(pixels, np.lib.npyio.NpzFile):
            with pixels as arrays:
                keys = list(arrays)
                chosen = keys[0] if len(keys) == 1 else key
                if chosen not in keys:
                    raise InputError(
                        f"{name} holds the arrays {', '.join(keys) or 'none'}; "
                        f"expected a single one, or one called {key!r}"
                    )
                pixels = arrays[chosen]
        pixels = np.asarray(pixels)
    except InputError:
        raise
    except Exception as error:  # damaged zips and headers fail in many ways
        raise InputError(
            f"{name} cannot be read: it is truncated, damaged or holds Python objects, which are "
            "never loaded; save a plain array of numbers again"
        ) from error
    if pixels.dtype.kind not in "buif":
        raise InputError(f"{name} holds {pixels.dtype}; expected numbers: save them as int16")
    pixels = _two_or_three_axes(pixels, name)
    if pixels.ndim == 3 and pixels.shape[1] == pixels.shape[2] != pixels.shape[0]:
        raise InputError(
            f"{name} is {'x'.join(map(str, pixels.shape))}, which seems to have the slices first; "
            "expected [H, W, slices]: save numpy.moveaxis(volume, 0, -1)"
        )
    return Scan(pixels)


def read_nifti(file: pathlib.Path, name: str | None = None) -> Scan:
    """Reads a `.nii` or `.nii.gz` file with its scaling applied, turned upright.

    The spacing is the length of the affine's columns. nibabel assumes x to the left where the
    header states no orientation; a note says so.

    Raises:
        InputError: nibabel is missing; the file is damaged or has other dimensions or an
            impossible affine; or it is a single slice that is not axial.
    """
    name = str(file) if name is None else name
    nibabel = import_library("nibabel", name)
    try:
        nibabel.imageglobals.logger.setLevel(logging.ERROR)  # it reports what it fixes in headers
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = nibabel.load(file)
            header = image.header
            pixels = np.asanyarray(image.dataobj)  # the stored type where nothing is scaled
            unit = header.get_xyzt_units()[0]
            oriented = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
            affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine  # NIfTI's x is right, y front
    except Exception as error:
        raise InputError(
            f"{name} cannot be read: it is truncated, damaged or not NIfTI; export it again"
        ) from error
    if pixels.dtype.kind not in "buif":
        raise InputError(f"{name} holds {pixels.dtype}; expected one number per voxel")
    pixels = _two_or_three_axes(pixels, name)
    affine[:3] *= _MM[unit]
    notes = () if oriented else ("the header states no orientation",)
    return upright(np.atleast_3d(pixels), affine, name, notes=notes)


def _two_or_three_axes(pixels: np.ndarray, name: str) -> np.ndarray:
    """[H, W] or [H, W, D]: trailing axes of length 1 after the second are dropped."""
    shape = pixels.shape
    while pixels.ndim > 2 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or 0 in shape:
        raise InputError(
            f"{name} has the shape {'x'.join(map(str, shape)) or 'of one number'}; expected "
            "[H, W] or [H, W, slices]: save one picture or volume per file"
        )
    return pixels
