"""DICOM slices and series as `Scan`s."""

import dataclasses
import io
import pathlib
import types
from collections.abc import Sequence
from typing import Any

import numpy as np

from prnet_jax.data.hounsfield import OPTION
from prnet_jax.data.preprocess import AIR
from prnet_jax.data.scan import Scan, checked_spacing, import_library, upright
from prnet_jax.data.untrusted import MAX_PIXELS, UNKNOWN, check_bytes, check_number, one_line
from prnet_jax.errors import InputError

_VECTORS = {"PixelSpacing": 2, "ImageOrientationPatient": 6, "ImagePositionPatient": 3}
_IN_HU = ("CT", "not stated")  # modalities
_UNSCALED = {"RescaleIntercept": 0.0, "RescaleSlope": 1.0}  # what their absence stands for
_DECODERS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
_RATIOS = {"1.2.840.10008.1.2.5": 64}  # RLE makes data at most so many times smaller
_SAME_PLACE_MM = 1e-3  # slices closer than this have one position
_ROUNDING_MM = 0.05  # of positions that a header gives in tenths
_PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")
_HIGHEST_TISSUE = 3000  # HU, of enamel; above it lies only metal


@dataclasses.dataclass(eq=False)
class _Slice:
    name: str
    pixels: np.ndarray
    rescaling: bool  # whether the header has RescaleSlope and RescaleIntercept
    series: str
    spacing: np.ndarray | None  # mm, between rows and between columns
    orientation: np.ndarray | None  # directions along a row and along a column
    position: np.ndarray | None  # mm, of the upper left pixel's centre
    patient: str
    notes: set[str]


def read_dicom(
    files: Sequence[pathlib.Path],
    name: str | None = None,
    rescale: bool = True,
    rescale_required: bool = True,
) -> Scan:
    """Reads one DICOM slice, or the files of a series as a volume, in HU.

    HU = stored * RescaleSlope + RescaleIntercept. Both are needed unless the header states another
    Modality than CT, or the pixels have 8 bits and so are grey values; then they are 1 and 0 where
    they are missing.

    Slices are sorted by ImagePositionPatient along the normal of their plane, whatever their file
    names; one that is stored twice with the same pixels counts once. PixelSpacing is (between rows,
    between columns). A single slice without a position keeps the orientation it has in the file.

    Padding of a CT that would be brighter than any tissue becomes air; see `_white_padding`.

    Args:
        files: one, or all of one series.
        name: what messages call them; the first path by default.
        rescale: False for masks.
        rescale_required: False where RescaleSlope and RescaleIntercept may be missing in CT too.

    Raises:
        InputError: pydicom or a decoder is missing; a file is damaged, in colour, has several
            frames or no rescaling; or the files are not one series of slices at different
            positions.
    """
    name = str(files[0]) if name is None else name
    pydicom = import_library("pydicom", name)
    names = [name] if len(files) == 1 else [f"{name}/{pathlib.Path(file).name}" for file in files]
    slices = []
    for file, file_name in zip(files, names, strict=True):
        with one_line(file_name, "DICOM"):
            slices.append(_read_slice(pydicom, file, file_name, rescale, rescale_required))
    _check_series(slices)
    first, notes = slices[0], set().union(*(slice.notes for slice in slices))
    spacing = None if first.spacing is None else checked_spacing(first.spacing, name)
    if (
        first.orientation is None
        or spacing is None
        or any(slice.position is None for slice in slices)
    ):
        if len(slices) > 1:
            raise InputError(
                f"{name} has slices without ImagePositionPatient, ImageOrientationPatient or "
                "PixelSpacing, so their order and place are unknown: convert the series to NIfTI"
            )
        return Scan(first.pixels, spacing, patient=first.patient, notes=tuple(sorted(notes)))
    volume, affine, gaps = _stacked(slices, spacing, name)
    if volume.shape[2] < len(slices):
        notes.add(f"{len(slices) - volume.shape[2]} slices are stored twice and count once")
    even, some_lost = _are_even(gaps, _ROUNDING_MM), _look_lost(gaps)
    # Both ends of a distance may be rounded; that much is no reason to warn.
    if some_lost or not _are_even(gaps, 2 * _ROUNDING_MM + 1e-6):
        notes.add(
            f"slices lie {gaps.min():.3g} to {gaps.max():.3g} mm apart"
            f"{': are some missing? A' if some_lost else ', at uneven distances: a'} mask in NIfTI "
            f"is placed with their mean distance, {gaps.mean():.3g} mm"
        )
    scan = upright(volume, affine, name, first.patient, tuple(sorted(notes)))
    if even:
        return scan
    # From the middle between two slices to the next one; the outermost as if theirs went on.
    thickness = np.gradient(np.cumsum([0, *gaps])) / gaps.mean()
    return dataclasses.replace(scan, evenly_spaced=False, thickness=thickness)


