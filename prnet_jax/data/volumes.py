"""Files of every format as `Scan`s: NIfTI, DICOM slices and series, NumPy, PNG, TIFF."""

import dataclasses
import importlib
import logging
import pathlib
import types
import warnings
from collections.abc import Sequence

import numpy as np

from prnet_jax.data.readers import as_hu, read_png, read_tiff
from prnet_jax.data.scan import Scan, checked_spacing, upright
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
_VECTORS = {"PixelSpacing": 2, "ImageOrientationPatient": 6, "ImagePositionPatient": 3}
_DECODERS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"


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
    pixels = _two_or_three(pixels, name)
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
    nibabel = _library("nibabel", name)
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
    pixels = _two_or_three(pixels, name)
    affine[:3] *= _MM[unit]
    notes = () if oriented else ("the header states no orientation",)
    return upright(np.atleast_3d(pixels), affine, name, notes=notes)


def read_dicom(
    files: Sequence[pathlib.Path], name: str | None = None, rescale: bool = True
) -> Scan:
    """One DICOM slice, or the files of a series as a volume, in HU.

    HU = stored * RescaleSlope + RescaleIntercept. Slices are sorted by ImagePositionPatient along
    the normal of the plane, whatever the files are called. PixelSpacing is (between rows, between
    columns). A slice that states no position is left as it lies in the file.

    Args:
        files: one, or all of one series.
        name: what messages call them; the first path where not given.
        rescale: False for masks.

    Raises:
        InputError: pydicom or a decoder is missing, a file is damaged, in colour or of several
            frames, or the files are not one series of different positions.
    """
    name = str(files[0]) if name is None else name
    pydicom = _library("pydicom", name)
    names = [name] if len(files) == 1 else [f"{name}/{pathlib.Path(file).name}" for file in files]
    slices = [_read_slice(pydicom, f, n, rescale) for f, n in zip(files, names, strict=True)]
    for other, file in zip(slices[1:], names[1:], strict=True):
        for field in ("series", "spacing", "orientation"):
            if not _alike(getattr(other, field), getattr(slices[0], field)):
                raise InputError(
                    f"{file} has another {field} than {names[0]}; expected one series in a folder: "
                    "give each a folder of its own"
                )
        if other.pixels.shape != slices[0].pixels.shape:
            raise InputError(f"{file} has another size than {names[0]}: not one volume")
    first, notes = slices[0], set().union(*(slice.notes for slice in slices))
    if (
        first.orientation is None
        or first.spacing is None
        or any(slice.position is None for slice in slices)
    ):
        if len(slices) > 1:
            raise InputError(
                f"{name} has slices without ImagePositionPatient, ImageOrientationPatient or "
                "PixelSpacing; how they lie is not known: convert the series to NIfTI"
            )
        spacing = None if first.spacing is None else checked_spacing(first.spacing, name)
        return Scan(first.pixels, spacing, patient=first.patient, notes=tuple(sorted(notes)))
    spacing = checked_spacing(first.spacing, name)
    along_row, along_column = np.reshape(first.orientation, (2, 3))
    normal = np.cross(along_row, along_column)
    if not np.allclose(np.linalg.norm([along_row, along_column, normal], axis=1), 1, atol=0.01):
        raise InputError(
            f"{name} has an ImageOrientationPatient that is no pair of perpendicular directions; "
            "mend its header"
        )
    slices.sort(key=lambda slice: float(normal @ slice.position))
    places = np.array([slice.position for slice in slices])
    gaps = np.diff(places @ normal)
    if gaps.size and gaps.min() < 1e-3:
        raise InputError(f"{name} has two slices at one position; expected one series: split it")
    if gaps.size and gaps.max() > 1.5 * np.median(gaps):
        notes.add(f"slices lie {gaps.min():.3g} to {gaps.max():.3g} mm apart: are some missing?")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = along_column * spacing[0], along_row * spacing[1]
    affine[:3, 2] = (places[-1] - places[0]) / gaps.size if gaps.size else normal
    affine[:3, 3] = places[0]
    volume = np.stack([slice.pixels for slice in slices], -1)
    return upright(volume, affine, name, first.patient, tuple(sorted(notes)))


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


