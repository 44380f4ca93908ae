"""Metrics that compare pixel with pixel: IoU, DSC, ACC, SPE, SEN, PPV, MAE, AUC and Brier score.

`counts` takes batches on the device; everything else is float64 on the host.
"""

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike


def counts(
    pred: jax.Array, target: jax.Array, axis=(-2, -1), valid: jax.Array | None = None
) -> dict[str, jax.Array]:
    """True and false positives and negatives; can be jitted, vmapped and sharded.

    Args:
        pred: bool [..., H, W], the predicted mask.
        target: bool [..., H, W], the reference mask.
        axis: the axes to count over.
        valid: bool [..., H, W], the pixels to count; None for all.

    Returns:
        tp, fp, fn, tn: int32 [...] pixels. `merge_counts` adds up many images.

    Raises:
        ValueError: shapes that differ, or masks that are not bool.
    """
    if pred.shape != target.shape:
        raise ValueError(f"pred is {pred.shape} but target is {target.shape}")
    if pred.dtype != bool or target.dtype != bool:
        raise ValueError(f"masks must be bool, found {pred.dtype} and {target.dtype}")

    def count(pixels):
        return jnp.sum(pixels, axis=axis, dtype=jnp.int32, where=valid)

    return {
        "tp": count(pred & target),
        "fp": count(pred & ~target),
        "fn": count(~pred & target),
        "tn": count(~pred & ~target),
    }


def merge_counts(parts: Iterable[Mapping[str, ArrayLike]]) -> dict[str, np.int64]:
    """Totals of several results of `counts`, for example of all batches.

    They are added on the host in int64, because int32 overflows after 8192 images of 512x512.

    Args:
        parts: dicts with tp, fp, fn, tn: integer arrays of any shape; all entries are added.

    Returns:
        tp, fp, fn, tn: int64 pixels; 0 without parts.

    Raises:
        ValueError: a part with other names, or with values that are not integers.
    """
    totals = dict.fromkeys(("tp", "fp", "fn", "tn"), np.int64(0))
    for part in parts:
        if set(part) != set(totals):
            raise ValueError(f"counts must be {', '.join(totals)}, found {', '.join(part)}")
        for name, value in part.items():
            value = np.asarray(value)
            if not np.issubdtype(value.dtype, np.integer):
                raise ValueError(f"{name} must be integers, found {value.dtype}")
            totals[name] += value.sum(dtype=np.int64)
    return totals


def overlap_from_counts(
    tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike
) -> dict[str, np.ndarray]:
    """Overlap metrics of any number of images from their pixel counts.

    Args:
        tp, fp, fn, tn: pixel counts, all of the same shape [...].

    Returns:
        iou, dsc, acc, spe (specificity), sen (sensitivity), ppv (precision): float64 [...] in
        [0, 1], NaN where the denominator is 0. Two empty masks give acc = spe = 1 and NaN
        otherwise; `policy` decides what such an image counts for.
    """
    tp, fp, fn, tn = (np.asarray(count, np.float64) for count in (tp, fp, fn, tn))
    return {
        "iou": _ratio(tp, tp + fp + fn),
        "dsc": _ratio(2 * tp, 2 * tp + fp + fn),
        "acc": _ratio(tp + tn, tp + fp + fn + tn),
        "spe": _ratio(tn, tn + fp),
        "sen": _ratio(tp, tp + fn),
        "ppv": _ratio(tp, tp + fp),
    }


def overlap(pred: ArrayLike, target: ArrayLike) -> dict[str, float]:
    """Overlap metrics of one image: `overlap_from_counts` as Python floats.

    Args:
        pred: bool [H, W], the predicted mask.
        target: bool [H, W], the reference mask.

    Raises:
        ValueError: shapes that differ or are not [H, W], or values other than 0 and 1.
    """
    pred, target = mask_pair(pred, target)
    tp = np.count_nonzero(pred & target)
    fp = np.count_nonzero(pred) - tp
    fn = np.count_nonzero(target) - tp
    ratios = overlap_from_counts(tp, fp, fn, pred.size - tp - fp - fn)
    return {name: float(value) for name, value in ratios.items()}


