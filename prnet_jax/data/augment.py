"""Augmentation on the device: image and mask together, jitted, one key per example.

All geometry is one resampling. The mask is interpolated like the image and cut at 0.5, so its
border follows the image's to a fraction of a pixel; nearest neighbours would leave steps of up to
half a pixel. A soft mask is not cut. Flips alone only move pixels, and with every field off nothing
changes.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.lax import Precision

from prnet_jax.errors import InputError

# The fields of a config, explained in `augment`, and the largest value of each.
FLIPS = {"flip_horizontal": 1.0, "flip_vertical": 1.0}
GEOMETRY = {"rotate_degrees": 180.0, "scale": 0.9, "shift": 1.0, "elastic": 1 / 16}
INTENSITY = {"gamma": 4.0, "contrast": 1.0, "brightness": 1.0, "noise": 1.0}
FIELDS = FLIPS | GEOMETRY | INTENSITY
ELASTIC_CELLS = 4  # cells of the elastic field's coarse grid along a side


def augment(
    keys: jax.Array,
    image: jax.Array,
    mask: jax.Array,
    config: Mapping[str, float],
    soft: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Change each image at random, and its mask with it.

    What happens to an example depends on its key alone, not on its batch. Every amount is drawn
    uniformly and independently of the other fields, so switching one on does not change the others.

    Args:
        keys: [N] PRNG keys (`jax.random.key`), one per example.
        image: float32 [N, H, W, C] in [0, 1], already windowed: 0 is air.
        mask: float32 [N, H, W, M]: M masks of the image, of 0 and 1, or soft ones in [0, 1].
        config: any of these fields; a missing one is 0, which is off.

            * flip_horizontal, flip_vertical: probability of exchanging left and right, or top and
              bottom.
            * rotate_degrees: largest angle, in either direction, about the picture's centre.
            * scale: largest relative change of size: 0.1 gives 0.9 to 1.1.
            * shift: largest shift along each axis, as a fraction of that side.
            * elastic: largest displacement by a smooth random field, as a fraction of that side;
              up to 1/16 the picture cannot fold over itself.
            * gamma: largest change of the exponent, in powers of two: 1 gives 1/2 to 2.
            * contrast: largest relative change about 0.5: 0.1 is a window 10 % wider or narrower.
            * brightness: largest amount added or subtracted: a shifted window.
            * noise: largest standard deviation of Gaussian noise.
        soft: whether the masks are soft.

    Returns:
        image float32 [N, H, W, C] in [0, 1]; mask float32 [N, H, W, M] of 0 and 1, or soft in
        [0, 1]. Points from outside the picture are 0.

    Raises:
        InputError: an unknown field, or an amount outside its range.
    """
    return _augment_batch(keys, image, mask, amounts=_amounts(config), soft=soft)


def _amounts(config: Mapping[str, float]) -> tuple[float, ...]:
    """The amount of each of `FIELDS`, hashable: equal configs share one compilation."""
    unknown = sorted(set(config) - set(FIELDS))
    if unknown:
        raise InputError(f"unknown augmentation {unknown[0]!r}: the fields are {', '.join(FIELDS)}")
    for name, amount in config.items():
        if not 0 <= amount <= FIELDS[name]:
            raise InputError(
                f"augmentation {name} must be from 0 (off) to {FIELDS[name]:g}, found {amount:g}"
            )
    return tuple(float(config.get(name, 0)) for name in FIELDS)


@functools.partial(jax.jit, static_argnames=("amounts", "soft"))
def _augment_batch(keys, image, mask, amounts, soft):
    one = functools.partial(_augment_one, amounts=amounts, soft=soft)
    return jax.vmap(one)(keys, image, mask)


