"""PR-Net: Zhou & Wang, Modeling and Simulation 12(6), 2023, doi:10.12677/MOS.2023.126501."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from prnet_jax.errors import InputError
from prnet_jax.models.attention import ProgressiveAttention
from prnet_jax.models.layers import Conv, DoubleConv, Dtype, InstanceNorm, UpConv, check_image


class ResidualBlock(nn.Module):
    """Three groups of convolution, InstanceNorm, ReLU (section 2.2). -> [N, H, W, features].

    The kernels are 1x1, 3x3, 3x3; the shortcut is the first group's output, not the block's input.
    """

    features: int
    norm_affine: bool = False
    relu_after_sum: bool = False
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def group(x, kernel_size, index):
            x = Conv(
                self.features, kernel_size, dtype=self.dtype, normed=True, name=f"conv{index}"
            )(x)
            return InstanceNorm(self.norm_affine, dtype=self.dtype, name=f"norm{index}")(x)

        shortcut = nn.relu(group(x, 1, 1))
        x = nn.relu(group(shortcut, 3, 2))
        x = group(x, 3, 3)
        return nn.relu(shortcut + x) if self.relu_after_sum else shortcut + nn.relu(x)


class Enhancement(nn.Module):
    """The feature enhancement: a double convolution, then PAM (section 2.1)."""

    features: int
    pam: dict
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = DoubleConv(self.features, dtype=self.dtype, name="conv.double_conv")(x, train)
        return ProgressiveAttention(**self.pam, dtype=self.dtype, name="pam")(x, train)


class PRNet(nn.Module):
    """PR-Net. The paper leaves much open; each open point is a field with our default.

    Image [N, H, W, in_channels] -> logits [N, H, W, num_classes]; H and W must divide by
    2^len(widths). One head. 39,876,609 parameters at the defaults.

    Attributes:
        in_channels: channels of the image.
        num_classes: channels of the logits.
        widths: channels of the encoder stages; their number is the number of stages (open).
        norm_affine: whether InstanceNorm has a scale and a bias (open).
        relu_after_sum: the third group's ReLU stands after the residual sum, not before (open).
        enhance_width: channels of the enhancement; None: those of the last stage (open).
        enhance_skips: stages (0 = finest) whose skip connection passes an enhancement of its own
            besides the one after the last pooling (open; attention is quadratic in H x W).
        heads: attention heads (open; eq. 1 read literally has one).
        qk_width: channels of q and k; None: those of the input (open).
        attention_kernel: kernel of the dilated convolutions (open).
        attention_scale: whether q.k is divided by the root of its length (open; eq. 1 has none).
        attention_residual: whether the input is added to the attention's output (open).
        attention_projection: whether a 1x1 convolution follows the attention (open).
        pam_dilations: dilation rates of the two attentions (stated: 2 and 3).
        pam_norm: whether a BatchNorm follows PAM's 3x3 convolution (open).
        pam_combine: "sum" of f1, g1, g2, or "concat" and a 1x1 convolution (open).
        gate_kernel: kernel of the gated convolutions (open).
        gate_norm: whether a BatchNorm follows each of them (open).
        up_kernel: kernel of the transposed convolutions, 2 or 4, stride 2 (open).
        head_kernel: kernel of the last convolution (open).
        dtype: dtype of the computation; None: that of the input and the parameters.
    """

    in_channels: int = 1
    num_classes: int = 1
    widths: tuple[int, ...] = (64, 128, 256, 512)
    norm_affine: bool = False
    relu_after_sum: bool = False
    enhance_width: int | None = None
    enhance_skips: tuple[int, ...] = ()
    heads: int = 8
    qk_width: int | None = None
    attention_kernel: int = 3
    attention_scale: bool = False
    attention_residual: bool = False
    attention_projection: bool = False
    pam_dilations: tuple[int, int] = (2, 3)
    pam_norm: bool = False
    pam_combine: str = "sum"
    gate_kernel: int = 1
    gate_norm: bool = False
    up_kernel: int = 2
    head_kernel: int = 1
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, image: jax.Array, train: bool, all_heads: bool = False
    ) -> jax.Array | tuple[jax.Array, ...]:
        check_image("prnet", image, self.in_channels, 2 ** len(self.widths))
        stages = range(len(self.widths))
        if not set(self.enhance_skips) <= set(stages):
            raise InputError(f"enhance_skips must be among {[*stages]}: {self.enhance_skips}")

        x, skips = image, []
        for s in stages:
            x = ResidualBlock(
                self.widths[s],
                self.norm_affine,
                self.relu_after_sum,
                self.dtype,
                name=f"encoder.{s}",
            )(x)
            skips.append(x)
            x = nn.avg_pool(x, (2, 2), (2, 2))

        x = self._enhance(self.enhance_width or self.widths[-1], "enhance")(x, train)
        for s in self.enhance_skips:
            skips[s] = self._enhance(self.widths[s], f"enhance_skip.{s}")(skips[s], train)

        for i, s in enumerate(reversed(stages)):
            width = self.widths[s]
            x = UpConv(width, self.up_kernel, dtype=self.dtype, name=f"decoder.{i}.up")(x)
            x = jnp.concatenate((skips[s], x), axis=-1)
            x = DoubleConv(width, dtype=self.dtype, name=f"decoder.{i}.double_conv")(x, train)

        logits = Conv(self.num_classes, self.head_kernel, dtype=self.dtype, name="head")(x)
        return (logits,) if all_heads else logits

    def _enhance(self, features: int, name: str) -> Enhancement:
        pam = {
            "dilations": self.pam_dilations,
            "heads": self.heads,
            "qk_width": self.qk_width,
            "attention_kernel": self.attention_kernel,
            "attention_scale": self.attention_scale,
            "attention_residual": self.attention_residual,
            "attention_projection": self.attention_projection,
            "gate_kernel": self.gate_kernel,
            "gate_norm": self.gate_norm,
            "norm": self.pam_norm,
            "combine": self.pam_combine,
        }
        return Enhancement(features, pam, self.dtype, name=name)


NETWORK = PRNet
ABOUT = {
    "network": "PR-Net",
    "sides": "16",
    "reference": "doi:10.12677/MOS.2023.126501 (no code is public)",
    "licence": "-",
}
