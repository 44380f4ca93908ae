"""Attention U-Net: Oktay et al., MIDL 2018, in the 2-D form most used with PyTorch."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from prnet_jax.models.layers import (
    AttentionGate,
    BatchNorm,
    Conv,
    DoubleConv,
    Dtype,
    check_image,
    max_pool,
    upsample_nearest,
)


class AttentionUNet(nn.Module):
    """Attention U-Net, equal to `AttU_Net` of LeeJunHyun/Image_Segmentation (commit 5e9da93).

    Image [N, H, W, in_channels] -> logits [N, H, W, num_classes]; H and W must divide by
    2^(len(widths) - 1), 16 at the defaults. Unlike the paper's network, which is 3-D, the gate
    takes the upsampled map at the skip's own size, and there are no side outputs. One head.
    34,877,421 parameters at the defaults.

    Attributes:
        in_channels: channels of the image.
        num_classes: channels of the logits.
        widths: channels of the levels, finest first; their number is the number of levels.
        dtype: dtype of the computation; None: that of the input and the parameters.
    """

    in_channels: int = 1
    num_classes: int = 1
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, image: jax.Array, train: bool, all_heads: bool = False
    ) -> jax.Array | tuple[jax.Array, ...]:
        check_image("attention_unet", image, self.in_channels, 2 ** (len(self.widths) - 1))
        gate_widths = [width // 2 for width in self.widths[:-1]]
        x = gated_decoder_maps(image, train, self.widths, gate_widths, self.dtype)[-1]
        logits = Conv(self.num_classes, 1, dtype=self.dtype, name="Conv_1x1")(x)
        return (logits,) if all_heads else logits


def gated_decoder_maps(
    image: jax.Array,
    train: bool,
    widths: tuple[int, ...],
    gate_widths: list[int],
    dtype: Dtype | None,
) -> list[jax.Array]:
    """The encoder and the gated decoder, as submodules of the module that calls.

    Args:
        image: [N, H, W, C].
        train: whether BatchNorm uses the batch's statistics.
        widths: channels of the levels, finest first.
        gate_widths: inner channels of the gates, finest first; the coarsest level has none.
        dtype: dtype of the computation.

    Returns:
        The decoder's map of each level but the coarsest, finest last:
        [N, H / 2^level, W / 2^level, widths[level]].
    """

    def double(x, level, name):
        return DoubleConv(widths[level], dtype=dtype, name=f"{name}{level + 1}.conv")(x, train)

    x = double(image, 0, "Conv")
    skips = []
    for level in range(1, len(widths)):
        skips.append(x)
        x = double(max_pool(x), level, "Conv")

    maps = []
    for level in reversed(range(len(skips))):
        number = level + 2  # the reference counts from 1 and names a stage by its input's level
        conv = Conv(widths[level], dtype=dtype, normed=train, name=f"Up{number}.up.1")
        x = conv(upsample_nearest(x))
        x = nn.relu(BatchNorm(dtype=dtype, name=f"Up{number}.up.2")(x, train))
        gate = AttentionGate(gate_widths[level], dtype=dtype, name=f"Att{number}")
        x = jnp.concatenate((gate(x, skips[level], train), x), axis=-1)
        x = DoubleConv(widths[level], dtype=dtype, name=f"Up_conv{number}.conv")(x, train)
        maps.append(x)
    return maps


NETWORK = AttentionUNet
ABOUT = {
    "network": "Attention U-Net",
    "sides": "16",
    "reference": "LeeJunHyun/Image_Segmentation",
    "licence": "none stated",
}
