"""Files of every format as `Scan`s: NIfTI, DICOM slices and series, NumPy, PNG, TIFF."""

import logging
import pathlib
import warnings
from collections.abc import Sequence

import numpy as np

from prnet_jax.data.dicom import read_dicom
from prnet_jax.data.readers import as_hu, read_png, read_tiff
from prnet_jax.data.scan import Scan, import_library, two_or_three_axes, upright
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


_MM = {"meter": 1000.0, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}


def format_of(file: pathlib.Path) -> tuple[str, str] | None:
    """(name without suffix, format of `SUFFIXES`), or None for a file of no known format.

    DICOM files often have no suffix, or a number for one; they are known by their first bytes.
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
    """One file of a known format, or the DICOM files of one series.

    Args:
        files: one, or several of DICOM.
        name: what messages call it; the first path where not given.
        key: the array to take from a `.npz` that holds several.
        mask: whether values are labels, which DICOM's rescaling does not concern.

    Raises:
        InputError: a format that is not known, a library that is not installed, or what the
            format's own reader refuses.
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
    raise InputError(f"{name} is of no known format; expected one of {', '.join(SUFFIXES)}")


def read_numpy(file: pathlib.Path, name: str | None = None, key: str = "image") -> Scan:
    """A `.npy` or `.npz` file of [H, W] or [H, W, D] numbers, displayed as they lie.

    Raises:
        InputError: damaged, with Python objects in it (never unpickled), several arrays of which
            none is called `key`, of other dimensions, or slices first.
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
                        f"expected one alone, or one called {key!r}"
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
    pixels = two_or_three_axes(pixels, name)
    if pixels.ndim == 3 and pixels.shape[1] == pixels.shape[2] != pixels.shape[0]:
        raise InputError(
            f"{name} is {'x'.join(map(str, pixels.shape))}, slices first as it seems; expected "
            "[H, W, slices]: save numpy.moveaxis(volume, 0, -1)"
        )
    return Scan(pixels)


def read_nifti(file: pathlib.Path, name: str | None = None) -> Scan:
    """A `.nii` or `.nii.gz` file with its scaling applied, turned upright.

    Spacing is the length of the affine's columns. nibabel takes a header without any orientation
    for one with x to the left; a note says so.

    Raises:
        InputError: nibabel is missing, the file is damaged, of other dimensions or of an
            impossible affine, or a single slice that is not axial.
    """
    name = str(file) if name is None else name
    nibabel = import_library("nibabel", name)
    try:
        nibabel.imageglobals.logger.setLevel(logging.ERROR)  # it tells what it mends in headers
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
            f"{name} cannot be read: it is truncated, damaged or no NIfTI; export it again"
        ) from error
    if pixels.dtype.kind not in "buif":
        raise InputError(f"{name} holds {pixels.dtype}; expected one number a voxel")
    pixels = two_or_three_axes(pixels, name)
    affine[:3] *= _MM[unit]
    notes = () if oriented else ("the header states no orientation",)
    return upright(np.atleast_3d(pixels), affine, name, notes=notes)


def whole_numbers(pixels: np.ndarray, name: str, offset: int = 0) -> tuple[np.ndarray, float]:
    """HU as int16 after adding `offset`, and the largest change by rounding.

    Args:
        pixels: [H, W] or [H, W, D], any real type of more than 8 bits.
        name: what messages call the file.
        offset: added to every pixel.

    Raises:
        InputError: 8-bit values, values outside int16 or not finite, or fractions within so narrow
            a range that the picture was scaled and is no longer HU.
    """
    change = 0.0
    if pixels.dtype.kind == "f":
        rounded = np.rint(pixels)
        with np.errstate(invalid="ignore"):  # infinities are refused below
            change = float(np.max(np.abs(pixels - rounded)))
        if change > 1e-3 and np.ptp(pixels) <= 50:
            raise InputError(
                f"{name} holds {pixels.dtype} from {pixels.min():g} to {pixels.max():g}, scaled as "
                "it seems; expected Hounsfield units: export it without normalisation"
            )
        pixels = rounded
    if offset and pixels.dtype.itemsize > 1:
        pixels = pixels.astype(np.float64 if pixels.dtype.kind == "f" else np.int64) + offset
    return as_hu(pixels, name), change
