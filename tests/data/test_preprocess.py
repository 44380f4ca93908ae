"""Windowing, resizing to a network's size and back, and values that do not look like their unit."""

import re

import numpy as np
import pytest
from scipy import ndimage

from prnet_jax.data.preprocess import implausible, resize_image, resize_mask, resize_prob, window


def test_window_by_hand():
    hu = np.array([-3024, -1000, -300, 400, 3000], np.int16)
    out = window(hu, -1000.0, 400.0)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, np.array([0, 0, 0.5, 1, 1], np.float32))


def test_resize_by_hand():
    image = np.arange(16.0).reshape(4, 4)
    np.testing.assert_allclose(resize_image(image, 2), [[2.5, 4.5], [10.5, 12.5]], rtol=1e-6)
    # Three pixels into two: each new one covers one and a half.
    row = resize_image(np.array([[0.0, 3.0, 6.0]]), 2)[0]
    np.testing.assert_allclose(row, [(0 + 1.5) / 1.5, (1.5 + 6) / 1.5], rtol=1e-6)


@pytest.mark.parametrize(("old", "new"), [(512, 128), (500, 96), (64, 96), (512, 512)])
def test_resize_keeps_the_mean(old, new):
    image = np.random.default_rng(0).random((old, old))
    resized = resize_image(image, new)
    assert resized.shape == (new, new)
    assert resized.mean(dtype=np.float64) == pytest.approx(image.mean(), abs=1e-7)
    if old == new:
        np.testing.assert_array_equal(resized, image.astype(np.float32))


def test_resize_mask_takes_the_majority():
    mask = np.zeros((4, 4), bool)
    mask[0, :2] = True  # two of four pixels: no majority
    mask[2:, 2:] = True
    mask[2, 2] = False  # three of four
    np.testing.assert_array_equal(resize_mask(mask, 2), [[False, False], [False, True]])


def test_resize_prob_by_hand():
    prob = np.array([[0.0, 1.0]], np.float32)
    # Four centres at -0.25, 0.25, 0.75 and 1.25 of the old pixels.
    np.testing.assert_array_equal(resize_prob(prob, (2, 4)), [[0, 0.25, 0.75, 1]] * 2)
    shrunk = resize_prob(np.array([[0.0, 0.5, 1.0], [1.0, 0.5, 0.0]], np.float32), (1, 2))
    np.testing.assert_allclose(shrunk, [[0.5, 0.5]])
    mixed = resize_prob(np.array([[0.0, 0.25], [0.5, 0.75]], np.float32), (1, 4))
    np.testing.assert_array_equal(mixed, [[0.25, 0.3125, 0.4375, 0.5]])


@pytest.mark.parametrize("shape", [(64, 64), (512, 400), (97, 64), (33, 130), (20, 7), (1, 1)])
@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 1.0])
def test_resize_prob_keeps_a_constant(shape, value):
    prob = np.full((64, 64), value, np.float32)
    resized = resize_prob(prob, shape)
    assert resized.dtype == np.float32
    np.testing.assert_array_equal(resized, np.full(shape, value, np.float32))


@pytest.mark.parametrize("shape", [(512, 400), (33, 130), (20, 7)])
def test_resize_prob_stays_within_its_range(shape):
    prob = np.random.default_rng(0).integers(0, 2, (64, 64)).astype(np.float32)
    resized = resize_prob(prob, shape)
    assert resized.shape == shape
    assert 0 <= resized.min() < resized.max() <= 1


def test_resize_prob_of_an_equal_shape_changes_nothing():
    prob = np.random.default_rng(0).random((96, 96), np.float32)
    np.testing.assert_array_equal(resize_prob(prob, (96, 96)), prob)


@pytest.mark.parametrize("shape", [(192, 96), (97, 131), (512, 512)])
def test_resize_prob_grows_as_scipy_interpolates(shape):
    prob = np.random.default_rng(0).random((96, 96), np.float32)
    centres = [(np.arange(new) + 0.5) * 96 / new - 0.5 for new in shape]
    expected = ndimage.map_coordinates(
        prob.astype(np.float64), np.meshgrid(*centres, indexing="ij"), order=1, mode="nearest"
    )
    np.testing.assert_allclose(resize_prob(prob, shape), expected, atol=1e-7)