def mae(prob: ArrayLike, target: ArrayLike) -> float:
    """Mean absolute error, mean `|P - G|`, in [0, 1] (Zhou & Wang 2023, eq. 8).

    Args:
        prob: float in [0, 1], the probability of foreground, [H, W] or any other shape.
        target: bool, of the same shape.

    Raises:
        ValueError: shapes that differ, no pixels, prob outside [0, 1] or NaN, or target values
            other than 0 and 1.
    """
    prob, target = prob_pair(prob, target)
    return float(np.mean(np.abs(prob.astype(np.float64) - target)))


def brier(prob: ArrayLike, target: ArrayLike) -> float:
    """Brier score, mean (P - G)^2, in [0, 1]; arguments and errors as for `mae`.

    Half the score of G. W. Brier ("Verification of forecasts expressed in terms of probability",
    Monthly Weather Review 78, 1950), which adds up both classes.
    """
    prob, target = prob_pair(prob, target)
    return float(np.mean(np.square(prob.astype(np.float64) - target)))


def auc(prob: ArrayLike, target: ArrayLike) -> float:
    """Exact area under the ROC curve; arguments and errors as for `mae`.

    This is the share of (foreground, background) pixel pairs in which the foreground pixel has the
    higher probability; a tie counts one half (Mann-Whitney). NaN if the target has one class.
    """
    prob, target = prob_pair(prob, target)
    return auc_of_sorted(np.sort(prob[target]), np.sort(prob[~target]))


def auc_of_sorted(foreground: np.ndarray, background: np.ndarray) -> float:
    """`auc` of the probabilities of each class, float [P] and float [N], both ascending."""
    if not foreground.size or not background.size:
        return float("nan")
    below = np.searchsorted(background, foreground, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(background, foreground, side="right").sum(dtype=np.int64)
    return float((below + not_above) / (2 * foreground.size * background.size))


def mask_pair(
    pred: ArrayLike, target: ArrayLike, axes: tuple[int, ...] = (2,)
) -> tuple[np.ndarray, np.ndarray]:
    """Both masks as bool, of one shape.

    Args:
        pred: bool, or 0 and 1.
        target: likewise.
        axes: how many axes they may have: 2 is [H, W], 3 is [H, W, D].

    Raises:
        ValueError: shapes that differ or have other axes, or values other than 0 and 1.
    """
    pred, target = as_mask(pred, "pred"), as_mask(target, "target")
    if pred.shape != target.shape or pred.ndim not in axes:
        shapes = " or ".join({2: "[H, W]", 3: "[H, W, D]"}[number] for number in axes)
        raise ValueError(
            f"masks must have the same shape {shapes}, found "
            f"pred {pred.shape} and target {target.shape}"
        )
    return pred, target


def as_mask(mask: ArrayLike, name: str = "mask") -> np.ndarray:
    """`mask` as bool.

    Args:
        mask: bool or 0 and 1, of any shape.
        name: what the error calls it.

    Raises:
        ValueError: values other than 0 and 1.
    """
    mask = np.asarray(mask)
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"{name} must be a mask of 0 and 1, found other values: threshold it first"
        )
    return mask.astype(bool)


def prob_pair(prob: ArrayLike, target: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """`prob` in its own dtype and `target` as bool; errors as for `mae`."""
    prob, target = np.asarray(prob), as_mask(target, "target")
    if prob.shape != target.shape or not prob.size:
        raise ValueError(
            "prob and target must have the same shape and at least one pixel, found "
            f"{prob.shape} and {target.shape}"
        )
    if not (prob.min() >= 0 and prob.max() <= 1):  # NaN fails both
        raise ValueError(f"prob must lie in [0, 1], found {prob.min()} to {prob.max()}")
    return prob, target


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    undefined = np.full(denominator.shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)