def _augment_one(key, image, mask, amounts, soft):
    """`augment` for one example: image [H, W, C], mask [H, W, M]."""
    amount = dict(zip(FIELDS, amounts, strict=True))
    key_of = dict(zip(FIELDS, jax.random.split(key, len(FIELDS)), strict=True))
    height, width, channels = image.shape

    def draw(name, shape=()):
        uniform = jax.random.uniform(key_of[name], shape, jnp.float32, minval=-1, maxval=1)
        return uniform * amount[name]

    for axis, name in ((1, "flip_horizontal"), (0, "flip_vertical")):
        if amount[name]:
            flip = jax.random.bernoulli(key_of[name], amount[name])
            image = jnp.where(flip, jnp.flip(image, axis), image)
            mask = jnp.where(flip, jnp.flip(mask, axis), mask)

    if any(amount[name] for name in GEOMETRY):
        rows = jnp.arange(height, dtype=jnp.float32)[:, None]
        columns = jnp.arange(width, dtype=jnp.float32)[None, :]
        if amount["elastic"]:
            control = draw("elastic", (2, ELASTIC_CELLS + 3, ELASTIC_CELLS + 3))
            displacement = smooth_field(control, (height, width))
            rows, columns = rows + height * displacement[0], columns + width * displacement[1]
        rows, columns = source_points(
            rows,
            columns,
            (height, width),
            radians=jnp.deg2rad(draw("rotate_degrees")),
            scale=1 + draw("scale"),
            shift=draw("shift", (2,)),
        )
        both = resample(jnp.concatenate([image, mask], axis=-1), rows, columns)
        image, mask = both[..., :channels], both[..., channels:]
        if not soft:
            mask = (mask >= 0.5).astype(mask.dtype)

    if amount["gamma"]:
        image = image ** jnp.exp2(draw("gamma"))
    if amount["contrast"]:
        image = 0.5 + (image - 0.5) * (1 + draw("contrast"))
    if amount["brightness"]:
        image = image + draw("brightness")
    if amount["noise"]:
        size_key, noise_key = jax.random.split(key_of["noise"])
        sd = jax.random.uniform(size_key, (), jnp.float32) * amount["noise"]
        image = image + sd * jax.random.normal(noise_key, image.shape, jnp.float32)
    if any(amount[name] for name in INTENSITY):
        image = jnp.clip(image, 0, 1)
    return image, mask


def source_points(
    rows: jax.Array,
    columns: jax.Array,
    shape: tuple[int, int],
    radians: jax.Array,
    scale: jax.Array,
    shift: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Where points of the picture were before it was scaled and rotated, then shifted.

    Args:
        rows, columns: float32 [H, W], or [H, 1] and [1, W], in pixels.
        shape: (H, W) of the picture.
        radians: rotation about the centre, counter-clockwise as seen on a screen.
        scale: enlargement about the centre.
        shift: [2], down and to the right, as a fraction of each side.

    Returns:
        rows and columns, float32 [H, W], in pixels; they may lie outside the picture.
    """
    height, width = shape
    centre_row, centre_column = (height - 1) / 2, (width - 1) / 2
    rows = rows - centre_row - height * shift[0]
    columns = columns - centre_column - width * shift[1]
    cos, sin = jnp.cos(radians) / scale, jnp.sin(radians) / scale
    return (
        centre_row + cos * rows + sin * columns,
        centre_column - sin * rows + cos * columns,
    )


def smooth_field(control: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Uniform cubic B-spline surfaces: twice differentiable, within their control values.

    Args:
        control: float32 [K, ELASTIC_CELLS + 3, ELASTIC_CELLS + 3].
        shape: (H, W).

    Returns:
        float32 [K, H, W].
    """
    down, across = (_spline_weights(side) for side in shape)
    return jnp.einsum("hi,kij,wj->khw", down, control, across, precision=Precision.HIGHEST)


def _spline_weights(side: int) -> jax.Array:
    """[side, ELASTIC_CELLS + 3]: the weight of each control value at each pixel; rows sum to 1."""
    position = (jnp.arange(side, dtype=jnp.float32) + 0.5) * (ELASTIC_CELLS / side)
    knot = jnp.arange(-1, ELASTIC_CELLS + 2, dtype=jnp.float32)
    distance = jnp.abs(position[:, None] - knot[None, :])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = jnp.maximum(2 - distance, 0) ** 3 / 6
    return jnp.where(distance < 1, near, far)


def resample(picture: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Bilinear interpolation of `picture` at the given points, 0 outside it.

    Args:
        picture: float [H, W, C].
        rows, columns: float32 [H, W], in pixels.

    Returns:
        float [H, W, C].
    """
    height, width, _ = picture.shape
    # Points outside fall on a border of two zeros: one step of fading, then 0.
    padded = jnp.pad(picture, ((2, 2), (2, 2), (0, 0)))
    rows, columns = jnp.clip(rows, -2, height) + 2, jnp.clip(columns, -2, width) + 2
    row, column = jnp.floor(rows).astype(jnp.int32), jnp.floor(columns).astype(jnp.int32)
    down, right = (rows - row)[..., None], (columns - column)[..., None]
    upper = (1 - right) * padded[row, column] + right * padded[row, column + 1]
    lower = (1 - right) * padded[row + 1, column] + right * padded[row + 1, column + 1]
    return (1 - down) * upper + down * lower
