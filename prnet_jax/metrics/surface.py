"""Distances between the surfaces of masks, from SciPy's exact Euclidean distance transform.

`surface_distances` measures them once; `percentile_distance`, `mean_distance` and `share_within`
reduce them to the metrics.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from prnet_jax.metrics.overlap import as_mask, mask_pair

DEFINITIONS = ("max", "pooled")
# Spacings are often stored as float32: 20 pixels of 0.1 mm must still be within 2 mm.
TOLERANCE_SLACK = 1e-6


def surface(mask: ArrayLike) -> np.ndarray:
    """The surface of a mask: its pixels that have one of their four neighbours outside it.

    Everything beyond the picture is outside, so mask pixels on the picture's edge are surface.

    Args:
        mask: bool [H, W].

    Returns:
        bool [H, W].
    """
    mask = as_mask(mask)
    inside = mask.copy()
    inside[[0, -1]] = False
    inside[:, [0, -1]] = False
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    return mask & ~inside


def surface_distances(
    pred: ArrayLike, target: ArrayLike, spacing: tuple[float, float] = (1.0, 1.0)
) -> tuple[np.ndarray, np.ndarray]:
    """The distance from each surface pixel of one mask to the nearest one of the other.

    Args:
        pred: bool [H, W], not empty.
        target: bool [H, W], not empty.
        spacing: (row, column) distance of pixel centres; the result has its unit.

    Returns:
        float64 [P] from pred to target and float64 [T] from target to pred.

    Raises:
        ValueError: an empty mask, masks that are not of the same shape [H, W], or a spacing
            that is not two positive numbers.
    """
    pred, target = mask_pair(pred, target)
    check_spacing(spacing)
    if not pred.any() or not target.any():
        raise ValueError("masks must not be empty: an empty mask has no surface")
    # Cropping to the box around both masks changes no surface, and saves most of the transform.
    rows, columns = (np.flatnonzero((pred | target).any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    pred, target = surface(pred[box]), surface(target[box])
    return _distances_to(target, pred, spacing), _distances_to(pred, target, spacing)


def hausdorff(
    pred: ArrayLike,
    target: ArrayLike,
    spacing: tuple[float, float] = (1.0, 1.0),
    percentile: float = 100,
    definition: str = "max",
) -> float:
    """Hausdorff distance of the surfaces (Zhou & Wang 2023, eqs. 3-4), or a percentile like HD95.

    Args:
        pred: bool [H, W].
        target: bool [H, W].
        spacing: (row, column) distance of pixel centres; the result has its unit.
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


def assd(pred: ArrayLike, target: ArrayLike, spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    """Average symmetric surface distance: the mean over the surface pixels of both masks.

    The distances of both directions are averaged together, as in MONAI, so the longer surface
    weighs more. MedPy's `assd` is the mean of the two directed means instead.

    Args:
        pred: bool [H, W].
        target: bool [H, W].
        spacing: (row, column) distance of pixel centres; the result has its unit.

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
    spacing: tuple[float, float] = (1.0, 1.0),
) -> float:
    """Surface Dice: the share of both masks' surface pixels within `tolerance` of the other.

    After S. Nikolov et al. ("Clinically applicable segmentation of head and neck anatomy", JMIR 23,
    2021). Their `surface-distance` package puts the surface between the pixels and weighs each of
    its elements by length or area. Here every surface pixel counts the same, so the two differ a
    little, and more where the spacing is not isotropic.

    Args:
        pred: bool [H, W].
        target: bool [H, W].
        tolerance: in the unit of `spacing`, 0 or more; a distance equal to it is within.
        spacing: (row, column) distance of pixel centres.

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


def check_spacing(spacing: tuple[float, float]) -> None:
    """Raises a ValueError unless `spacing` is two positive, finite numbers."""
    if len(spacing) != 2 or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise ValueError(f"spacing must be two positive numbers (row, column), found {spacing}")


def _distances_to(goal: np.ndarray, start: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """From each True pixel of `start` to the nearest one of `goal`; both bool [H, W].

    The transform finds the nearest pixel everywhere, but only the distances of `start` are
    computed: a full map of distances would take a quarter longer.
    """
    nearest = ndimage.distance_transform_edt(
        ~goal, sampling=spacing, return_distances=False, return_indices=True
    )
    pixels = np.flatnonzero(start)
    rows, columns = np.divmod(pixels, start.shape[1])
    nearest_rows, nearest_columns = (index.ravel()[pixels] for index in nearest)
    return np.sqrt(
        np.square((nearest_rows - rows) * spacing[0])
        + np.square((nearest_columns - columns) * spacing[1])
    )


def _empty_masks(pred: ArrayLike, target: ArrayLike, spacing: tuple[float, float]) -> int:
    """Checks masks and spacing; returns how many of the masks are empty."""
    pred, target = mask_pair(pred, target)
    check_spacing(spacing)
    return int(not pred.any()) + int(not target.any())


def _check_tolerance(tolerance: float) -> None:
    if not tolerance >= 0:  # NaN fails too
        raise ValueError(f"tolerance must be 0 or more, found {tolerance}")
