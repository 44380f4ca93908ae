"""The attention parts of PR-Net (section 2.3): dilated self-attention, gated convolution, PAM."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from prnet_jax.errors import InputError
from prnet_jax.models.attend import attend
from prnet_jax.models.layers import Conv, ModuleDef

_MAX_DILATION = 1024  # pixels; a file from a stranger may ask for more than memory holds


class DilatedSelfAttention(nn.Module):
    """Self-attention over all positions, embedded by dilated convolutions (eq. 1).

    [N, H, W, C] -> [N, H, W, C]. Eq. (1) normalises B_ij over its first index. The consistent
    reading is out_j = sum_i B_ij T_i with sum_i B_ij = 1, which is ordinary attention.

    Attributes:
        dilation: of the convolutions that make q, k and v, in pixels.
        heads: number of heads; must divide C and `qk_width`.
        qk_width: channels of q and k; None: C.
        kernel_size: of the convolutions that make q, k and v.
        scale: whether q.k is divided by the root of a head's number of channels.
        residual: whether the input is added to the output.
        projection: whether a 1x1 convolution follows.
        implementation: as `attend` takes it; all give the same values.
        conv: `Conv`, bound to the network's dtype.
    """

    dilation: int
    heads: int = 8
    qk_width: int | None = None
    kernel_size: int = 3
    scale: bool = False
    residual: bool = False
    projection: bool = False
    implementation: str = "auto"
    conv: ModuleDef = Conv

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n, h, w, width = x.shape
        qk_width = self.qk_width or width
        for name, value in (("width", width), ("qk_width", qk_width)):
            if value % self.heads:
                raise InputError(
                    f"attention's {name} must be a multiple of its {self.heads} heads, "
                    f"found {value}"
                )

        def embed(features, name):
            y = self.conv(features, self.kernel_size, self.dilation, name=name)(x)
            return y.reshape(n, h * w, self.heads, features // self.heads)

        q, k, v = embed(qk_width, "q"), embed(qk_width, "k"), embed(width, "v")
        scale = q.shape[-1] ** -0.5 if self.scale else 1.0
        out = attend(q, k, v, scale, self.implementation).reshape(n, h, w, width)
        if self.projection:
            out = self.conv(width, 1, name="projection")(out)
        return out + x if self.residual else out


class GatedConv(nn.Module):
    """relu(W_f F_low) * sigmoid(W_g F_high) (eq. 2): the larger field gates the smaller one.

    high, low [N, H, W, C] -> [N, H, W, features].

    Attributes:
        features: channels of the output.
        kernel_size: of both convolutions.
        conv: `Conv`, bound to the network's dtype.
        norm: such as `BatchNorm`, after each convolution; None: no norm.
    """

    features: int
    kernel_size: int = 1
    conv: ModuleDef = Conv
    norm: ModuleDef | None = None

    @nn.compact
    def __call__(self, high: jax.Array, low: jax.Array, train: bool) -> jax.Array:
        normed = self.norm is not None and train

        def conv(x, name):
            return self.conv(self.features, self.kernel_size, normed=normed, name=name)(x)

        gate, feature = conv(high, "gate"), conv(low, "feature")
        if self.norm is not None:
            gate = self.norm(name="gate_norm")(gate, train)
            feature = self.norm(name="feature_norm")(feature, train)
        return nn.relu(feature) * nn.sigmoid(gate)


class ProgressiveAttention(nn.Module):
    """The progressive attention module (PAM, figure 3). [N, H, W, C] -> [N, H, W, C].

    f1 = conv3x3(x), f2 = DSA(x) and f3 = DSA(x) with growing dilation; g1 = GC(f2, f1),
    g2 = GC(f3, g1); the output combines f1, g1 and g2.

    Attributes:
        dilations: of f2's and of f3's attention, in pixels, 1 to 1024.
        combine: "sum", or "concat" and a 1x1 convolution.
        attention: `DilatedSelfAttention`, bound to all but its dilation.
        gate: `GatedConv`, bound to all but its features.
        conv: `Conv`, bound to the network's dtype.
        norm: such as `BatchNorm`, after the 3x3 convolution; None: no norm.
    """

    dilations: tuple[int, int] = (2, 3)
    combine: str = "sum"
    attention: ModuleDef = DilatedSelfAttention
    gate: ModuleDef = GatedConv
    conv: ModuleDef = Conv
    norm: ModuleDef | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width, rates = x.shape[-1], tuple(self.dilations)
        if len(rates) != 2 or not all(type(r) is int and 0 < r <= _MAX_DILATION for r in rates):
            raise InputError(
                f"pam_dilations must be two whole numbers from 1 to {_MAX_DILATION}, found {rates}"
            )
        f1 = self.conv(width, normed=self.norm is not None and train, name="conv")(x)
        if self.norm is not None:
            f1 = self.norm(name="norm")(f1, train)
        f2 = self.attention(self.dilations[0], name="dsa1")(x)
        g1 = self.gate(width, name="gc1")(f2, f1, train)
        f3 = self.attention(self.dilations[1], name="dsa2")(x)
        g2 = self.gate(width, name="gc2")(f3, g1, train)
        if self.combine == "sum":
            return f1 + g1 + g2
        if self.combine == "concat":
            joined = jnp.concatenate((f1, g1, g2), axis=-1)
            return self.conv(width, 1, name="combine")(joined)
        raise InputError(f"pam_combine must be 'sum' or 'concat', found {self.combine!r}")
