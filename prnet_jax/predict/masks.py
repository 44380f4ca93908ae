"""What is done to a mask by option, and what is measured of it."""

from typing import Any

import numpy as np
import scipy

from prnet_jax.data.scan import Scan


def keep_largest(mask: np.ndarray, number: int) -> np.ndarray:
    """The `number` largest components of a mask, bool [H, W] or [H, W, D].

    Components touch by edges or faces, not by corners. Of equals one is kept.
    """
    labels, found = _components(mask)
    if found <= number:
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    largest = 1 + np.argsort(-sizes, kind="stable")[:number]
    kept = np.zeros_like(mask)
    kept[_box(mask)] = np.isin(labels, largest)
    return kept


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Background that the mask encloses within a slice becomes foreground; shapes as above."""
    if mask.ndim == 2:
        return scipy.ndimage.binary_fill_holes(mask)
    return np.stack([fill_holes(mask[..., z]) for z in range(mask.shape[2])], -1)


def measure(scan: Scan, mask: np.ndarray) -> dict[str, Any]:
    """Facts about a mask.

    Args:
        scan: what was predicted.
        mask: bool, of the shape of `scan.pixels`.

    Returns:
        `slices`, `slices_marked`, `pixels_marked`; `area_mm2` of the marked pixels of a picture, or
        `volume_ml` of a volume, None where the file states no spacing; `mean_inside`, in the unit
        of the pixels, None for an empty mask; `components`. Where slices are not evenly spaced,
        each counts with its own thickness.
    """
    by_slice = np.atleast_3d(mask).any(axis=(0, 1))
    number = int(np.count_nonzero(mask))
    area = volume = None
    if mask.ndim == 3 and scan.affine is not None:
        voxel_mm3 = abs(np.linalg.det(scan.affine[:3, :3]))
        volume = _as_even(scan, mask, number) * voxel_mm3 / 1000
    elif mask.ndim == 2 and scan.spacing_mm is not None:
        area = number * float(np.prod(scan.spacing_mm))
    return {
        "slices": len(by_slice),
        "slices_marked": int(by_slice.sum()),
        "pixels_marked": number,
        "area_mm2": area,
        "volume_ml": volume,
        "mean_inside": float(np.mean(scan.pixels[mask], dtype=np.float64)) if number else None,
        "components": _components(mask)[1],
    }


def _as_even(scan: Scan, mask: np.ndarray, number: int) -> float:
    """How many voxels of the affine's size are as large as the `number` that a volume marks."""
    if scan.thickness is None:
        return number
    marked = np.count_nonzero(scan.as_stored(mask), axis=(0, 1))
    return float(marked @ scan.thickness)


def _components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels of the components within `_box`, and their number."""
    return scipy.ndimage.label(mask[_box(mask)])


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds the foreground."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        where = np.flatnonzero(mask.any(axis=others))
        box.append(slice(where[0], where[-1] + 1) if where.size else slice(0, 0))
    return tuple(box)
