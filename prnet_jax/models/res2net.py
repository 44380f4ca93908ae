"""Res2Net-50 v1b, the backbone of Inf-Net: Gao et al., IEEE TPAMI 43(2), 2021 (section 3)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from prnet_jax.models.layers import BatchNorm, Conv, Dtype

SCALES = 4
EXPANSION = 4  # channels that leave a block, by its `planes`


class Res2Block(nn.Module):
    """A bottleneck whose 3x3 convolution works on four slices of the channels in turn.

    [N, H, W, C] -> [N, H / stride, W / stride, 4 planes]. In a *stage* block, the first of a layer,
    the slices do not feed each other, they carry the stride, and the shortcut is a 1x1 convolution.

    Attributes:
        planes: a quarter of the channels that leave.
        base_width: channels of a slice where `planes` is 64; in proportion elsewhere.
        stride: of a stage block; 1 elsewhere.
        stage: whether it is the first of its layer.
        dtype: dtype of the computation; None: that of the input and the parameters.
    """

    planes: int
    base_width: int = 26
    stride: int = 1
    stage: bool = False
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width = self.planes * self.base_width // 64

        def conv_norm(x, features, kernel_size, conv, norm, stride=1):
            x = Conv(
                features, kernel_size, stride=stride, use_bias=False, dtype=self.dtype, name=conv
            )(x)
            return BatchNorm(dtype=self.dtype, name=norm)(x, train)

        y = nn.relu(conv_norm(x, SCALES * width, 1, "conv1", "bn1"))
        slices = jnp.split(y, SCALES, axis=-1)
        done = []
        for i, part in enumerate(slices[:-1]):
            if done and not self.stage:
                part = part + done[-1]
            part = conv_norm(part, width, 3, f"convs.{i}", f"bns.{i}", self.stride)
            done.append(nn.relu(part))
        done.append(_average_pool(slices[-1], self.stride) if self.stage else slices[-1])
        y = conv_norm(jnp.concatenate(done, axis=-1), EXPANSION * self.planes, 1, "conv3", "bn3")

        if self.stage:
            side = (self.stride, self.stride)
            x = nn.avg_pool(x, side, side) if self.stride > 1 else x
            x = conv_norm(x, EXPANSION * self.planes, 1, "downsample.1", "downsample.2")
        return nn.relu(x + y)


class Res2Net(nn.Module):
    """The backbone without its classifier (`fc`), which nothing here uses.

    Image [N, H, W, C] with sides that divide by 32 -> the outputs of the four layers, at 1/4, 1/8,
    1/16 and 1/32 of the sides, 4 * widths channels.

    Attributes:
        widths: the `planes` of the layers' blocks; the stem has half of the first, twice, and it.
        blocks: how many blocks each layer has.
        base_width: see `Res2Block`.
        dtype: dtype of the computation; None: that of the input and the parameters.
    """

    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    base_width: int = 26
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        stem = self.widths[0]
        x = image
        for features, stride, conv, norm in (
            (stem // 2, 2, "conv1.0", "conv1.1"),
            (stem // 2, 1, "conv1.3", "conv1.4"),
            (stem, 1, "conv1.6", "bn1"),
        ):
            x = Conv(features, stride=stride, use_bias=False, dtype=self.dtype, name=conv)(x)
            x = nn.relu(BatchNorm(dtype=self.dtype, name=norm)(x, train))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))

        maps = []
        for layer, (planes, count) in enumerate(zip(self.widths, self.blocks, strict=True), 1):
            for i in range(count):
                x = Res2Block(
                    planes,
                    self.base_width,
                    stride=2 if i == 0 and layer > 1 else 1,
                    stage=i == 0,
                    dtype=self.dtype,
                    name=f"layer{layer}.{i}",
                )(x, train)
            maps.append(x)
        return tuple(maps)


def _average_pool(x: jax.Array, stride: int) -> jax.Array:
    """3x3 with zeros around, which the divisor of nine counts, as the reference has it."""
    pads = ((1, 1), (1, 1))
    return nn.avg_pool(x, (3, 3), (stride, stride), padding=pads, count_include_pad=True)
