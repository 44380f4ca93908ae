"""Light U-Net: Li et al., ISBI 2021, a U-Net with grouped convolutions."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from prnet_jax.errors import InputError
from prnet_jax.models.layers import (
    BatchNorm,
    Conv,
    Dtype,
    ModuleDef,
    check_image,
    check_widths,
    max_pool,
    pad_to,
)
from prnet_jax.models.resample import upsample_corner_aligned

VARIANTS = ("lighter", "light")


class GroupedConv(nn.Module):
    """A grouped 3x3 convolution, then a 1x1 to `features`. [N, H, W, C] -> [N, H, W, features].

    There are floor(C / min(C, channels_per_group)) groups. Three channels (a colour image) are one
    group unless `channels_per_group` is 1. Submodules: conv.0, conv.1.
    """

    features: int
    channels_per_group: int
    conv: ModuleDef = Conv

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        colour = channels == 3 and self.channels_per_group != 1
        groups = 1 if colour else channels // min(channels, self.channels_per_group)
        if channels % groups:
            raise InputError(
                f"lightunet cannot split {channels} channels into {groups} equal groups: "
                f"channels_per_group is {self.channels_per_group}, choose one that divides them"
            )
        # The norm after the 1x1 convolution removes the first convolution's bias as well.
        x = self.conv(channels, groups=groups, normed=train, name="conv.0")(x)
        return self.conv(self.features, 1, normed=train, name="conv.1")(x)


class LightDoubleConv(nn.Module):
    """Twice a convolution, BatchNorm and ReLU. [N, H, W, C] -> [N, H, W, features].

    In "lighter" both convolutions are grouped; in "light" the first is plain and the second
    depthwise. Submodules have torch's names: 0, 1, 3, 4.
    """

    mid_features: int
    features: int
    variant: str
    channels_per_group: int
    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        grouped = partial(GroupedConv, conv=self.conv)
        if self.variant == "lighter":
            per_group = self.channels_per_group
            x = grouped(self.mid_features, per_group, name="0")(x, train)
        else:
            per_group = 1
            x = self.conv(self.mid_features, normed=train, name="0")(x)
        x = nn.relu(self.norm(name="1")(x, train))
        x = grouped(self.features, per_group, name="3")(x, train)
        return nn.relu(self.norm(name="4")(x, train))


class LightUNet(nn.Module):
    """Light U-Net in its two variants, equal to the classes of Yingping-LI/Light-U-net.

    Image [N, H, W, in_channels] -> logits [N, H, W, num_classes], of which the reference returns
    the sigmoid; H and W can be any from 16 up. One head. 7,944,459 parameters at the defaults,
    10,999,105 as "light".

    Attributes:
        in_channels: channels of the image.
        num_classes: channels of the logits.
        variant: "lighter", the paper's "Lighter U-net @C", groups every 3x3 convolution; in "light"
            the first of each two is plain and the second depthwise.
        channels_per_group: the C of "lighter"; "light" does not use it.
        widths: channels of the five levels, finest first.
        dropout: share of the deepest level's values that is set to zero when `train` is true and
            `apply` gets `rngs={"dropout": key}`. Without that key there is no dropout.
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
        check_widths("lightunet", self.widths, 5, 5)
        if self.variant not in VARIANTS:
            raise InputError(
                f"lightunet's variant must be one of {', '.join(VARIANTS)}, found {self.variant!r}"
            )
        if self.channels_per_group < 1:
            raise InputError(
                f"lightunet's channels_per_group must be 1 or more, found {self.channels_per_group}"
            )

        conv = partial(Conv, dtype=self.dtype)
        double = partial(
            LightDoubleConv,
            variant=self.variant,
            channels_per_group=self.channels_per_group,
            conv=conv,
            norm=partial(BatchNorm, dtype=self.dtype),
        )

        first = self.widths[0]
        x, skips = double(first, first, name="inc.double_conv")(image, train), []
        for i, width in enumerate(self.widths[1:], 1):
            skips.append(x)
            down = double(width, width, name=f"down{i}.maxpool_conv.1.double_conv")
            x = down(max_pool(x), train)

        deterministic = not (train and self.has_rng("dropout"))
        x = nn.Dropout(self.dropout, deterministic=deterministic)(x)

        # A decoder level ends with the width of the next finer one, whose skip it then joins.
        for i, level in enumerate((3, 2, 1, 0), 1):
            x = pad_to(upsample_corner_aligned(x), skips[level])
            x = jnp.concatenate((skips[level], x), axis=-1)
            features = self.widths[max(level - 1, 0)]
            x = double(self.widths[level], features, name=f"up{i}.conv.double_conv")(x, train)

        logits = conv(self.num_classes, 1, name="outc.conv")(x)
        return (logits,) if all_heads else logits


NETWORK = LightUNet
ABOUT = {
    "network": "LightUNet",
    "sides": "any from 16",
    "reference": "Yingping-LI/Light-U-net",
    "licence": "none stated",
}