def _are_even(gaps: np.ndarray, rounding_mm: float) -> bool:
    """Whether every slice is where equal gaps put it, to 1 % of a gap or to the rounding."""
    if not gaps.size:
        return True
    places, mean = np.cumsum(gaps), gaps.mean()
    off = np.abs(places - mean * np.arange(1, gaps.size + 1)).max()
    return bool(off <= max(rounding_mm, 0.01 * mean))


def _look_lost(gaps: np.ndarray) -> bool:
    """Whether single gaps are wider than most, or every gap is the smallest or twice as wide."""
    if not gaps.size or gaps.max() <= 1.5 * gaps.min():
        return False
    off = np.abs(gaps - gaps.min() * np.round(gaps / gaps.min())).max()
    doubled = gaps.max() < 2.5 * gaps.min() and off <= max(_ROUNDING_MM, 0.01 * gaps.max())
    return bool(doubled or gaps.max() > 1.5 * np.median(gaps))


def _check_series(slices: list[_Slice]) -> None:
    """Refuses slices that do not belong to one volume."""
    first = slices[0]
    for other in slices[1:]:
        for field in ("series", "spacing", "orientation"):
            if not _alike(getattr(other, field), getattr(first, field)):
                raise InputError(
                    f"{other.name} has another {field} than {first.name}; expected one series in a "
                    "folder: give each its own folder"
                )
        if other.pixels.shape != first.pixels.shape:
            raise InputError(f"{other.name} has another size than {first.name}: not one volume")
        if other.rescaling != first.rescaling:
            without, having = sorted((first, other), key=lambda slice: slice.rescaling)
            raise InputError(
                f"{without.name} has no RescaleSlope and RescaleIntercept but {having.name} has; "
                "expected one kind of values in a series: correct its header"
            )