@pytest.mark.parametrize("shape", [(192, 96), (97, 131), (512, 512), (32, 48)])
def test_resize_prob_as_pytorch_does(shape):
    torch = pytest.importorskip("torch")
    prob = np.random.default_rng(0).random((96, 96), np.float32)
    grows = min(shape) >= 96
    options = {"mode": "bilinear", "align_corners": False} if grows else {"mode": "area"}
    batch = torch.from_numpy(prob.astype(np.float64))[None, None]
    expected = torch.nn.functional.interpolate(batch, shape, **options)[0, 0].numpy()
    np.testing.assert_allclose(resize_prob(prob, shape), expected, atol=1e-7)


@pytest.mark.parametrize("size", [64, 97, 256])
def test_resize_prob_puts_a_shape_back_where_it_was(size):
    rows, columns = np.mgrid[:256, :200] + 0.5
    disc = (rows - 100) ** 2 + (columns - 130) ** 2 < 50**2
    back = resize_prob(resize_image(disc, size), disc.shape) > 0.5
    centre = [np.mean(axis[back]) for axis in (rows, columns)]
    np.testing.assert_allclose(centre, (100, 130), atol=0.1)
    assert back.sum() == pytest.approx(disc.sum(), rel=0.01)


HU = np.array([[-1000, -850], [40, 700]], np.int16)


@pytest.mark.parametrize(
    ("pixels", "unit"),
    [
        (HU, "HU"),
        (HU.astype(np.float32) + 0.5, "HU"),
        (np.array([[-3024, -850, 40, 3071]]), "HU"),  # padding, lung, muscle and metal
        (np.array([[-201, 50]]), "HU"),
        (np.repeat([-1000, 40, 9000], [50, 49, 1]), "HU"),  # 1 % of metal
        (np.repeat([-1000, 40, 4000], [50, 40, 10]), "HU"),
        (np.array([0, 255], np.uint8), "grey"),
        (np.array([0, 2], np.uint8), "grey"),
    ],
)
def test_values_that_look_like_their_unit(pixels, unit):
    assert implausible(pixels, unit) is None


@pytest.mark.parametrize(
    ("pixels", "unit", "message"),
    [
        (HU + 1024, "HU", "air near -1000, found values from 24 to 1724, .* HU . 1024: subtract"),
        (np.array([0, 255], np.uint8), "HU", "from 0 to 255, which look like grey values"),
        (np.array([0, 0.999]), "HU", "from 0 to 0.999, which look scaled to 0..1"),
        (np.array([False, True]), "HU", "from 0 to 1, which look scaled to 0..1"),
        (np.array([-200, 250]), "HU", "from -200 to 250: export .* without windowing"),
        (np.array([-1.7, 2.4]), "HU", "from -1.7 to 2.4: export .* without windowing or scaling"),
        (
            np.repeat([-1000, 40, 62512], [50, 48, 2]),
            "HU",
            "to 62512, 2 % of the pixels above 4000, .* padding or a wrong scale: set padding to",
        ),
        (np.repeat([-10000, 400, 4001], [5, 3, 2]), "HU", "20 % of the pixels above 4000"),
        (np.zeros((4, 4)), "HU", "every pixel is 0: the picture is empty"),
        (np.full((4, 4), 7, np.uint8), "grey", "every pixel is 7: the picture is empty"),
        (HU, "grey", "grey values from 0 to 255, found values from -1000 to 700"),
        (np.array([0, 256]), "grey", "found values from 0 to 256"),
        (np.array([0, 1.0]), "grey", "look scaled to 0..1: multiply them by 255"),
    ],
)
def test_values_that_do_not_look_like_their_unit(pixels, unit, message):
    warning = implausible(pixels, unit)
    assert "\n" not in warning
    assert re.search(message, warning)
