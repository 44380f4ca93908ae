"""PR-Net: Zhou & Wang, Modeling and Simulation 12(6), 2023, doi:10.12677/MOS.2023.126501."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from prnet_jax.errors import InputError
from prnet_jax.models.attention import DilatedSelfAttention, GatedConv, ProgressiveAttention
from prnet_jax.models.layers import (
    BatchNorm,
    Conv,
    DoubleConv,
    Dtype,
    InstanceNorm,
    ModuleDef,
    UpConv,
    check_image,
    check_widths,
)


class ResidualBlock(nn.Module):
    """Three groups of convolution, InstanceNorm and ReLU (section 2.2).

    [N, H, W, C] -> [N, H, W, features]. The kernels are 1x1, 3x3 and 3x3; the shortcut is the first
    group's output, not the block's input.

    Attributes:
        features: channels of the output.
        relu_after_sum: whether the third group's ReLU follows the residual sum.
        conv: `Conv`, bound to the network's dtype.
        norm: likewise `InstanceNorm`, or `BatchNorm` with `batch_norm`.
        batch_norm: whether the norm is over the batch, which differs between training and use.
    """

    features: int
    relu_after_sum: bool = False
    conv: ModuleDef = Conv
    norm: ModuleDef = InstanceNorm
    batch_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        normed, mode = (train, (train,)) if self.batch_norm else (True, ())

        def group(x, kernel_size, index):
            x = self.conv(self.features, kernel_size, normed=normed, name=f"conv{index}")(x)
            return self.norm(name=f"norm{index}")(x, *mode)

        shortcut = nn.relu(group(x, 1, 1))
        x = nn.relu(group(shortcut, 3, 2))
        x = group(x, 3, 3)
        return nn.relu(shortcut + x) if self.relu_after_sum else shortcut + nn.relu(x)


class Enhancement(nn.Module):
    """The feature enhancement: a double convolution, then PAM (section 2.1).

    [N, H, W, C] -> [N, H, W, features]. `double_conv` and `pam` are `DoubleConv` and
    `ProgressiveAttention`, bound to the network's fields; without PAM, `pam` is None.
    """

    features: int
    double_conv: ModuleDef = DoubleConv
    pam: ModuleDef | None = ProgressiveAttention

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = self.double_conv(self.features, name="conv.double_conv")(x, train)
        return x if self.pam is None else self.pam(name="pam")(x, train)


class PRNet(nn.Module):
    """PR-Net. The paper leaves much open; each open point is a field with our default.

    Image [N, H, W, in_channels] -> logits [N, H, W, num_classes]; H and W must be multiples of
    2^len(widths). One head. 39,876,609 parameters at the defaults.

    Attributes:
        in_channels: channels of the image.
        num_classes: channels of the logits.
        widths: channels of the encoder stages; their number is the number of stages (open).
        encoder: what a stage is made of: "residual", the paper's block with InstanceNorm;
            "residual_batch_norm", the same with BatchNorm; "double_conv", that of U-Net.
        norm_affine: whether InstanceNorm has a scale and a bias (open).
        relu_after_sum: whether the third group's ReLU follows the residual sum; else it precedes
            the sum (open).
        enhance_width: channels of the enhancement; None: those of the last stage (open).
        enhance_skips: stages (0 = finest) whose skip connection has an enhancement of its own, in
            addition to the one after the last pooling (open; attention's time is quadratic in
            H x W).
        pam: whether the enhancement has PAM after its double convolution; False is for ablations.
        heads: attention heads (open; eq. 1 read literally has one).
        qk_width: channels of q and k; None: those of the input (open).
        attention_kernel: kernel of the dilated convolutions (open).
        attention_scale: whether q.k is divided by the root of its length (open; eq. 1 has none).
        attention_residual: whether the input is added to the attention's output (open).
        attention_projection: whether a 1x1 convolution follows the attention (open).
        attention: how it is computed, "dense", "blockwise" (memory linear in H x W), "cudnn" or
            "auto", to the same values; see `prnet_jax.models.attend`.
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
    encoder: str = "residual"
    norm_affine: bool = False
    relu_after_sum: bool = False
    enhance_width: int | None = None
    enhance_skips: tuple[int, ...] = ()
    pam: bool = True
    heads: int = 8
    qk_width: int | None = None
    attention_kernel: int = 3
    attention_scale: bool = False
    attention_residual: bool = False
    attention_projection: bool = False
    attention: str = "auto"
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
        check_widths("prnet", self.widths, 1)
        check_image("prnet", image, self.in_channels, 2 ** len(self.widths))
        stages = range(len(self.widths))
        if not set(self.enhance_skips) <= set(stages):
            raise InputError(
                f"enhance_skips must be among {[*stages]}, found {[*self.enhance_skips]}"
            )
        conv = partial(Conv, dtype=self.dtype)
        norm = partial(BatchNorm, dtype=self.dtype)
        double_conv = partial(DoubleConv, conv=conv, norm=norm)
        stage = self._stage(conv, norm, double_conv)
        pam = self._pam(conv, norm) if self.pam else None
        enhancement = partial(Enhancement, double_conv=double_conv, pam=pam)

        x, skips = image, []
        for s in stages:
            x = stage(self.widths[s], name=f"encoder.{s}")(x, train)
            skips.append(x)
            x = nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2))

        x = enhancement(self.enhance_width or self.widths[-1], name="enhance")(x, train)
        for s in self.enhance_skips:
            skips[s] = enhancement(self.widths[s], name=f"enhance_skip.{s}")(skips[s], train)

        for i, s in enumerate(reversed(stages)):
            width = self.widths[s]
            x = UpConv(width, self.up_kernel, dtype=self.dtype, name=f"decoder.{i}.up")(x)
            x = jnp.concatenate((skips[s], x), axis=-1)
            x = double_conv(width, name=f"decoder.{i}.double_conv")(x, train)

        logits = conv(self.num_classes, self.head_kernel, name="head")(x)
        return (logits,) if all_heads else logits

    def _stage(self, conv: ModuleDef, norm: ModuleDef, double_conv: ModuleDef) -> ModuleDef:
        """A stage of the encoder, bound to all but its features and name."""
        block = partial(ResidualBlock, relu_after_sum=self.relu_after_sum, conv=conv)
        instance_norm = partial(InstanceNorm, affine=self.norm_affine, dtype=self.dtype)
        stages: dict[str, ModuleDef] = {
            "residual": partial(block, norm=instance_norm),
            "residual_batch_norm": partial(block, norm=norm, batch_norm=True),
            "double_conv": double_conv,
        }
        if self.encoder not in stages:
            raise InputError(f"encoder must be one of {', '.join(stages)}, found {self.encoder!r}")
        return stages[self.encoder]

    def _pam(self, conv: ModuleDef, norm: ModuleDef) -> ModuleDef:
        """`ProgressiveAttention`, bound to this network's fields."""
        attention = partial(
            DilatedSelfAttention,
            heads=self.heads,
            qk_width=self.qk_width,
            kernel_size=self.attention_kernel,
            scale=self.attention_scale,
            residual=self.attention_residual,
            projection=self.attention_projection,
            implementation=self.attention,
            conv=conv,
        )
        gate_norm = norm if self.gate_norm else None
        return partial(
            ProgressiveAttention,
            dilations=self.pam_dilations,
            combine=self.pam_combine,
            attention=attention,
            gate=partial(GatedConv, kernel_size=self.gate_kernel, conv=conv, norm=gate_norm),
            conv=conv,
            norm=norm if self.pam_norm else None,
        )


NETWORK = PRNet
ABOUT = {
    "network": "PR-Net",
    "sides": "16",
    "reference": "doi:10.12677/MOS.2023.126501 (no code is public)",
    "licence": "-",
}
