"""AnamNet: Paluru et al., IEEE TNNLS 32(3), 2021, doi:10.1109/TNNLS.2021.3054746."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from prnet_jax.models.layers import (
    BatchNorm,
    Conv,
    Dtype,
    ModuleDef,
    UpConv,
    check_image,
    check_widths,
    max_pool,
)


class SingleConv(nn.Module):
    """One 3x3 convolution, BatchNorm, ReLU. [N, H, W, C] -> [N, H, W, features].

    Submodules have torch's names: 0, 1.
    """

    features: int
    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = self.conv(self.features, normed=train, name="0")(x)
        return nn.relu(self.norm(name="1")(x, train))


class Squeeze(nn.Module):
    """The anamorphic block: relu(x + expand(conv3x3(squeeze(x)))), at a quarter of the channels.

    [N, H, W, C] -> [N, H, W, C]. squeeze and expand are 1x1 convolutions. No convolution has a
    bias; BatchNorm and ReLU follow each.
    """

    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        narrow = max(channels // 4, 1)
        y = x
        for i, (features, kernel) in enumerate(((narrow, 1), (narrow, 3), (channels, 1)), 1):
            name = f"ext_conv{i}"
            y = self.conv(features, kernel, use_bias=False, name=f"{name}.0")(y)
            y = nn.relu(self.norm(name=f"{name}.1")(y, train))
        return nn.relu(x + y)


class AnamNet(nn.Module):
    """AnamNet: a light U-Net with one convolution a level and squeezing blocks in between.

    Image [N, H, W, in_channels] -> logits [N, H, W, num_classes]; H and W must be multiples of 16.
    One head. 4,631,425 parameters at the defaults. Equal to `AnamNet` of
    NaveenPaluru/Segmentation-COVID-19, which has three classes: only the last convolution differs.

    Attributes:
        in_channels: channels of the image.
        num_classes: channels of the logits.
        widths: channels of the four levels, finest first.
        dtype: dtype of the computation; None: that of the input and the parameters.
    """

    in_channels: int = 1
    num_classes: int = 1
    widths: tuple[int, int, int, int] = (64, 128, 256, 256)
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, image: jax.Array, train: bool, all_heads: bool = False
    ) -> jax.Array | tuple[jax.Array, ...]:
        check_widths("anamnet", self.widths, 4, 4)
        check_image("anamnet", image, self.in_channels, 16)
        conv = partial(Conv, dtype=self.dtype)
        norm = partial(BatchNorm, dtype=self.dtype)
        single = partial(SingleConv, conv=conv, norm=norm)
        squeeze = partial(Squeeze, conv=conv, norm=norm)

        x, skips = image, []
        for level, width in enumerate(self.widths, 1):
            x = single(width, name=f"conv{level}_block")(x, train)
            skips.append(x)
            x = max_pool(x)
            if level < 4:  # the deepest map goes straight to the decoder
                x = squeeze(name=f"bottleneck{level}")(x, train)

        for i, width in enumerate(reversed(self.widths), 1):
            x = UpConv(width, dtype=self.dtype, name=f"up_{i}")(x)
            if i < 4:
                x = squeeze(name=f"bottleneck{i + 3}")(x, train)
            x = jnp.concatenate((x, skips.pop()), axis=-1)  # the skip comes second, as published
            x = single(width, name=f"conv_up_{i}")(x, train)

        logits = conv(self.num_classes, 1, name="conv_final")(x)
        return (logits,) if all_heads else logits


NETWORK = AnamNet
ABOUT = {
    "network": "AnamNet",
    "sides": "16",
    "reference": "NaveenPaluru/Segmentation-COVID-19",
    "licence": "none stated",
}
