"""AwsNet: an Attention U-Net with side heads, whose loss weights its authors search for."""

from functools import partial

import jax
from flax import linen as nn

from prnet_jax.models.attention_unet import gated_decoder_maps
from prnet_jax.models.layers import BatchNorm, Conv, Dtype, check_image, check_widths
from prnet_jax.models.resample import upsample_corner_aligned


class AwsNet(nn.Module):
    """AwsNet, equal to `AttU_Net` of soleilssss/AWSnet (commit 90ea3bd, branch master).

    Image [N, H, W, in_channels] -> logits [N, H, W, num_classes]; H and W must be multiples of
    2^(len(widths) - 1), 16 at the defaults. It is Attention U-Net at half the width, except for the
    finest gate's inner width, and has a head on every decoder level. 8,727,088 parameters at the
    defaults, with or without deep supervision.

    Heads go from coarse to fine, each at the image's size; the last is the main one, which the
    reference returns twice. AWS, auto-weighted supervision, is how the authors train: the weights
    of the heads' losses start at (0.5, 0.5, 0.5, 1) and are then searched for. The reference takes
    several MR sequences; here they are channels of the image.

    Attributes:
        in_channels: channels of the image.
        num_classes: channels of the logits.
        widths: channels of the levels, finest first; their number is the number of levels.
        deep_supervision: whether `all_heads` returns all heads or only the main one. The side
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
        check_widths("awsnet", self.widths, 2, smallest=2)
        check_image("awsnet", image, self.in_channels, 2 ** (len(self.widths) - 1))
        conv = partial(Conv, dtype=self.dtype)
        norm = partial(BatchNorm, dtype=self.dtype)
        gate_widths = [self.widths[0], *(width // 2 for width in self.widths[1:-1])]
        maps = gated_decoder_maps(image, train, self.widths, gate_widths, conv, norm)

        heads = []
        for x, level in zip(maps, reversed(range(len(maps))), strict=True):
            name = f"final{level}" if level else "final"
            # The reference resizes first. The interpolation's weights sum to 1, so the order does
            # not matter, and this one resizes num_classes channels instead of the level's width.
            logits = conv(self.num_classes, 1, name=name)(x)
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
