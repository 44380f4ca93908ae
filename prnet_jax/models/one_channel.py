"""The 1x1 convolution from or to one channel, for TPU: without a matrix product.

As a convolution, the TPU's compiler puts the one channel on 128 lanes, and keeps what the first
layer makes of the image instead of making it where it is used: docs/performance.md, "TPU, by its
compiler", has figures.
"""

import jax
import jax.numpy as jnp


def has_one_channel(kernel: jax.Array) -> bool:
    """Whether `by_channel` computes the convolution with `kernel` [kh, kw, C, features]."""
    return kernel.shape[:2] == (1, 1) and 1 in kernel.shape[2:]


def by_channel(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[N, H, W, C], [1, 1, C, features] -> [N, H, W, features]; C or features is 1.

    Multiplies and adds in float32; the result has the dtype of `x`.
    """
    weights = kernel.reshape(-1).astype(jnp.float32)
    products = x.astype(jnp.float32) * jnp.expand_dims(weights, (0, 1, 2))
    if kernel.shape[-1] == 1:
        products = products.sum(-1, keepdims=True)
    return products.astype(x.dtype)