@dataclasses.dataclass(eq=False)
class _Slice:
    pixels: np.ndarray
    series: str
    spacing: np.ndarray | None  # mm, between rows and between columns
    orientation: np.ndarray | None  # directions along a row and along a column
    position: np.ndarray | None  # mm, of the upper left pixel's centre
    patient: str
    notes: set[str]


def _read_slice(pydicom: types.ModuleType, file: pathlib.Path, name: str, rescale: bool) -> _Slice:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(file)
            syntax = data.file_meta.TransferSyntaxUID
    except Exception as error:
        raise InputError(
            f"{name} cannot be read: it is truncated, damaged or no DICOM; export it again"
        ) from error
    if "PixelData" not in data:
        what = data.get("Modality") or "no image"
        raise InputError(
            f"{name} has no pixels ({what}); expected a CT slice: remove or convert it"
        )
    colour = data.get("PhotometricInterpretation", "MONOCHROME2")
    if int(data.get("NumberOfFrames") or 1) != 1 or colour != "MONOCHROME2":
        raise InputError(
            f"{name} holds {data.get('NumberOfFrames') or 1} frames of {colour}; expected one of "
            "MONOCHROME2: export it as slices or as NIfTI"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = data.pixel_array
            slope, intercept = (data.get(f"Rescale{n}") for n in ("Slope", "Intercept"))
            slope, intercept = float(1 if slope is None else slope), float(intercept or 0)
            vectors = [
                None if data.get(field) is None else np.asarray(data.get(field), np.float64)
                for field in _VECTORS
            ]
    except Exception as error:
        if syntax.is_compressed and "missing dependencies" in str(error):
            raise InputError(
                f"{name} is compressed ({syntax.name}) and no decoder is installed: {_DECODERS}"
            ) from error
        raise InputError(f"{name} cannot be read: truncated or damaged; export it again") from error
    for (field, length), vector in zip(_VECTORS.items(), vectors, strict=True):
        if vector is not None and (vector.shape != (length,) or not np.isfinite(vector).all()):
            raise InputError(
                f"{name} has the {field} {vector.tolist()}; expected {length} numbers: mend its "
                "header"
            )
    notes = set()
    if rescale and data.get("Modality") != "CT":
        notes.add(
            f"Modality is {data.get('Modality') or 'not stated'}: are these Hounsfield units?"
        )
    if rescale and (slope, intercept) != (1, 0):
        is_whole = slope.is_integer() and intercept.is_integer()
        pixels = pixels.astype(np.int64 if is_whole else np.float64)
        pixels = pixels * (int(slope) if is_whole else slope)
        pixels = pixels + (int(intercept) if is_whole else intercept)
        if is_whole and -32768 <= pixels.min() and pixels.max() <= 32767:
            pixels = pixels.astype(np.int16)
    spacing, orientation, position = vectors
    return _Slice(
        pixels=pixels,
        series=str(data.get("SeriesInstanceUID") or ""),
        spacing=spacing,
        orientation=orientation,
        position=position,
        patient=str(data.get("PatientID") or "").strip(),
        notes=notes,
    )


def _alike(one: np.ndarray | str | None, two: np.ndarray | str | None) -> bool:
    """Whether a field is the same in two slices; scanners write the last digits at random."""
    if isinstance(one, np.ndarray) and isinstance(two, np.ndarray):
        return np.allclose(one, two, rtol=0, atol=1e-4)
    return type(one) is type(two) and (one is None or one == two)


def _two_or_three(pixels: np.ndarray, name: str) -> np.ndarray:
    """Without axes of length 1 after the second."""
    shape = pixels.shape
    while pixels.ndim > 2 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or 0 in shape:
        raise InputError(
            f"{name} has the shape {'x'.join(map(str, shape)) or 'of one number'}; expected "
            "[H, W] or [H, W, slices]: save one picture or volume a file"
        )
    return pixels


def _library(module: str, name: str) -> types.ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{name} needs the library {module}: pip install {module}") from error
