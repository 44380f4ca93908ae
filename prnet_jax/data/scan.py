"""A picture or volume with its place in the patient, and how it is turned upright.

A scan whose place is known is turned, never resampled: rows run from anterior to posterior, columns
from the patient's right to left and slices from inferior to superior, as axial slices are shown on
a screen.
"""

import dataclasses
import importlib
import itertools
import types
from collections.abc import Sequence

import numpy as np

from prnet_jax.errors import InputError

NOT_ORIENTED = "the header states no orientation"  # a note
SPACING_MM = (0.01, 100.0)  # smallest and largest plausible pixel of a person's scan

TILTED_DEGREES = 0.5  # more than this is a tilted gantry, not rounding

AXES = ("DHW", "HWD")  # which axis of an array counts its slices

_WORLD_OF_AXIS = (1, 0, 2)  # rows along y (posterior), columns along x (left), slices along z


@dataclasses.dataclass(frozen=True, eq=False)
class Scan:
    """A picture [H, W] or a volume [H, W, D] of at least two slices.

    `affine`, float64 [4, 4], maps (row, column, slice, 1) to DICOM's x, y, z in mm; None where the
    file does not state its place in the patient.
    """

    pixels: np.ndarray
    spacing_mm: tuple[float, float] | None = None  # (row, column) distance of pixel centres
    affine: np.ndarray | None = None
    axes: tuple[int, int, int] = (0, 1, 2)  # the file's axes that are rows, columns and slices
    flipped: tuple[int, ...] = ()  # axes of `pixels` that run the other way than in the file
    patient: str = ""  # DICOM's PatientID
    notes: tuple[str, ...] = ()  # what a person should know, without the file's name
    evenly_spaced: bool = True  # whether slices lie where the affine says, not only on average
    # float64, one for each slice of the file: how thick it is, 1 as the affine says; None: all 1.
    thickness: np.ndarray | None = None

    @property
    def turned(self) -> bool:
        """Whether the pixels are in another order than in the file."""
        return self.axes != (0, 1, 2) or bool(self.flipped)

    def as_stored(self, array: np.ndarray) -> np.ndarray:
        """An array of the shape of `pixels`, such as their mask, in the order of the file."""
        volume = np.flip(np.atleast_3d(array), self.flipped).transpose(np.argsort(self.axes))
        return volume if array.ndim == 3 else volume.squeeze(self.axes[2])


def upright(
    pixels: np.ndarray, affine: np.ndarray, name: str, patient: str = "", notes: tuple = ()
) -> Scan:
    """Turns a volume upright by exchanging and reversing its axes.

    Args:
        pixels: [I, J, K] as stored.
        affine: float64 [4, 4], maps (i, j, k, 1) to DICOM's x (left), y (posterior) and z
            (superior) in mm.
        name: what messages call the file.
        patient: passed on to the result.
        notes: passed on to the result.

    Returns:
        The scan; an oblique volume is turned as near to upright as exchanges and flips allow.

    Raises:
        InputError: an affine without volume, an impossible spacing, or a single slice that is not
            axial.
    """
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not lengths.all():
        raise InputError(
            f"{name} has an affine with zeros for a size or no numbers; export it again"
        )
    directions = np.abs(affine[:3, :3] / lengths)
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < 0.1:
        raise InputError(f"{name} has an affine whose axes lie in one plane; export it again")
    axes = max(
        itertools.permutations(range(3)),
        key=lambda order: sum(directions[_WORLD_OF_AXIS, order]),
    )
    if 1 in pixels.shape and pixels.shape[axes[2]] != 1:
        raise InputError(f"{name} is a single slice but not an axial one; expected axial slices")
    pixels, affine = pixels.transpose(axes), affine[:, [*axes, 3]]
    flipped = []
    for axis, world in enumerate(_WORLD_OF_AXIS):
        if affine[world, axis] < 0:
            affine[:, 3] += affine[:, axis] * (pixels.shape[axis] - 1)
            affine[:, axis] *= -1
            flipped.append(axis)
    pixels = np.flip(pixels, flipped)
    spacing = checked_spacing(np.linalg.norm(affine[:3, :2], axis=0).tolist(), name)
    if pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Scan(pixels, spacing, affine, axes, tuple(flipped), patient, notes)


def two_or_three_axes(pixels: np.ndarray, name: str) -> np.ndarray:
    """[H, W] or [H, W, D]: trailing axes of length 1 after the second are dropped.

    Raises:
        InputError: another number of axes, or an empty one.
    """
    shape = pixels.shape
    while pixels.ndim > 2 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or 0 in shape:
        raise InputError(
            f"{name} has the shape {'x'.join(map(str, shape)) or 'of one number'}; expected "
            "[H, W] or [H, W, slices]: save one picture or volume per file"
        )
    return pixels


def distance_mm(a: Scan, b: Scan) -> float:
    """The largest distance in mm between corresponding corners of two scans of equal shape."""
    extent = np.array([*a.pixels.shape, 1][:3]) - 1
    corners = np.array([[*corner, 1] for corner in itertools.product(*((0, n) for n in extent))])
    return float(np.linalg.norm((corners @ (a.affine - b.affine).T)[:, :3], axis=1).max())


def tilt_degrees(affine: np.ndarray) -> float:
    """By how much the axes of a scan are not perpendicular, as those of a tilted gantry."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.degrees(np.arcsin(np.abs(np.triu(axes.T @ axes, 1)).max().clip(0, 1))))


def checked_spacing(spacing: Sequence[float], name: str) -> tuple[float, float]:
    """(row, column) in mm, unchanged.

    Raises:
        InputError: outside `SPACING_MM`.
    """
    low, high = SPACING_MM
    if len(spacing) != 2 or not all(low <= value <= high for value in spacing):
        raise InputError(
            f"{name} states a pixel spacing of {' x '.join(f'{value:g}' for value in spacing)} mm; "
            f"expected {low:g} to {high:g} mm: correct its header"
        )
    return float(spacing[0]), float(spacing[1])


def import_library(module: str, name: str) -> types.ModuleType:
    """The optional library that reads the file `name`.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{name} needs the library {module}: pip install {module}") from error
