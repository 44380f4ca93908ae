"""AWSnet: an attention U-Net whose side heads' loss weights the authors search by a policy."""

import jax
from flax import linen as nn

from prnet_jax.models.attention_unet import gated_decoder_maps
from prnet_jax.models.layers import Conv, Dtype, check_image, upsample_corner_aligned


class AwsNet(nn.Module):
    """AWSnet, equal to `AttU_Net` of soleilssss/AWSnet (commit 90ea3bd, branch master).

    Image [N, H, W, in_channels] -> logits [N, H, W, num_classes]; H and W must divide by
    2^(len(widths) - 1), 16 at the defaults. It is Attention U-Net at half the width (the finest
    gate's inner width is not halved) with a head on every decoder level. "AWS", auto-weighted
    supervision, is how the authors train: the weights of the heads' losses start at (0.5, 0.5,
    0.5, 1), in the order of the heads, and are then searched. The reference takes several MR
    sequences; here they are channels of the image.

    Heads: coarse to fine, each at the image's size; the last is the main one (the reference gives
    that one twice). 8,727,088 parameters at the defaults, with deep supervision and without.

    Attributes:
        in_channels: channels of the image.
        num_classes: channels of the logits.
        widths: channels of the levels, finest first; their number is the number of levels.
        deep_supervision: whether `all_heads` gives all heads or the main one only; the side
            heads' parameters exist either way, as in the reference.
        dtype: dtype of the computation; None: that of the input and the parameters.
    """

    in_channels: int = 1
    num_classes: int = 1
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    deep_supervision: bool = True
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, image: jax.Array, train: bool, all_heads: bool = False
    ) -> jax.Array | tuple[jax.Array, ...]:
        check_image("awsnet", image, self.in_channels, 2 ** (len(self.widths) - 1))
        gate_widths = [self.widths[0], *(width // 2 for width in self.widths[1:-1])]
        maps = gated_decoder_maps(image, train, self.widths, gate_widths, self.dtype)

        heads = []
        for x, level in zip(maps, reversed(range(len(maps))), strict=True):
            name = f"final{level}" if level else "final"
            # The reference resizes first. The interpolation's weights sum to 1, so that the order
            # is free, and this one resizes num_classes channels instead of the level's width.
            logits = Conv(self.num_classes, 1, dtype=self.dtype, name=name)(x)
            heads.append(upsample_corner_aligned(logits, 2**level) if level else logits)
        if not self.deep_supervision:
            heads = heads[-1:]
        return tuple(heads) if all_heads else heads[-1]


NETWORK = AwsNet
ABOUT = {
    "network": "AwsNet",
    "sides": "16",
    "reference": "soleilssss/AWSnet",
    "licence": "none stated",
}
