"""Can the probabilities be believed, and which threshold turns them into masks best?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from prnet_jax.metrics.overlap import overlap_from_counts
from prnet_jax.metrics.statistics import mean_of_scored

THRESHOLDS = np.round(np.arange(0.01, 1.0, 0.01), 2)
BINS = 15


def reliability(prob: ArrayLike, target: ArrayLike, bins: int = BINS) -> dict[str, np.ndarray]:
    """Probabilities beside how often the foreground is really there (a reliability diagram).

    Args:
        prob: float in [0, 1], any shape: the pixels of one image or of many.
        target: bool, of the same shape.
        bins: parts of equal width that [0, 1] is cut into; the last one holds 1.

    Returns:
        `pixels` int64 [bins]; `mean_prob` and `foreground`, the mean probability and the share of
        foreground of each bin's pixels, float64 [bins], NaN where it has none.
    """
    prob = np.ravel(prob).astype(np.float64)
    target = np.ravel(target).astype(bool)
    place = np.minimum((prob * bins).astype(np.int64), bins - 1)
    pixels = np.bincount(place, minlength=bins)
    some = np.where(pixels > 0, pixels, np.nan)
    return {
        "pixels": pixels,
        "mean_prob": np.bincount(place, prob, minlength=bins) / some,
        "foreground": np.bincount(place, target, minlength=bins) / some,
    }


def calibration_error(table: dict[str, np.ndarray]) -> float:
    """Expected calibration error (ECE) over pixels, in [0, 1], of a table of `reliability`.

    The mean over all pixels of |mean probability - share of foreground| of their bin (Guo et al.,
    ICML 2017, eq. 5, with the probability of foreground instead of the confidence). Most pixels are
    easy background, so a small value alone says little: look at the diagram.
    """
    gap = np.abs(table["mean_prob"] - table["foreground"])
    return float(np.nansum(table["pixels"] * gap) / table["pixels"].sum())


def scores_by_threshold(
    probs: Sequence[np.ndarray], targets: Sequence[np.ndarray], thresholds: ArrayLike = THRESHOLDS
) -> dict[str, np.ndarray]:
    """Overlap of every image at many thresholds, from one sorting of its pixels.

    Args:
        probs: float [H, W] in [0, 1], an image each.
        targets: bool [H, W] each.
        thresholds: [T]; the mask is `prob >= threshold`, compared in the dtype of `prob`.

    Returns:
        iou, dsc, acc, spe, sen, ppv: float64 [images, T], as `overlap_from_counts`; and
        `pred_empty`: bool [images, T], where the predicted mask has no pixel.
    """
    counts = {name: [] for name in ("tp", "fp", "fn", "tn")}
    for prob, target in zip(probs, targets, strict=True):
        cuts = np.asarray(thresholds).astype(prob.dtype)
        target = target.astype(bool)
        # How many of the sorted probabilities lie at or above each threshold.
        tp, fp = (
            pixels.size - np.searchsorted(np.sort(pixels), cuts, side="left")
            for pixels in (prob[target], prob[~target])
        )
        positive = np.count_nonzero(target)
        counts["tp"].append(tp)
        counts["fp"].append(fp)
        counts["fn"].append(positive - tp)
        counts["tn"].append(target.size - positive - fp)
    arrays = {name: np.stack(rows) for name, rows in counts.items()}
    pred_empty = arrays["tp"] + arrays["fp"] == 0
    return overlap_from_counts(**arrays) | {"pred_empty": pred_empty}


def best_threshold(dsc: ArrayLike, thresholds: ArrayLike = THRESHOLDS) -> float:
    """The threshold with the highest mean DSC; of equals the one nearest to 0.5.

    Args:
        dsc: float64 [images, T], NaN where an image is not scored.
        thresholds: [T].

    Returns:
        A threshold; NaN where no image is scored at any.
    """
    thresholds = np.asarray(thresholds, np.float64)
    mean = mean_of_scored(dsc)
    if np.isnan(mean).all():
        return float("nan")
    best = np.flatnonzero(mean >= np.nanmax(mean) - 1e-12)
    return float(thresholds[best[np.argmin(np.abs(thresholds[best] - 0.5))]])
