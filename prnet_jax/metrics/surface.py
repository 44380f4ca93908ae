"""Metrics of distances between mask surfaces, by SciPy's exact Euclidean distance transform."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from prnet_jax.metrics.overlap import as_mask, mask_pair

DEFINITIONS = ("max", "pooled")


def surface(mask: ArrayLike) -> np.ndarray:
    """The surface of a mask: its pixels with one of their four neighbours outside the mask.

    What lies beyond the picture is outside, so mask pixels on the picture's edge are surface.

    Args:
        mask: bool [H, W].

    Returns:
        bool [H, W].
    """
    mask = as_mask(mask)
    cross = ndimage.generate_binary_structure(2, 1)
    return mask & ~ndimage.binary_erosion(mask, cross, border_value=0)


def surface_distances(
    pred: ArrayLike, target: ArrayLike, spacing: tuple[float, float] = (1.0, 1.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Distance from each surface pixel of one mask to the nearest surface pixel of the other.

    Args:
        pred: bool [H, W], not empty.
        target: bool [H, W], not empty.
        spacing: (row, column) distance of pixel centres; its unit is the result's.

    Returns:
        float64 [P] from pred to target and float64 [T] from target to pred.

    Raises:
        ValueError: an empty mask, masks that are not [H, W] of one shape, a spacing that is not
            two positive numbers.
    """
    pred, target = mask_pair(pred, target)
    if len(spacing) != 2 or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise ValueError(f"spacing must be two positive numbers (row, column), found {spacing}")
    if not pred.any() or not target.any():
        raise ValueError("an empty mask has no surface")
    # Beyond the box around both masks there is neither mask nor surface: cropping changes nothing.
    rows, columns = (np.flatnonzero((pred | target).any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    pred, target = surface(pred[box]), surface(target[box])
    to_target = ndimage.distance_transform_edt(~target, sampling=spacing)
    to_pred = ndimage.distance_transform_edt(~pred, sampling=spacing)
    return to_target[pred], to_pred[target]


def hausdorff(
    pred: ArrayLike,
    target: ArrayLike,
    spacing: tuple[float, float] = (1.0, 1.0),
    percentile: float = 100,
    definition: str = "max",
) -> float:
    """Hausdorff distance of the surfaces (eqs. 3-4), or its percentile such as HD95.

    Args:
        pred: bool [H, W].
        target: bool [H, W].
        spacing: (row, column) distance of pixel centres; its unit is the result's.
        percentile: in [0, 100], interpolated linearly; 100 is the Hausdorff distance.
        definition: "max", the larger of the two directed percentiles (MONAI), or "pooled", the
            percentile of both directions' distances together (MedPy). At 100 they agree.

    Returns:
        A distance in the unit of `spacing`; NaN when both masks are empty, infinity when one is.

    Raises:
        ValueError: as `surface_distances`, a percentile outside [0, 100], another definition.
    """
    if definition not in DEFINITIONS:
        raise ValueError(f"definition must be one of {DEFINITIONS}, found {definition!r}")
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile must lie in [0, 100], found {percentile}")
    pred, target = mask_pair(pred, target)
    if not pred.any() and not target.any():
        return math.nan
    if not pred.any() or not target.any():
        return math.inf
    return percentile_distance(*surface_distances(pred, target, spacing), percentile, definition)


def percentile_distance(
    pred_to_target: np.ndarray, target_to_pred: np.ndarray, percentile: float, definition: str
) -> float:
    """`hausdorff` of distances already measured by `surface_distances`."""
    if definition == "pooled":
        return float(np.percentile(np.concatenate([pred_to_target, target_to_pred]), percentile))
    return float(max(np.percentile(d, percentile) for d in (pred_to_target, target_to_pred)))
