"""Inf-Net: Fan et al., IEEE TMI 39(8), 2020, doi:10.1109/TMI.2020.2996645."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from prnet_jax.errors import InputError
from prnet_jax.models.layers import BatchNorm, Conv, Dtype, check_image, upsample_corner_aligned
from prnet_jax.models.res2net import Res2Net

# The backbone's classifier: in every PyTorch state_dict, used by no forward pass.
UNUSED_TORCH = {"resnet.fc.weight": (1000, 2048), "resnet.fc.bias": (1000,)}


class ConvNorm(nn.Module):
    """Convolution without bias and BatchNorm, no activation. -> [N, H, W, features]."""

    features: int
    kernel_size: int | tuple[int, int] = 3
    dilation: int = 1
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = Conv(
            self.features,
            self.kernel_size,
            self.dilation,
            use_bias=False,
            dtype=self.dtype,
            name="conv",
        )(x)
        return BatchNorm(dtype=self.dtype, name="bn")(x, train)


class ReceptiveField(nn.Module):
    """Four branches of growing reach, and the input beside them. -> [N, H, W, features].

    Branch n > 0 has, with k = 2n + 1, kernels 1xk and kx1 and a 3x3 of dilation k. The only ReLU
    is the one at the end.
    """

    features: int
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def conv(x, name, kernel_size, dilation=1):
            module = ConvNorm(self.features, kernel_size, dilation, self.dtype, name=name)
            return module(x, train)

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

    Maps at 1/32, 1/16 and 1/8, all of C channels -> logits [N, H / 8, W / 8, 1].
    """

    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, a: jax.Array, b: jax.Array, c: jax.Array, train: bool) -> jax.Array:
        channels = a.shape[-1]

        def conv(x, name, features):
            return ConvNorm(features, dtype=self.dtype, name=name)(x, train)

        up = upsample_corner_aligned
        a2, b2 = up(a), up(b)
        p = conv(a2, "conv_upsample1", channels) * b
        q = conv(up(a2), "conv_upsample2", channels) * conv(b2, "conv_upsample3", channels) * c
        r = jnp.concatenate((p, conv(a2, "conv_upsample4", channels)), axis=-1)
        r = conv(r, "conv_concat2", 2 * channels)
        s = jnp.concatenate((q, conv(up(r), "conv_upsample5", 2 * channels)), axis=-1)
        s = conv(conv(s, "conv_concat3", 3 * channels), "conv4", 3 * channels)
        return Conv(1, 1, dtype=self.dtype, name="conv5")(s)


class InfNet(nn.Module):
    """Inf-Net on Res2Net-50: a global map, refined thrice by reverse attention, and an edge map.

    Image [N, H, W, in_channels] -> logits [N, H, W, 1]; H and W must divide by 32. Five heads, in
    the reference's order: the global map, the reverse attentions on layer 4, 3 and 2, the edge.
    The main one is that of layer 2 (index 3). 31,072,721 parameters; the reference counts 2,049,000
    more for a classifier (`resnet.fc`) that it never uses.

    The reference takes three channels, and `in_channels=3` is it. With `in_channels=1` the slice is
    repeated three times within the network, whose parameters stay the same. The image is used as it
    comes: weights trained on ImageNet want its mean and standard deviation taken out beforehand.
    The reference starts from such weights, this network at random unless weights are loaded.

    Attributes:
        in_channels: channels of the image, 1 or 3.
        num_classes: 1, since the reverse attention erases by one map.
        widths: `planes` of the backbone's layers, a quarter of their channels.
        blocks: blocks of the backbone's layers.
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
        check_image("infnet", image, self.in_channels, 32)
        if self.in_channels == 1:
            image = image.repeat(3, axis=-1)

        backbone = Res2Net(self.widths, self.blocks, dtype=self.dtype, name="resnet")
        layer1, layer2, layer3, layer4 = backbone(image, train)

        fields = [
            ReceptiveField(self.channels, self.dtype, name=f"rfb{i}_1")(layer, train)
            for i, layer in ((4, layer4), (3, layer3), (2, layer2))
        ]
        global_map = PartialDecoder(self.dtype, name="ParDec")(*fields, train)

        edge = self._conv(layer1, "edge_conv1", 64, 1, train)
        edge = self._conv(edge, "edge_conv2", 64, 3, train)
        edge = self._conv(edge, "edge_conv3", 64, 3, train)
        edge_map = self._conv(edge, "edge_conv4", 1, 3, train)

        map4 = self._reverse(4, layer4, resize(global_map, 1 / 4), edge, train)
        map3 = self._reverse(3, layer3, resize(map4, 2), edge, train)
        map2 = self._reverse(2, layer2, resize(map3, 2), edge, train)

        main = resize(map2, 8)
        if not all_heads:
            return main
        others = ((global_map, 8), (map4, 32), (map3, 16))
        return (*(resize(x, factor) for x, factor in others), main, resize(edge_map, 4))

    def _reverse(
        self, level: int, features: jax.Array, crop: jax.Array, edge: jax.Array, train: bool
    ) -> jax.Array:
        """What the map `crop` has not yet found, added to it (the paper's reverse attention).

        `features` [N, h, w, C] and `crop` [N, h, w, 1] -> [N, h, w, 1]. `edge` is resized to them.
        """
        width, kernel, middle, end = (256, 5, 3, 1) if level == 4 else (64, 3, 2, 3)
        x = features * (1 - nn.sigmoid(crop))
        x = self._conv(x, f"ra{level}_conv1", width, 1, train)
        x = jnp.concatenate((x, resize(edge, 2.0 ** (1 - level))), axis=-1)
        for i in range(2, 2 + middle):
            x = nn.relu(self._conv(x, f"ra{level}_conv{i}", width, kernel, train))
        return self._conv(x, f"ra{level}_conv{2 + middle}", 1, end, train) + crop

    def _conv(
        self, x: jax.Array, name: str, features: int, kernel_size: int, train: bool
    ) -> jax.Array:
        return ConvNorm(features, kernel_size, dtype=self.dtype, name=name)(x, train)


def resize(x: jax.Array, factor: float) -> jax.Array:
    """Bilinear with half-pixel centres and two taps, as torch's; float32 or better.

    JAX smooths by default where it scales down, and torch does not.
    """
    precise = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    n, h, w, c = x.shape
    shape = (n, int(h * factor), int(w * factor), c)
    return jax.image.resize(precise, shape, "bilinear", antialias=False).astype(x.dtype)


NETWORK = InfNet
ABOUT = {
    "network": "Inf-Net",
    "sides": "32",
    "reference": "DengPingFan/Inf-Net",
    "licence": "MIT",
}
