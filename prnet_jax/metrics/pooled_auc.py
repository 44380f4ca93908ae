"""The area under the ROC curve (AUC) over the pixels of many images, added one at a time."""

import numpy as np
from numpy.typing import ArrayLike

from prnet_jax.metrics.overlap import auc_of_sorted, prob_pair

EXACT_PIXELS = 2**26  # 256 images of 512x512: 256 MB of float32

# A probability's bin is the bit pattern of its distance to 0 or 1, whichever is nearer, without the
# low bits: bit patterns of non-negative float32 numbers sort as the numbers do. A bin's width is at
# most 2**-14 of that distance, so bins are narrow where a trained network puts most pixels.
_DROPPED_BITS = 9
_HALF = int(np.float32(0.5).view(np.uint32)) >> _DROPPED_BITS  # the bin of 0.5
_BINS = 2 * _HALF + 1  # just under 2**22


class PooledAuc:
    """`overlap.auc` of all pixels added, exact up to a number of pixels.

    Up to `exact_pixels` pixels, every probability is kept, and the result equals that of `auc` on
    the concatenated images. With more pixels they are reduced to counts per bin, which take 64 MB
    for any number of pixels; a foreground and a background pixel in the same bin count as a tie.

    Args:
        exact_pixels: the largest number of pixels for which the result is exact.
    """

    def __init__(self, exact_pixels: float = EXACT_PIXELS):
        self._exact_pixels = exact_pixels
        self._pixels = 0
        # (background, foreground): probabilities until there are too many, then counts per bin
        self._kept: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        self._counts: np.ndarray | None = None  # int64 [2, _BINS]

    def add(self, prob: ArrayLike, target: ArrayLike) -> None:
        """Adds the pixels of one image; arguments and errors as for `overlap.mae`."""
        prob, target = prob_pair(prob, target)
        self._pixels += prob.size
        classes = prob[~target], prob[target]
        if self._counts is not None:
            _count(self._counts, classes)
            return
        for kept, values in zip(self._kept, classes, strict=True):
            kept.append(values)
        if self._pixels > self._exact_pixels:
            self._counts = np.zeros((2, _BINS), np.int64)
            for images in zip(*self._kept, strict=True):
                _count(self._counts, images)
            self._kept = ([], [])

    def result(self) -> tuple[float, float]:
        """The AUC and a bound on its error.

        Returns:
            (auc, error_bound), both in [0, 1]. `auc` is NaN if all pixels have the same class.
            `error_bound` is 0 while the result is exact, and otherwise half the share of
            (foreground, background) pairs in the same bin; rounding adds up to 1e-12.
        """
        if self._counts is None:
            for kept in self._kept:  # joined and sorted in place, to hold no second copy of all
                kept[:] = [np.concatenate(kept)] if kept else [np.empty(0, np.float32)]
                kept[0].sort()
            (background,), (foreground,) = self._kept
            return auc_of_sorted(foreground, background), 0.0
        background, foreground = self._counts
        # In float64, because the number of pairs overflows int64 at about 10**10 pixels.
        pairs = float(background.sum()) * float(foreground.sum())
        if not pairs:
            return float("nan"), 0.0
        half_tied = 0.5 * background
        below = np.cumsum(background) - background
        won = np.sum(foreground * (below + half_tied))
        return float(won / pairs), float(np.sum(foreground * half_tied) / pairs)


def _bin(prob: np.ndarray) -> np.ndarray:
    """The bins of float [N] in [0, 1], in the order of the probabilities: integers [N]."""
    prob = prob.astype(np.float32)  # rounding keeps the order, and so does 1 - prob, which is exact
    upper = prob > 0.5
    distance = np.where(upper, 1 - prob, np.abs(prob))  # abs: -0.0 has its sign bit set
    bins = (distance.view(np.uint32) >> _DROPPED_BITS).astype(np.int64)
    return np.where(upper, 2 * _HALF - bins, bins)


def _count(counts: np.ndarray, classes: tuple[np.ndarray, np.ndarray]) -> None:
    """Adds the probabilities of background and foreground to their counts, int64 [2, _BINS]."""
    for row, values in zip(counts, classes, strict=True):
        np.add.at(row, _bin(values), 1)
