"""What `prnet_jax.data.preprocess` does to a picture's size, inside a program for every size.

The sides of the pictures may be symbolic, so the weights of the resampling are computed by the
program. They are quotients of integers, since float32 keeps no exact borders of pixels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class _Side(NamedTuple):
    """One side of a picture within an array.

    Attributes:
        length: of the array.
        filled: int32, the pixels in its middle that hold what the network sees of the picture.
    """

    length: int
    filled: jax.Array

    @property
    def pixels(self) -> jax.Array:
        """The places in the array, int32 [length], counted from the first of `filled`."""
        return jnp.arange(self.length, dtype=jnp.int32) - (self.length - self.filled) // 2


def to_square(images: jax.Array, size: int, how: str) -> jax.Array:
    """`preprocess.resize_image` of each of [N, H, W] -> [N, size, size], in the dtype of these."""
    whole, squares = _sides(images.shape[1:], size, how)
    rows, columns = (
        _area_weights(old, new, images.dtype) for old, new in zip(whole, squares, strict=True)
    )
    return _weighted(images, rows, columns)


def from_square(prob: jax.Array, shape: tuple[int, int], how: str) -> jax.Array:
    """`preprocess.resize_prob` of each of float32 [N, S, S] -> [N, H, W]."""
    whole, squares = _sides(shape, prob.shape[1], how)
    rows, columns = (
        jnp.where(
            new.filled <= old.filled,
            _area_weights(old, new, prob.dtype),
            _linear_weights(old, new, prob.dtype),
        )
        for old, new in zip(squares, whole, strict=True)
    )
    return _weighted(prob, rows, columns)


def _sides(shape: tuple[int, int], size: int, how: str) -> tuple[list[_Side], list[_Side]]:
    """Rows and columns of a picture [H, W], and of it in a square; see `preprocess.extent`."""
    whole = [_Side(length, jnp.asarray(length, jnp.int32)) for length in shape]
    if how == "middle":
        filled = [jnp.minimum(side.filled, size) for side in whole]
        seen = [_Side(side.length, n) for side, n in zip(whole, filled, strict=True)]
        return seen, [_Side(size, n) for n in filled]
    if how == "stretch":
        return whole, [_Side(size, jnp.asarray(size, jnp.int32))] * 2
    longer = jnp.maximum(*(side.filled for side in whole))
    filled = [(2 * side.filled * size + longer) // (2 * longer) for side in whole]
    return whole, [_Side(size, jnp.maximum(1, n)) for n in filled]


def _weighted(images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """[N, H, W] -> [N, rows, columns], each the weighted sum of old pixels."""
    high = jax.lax.Precision.HIGHEST
    images = jnp.einsum("ah,nhw->naw", rows, images, precision=high)
    return jnp.einsum("bw,naw->nab", columns, images, precision=high)


def _area_weights(old: _Side, new: _Side, dtype: jnp.dtype) -> jax.Array:
    """[new, old]: the share of each old pixel in each new one."""
    i, p = jnp.expand_dims(new.pixels, 1), jnp.expand_dims(old.pixels, 0)
    # In units of 1 / new.filled of an old pixel all borders are integers.
    right = jnp.minimum((i + 1) * old.filled, (p + 1) * new.filled)
    overlap = right - jnp.maximum(i * old.filled, p * new.filled)
    return _shares(jnp.maximum(overlap, 0), old.filled, old, new, dtype)


def _linear_weights(old: _Side, new: _Side, dtype: jnp.dtype) -> jax.Array:
    """[new, old]: linear interpolation at the centres of new pixels."""
    i, p = jnp.expand_dims(new.pixels, 1), jnp.expand_dims(old.pixels, 0)
    unit = 2 * new.filled
    centre = jnp.clip((2 * i + 1) * old.filled - new.filled, 0, unit * (old.filled - 1))
    near = jnp.maximum(unit - jnp.abs(centre - unit * p), 0)
    return _shares(near, unit, old, new, dtype)


def _shares(parts: jax.Array, of: jax.Array, old: _Side, new: _Side, dtype: jnp.dtype) -> jax.Array:
    """int32 [new, old] divided by `of`, and 0 outside `filled`."""
    rows, columns = ((side.pixels >= 0) & (side.pixels < side.filled) for side in (new, old))
    inside = jnp.expand_dims(rows, 1) & jnp.expand_dims(columns, 0)
    return jnp.where(inside, parts, 0).astype(dtype) / of.astype(dtype)
