"""Augmentation: exact where it can be, aligned everywhere, the same for a key in any batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy import ndimage

from prnet_jax.data import augment as module
from prnet_jax.data.augment import augment, resample, smooth_field, source_points
from prnet_jax.errors import InputError

GEOMETRY = {"rotate_degrees": 30.0, "scale": 0.2, "shift": 0.1, "elastic": 0.06}
INTENSITY = {"gamma": 0.5, "contrast": 0.3, "brightness": 0.2, "noise": 0.1}
EVERYTHING = {"flip_horizontal": 0.5, "flip_vertical": 0.5} | GEOMETRY | INTENSITY


@pytest.fixture
def batch():
    """Six keys, images and smooth masks, taller than wide."""
    rng = np.random.default_rng(0)
    image = rng.random((6, 40, 24, 1), np.float32)
    field = ndimage.gaussian_filter(rng.normal(size=(6, 40, 24, 1)), (0, 3, 3, 0))
    keys = jax.random.split(jax.random.key(1), 6)
    return keys, jnp.asarray(image), jnp.asarray(field > 0, jnp.float32)


@jax.jit
def moved(picture, radians, scale, shift):
    """`picture` [H, W, C] rotated, scaled and shifted."""
    height, width, _ = picture.shape
    rows, columns = jnp.mgrid[:height, :width].astype(jnp.float32)
    points = source_points(rows, columns, (height, width), radians, scale, shift)
    return resample(picture, *points)


@pytest.mark.parametrize("config", [{}, dict.fromkeys(module.FIELDS, 0.0)])
def test_everything_off_is_the_identity(batch, config):
    keys, image, mask = batch
    found_image, found_mask = augment(keys, image, mask, config)
    np.testing.assert_array_equal(found_image, image)
    np.testing.assert_array_equal(found_mask, mask)


@pytest.mark.parametrize(
    ("config", "flip"),
    [
        ({"flip_horizontal": 1.0}, np.s_[:, :, ::-1]),
        ({"flip_vertical": 1.0}, np.s_[:, ::-1]),
    ],
)
def test_flips_move_pixels_exactly(batch, config, flip):
    keys, image, mask = batch
    found_image, found_mask = augment(keys, image, mask, config)
    np.testing.assert_array_equal(found_image, np.asarray(image)[flip])
    np.testing.assert_array_equal(found_mask, np.asarray(mask)[flip])


def test_flips_come_as_often_as_asked_and_independently():
    keys = jax.random.split(jax.random.key(0), 2000)
    corner = jnp.zeros((2000, 2, 2, 1)).at[:, 0, 0].set(1)
    found, _ = augment(keys, corner, corner, {"flip_horizontal": 0.25, "flip_vertical": 0.5})
    share = np.asarray(found)[..., 0].mean(axis=0)
    np.testing.assert_allclose(share, [[0.375, 0.125], [0.375, 0.125]], atol=0.04)


@pytest.mark.parametrize("config", [{name: most} for name, most in GEOMETRY.items()] + [EVERYTHING])
def test_image_and_mask_stay_aligned(batch, config):
    """A picture of the mask moves with the mask."""
    keys, _, mask = batch
    geometry_only = {name: most for name, most in config.items() if name not in INTENSITY}
    image, found = augment(keys, mask, mask, geometry_only)
    np.testing.assert_array_equal(np.asarray(image) >= 0.5, found)
    assert not np.array_equal(found, mask)
    # Changes of intensity do not move the mask.
    np.testing.assert_array_equal(augment(keys, mask, mask, config)[1], found)
    # A soft one is moved as the image is, and is not cut.
    image, soft = augment(keys, mask / 2, mask / 2, geometry_only, soft=True)
    np.testing.assert_array_equal(image, soft)
    np.testing.assert_array_equal(np.asarray(soft) >= 0.25, found)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_exact(quarters):
    picture = np.random.default_rng(0).random((7, 7, 2), np.float32)
    found = moved(picture, quarters * np.pi / 2, 1.0, np.zeros(2))
    np.testing.assert_allclose(found, np.rot90(picture, quarters), atol=2e-6)


def test_whole_shifts_are_exact_and_bring_in_air():
    picture = np.random.default_rng(0).random((8, 10, 1), np.float32)
    found = moved(picture, 0.0, 1.0, np.array([2 / 8, -3 / 10]))  # down by 2, left by 3
    expected = np.zeros_like(picture)
    expected[2:, :-3] = picture[:-2, 3:]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_enlargement_is_about_the_centre():
    picture = np.zeros((9, 9, 1), np.float32)
    picture[4, 4] = picture[2, 3] = 1
    found = np.asarray(moved(picture, 0.0, 2.0, np.zeros(2)))[..., 0]
    peaks = {(int(row), int(column)) for row, column in np.argwhere(found == 1)}
    assert peaks == {(4, 4), (0, 2)}


def test_resample_equals_scipy():
    rng = np.random.default_rng(0)
    picture = rng.random((9, 12, 1), np.float32)
    rows, columns = rng.uniform(-6, 18, (2, 9, 12)).astype(np.float32)
    expected = ndimage.map_coordinates(
        picture[..., 0], [rows, columns], order=1, mode="grid-constant", cval=0
    )
    found = jax.jit(resample)(picture, rows, columns)
    np.testing.assert_allclose(found[..., 0], expected, atol=1e-5)


def test_elastic_field_is_a_bounded_spline():
    side, cells = 64, module.ELASTIC_CELLS
    control = np.random.default_rng(0).uniform(-1, 1, (1, cells + 3, cells + 3)).astype(np.float32)
    spline = jax.jit(smooth_field, static_argnames="shape")
    field = np.asarray(spline(control, shape=(side, side)))[0]
    assert abs(field).max() < abs(control).max()
    positions = (np.arange(side) + 0.5) * cells / side + 1  # SciPy counts from the first knot
    expected = ndimage.map_coordinates(
        control[0], np.meshgrid(positions, positions, indexing="ij"), order=3, prefilter=False
    )
    np.testing.assert_allclose(field, expected, atol=1e-5)
    constant = spline(np.full_like(control, 0.3), shape=(30, 50))
    np.testing.assert_allclose(constant, 0.3, rtol=1e-6)


@pytest.mark.parametrize("position", [0, 5])
def test_a_picture_depends_on_its_own_key_alone(batch, position):
    keys, image, mask = batch
    whole = augment(keys, image, mask, EVERYTHING)
    alone = augment(*(part[position : position + 1] for part in batch), EVERYTHING)
    turned = augment(keys[::-1], image[::-1], mask[::-1], EVERYTHING)
    for one, many, back in zip(alone, whole, turned, strict=True):
        # Float32 coordinates of 40 pixels are rounded to 4e-6, and differently for other shapes.
        np.testing.assert_allclose(one[0], many[position], atol=2e-5)
        np.testing.assert_allclose(back[5 - position], many[position], atol=2e-5)
    other = augment(jax.random.split(jax.random.key(2), 6), image, mask, EVERYTHING)
    assert not jnp.allclose(other[0][position], whole[0][position], atol=0.05)


def test_one_field_leaves_the_draws_of_another_alone(batch):
    keys, image, mask = batch
    _, turned = augment(keys, image, mask, {"rotate_degrees": 30.0})
    _, both = augment(keys, image, mask, {"rotate_degrees": 30.0, "noise": 0.1})
    np.testing.assert_array_equal(turned, both)


def test_intensities_stay_in_their_ranges():
    n = 500
    keys = jax.random.split(jax.random.key(0), n)
    image = jnp.full((n, 4, 4, 1), 0.25)
    mask = jnp.ones((n, 4, 4, 1))

    def values(**config):
        found, found_mask = augment(keys, image, mask, config)
        np.testing.assert_array_equal(found_mask, mask)
        assert found.dtype == jnp.float32
        return np.asarray(found)[:, 0, 0, 0]

    for found, low, high in (
        (values(brightness=0.5), 0.0, 0.75),  # cut to [0, 1]
        (values(contrast=0.4), 0.5 - 0.25 * 1.4, 0.5 - 0.25 * 0.6),
        (values(gamma=1.0), 0.25**2, 0.25**0.5),
    ):
        assert low - 1e-6 <= found.min() < low + 0.01 * (high - low)
        assert high - 0.02 * (high - low) < found.max() <= high + 1e-6


def test_noise_has_the_spread_asked_for():
    n = 400
    image = jnp.full((n, 64, 64, 1), 0.5)
    found, _ = augment(jax.random.split(jax.random.key(0), n), image, image, {"noise": 0.1})
    spread = np.asarray(found).std(axis=(1, 2, 3))
    assert abs(float(found.mean()) - 0.5) < 0.001
    assert spread.min() < 0.005 and 0.095 < spread.max() < 0.105
    assert abs(spread.mean() - 0.05) < 0.005


def test_equal_configs_compile_once(batch, monkeypatch):
    traced = []

    def counted(*args, **kwargs):
        traced.append(args)
        return source_points(*args, **kwargs)

    monkeypatch.setattr(module, "source_points", counted)
    augment(*batch, {"rotate_degrees": 29.0, "noise": 0.0})
    augment(*batch, ConfigDict({"rotate_degrees": 29.0}))
    augment(*batch, {"flip_vertical": 0, "rotate_degrees": 29})
    assert len(traced) == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rotation": 10.0}, "unknown augmentation 'rotation'.*rotate_degrees"),
        ({"flip_vertical": 1.5}, r"flip_vertical must be from 0 \(off\) to 1, found 1.5"),
        ({"shift": -0.1}, r"shift must be from 0 \(off\) to 1, found -0.1"),
        ({"scale": float("nan")}, "scale must be"),
    ],
)
def test_bad_fields_are_refused_in_one_line(batch, config, message):
    with pytest.raises(InputError, match=message) as caught:
        augment(*batch, config)
    assert "\n" not in str(caught.value)
