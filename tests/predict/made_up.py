"""Slices, and what a report begins with, for predictions by the network of `conftest.py`."""

import numpy as np

ABOUT = {"weights": [{"sha256": "a"}], "software": {}}
SIZE = 16


def slice_hu(seed, shape=(SIZE, SIZE)):
    """Air with a bright rectangle somewhere, in HU of the window's ends, which no resize mixes."""
    pixels = np.full(shape, -1000, np.int16)
    row, column = np.random.default_rng(seed).integers(2, 8, 2)
    pixels[row : row + 6, column : column + 5] = 400
    return pixels
