"""Normalised pictures as grey values."""

import numpy as np
import pytest

from prnet_jax.data.grey import NORMALISED, grey_of_normalised


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_normalised_pictures_are_grey(dtype):
    grey, note = grey_of_normalised(np.array([[0, 0.2, 0.5, 1]], dtype))
    assert (grey.dtype, grey.tolist(), note) == (np.uint8, [[0, 51, 128, 255]], NORMALISED[0])
    grey, note = grey_of_normalised(np.array([[-1, -0.6, 0, 1]], dtype))
    assert (grey.dtype, grey.tolist(), note) == (np.uint8, [[0, 51, 128, 255]], NORMALISED[1])


def test_eight_bits_survive_being_normalised():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for pixels in (values / np.float32(255), values / np.float32(127.5) - 1):
        np.testing.assert_array_equal(grey_of_normalised(pixels)[0], values)


def test_rounding_beyond_the_range_is_cut():
    grey, note = grey_of_normalised(np.float32([[-1e-4, 0.5, 1 + 1e-4]]))
    assert (grey.tolist(), note) == ([[0, 128, 255]], NORMALISED[0])


@pytest.mark.parametrize(
    "pixels",
    [
        np.array([[0, 1]]),
        np.array([[-1, 1]], np.int8),
        np.array([[-1000.0, 1]]),
        np.array([[0, 1.01]]),
        np.array([[-1.01, 1]]),
        np.array([[0, np.nan]]),
        np.array([[0, np.inf]]),
        np.zeros((2, 2)),
    ],
)
def test_what_is_not_normalised(pixels):
    assert grey_of_normalised(pixels) is None
