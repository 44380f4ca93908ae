"""Sliding windows over slices at their own resolution."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from prnet_jax.data import preprocess
from prnet_jax.predictor import Predictor

_STRIDE = 0.5  # of the window's side
_SIGMA = 0.125  # of the window's side: how fast a window counts less away from its centre


def tiled_probabilities(predictor: Predictor, slices: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """As `Predictor.probabilities`, but nothing is resized.

    Windows of the network's own size are laid over a slice, each half a side from the next and the
    last at the border. Where they overlap, their probabilities are averaged with Gaussian weights.
    Smaller slices are filled up with the lowest value of the window of intensities.
    """
    data = predictor.config.dataset
    size = data.image_size
    weight = _gaussian(size)
    batch = predictor.config.eval_batch_size
    for pixels in slices:
        image = preprocess.window(pixels, *data.window_hu)
        padded = np.pad(image, [(0, max(0, size - n)) for n in image.shape])
        corners = list(itertools.product(*(_starts(n, size) for n in padded.shape)))
        total = np.zeros(padded.shape, np.float32)
        weights = np.zeros(padded.shape, np.float32)
        for first in range(0, len(corners), batch):
            some = corners[first : first + batch]
            images = np.zeros((batch, size, size, 1), np.float32)
            for i, (row, column) in enumerate(some):
                images[i, ..., 0] = padded[row : row + size, column : column + size]
            for (row, column), prob in zip(some, np.asarray(predictor.prob(images)), strict=False):
                here = np.s_[row : row + size, column : column + size]
                total[here] += weight * prob
                weights[here] += weight
        yield (total / weights)[: image.shape[0], : image.shape[1]]


def _starts(length: int, size: int) -> list[int]:
    """Where windows begin along an axis."""
    last = length - size
    return sorted({*range(0, last, max(1, int(size * _STRIDE))), last})


def _gaussian(size: int) -> np.ndarray:
    """[size, size] float32 weights, 1 in the centre."""
    x = np.arange(size) - (size - 1) / 2
    line = np.exp(-0.5 * (x / (_SIGMA * size)) ** 2)
    return np.outer(line, line).astype(np.float32)
