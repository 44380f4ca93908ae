"""U-Net: Ronneberger, Fischer & Brox, MICCAI 2015, in the form most used with PyTorch."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from prnet_jax.models.layers import (
    Conv,
    DoubleConv,
    Dtype,
    UpConv,
    check_image,
    max_pool,
    pad_to,
    upsample_corner_aligned,
)


class UNet(nn.Module):
    """U-Net, equal to `UNet` of milesial/Pytorch-UNet (commit 21d7850).

    Image [N, H, W, in_channels] -> logits [N, H, W, num_classes]; H and W are any from
    2^(len(widths) - 1) on, 16 at the defaults: where a side does not divide, the upsampled map is
    padded with zeros to its skip. Unlike the paper's network, convolutions are padded, have no
    bias and are followed by BatchNorm. One head. 31,036,481 parameters at the defaults,
    17,261,825 if bilinear.

    Attributes:
        in_channels: channels of the image.
        num_classes: channels of the logits.
        widths: channels of the levels, finest first; their number is the number of levels.
        bilinear: upsampling is bilinear with fixed corners, not a transposed convolution; the
            coarsest level then has half its width, and so has each decoder level but the finest.
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
        deepest = len(self.widths) - 1
        check_image("unet", image, self.in_channels, divisor=1, min_side=2**deepest)

        def double(x, features, mid_features, name):
            conv = DoubleConv(
                features, mid_features, use_bias=False, dtype=self.dtype, name=f"{name}.double_conv"
            )
            return conv(x, train)

        x = double(image, self.widths[0], None, "inc")
        skips = []
        for level in range(1, deepest + 1):
            skips.append(x)
            width = self.widths[level]
            if self.bilinear and level == deepest:
                width //= 2
            x = double(max_pool(x), width, None, f"down{level}.maxpool_conv.1")

        for i, (width, skip) in enumerate(zip(self.widths[-2::-1], skips[::-1], strict=True), 1):
            if self.bilinear:
                x = upsample_corner_aligned(x)
                features = width // 2 if i < deepest else width
            else:
                x = UpConv(width, dtype=self.dtype, name=f"up{i}.up")(x)
                features = width
            x = jnp.concatenate((skip, pad_to(x, skip)), axis=-1)
            x = double(x, features, width, f"up{i}.conv")

        logits = Conv(self.num_classes, 1, dtype=self.dtype, name="outc.conv")(x)
        return (logits,) if all_heads else logits


NETWORK = UNet
ABOUT = {
    "network": "U-Net",
    "sides": "any from 16",
    "reference": "milesial/Pytorch-UNet",
    "licence": "GPL-3.0",
}
