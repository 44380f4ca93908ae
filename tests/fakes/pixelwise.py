"""A network that sees each pixel alone, so that padding cannot reach another pixel."""

import jax
from flax import linen as nn


class Pixelwise(nn.Module):
    """One weight and one bias; logits [N, H, W, 1]."""

    in_channels: int = 1

    @nn.compact
    def __call__(self, image: jax.Array, train: bool, all_heads: bool = False) -> jax.Array:
        return nn.Conv(1, (1, 1), name="head")(image)
