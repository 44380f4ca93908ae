"""The attention parts of PR-Net (section 2.3): dilated self-attention, gated convolution, PAM."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from prnet_jax.errors import InputError
from prnet_jax.models.layers import BatchNorm, Conv, Dtype


class DilatedSelfAttention(nn.Module):
    """Self-attention over all positions, embedded by dilated convolutions (eq. 1).

    Eq. (1) normalises B_ij over its first index; the consistent reading is
    out_j = sum_i B_ij T_i with sum_i B_ij = 1, ordinary attention. [N, H, W, C] -> [N, H, W, C].
    The map of N x heads x (HW)^2 float32 values is held whole.

    Fields are PR-Net's of the same meaning, see `prnet_jax.models.prnet.PRNet`.
    """

    dilation: int
    heads: int = 8
    qk_width: int | None = None
    kernel_size: int = 3
    scale: bool = False
    residual: bool = False
    projection: bool = False
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n, h, w, width = x.shape
        qk_width = self.qk_width or width
        for name, value in (("width", width), ("qk_width", qk_width)):
            if value % self.heads:
                raise InputError(
                    f"attention's {name} must divide by its {self.heads} heads, found {value}"
                )

        def embed(features, name):
            conv = Conv(features, self.kernel_size, self.dilation, dtype=self.dtype, name=name)
            return conv(x).reshape(n, h * w, self.heads, features // self.heads)

        q, k, v = embed(qk_width, "q"), embed(qk_width, "k"), embed(width, "v")
        precise = jnp.promote_types(q.dtype, jnp.float32)
        logits = jnp.einsum("nqhc,nkhc->nhqk", q, k, preferred_element_type=precise)
        if self.scale:
            logits = logits * q.shape[-1] ** -0.5
        weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
        out = jnp.einsum("nhqk,nkhc->nqhc", weights, v).reshape(n, h, w, width)
        if self.projection:
            out = Conv(width, 1, dtype=self.dtype, name="projection")(out)
        return out + x if self.residual else out


class GatedConv(nn.Module):
    """relu(W_f F_low) * sigmoid(W_g F_high) (eq. 2): the larger field gates the smaller one.

    high, low [N, H, W, C] -> [N, H, W, features].
    """

    features: int
    kernel_size: int = 1
    norm: bool = False
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, high: jax.Array, low: jax.Array, train: bool) -> jax.Array:
        def conv(x, name):
            normed = self.norm and train
            return Conv(
                self.features, self.kernel_size, dtype=self.dtype, normed=normed, name=name
            )(x)

        gate, feature = conv(high, "gate"), conv(low, "feature")
        if self.norm:
            gate = BatchNorm(dtype=self.dtype, name="gate_norm")(gate, train)
            feature = BatchNorm(dtype=self.dtype, name="feature_norm")(feature, train)
        return nn.relu(feature) * nn.sigmoid(gate)


class ProgressiveAttention(nn.Module):
    """The progressive attention module (PAM, figure 3). [N, H, W, C] -> [N, H, W, C].

    f1 = conv3x3(x), f2 = DSA(x) and f3 = DSA(x) with growing dilation; g1 = GC(f2, f1),
    g2 = GC(f3, g1); the output combines f1, g1 and g2.

    Fields are PR-Net's of the same meaning, see `prnet_jax.models.prnet.PRNet`.
    """

    dilations: tuple[int, int] = (2, 3)
    heads: int = 8
    qk_width: int | None = None
    attention_kernel: int = 3
    attention_scale: bool = False
    attention_residual: bool = False
    attention_projection: bool = False
    gate_kernel: int = 1
    gate_norm: bool = False
    norm: bool = False
    combine: str = "sum"
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width = x.shape[-1]

        def attend(dilation, name):
            return DilatedSelfAttention(
                dilation,
                self.heads,
                self.qk_width,
                self.attention_kernel,
                self.attention_scale,
                self.attention_residual,
                self.attention_projection,
                self.dtype,
                name=name,
            )(x)

        def gated(high, low, name):
            gc = GatedConv(width, self.gate_kernel, self.gate_norm, self.dtype, name=name)
            return gc(high, low, train)

        f1 = Conv(width, dtype=self.dtype, normed=self.norm and train, name="conv")(x)
        if self.norm:
            f1 = BatchNorm(dtype=self.dtype, name="norm")(f1, train)
        g1 = gated(attend(self.dilations[0], "dsa1"), f1, "gc1")
        g2 = gated(attend(self.dilations[1], "dsa2"), g1, "gc2")
        if self.combine == "sum":
            return f1 + g1 + g2
        if self.combine == "concat":
            both = jnp.concatenate((f1, g1, g2), axis=-1)
            return Conv(width, 1, dtype=self.dtype, name="combine")(both)
        raise InputError(f"pam_combine must be 'sum' or 'concat', found {self.combine!r}")
