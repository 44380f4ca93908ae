"""Light U-Net: Li et al., ISBI 2021, a U-Net with grouped convolutions."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from prnet_jax.errors import InputError
from prnet_jax.models.layers import (
    BatchNorm,
    Conv,
    Dtype,
    check_image,
    max_pool,
    pad_to,
    upsample_corner_aligned,
)

VARIANTS = ("lighter", "light")


class GroupedConv(nn.Module):
    """3x3 convolution in groups, then 1x1 to `features`, nothing between. -> [N, H, W, features].

    A channels make floor(A / min(A, channels_per_group)) groups; three channels (a colour image)
    stay one group unless each channel is to be its own. Names: conv.0, conv.1.
    """

    features: int
    channels_per_group: int
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        colour = channels == 3 and self.channels_per_group != 1
        groups = 1 if colour else channels // min(channels, self.channels_per_group)
        if channels % groups:
            raise InputError(
                f"lightunet cannot part {channels} channels into {groups} equal groups: "
                f"channels_per_group is {self.channels_per_group}, choose one that divides them"
            )
        # Through the 1x1 convolution the first's bias too is a constant to the norm that follows.
        x = Conv(channels, groups=groups, dtype=self.dtype, normed=train, name="conv.0")(x)
        return Conv(self.features, 1, dtype=self.dtype, normed=train, name="conv.1")(x)


class LightDoubleConv(nn.Module):
    """Twice a convolution of the variant, BatchNorm, ReLU. Names as in torch: 0, 1, 3, 4."""

    mid_features: int
    features: int
    variant: str
    channels_per_group: int
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        lighter = self.variant == "lighter"
        if lighter:
            x = GroupedConv(self.mid_features, self.channels_per_group, self.dtype, name="0")(
                x, train
            )
        else:
            x = Conv(self.mid_features, dtype=self.dtype, normed=train, name="0")(x)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="1")(x, train))
        per_group = self.channels_per_group if lighter else 1
        x = GroupedConv(self.features, per_group, self.dtype, name="3")(x, train)
        return nn.relu(BatchNorm(dtype=self.dtype, name="4")(x, train))


class LightUNet(nn.Module):
    """Light U-Net, in its two variants: every 3x3 convolution in groups, or the second of each two.

    Image [N, H, W, in_channels] -> logits [N, H, W, num_classes] (the reference returns their
    sigmoid); any H and W of 16 or more. One head. 7,944,459 parameters at the defaults, 10,999,105
    as "light".

    Attributes:
        in_channels: channels of the image.
        num_classes: channels of the logits.
        variant: "lighter", the paper's "Lighter U-net @C", where every 3x3 convolution is grouped;
            or "light", where the first of each two is plain and the second depthwise.
        channels_per_group: the C of "lighter"; "light" does not use it.
        widths: channels of the five levels, finest first.
        dropout: the share of values set to zero after the deepest level, with `train` and where
            `apply` is given `rngs={"dropout": key}`. Without that key there is no dropout.
        dtype: dtype of the computation; None: that of the input and the parameters.
    """

    in_channels: int = 1
    num_classes: int = 1
    variant: str = "lighter"
    channels_per_group: int = 128
    widths: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)
    dropout: float = 0.5
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, image: jax.Array, train: bool, all_heads: bool = False
    ) -> jax.Array | tuple[jax.Array, ...]:
        check_image("lightunet", image, self.in_channels, 1, min_side=16)
        if self.variant not in VARIANTS:
            raise InputError(
                f"lightunet's variant must be one of {', '.join(VARIANTS)}, found {self.variant!r}"
            )
        if self.channels_per_group < 1:
            raise InputError(
                f"lightunet's channels_per_group must be 1 or more, found {self.channels_per_group}"
            )

        x, skips = self._double(self.widths[0], self.widths[0], "inc.double_conv")(image, train), []
        for i, width in enumerate(self.widths[1:], 1):
            skips.append(x)
            name = f"down{i}.maxpool_conv.1.double_conv"
            x = self._double(width, width, name)(max_pool(x), train)

        keep = not (train and self.has_rng("dropout"))
        x = nn.Dropout(self.dropout, deterministic=keep)(x)

        # A decoder level leaves with the channels of the next finer one, to add up with its skip.
        for i, level in enumerate((3, 2, 1, 0), 1):
            x = pad_to(upsample_corner_aligned(x), skips[level])
            x = jnp.concatenate((skips[level], x), axis=-1)
            features = self.widths[max(level - 1, 0)]
            x = self._double(self.widths[level], features, f"up{i}.conv.double_conv")(x, train)

        logits = Conv(self.num_classes, 1, dtype=self.dtype, name="outc.conv")(x)
        return (logits,) if all_heads else logits

    def _double(self, mid_features: int, features: int, name: str) -> LightDoubleConv:
        return LightDoubleConv(
            mid_features, features, self.variant, self.channels_per_group, self.dtype, name=name
        )


NETWORK = LightUNet
ABOUT = {
    "network": "LightUNet",
    "sides": "any from 16",
    "reference": "Yingping-LI/Light-U-net",
    "licence": "none stated",
}
