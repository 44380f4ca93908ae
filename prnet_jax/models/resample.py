"""Resizing by two small matrices, for which JAX has no function: corners kept, or any positions."""

import jax
import jax.numpy as jnp
import numpy as np


def upsample_corner_aligned(x: jax.Array, factor: int = 2) -> jax.Array:
    """Bilinear upsampling that keeps the corner pixels' centres: torch's `align_corners=True`.

    JAX has no such option, so this multiplies by two small matrices, in float32 or better.
    """
    return resample(x, *(_corner_aligned(side, factor * side) for side in x.shape[1:3]))


def resample(x: jax.Array, rows: np.ndarray, columns: np.ndarray) -> jax.Array:
    """Weighted sums of pixels: [N, H, W, C] -> [N, A, B, C], in float32 or better.

    Args:
        x: of any float dtype, which the result has too.
        rows: the weights [A, H].
        columns: the weights [B, W].
    """
    precise = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    down, across = (jnp.asarray(weights, precise.dtype) for weights in (rows, columns))
    high = jax.lax.Precision.HIGHEST
    precise = jnp.einsum("ah,nhwc->nawc", down, precise, precision=high)
    return jnp.einsum("bw,nawc->nabc", across, precise, precision=high).astype(x.dtype)


def linear_weights(position: np.ndarray, old: int) -> np.ndarray:
    """[new, old]: the weights of linear interpolation at positions [new], in old pixels."""
    return np.maximum(1 - np.abs(position[:, None] - np.arange(old)), 0)


def _corner_aligned(old: int, new: int) -> np.ndarray:
    """[new, old]: the weights of linear interpolation with fixed end points."""
    return linear_weights(np.arange(new) * ((old - 1) / max(new - 1, 1)), old)
