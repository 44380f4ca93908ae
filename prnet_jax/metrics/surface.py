"""Distances between the surfaces of masks, from SciPy's exact Euclidean distance transform.

A mask is a picture [H, W] or a volume [H, W, D]. `surface_distances` measures them once;
`percentile_distance`, `mean_distance` and `share_within` reduce them to the metrics.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import ArrayLike

from prnet_jax.metrics.overlap import as_mask, mask_pair

DEFINITIONS = ("max", "pooled")
# Spacings are often stored as float32: 20 pixels of 0.1 mm must still be within 2 mm.
TOLERANCE_SLACK = 1e-6


def surface(mask: ArrayLike) -> np.ndarray:
    """The surface of a mask: its pixels that have one of their neighbours outside it.

    A pixel of a picture has four neighbours, a voxel six. Everything beyond the picture or volume
    is outside, so mask pixels on its edge are surface.

    Args:
        mask: bool [H, W] or [H, W, D].

    Returns:
        bool of the same shape.
    """
    mask = as_mask(mask)
    inside = mask.copy()
    for axis in range(mask.ndim):
        here, there = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        here[[0, -1]] = False
        here[1:] &= there[:-1]
        here[:-1] &= there[1:]
    return mask & ~inside


def surface_distances(
    pred: ArrayLike, target: ArrayLike, spacing: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The distance from each surface pixel of one mask to the nearest one of the other.

    Args:
        pred: bool [H, W] or [H, W, D], not empty.
        target: bool, of the same shape, not empty.
        spacing: (row, column) or (row, column, slice) distance of pixel centres; the result has
            its unit. None: 1 along each axis.

    Returns:
        float64 [P] from pred to target and float64 [T] from target to pred.

    Raises:
        ValueError: an empty mask, masks that are not of the same shape, or a spacing that is not
            a positive number for each axis.
    """
    pred, target, spacing = _checked(pred, target, spacing)
    if not pred.any() or not target.any():
        raise ValueError("masks must not be empty: an empty mask has no surface")
    # Cropping to the box around both masks changes no surface, and saves most of the transform.
    box = _box(pred | target)
    pred, target = surface(pred[box]), surface(target[box])
    return _distances_to(target, pred, spacing), _distances_to(pred, target, spacing)


def hausdorff(
    pred: ArrayLike,
    target: ArrayLike,
    spacing: Sequence[float] | None = None,
    percentile: float = 100,
    definition: str = "max",
) -> float:
    """Hausdorff distance of the surfaces (Zhou & Wang 2023, eqs. 3-4), or a percentile like HD95.

    Args:
        pred: bool [H, W] or [H, W, D].
        target: bool, of the same shape.
        spacing: as for `surface_distances`.
        percentile: in [0, 100], interpolated linearly; 100 is the Hausdorff distance.
        definition: "max", the larger of the two directed percentiles (MONAI), or "pooled", the
            percentile of both directions' distances together (MedPy). They are equal at 100.

    Returns:
        A distance in the unit of `spacing`; NaN if both masks are empty, infinity if one is.

    Raises:
        ValueError: as for `surface_distances`, a percentile outside [0, 100], or an unknown
            definition.
    """
    if definition not in DEFINITIONS:
        raise ValueError(f"definition must be one of {DEFINITIONS}, found {definition!r}")
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile must lie in [0, 100], found {percentile}")
    empty = _empty_masks(pred, target, spacing)
    if empty:
        return math.nan if empty == 2 else math.inf
    return percentile_distance(*surface_distances(pred, target, spacing), percentile, definition)


def assd(pred: ArrayLike, target: ArrayLike, spacing: Sequence[float] | None = None) -> float:
    """Average symmetric surface distance: the mean over the surface pixels of both masks.

    The distances of both directions are averaged together, as in MONAI, so the longer surface
    weighs more. MedPy's `assd` is the mean of the two directed means instead.

    Args:
        pred: bool [H, W] or [H, W, D].
        target: bool, of the same shape.
        spacing: as for `surface_distances`.

    Returns:
        A distance in the unit of `spacing`; NaN if both masks are empty, infinity if one is.

    Raises:
        ValueError: as for `surface_distances`.
    """
    empty = _empty_masks(pred, target, spacing)
    if empty:
        return math.nan if empty == 2 else math.inf
    return mean_distance(*surface_distances(pred, target, spacing))


