"""Res2Net-50 v1b, the backbone of Inf-Net: Gao et al., IEEE TPAMI 43(2), 2021 (section 3)."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from prnet_jax.models.layers import BatchNorm, Conv, ModuleDef

SCALES = 4
EXPANSION = 4  # a block's output has this many times `planes` channels


class Res2Block(nn.Module):
    """A bottleneck with a 3x3 convolution for each of four slices of the channels, in turn.

    [N, H, W, C] -> [N, H / stride, W / stride, 4 planes]. Each slice's result is added to the next
    slice. In the first block of a layer, the *stage* block, it is not; there the slices have the
    stride, and the shortcut is a 1x1 convolution.

    Attributes:
        planes: a quarter of the output's channels.
        base_width: channels of a slice if `planes` is 64; others in proportion.
        stride: 1 except in a stage block.
        stage: whether it is the first block of its layer.
        conv, norm: `Conv` and `BatchNorm`, bound to the network's dtype.
    """

    planes: int
    base_width: int = 26
    stride: int = 1
    stage: bool = False
    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width = self.planes * self.base_width // 64

        def conv_norm(x, features, kernel_size, conv, norm, stride=1):
            x = self.conv(features, kernel_size, stride=stride, use_bias=False, name=conv)(x)
            return self.norm(name=norm)(x, train)

        y = nn.relu(conv_norm(x, SCALES * width, 1, "conv1", "bn1"))
        slices = jnp.split(y, SCALES, axis=-1)
        done: list[jax.Array] = []
        for i, part in enumerate(slices[:-1]):
            if done and not self.stage:
                part = part + done[-1]
            part = conv_norm(part, width, 3, f"convs.{i}", f"bns.{i}", self.stride)
            done.append(nn.relu(part))
        done.append(average_pool(slices[-1], self.stride) if self.stage else slices[-1])
        y = conv_norm(jnp.concatenate(done, axis=-1), EXPANSION * self.planes, 1, "conv3", "bn3")

        if self.stage:
            side = (self.stride, self.stride)
            x = nn.avg_pool(x, window_shape=side, strides=side) if self.stride > 1 else x
            x = conv_norm(x, EXPANSION * self.planes, 1, "downsample.1", "downsample.2")
        return nn.relu(x + y)


class Res2Net(nn.Module):
    """The backbone without its classifier (`fc`), which nothing here uses.

    Image [N, H, W, C], H and W multiples of 32 -> the outputs of the four layers, at 1/4, 1/8, 1/16
    and 1/32 of the sides, with 4 * widths channels.

    Attributes:
        widths: the `planes` of each layer's blocks. The stem's convolutions have half, half and all
            of the first.
        blocks: number of blocks in each layer.
        base_width: see `Res2Block`.
        conv, norm: `Conv` and `BatchNorm`, bound to the network's dtype.
    """

    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    base_width: int = 26
    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        stem = self.widths[0]
        x = image
        for features, stride, conv, norm in (
            (stem // 2, 2, "conv1.0", "conv1.1"),
            (stem // 2, 1, "conv1.3", "conv1.4"),
            (stem, 1, "conv1.6", "bn1"),
        ):
            x = self.conv(features, stride=stride, use_bias=False, name=conv)(x)
            x = nn.relu(self.norm(name=norm)(x, train))
        # After a ReLU no padding exceeds what it surrounds.
        x = nn.max_pool(_pad(x), window_shape=(3, 3), strides=(2, 2))

        block = partial(Res2Block, base_width=self.base_width, conv=self.conv, norm=self.norm)
        maps = []
        for layer, (planes, count) in enumerate(zip(self.widths, self.blocks, strict=True), 1):
            for i in range(count):
                stage = i == 0
                stride = 2 if stage and layer > 1 else 1
                x = block(planes, stride=stride, stage=stage, name=f"layer{layer}.{i}")(x, train)
            maps.append(x)
        return tuple(maps)


def average_pool(x: jax.Array, stride: int) -> jax.Array:
    """3x3, padded with zeros that count: every sum is divided by nine, as in the reference."""
    return nn.avg_pool(_pad(x), window_shape=(3, 3), strides=(stride, stride))


def _pad(x: jax.Array) -> jax.Array:
    """A border of zeros. Pooling's own padding is no string, and jax2onnx takes nothing else."""
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
