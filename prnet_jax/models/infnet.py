"""Inf-Net: Fan et al., IEEE TMI 39(8), 2020, doi:10.1109/TMI.2020.2996645."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from prnet_jax.errors import InputError
from prnet_jax.models.layers import (
    BatchNorm,
    Conv,
    Dtype,
    ModuleDef,
    check_image,
    check_widths,
)
from prnet_jax.models.res2net import Res2Net
from prnet_jax.models.resample import linear_weights, resample, upsample_corner_aligned

# The backbone's classifier is in every PyTorch state_dict, but no forward pass uses it.
UNUSED_TORCH = {"resnet.fc.weight": (1000, 2048), "resnet.fc.bias": (1000,)}


class ConvNorm(nn.Module):
    """Convolution without bias, then BatchNorm. [N, H, W, C] -> [N, H, W, features]."""

    features: int
    kernel_size: int | tuple[int, int] = 3
    dilation: int = 1
    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = self.conv(
            self.features, self.kernel_size, self.dilation, use_bias=False, name="conv"
        )
        return self.norm(name="bn")(conv(x), train)


class ReceptiveField(nn.Module):
    """Four branches with growing receptive fields, and a shortcut beside them.

    [N, H, W, C] -> [N, H, W, features]. Branch n > 0 has, with k = 2n + 1, kernels 1xk and kx1 and
    a 3x3 of dilation k. The only ReLU is at the end.
    """

    features: int
    conv_norm: ModuleDef = ConvNorm

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def conv(x, name, kernel_size, dilation=1):
            return self.conv_norm(self.features, kernel_size, dilation, name=name)(x, train)

        branches = [conv(x, "branch0.0", 1)]
        for n, k in ((1, 3), (2, 5), (3, 7)):
            y = conv(x, f"branch{n}.0", 1)
            y = conv(y, f"branch{n}.1", (1, k))
            y = conv(y, f"branch{n}.2", (k, 1))
            branches.append(conv(y, f"branch{n}.3", 3, dilation=k))
        joined = conv(jnp.concatenate(branches, axis=-1), "conv_cat", 3)
        return nn.relu(joined + conv(x, "conv_res", 1))


class PartialDecoder(nn.Module):
    """The global map from the three deep maps (the paper's parallel partial decoder).

    Maps at 1/32, 1/16 and 1/8 of the sides, with C channels each -> logits [N, H / 8, W / 8, 1].
    """

    conv: ModuleDef = Conv
    conv_norm: ModuleDef = ConvNorm

    @nn.compact
    def __call__(self, a: jax.Array, b: jax.Array, c: jax.Array, train: bool) -> jax.Array:
        channels = a.shape[-1]

        def conv(x, name, features):
            return self.conv_norm(features, name=name)(x, train)

        up = upsample_corner_aligned
        a2, b2 = up(a), up(b)
        p = conv(a2, "conv_upsample1", channels) * b
        q = conv(up(a2), "conv_upsample2", channels) * conv(b2, "conv_upsample3", channels) * c
        r = jnp.concatenate((p, conv(a2, "conv_upsample4", channels)), axis=-1)
        r = conv(r, "conv_concat2", 2 * channels)
        s = jnp.concatenate((q, conv(up(r), "conv_upsample5", 2 * channels)), axis=-1)
        s = conv(conv(s, "conv_concat3", 3 * channels), "conv4", 3 * channels)
        return self.conv(1, 1, name="conv5")(s)


class InfNet(nn.Module):
    """Inf-Net on Res2Net-50: a global map, three refinements by reverse attention, an edge map.

    Image [N, H, W, in_channels] -> logits [N, H, W, 1]; H and W must be multiples of 32. Five
    heads, in the order of the reference (`Inf_Net` of DengPingFan/Inf-Net): the global map, the
    reverse attentions on layers 4, 3 and 2, the edge. The one on layer 2 (index 3) is the main
    head. 31,072,721 parameters; the reference has 2,049,000 more in a classifier (`resnet.fc`)
    that it never uses.

    `in_channels=3` is the reference. With `in_channels=1` the network repeats the slice three
    times; its parameters stay the same. The image is not normalised here: weights trained on
    ImageNet need its mean and standard deviation removed beforehand. The reference starts from such
    weights; this network starts at random unless weights are loaded.

    Attributes:
        in_channels: channels of the image, 1 or 3.
        num_classes: 1, because the reverse attention erases by one map.
        widths: `planes` of the backbone's layers, a quarter of their channels.
        blocks: number of blocks in each of the backbone's layers.
        channels: channels of the receptive-field blocks.
        dtype: dtype of the computation; None: that of the input and the parameters.
    """

    in_channels: int = 1
    num_classes: int = 1
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    channels: int = 32
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, image: jax.Array, train: bool, all_heads: bool = False
    ) -> jax.Array | tuple[jax.Array, ...]:
        if self.in_channels not in (1, 3):
            raise InputError(f"infnet's in_channels must be 1 or 3, found {self.in_channels}")
        if self.num_classes != 1:
            raise InputError(f"infnet's num_classes must be 1, found {self.num_classes}")
        check_widths("infnet", self.widths, 4, 4, smallest=3)
        check_image("infnet", image, self.in_channels, 32)
        if self.in_channels == 1:
            image = image.repeat(3, axis=-1)

        conv = partial(Conv, dtype=self.dtype)
        norm = partial(BatchNorm, dtype=self.dtype)
        conv_norm = partial(ConvNorm, conv=conv, norm=norm)

        def convolve(x, name, features, kernel_size=3):
            return conv_norm(features, kernel_size, name=name)(x, train)

        backbone = Res2Net(self.widths, self.blocks, conv=conv, norm=norm, name="resnet")
        layer1, layer2, layer3, layer4 = backbone(image, train)

        receptive_field = partial(ReceptiveField, self.channels, conv_norm)
        fields = [
            receptive_field(name=f"rfb{i}_1")(layer, train)
            for i, layer in ((4, layer4), (3, layer3), (2, layer2))
        ]
        decoder = PartialDecoder(conv, conv_norm, name="ParDec")
        global_map = decoder(fields[0], fields[1], fields[2], train)

        edge = convolve(layer1, "edge_conv1", 64, kernel_size=1)
        edge = convolve(edge, "edge_conv2", 64)
        edge = convolve(edge, "edge_conv3", 64)
        edge_map = convolve(edge, "edge_conv4", 1)

        reverse = partial(_reverse_attention, convolve, edge)
        map4 = reverse(4, layer4, resize(global_map, 1 / 4))
        map3 = reverse(3, layer3, resize(map4, 2))
        map2 = reverse(2, layer2, resize(map3, 2))

        main = resize(map2, 8)
        if not all_heads:
            return main
        others = ((global_map, 8), (map4, 32), (map3, 16))
        return (*(resize(x, factor) for x, factor in others), main, resize(edge_map, 4))


def _reverse_attention(
    convolve: Callable[..., jax.Array],
    edge: jax.Array,
    level: int,
    features: jax.Array,
    found: jax.Array,
) -> jax.Array:
    """Adds to a map what it has not found yet (the paper's reverse attention).

    Args:
        convolve: (x, name, features, kernel_size) -> `ConvNorm`'s result, in the calling module.
        edge: features of the edge [N, H / 4, W / 4, 64], resized here.
        level: 4, 3 or 2, the backbone's layer.
        features: that layer's output [N, h, w, C].
        found: logits [N, h, w, 1].

    Returns:
        logits [N, h, w, 1].
    """
    width, kernel, middle, end = (256, 5, 3, 1) if level == 4 else (64, 3, 2, 3)
    x = features * (1 - nn.sigmoid(found))
    x = convolve(x, f"ra{level}_conv1", width, 1)
    x = jnp.concatenate((x, resize(edge, 2.0 ** (1 - level))), axis=-1)
    for i in range(2, 2 + middle):
        x = nn.relu(convolve(x, f"ra{level}_conv{i}", width, kernel))
    return convolve(x, f"ra{level}_conv{2 + middle}", 1, end) + found


def resize(x: jax.Array, factor: float) -> jax.Array:
    """Bilinear with half-pixel centres and two taps, like torch's; float32 or better.

    By matrices: `jax.image.resize` smooths by default, and for jax2onnx its batch must be known.
    """

    def weights(old):
        new = int(old * factor)
        return linear_weights(np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1), old)

    return resample(x, *map(weights, x.shape[1:3]))


NETWORK = InfNet
ABOUT = {
    "network": "Inf-Net",
    "sides": "32",
    "reference": "DengPingFan/Inf-Net",
    "licence": "MIT",
}
