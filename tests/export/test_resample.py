"""Resizing inside a program against resizing of pictures before it."""

import jax
import numpy as np
import pytest

from prnet_jax.data import preprocess
from prnet_jax.export import resample

SHAPES = [(32, 32), (40, 40), (20, 33), (7, 64), (96, 31), (1, 5)]


@pytest.mark.parametrize("how", preprocess.RESIZES)
def test_every_size_as_the_pictures_were_resized(how):
    """One program for all sizes, there and back: smaller, larger, oblong, and equal."""
    n, h, w = jax.export.symbolic_shape("n, h, w")
    both = jax.export.export(
        jax.jit(
            lambda images, prob: (
                resample.to_square(images, 32, how),
                resample.from_square(prob, images.shape[1:], how),
            )
        )
    )(
        jax.ShapeDtypeStruct((n, h, w), np.float32),
        jax.ShapeDtypeStruct((n, 32, 32), np.float32),
    )
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        images = rng.random((2, *shape), np.float32)
        prob = rng.random((2, 32, 32), np.float32)
        square, back = both.call(images, prob)
        expected = [preprocess.resize_image(image, 32, how) for image in images]
        np.testing.assert_allclose(square, expected, atol=3e-7)
        expected = [preprocess.resize_prob(one, shape, how) for one in prob]
        np.testing.assert_allclose(back, expected, atol=3e-7)
        if shape == (32, 32):
            np.testing.assert_array_equal(square, images)
            np.testing.assert_array_equal(back, prob)
