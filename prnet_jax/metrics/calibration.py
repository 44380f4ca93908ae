"""How well probabilities are calibrated, and which threshold gives the best masks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from prnet_jax.metrics.overlap import overlap_from_counts
from prnet_jax.metrics.statistics import mean_of_scored

THRESHOLDS = np.round(np.arange(0.01, 1.0, 0.01), 2)
BINS = 15


class Reliability:
    """Predicted probabilities against the observed share of foreground (a reliability diagram).

    Images are added one at a time. The table is the same to the last bit as that of all their
    pixels added at once in the same order.

    Args:
        bins: parts of equal width that [0, 1] is cut into; the last one includes 1.
    """

    def __init__(self, bins: int = BINS):
        self._pixels = np.zeros(bins, np.int64)
        self._foreground = np.zeros(bins, np.int64)
        self._prob_sum = np.zeros(bins)

    def add(self, prob: ArrayLike, target: ArrayLike) -> None:
        """Adds the pixels of an image.

        Args:
            prob: float in [0, 1], any shape.
            target: bool, of the same shape.
        """
        prob = np.ravel(prob).astype(np.float64)
        target = np.ravel(target).astype(bool)
        bins = len(self._pixels)
        bin_of = np.minimum((prob * bins).astype(np.int64), bins - 1)
        self._pixels += np.bincount(bin_of, minlength=bins)
        self._foreground += np.bincount(bin_of[target], minlength=bins)
        np.add.at(self._prob_sum, bin_of, prob)  # in order, so that the split does not matter

    def table(self) -> dict[str, np.ndarray]:
        """The bins.

        Returns:
            `pixels` int64 [bins]; `mean_prob` and `foreground`, the mean probability and the share
            of foreground of each bin's pixels, float64 [bins], NaN where a bin is empty.
        """
        pixels = np.where(self._pixels > 0, self._pixels, np.nan)
        return {
            "pixels": self._pixels.copy(),
            "mean_prob": self._prob_sum / pixels,
            "foreground": self._foreground / pixels,
        }


def reliability(prob: ArrayLike, target: ArrayLike, bins: int = BINS) -> dict[str, np.ndarray]:
    """`Reliability.table` of pixels that are all at hand: of one image or of many."""
    accumulated = Reliability(bins)
    accumulated.add(prob, target)
    return accumulated.table()


def are_masks(mae: ArrayLike, acc: ArrayLike) -> bool:
    """Whether what was scored are masks, not probabilities: then each image's MAE is 1 - ACC."""
    return np.allclose(mae, 1 - np.asarray(acc), rtol=0, atol=1e-9)


def calibration_error(table: dict[str, np.ndarray]) -> float:
    """Expected calibration error (ECE) over pixels, in [0, 1], from a table of `reliability`.

    The mean over all pixels of `|mean probability - share of foreground|` of their bin (Guo et
    al., ICML 2017, eq. 5, with the probability of foreground instead of the confidence). Most
    pixels are easy background, so a small value alone says little: look at the diagram.
    """
    gap = np.abs(table["mean_prob"] - table["foreground"])
    return float(np.nansum(table["pixels"] * gap) / table["pixels"].sum())


class ThresholdScores:
    """Overlap of every image at many thresholds. Images are added one at a time.

    Args:
        thresholds: [T]; the mask is `prob >= threshold`, compared in the dtype of `prob`.
    """

    def __init__(self, thresholds: ArrayLike = THRESHOLDS):
        self._thresholds = np.asarray(thresholds)
        self._counts: dict[str, list[np.ndarray]] = {name: [] for name in ("tp", "fp", "fn", "tn")}

    def add(self, prob: np.ndarray, target: np.ndarray) -> None:
        """Adds an image: prob, float [H, W] in [0, 1]; target, bool [H, W]."""
        cuts = self._thresholds.astype(prob.dtype)
        target = target.astype(bool)
        # One sort answers for all thresholds how many probabilities lie at or above them.
        tp, fp = (
            pixels.size - np.searchsorted(np.sort(pixels), cuts, side="left")
            for pixels in (prob[target], prob[~target])
        )
        positive = np.count_nonzero(target)
        self._counts["tp"].append(tp)
        self._counts["fp"].append(fp)
        self._counts["fn"].append(positive - tp)
        self._counts["tn"].append(target.size - positive - fp)

    def result(self) -> dict[str, np.ndarray]:
        """The scores, in the order in which the images were added.

        Returns:
            iou, dsc, acc, spe, sen, ppv: float64 [images, T], as `overlap_from_counts`; and
            `pred_empty`, `target_empty`: bool [images, T], where a mask has no pixel.
        """
        shape = (-1, self._thresholds.size)
        counts = {name: np.reshape(rows, shape) for name, rows in self._counts.items()}
        return overlap_from_counts(**counts) | {
            "pred_empty": counts["tp"] + counts["fp"] == 0,
            "target_empty": counts["tp"] + counts["fn"] == 0,
        }


def scores_by_threshold(
    probs: Sequence[np.ndarray], targets: Sequence[np.ndarray], thresholds: ArrayLike = THRESHOLDS
) -> dict[str, np.ndarray]:
    """`ThresholdScores.result` of images that are all at hand."""
    scores = ThresholdScores(thresholds)
    for prob, target in zip(probs, targets, strict=True):
        scores.add(prob, target)
    return scores.result()


def best_threshold(dsc: ArrayLike, thresholds: ArrayLike = THRESHOLDS) -> float:
    """The threshold with the highest mean DSC; of several, the one nearest to 0.5.

    Args:
        dsc: float64 [images, T], NaN where an image is not scored.
        thresholds: [T].

    Returns:
        A threshold; NaN if no image is scored at any threshold.
    """
    thresholds = np.asarray(thresholds, np.float64)
    mean = mean_of_scored(dsc)
    if np.isnan(mean).all():
        return float("nan")
    best = np.flatnonzero(mean >= np.nanmax(mean) - 1e-12)
    return float(thresholds[best[np.argmin(np.abs(thresholds[best] - 0.5))]])
