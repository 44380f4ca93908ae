"""U-Net: Ronneberger, Fischer & Brox, MICCAI 2015, in the form most used with PyTorch."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from prnet_jax.models.layers import (
    BatchNorm,
    Conv,
    DoubleConv,
    Dtype,
    UpConv,
    check_image,
    check_widths,
    max_pool,
    pad_to,
)
from prnet_jax.models.resample import upsample_corner_aligned


class UNet(nn.Module):
    """U-Net, equal to `UNet` of milesial/Pytorch-UNet (commit 21d7850).

    Image [N, H, W, in_channels] -> logits [N, H, W, num_classes]; H and W can be any from
    2^(len(widths) - 1) up, 16 at the defaults. Upsampled maps are padded with zeros to the size of
    their skip. Unlike in the paper, convolutions are padded, have no bias and are followed by
    BatchNorm. One head. 31,036,481 parameters at the defaults, 17,261,825 if bilinear.

    Attributes:
        in_channels: channels of the image.
        num_classes: channels of the logits.
        widths: channels of the levels, finest first; their number is the number of levels.
        bilinear: whether upsampling is bilinear with fixed corners in place of a transposed
            convolution. The coarsest level and each decoder level but the finest then have half
            their width.
        dtype: dtype of the computation; None: that of the input and the parameters.
    """

    in_channels: int = 1
    num_classes: int = 1
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    bilinear: bool = False
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, image: jax.Array, train: bool, all_heads: bool = False
    ) -> jax.Array | tuple[jax.Array, ...]:
        check_widths("unet", self.widths, 1, smallest=2 if self.bilinear else 1)
        deepest = len(self.widths) - 1
        check_image("unet", image, self.in_channels, divisor=1, min_side=2**deepest)

        conv = partial(Conv, dtype=self.dtype)
        norm = partial(BatchNorm, dtype=self.dtype)
        double = partial(DoubleConv, use_bias=False, conv=conv, norm=norm)

        x = double(self.widths[0], name="inc.double_conv")(image, train)
        skips = []
        for level in range(1, deepest + 1):
            skips.append(x)
            width = self.widths[level]
            if self.bilinear and level == deepest:
                width //= 2
            down = double(width, name=f"down{level}.maxpool_conv.1.double_conv")
            x = down(max_pool(x), train)

        for i, (width, skip) in enumerate(zip(self.widths[-2::-1], skips[::-1], strict=True), 1):
            if self.bilinear:
                x = upsample_corner_aligned(x)
                features = width // 2 if i < deepest else width
            else:
                x = UpConv(width, dtype=self.dtype, name=f"up{i}.up")(x)
                features = width
            x = jnp.concatenate((skip, pad_to(x, skip)), axis=-1)
            x = double(features, width, name=f"up{i}.conv.double_conv")(x, train)

        logits = conv(self.num_classes, 1, name="outc.conv")(x)
        return (logits,) if all_heads else logits


NETWORK = UNet
ABOUT = {
    "network": "U-Net",
    "sides": "any from 16",
    "reference": "milesial/Pytorch-UNet",
    "licence": "GPL-3.0",
}