def surface_dice(
    pred: ArrayLike,
    target: ArrayLike,
    tolerance: float,
    spacing: Sequence[float] | None = None,
) -> float:
    """Surface Dice: the share of both masks' surface pixels within `tolerance` of the other.

    After S. Nikolov et al. ("Clinically applicable segmentation of head and neck anatomy", JMIR 23,
    2021). Their `surface-distance` package puts the surface between the pixels and weighs each of
    its elements by length or area. Here every surface pixel counts the same, so the two differ a
    little, and more where the spacing is not isotropic.

    Args:
        pred: bool [H, W] or [H, W, D].
        target: bool, of the same shape.
        tolerance: in the unit of `spacing`, 0 or more; a distance equal to it is within.
        spacing: as for `surface_distances`.

    Returns:
        In [0, 1]; NaN if both masks are empty, 0 if one is.

    Raises:
        ValueError: as for `surface_distances`, or a tolerance that is negative or NaN.
    """
    _check_tolerance(tolerance)
    empty = _empty_masks(pred, target, spacing)
    if empty:
        return math.nan if empty == 2 else 0.0
    return share_within(*surface_distances(pred, target, spacing), tolerance)


def percentile_distance(
    pred_to_target: np.ndarray, target_to_pred: np.ndarray, percentile: float, definition: str
) -> float:
    """`hausdorff` from the two results of `surface_distances`."""
    if percentile == 100:
        return float(max(pred_to_target.max(), target_to_pred.max()))
    if definition == "pooled":
        return float(np.percentile(np.concatenate([pred_to_target, target_to_pred]), percentile))
    return float(max(np.percentile(d, percentile) for d in (pred_to_target, target_to_pred)))


def mean_distance(pred_to_target: np.ndarray, target_to_pred: np.ndarray) -> float:
    """`assd` from the two results of `surface_distances`."""
    total = pred_to_target.sum() + target_to_pred.sum()
    return float(total / (pred_to_target.size + target_to_pred.size))


def share_within(pred_to_target: np.ndarray, target_to_pred: np.ndarray, tolerance: float) -> float:
    """`surface_dice` from the two results of `surface_distances`."""
    _check_tolerance(tolerance)
    limit = tolerance * (1 + TOLERANCE_SLACK)
    within = np.count_nonzero(pred_to_target <= limit) + np.count_nonzero(target_to_pred <= limit)
    return float(within / (pred_to_target.size + target_to_pred.size))


def check_spacing(spacing: Sequence[float], axes: int) -> None:
    """Raises a ValueError unless `spacing` is a positive, finite number for each of the axes."""
    if len(spacing) != axes or not all(math.isfinite(step) and step > 0 for step in spacing):
        names = ", ".join(("row", "column", "slice")[:axes])
        raise ValueError(f"spacing must be {axes} positive numbers ({names}), found {spacing}")


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around a mask that is not empty."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        where = np.flatnonzero(mask.any(axis=others))
        box.append(slice(where[0], where[-1] + 1))
    return tuple(box)


def _distances_to(goal: np.ndarray, start: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """From each True pixel of `start` to the nearest one of `goal`; both bool, of one shape.

    The transform finds the nearest pixel everywhere, but only the distances of `start` are
    computed: a full map of distances would take a quarter longer.
    """
    nearest = scipy.ndimage.distance_transform_edt(
        ~goal, sampling=spacing, return_distances=False, return_indices=True
    )
    pixels = np.nonzero(start)
    squares = [
        np.square((to[pixels] - at) * step)
        for to, at, step in zip(nearest, pixels, spacing, strict=True)
    ]
    return np.sqrt(sum(squares))


def _empty_masks(pred: ArrayLike, target: ArrayLike, spacing: Sequence[float] | None) -> int:
    """Checks masks and spacing; returns how many of the masks are empty."""
    pred, target, _ = _checked(pred, target, spacing)
    return int(not pred.any()) + int(not target.any())


def _checked(
    pred: ArrayLike, target: ArrayLike, spacing: Sequence[float] | None
) -> tuple[np.ndarray, np.ndarray, Sequence[float]]:
    """The masks as bool, and the spacing of each axis."""
    pred, target = mask_pair(pred, target, axes=(2, 3))
    spacing = (1.0,) * pred.ndim if spacing is None else spacing
    check_spacing(spacing, pred.ndim)
    return pred, target, spacing


def _check_tolerance(tolerance: float) -> None:
    if not tolerance >= 0:  # NaN fails too
        raise ValueError(f"tolerance must be 0 or more, found {tolerance}")
