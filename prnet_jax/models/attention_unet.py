"""Attention U-Net: Oktay et al., MIDL 2018, in the 2-D form most used with PyTorch."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from prnet_jax.models.layers import (
    AttentionGate,
    BatchNorm,
    Conv,
    DoubleConv,
    Dtype,
    ModuleDef,
    check_image,
    check_widths,
    max_pool,
    upsample_nearest,
)


class AttentionUNet(nn.Module):
    """Attention U-Net, equal to `AttU_Net` of LeeJunHyun/Image_Segmentation (commit 5e9da93).

    Image [N, H, W, in_channels] -> logits [N, H, W, num_classes]; H and W must be multiples of
    2^(len(widths) - 1), 16 at the defaults. One head. 34,877,421 parameters at the defaults.

    The paper's network is 3-D, its gates take the coarser map, and it has side outputs. Here a gate
    takes the map upsampled to the skip's size, and there are no side outputs.

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
        check_widths("attention_unet", self.widths, 2, smallest=2)
        check_image("attention_unet", image, self.in_channels, 2 ** (len(self.widths) - 1))
        conv = partial(Conv, dtype=self.dtype)
        norm = partial(BatchNorm, dtype=self.dtype)
        gate_widths = [width // 2 for width in self.widths[:-1]]
        x = gated_decoder_maps(image, train, self.widths, gate_widths, conv, norm)[-1]
        logits = conv(self.num_classes, 1, name="Conv_1x1")(x)
        return (logits,) if all_heads else logits


def gated_decoder_maps(
    image: jax.Array,
    train: bool,
    widths: tuple[int, ...],
    gate_widths: list[int],
    conv: ModuleDef,
    norm: ModuleDef,
) -> list[jax.Array]:
    """The encoder and the gated decoder, as submodules of the calling module.

    Args:
        image: [N, H, W, C].
        train: whether BatchNorm uses the batch's statistics.
        widths: channels of the levels, finest first.
        gate_widths: inner channels of the gates, finest first; the coarsest level has none.
        conv, norm: `Conv` and `BatchNorm`, bound to the network's dtype.

    Returns:
        The decoder's map of each level but the coarsest, finest last:
        [N, H / 2^level, W / 2^level, widths[level]].
    """
    double = partial(DoubleConv, conv=conv, norm=norm)
    gate = partial(AttentionGate, conv=conv, norm=norm)

    x = double(widths[0], name="Conv1.conv")(image, train)
    skips = []
    for level in range(1, len(widths)):
        skips.append(x)
        x = double(widths[level], name=f"Conv{level + 1}.conv")(max_pool(x), train)

    maps = []
    for level in reversed(range(len(skips))):
        number = level + 2  # the reference counts from 1 and names a stage by its input's level
        width = widths[level]
        x = conv(width, normed=train, name=f"Up{number}.up.1")(upsample_nearest(x))
        x = nn.relu(norm(name=f"Up{number}.up.2")(x, train))
        skip = gate(gate_widths[level], name=f"Att{number}")(x, skips[level], train)
        x = jnp.concatenate((skip, x), axis=-1)
        x = double(width, name=f"Up_conv{number}.conv")(x, train)
        maps.append(x)
    return maps


NETWORK = AttentionUNet
ABOUT = {
    "network": "Attention U-Net",
    "sides": "16",
    "reference": "LeeJunHyun/Image_Segmentation",
    "licence": "none stated",
}