def _stacked(
    slices: list[_Slice], spacing: tuple[float, float], name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each slice once, by position: pixels [H, W, D], affine [4, 4] and the gaps in mm [D - 1].

    Raises:
        InputError: two slices at one position that differ.
    """
    along_row, along_column = np.reshape(slices[0].orientation, (2, 3))
    normal = np.cross(along_row, along_column)
    if not np.allclose(np.linalg.norm([along_row, along_column, normal], axis=1), 1, atol=0.01):
        raise InputError(
            f"{name} has an ImageOrientationPatient that is not a pair of perpendicular "
            "directions; correct its header"
        )
    by_place: list[_Slice] = []
    for slice in sorted(slices, key=lambda slice: float(normal @ slice.position)):
        below = by_place[-1] if by_place else None
        if below is None or normal @ (slice.position - below.position) >= _SAME_PLACE_MM:
            by_place.append(slice)
        elif not np.array_equal(slice.pixels, below.pixels) or not np.allclose(
            slice.position, below.position, rtol=0, atol=_SAME_PLACE_MM
        ):
            raise InputError(
                f"{below.name} and {slice.name} are two slices at one position with different "
                "pixels; expected one series: remove one, or give each series its own folder"
            )
    places = np.array([slice.position for slice in by_place])
    gaps = np.diff(places @ normal)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = along_column * spacing[0], along_row * spacing[1]
    affine[:3, 2] = (places[-1] - places[0]) / gaps.size if gaps.size else normal
    affine[:3, 3] = places[0]
    return np.stack([slice.pixels for slice in by_place], -1), affine, gaps


def _read_slice(
    pydicom: types.ModuleType, file: pathlib.Path, name: str, rescale: bool, rescale_required: bool
) -> _Slice:
    content = pathlib.Path(file).read_bytes()  # a length in the file then takes no memory by itself
    if content[128:132] != b"DICM":
        raise InputError(
            f"{name} cannot be read: it has no DICM at byte 128, so it is truncated, not DICOM, or "
            "lacks the file header that DICOM asks for, which dcmconv FILE NEW (DCMTK) adds"
        )
    data = pydicom.dcmread(io.BytesIO(content))
    syntax = data.file_meta.TransferSyntaxUID
    if not syntax.is_transfer_syntax:
        raise InputError(
            f"{name} has the transfer syntax {syntax}, which pydicom does not know; convert it "
            "to Explicit VR Little Endian"
        )
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
    pixels = _decoded(pydicom, data, name)
    vectors = [
        None if data.get(field) is None else np.asarray(data.get(field), np.float64)
        for field in _VECTORS
    ]
    for (field, length), vector in zip(_VECTORS.items(), vectors, strict=True):
        if vector is not None and (vector.shape != (length,) or not np.isfinite(vector).all()):
            raise InputError(
                f"{name} has the {field} {vector.tolist()}; expected {length} numbers: correct its "
                "header"
            )
    spacing, orientation, position = vectors
    notes, missing, modality = set(), [], data.get("Modality") or "not stated"
    if rescale:
        factors = {field: _number(data, field, name) for field in _UNSCALED}
        required = rescale_required and modality in _IN_HU
        missing = [field for field, factor in factors.items() if factor is None]
        if missing and required and pixels.dtype.itemsize > 1:
            raise InputError(
                f"{name} has no {' or '.join(missing)}, so its values may not be Hounsfield units: "
                "correct the header, or, if the stored values need no rescaling, set "
                f"{OPTION}rescale_optional=True"
            )
        factors |= {field: _UNSCALED[field] for field in missing}
        scale = factors["RescaleSlope"], factors["RescaleIntercept"]
        padding = _white_padding(data, pixels, *scale) if modality in _IN_HU else None
        if padding is None:
            pixels = _rescaled(pixels, *scale)
        else:
            pixels = np.where(
                padding, np.int16(AIR), _rescaled(np.where(padding, 0, pixels), *scale)
            )
        if modality != "CT":
            notes.add(f"Modality is {modality}: are these Hounsfield units?")
    return _Slice(
        name=name,
        pixels=pixels,
        rescaling=not missing,
        series=str(data.get("SeriesInstanceUID") or ""),
        spacing=spacing,
        orientation=orientation,
        position=position,
        patient=str(data.get("PatientID") or "").strip(),
        notes=notes,
    )


def _decoded(pydicom: types.ModuleType, data, name: str) -> np.ndarray:
    """The stored values [H, W] of a data set, whose size is compared with its pixels first."""
    syntax = data.file_meta.TransferSyntaxUID
    shape = int(data.Rows), int(data.Columns)
    if int(data.SamplesPerPixel) != 1:
        raise InputError(f"{name} has {data.SamplesPerPixel} samples per pixel; expected one")
    check_number(name, shape, MAX_PIXELS)
    declared = shape[0] * shape[1] * int(data.BitsAllocated) // 8
    ratio = _RATIOS.get(syntax, UNKNOWN) if syntax.is_encapsulated else 1
    check_bytes(name, declared, len(data.PixelData), ratio)
    try:
        return data.pixel_array
    except Exception as error:
        if not syntax.is_encapsulated:
            raise
        decoder = pydicom.pixels.get_decoder(syntax)
        if "pydicom" in decoder.available_plugins or not decoder.missing_dependencies:
            raise
        raise InputError(
            f"{name} is compressed ({syntax.name}) and no decoder that is installed reads it: "
            f"{_DECODERS}; if they are, export it again"
        ) from error


def _number(data: Any, field: str, name: str) -> float | None:
    """A field of the header; None where it is missing or empty."""
    try:
        value = data.get(field)
        if value is None or not str(value).strip():
            return None
        number = float(value)
    except (TypeError, ValueError):  # several numbers, or text
        number = np.nan
    if not np.isfinite(number) or (field == "RescaleSlope" and not number):
        raise InputError(f"{name} has a {field} that is no usable number; correct its header")
    return number


def _white_padding(
    data: Any, stored: np.ndarray, slope: float, intercept: float
) -> np.ndarray | None:
    """Where the padding that the header declares would be brighter than any tissue.

    That is -2000 among unsigned values, where it is 63536. Padding that is dark already looks like
    air, and what has a value that tissue has too may be tissue: both stay as they are.

    Returns:
        bool [H, W], or None where there is none.
    """
    first, limit = (_as_stored(data, field, stored.dtype) for field in _PADDING)
    if first is None:
        return None
    low, high = sorted((first, first if limit is None else limit))
    if min(low * slope + intercept, high * slope + intercept) <= _HIGHEST_TISSUE:
        return None
    padding = (low <= stored) & (stored <= high)
    return padding if padding.any() else None


def _as_stored(data: Any, field: str, dtype: np.dtype) -> int | None:
    """A whole number of the header, read in the type of the pixels; None where that is no number.

    The header may give it as signed where the pixels are unsigned, and the other way round.
    """
    bits = 8 * dtype.itemsize
    try:
        number = int(data.get(field))
    except (TypeError, ValueError, OverflowError):  # missing, several numbers, or text
        return None
    if not -(2 ** (bits - 1)) <= number < 2**bits:
        return None
    number %= 2**bits
    return number - 2**bits if dtype.kind == "i" and number >= 2 ** (bits - 1) else number


def _rescaled(pixels: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """pixels * slope + intercept, int16 where the result is whole and fits."""
    if (slope, intercept) == (1, 0):
        return pixels
    if not (slope.is_integer() and intercept.is_integer()):
        return pixels.astype(np.float64) * slope + intercept
    pixels = pixels.astype(np.int64) * int(slope) + int(intercept)
    fits = -32768 <= pixels.min() and pixels.max() <= 32767
    return pixels.astype(np.int16) if fits else pixels


def _alike(one: np.ndarray | str | None, two: np.ndarray | str | None) -> bool:
    """Whether a field is the same in two slices; scanners' last digits vary at random."""
    if isinstance(one, np.ndarray) and isinstance(two, np.ndarray):
        return np.allclose(one, two, rtol=0, atol=1e-4)
    return type(one) is type(two) and (one is None or one == two)
