"""Blocks that several networks share, with PyTorch's initialisation and arithmetic.

All arrays are NHWC and parameters are created in float32. A layer's `dtype` is the dtype of its
computation; None means that of the input and the parameters. A block takes its layers as
constructors, `conv` and `norm`, which a network binds to its dtype once:

    conv = partial(Conv, dtype=self.dtype)
    norm = partial(BatchNorm, dtype=self.dtype)
    x = DoubleConv(width, conv=conv, norm=norm)(x, train)
"""

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

from prnet_jax.errors import InputError
from prnet_jax.models.convolution import convolve

Dtype = Any
ModuleDef = Callable[..., Any]  # a module's class, or a `functools.partial` of it
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def uniform_init(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default for a convolution's weight and bias: uniform within 1 / sqrt(fan_in)."""
    bound = fan_in**-0.5

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Conv(nn.Module):
    """Convolution like torch's Conv2d with a zero padding of dilation * (k - 1) / 2.

    [N, H, W, C] -> [N, H / stride, W / stride, features], rounded up. Parameters: `kernel`
    [kh, kw, C / groups, features] and `bias` [features].

    Attributes:
        features: channels of the output.
        kernel_size: one side, or (height, width); odd.
        dilation: distance between the taps, in pixels.
        groups: number of channel groups.
        use_bias: whether there is a bias.
        stride: of both sides, in pixels.
        dtype: dtype of the computation.
        normed: a norm that subtracts each channel's mean follows. The bias then has no effect, and
            its gradient would be rounding error; it is set to exactly zero. AdamW scales rounding
            error up to full steps, the running means follow the bias, and runs on one device and
            on several would differ by 1e-4 in evaluation after six steps.
    """

    features: int
    kernel_size: int | tuple[int, int] = 3
    dilation: int = 1
    groups: int = 1
    use_bias: bool = True
    stride: int = 1
    dtype: Dtype | None = None
    normed: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size = self.kernel_size
        size = (size, size) if isinstance(size, int) else size
        shape = (*size, x.shape[-1] // self.groups, self.features)
        init = uniform_init(shape[0] * shape[1] * shape[2])
        kernel = self.param("kernel", init, shape)
        bias = self.param("bias", init, (self.features,)) if self.use_bias else None
        if bias is not None and self.normed:
            bias = jax.lax.stop_gradient(bias)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        pads = [self.dilation * (side - 1) // 2 for side in size]
        if shape[2:] == (1, 1) and self.stride == 1:
            x = _convolve_single(x, kernel, pads, self.dilation)
            return x if bias is None else _add_bias(x, bias)
        x = convolve(x, kernel, pads, self.dilation, self.stride, self.groups)
        return x if bias is None else _add_bias(x, bias)


class UpConv(nn.Module):
    """Transposed convolution with stride 2 that doubles the sides, like torch's ConvTranspose2d.

    [N, H, W, C] -> [N, 2H, 2W, features]. `kernel` is [k, k, features, C], the layout of the
    convolution it transposes, so one permutation serves all PyTorch kernels. With k = 2 the windows
    do not overlap, and one matrix product does it; a larger even k is padded by k/2 - 1.
    """

    features: int
    kernel_size: int = 2
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size = self.kernel_size
        if size < 2 or size % 2:
            raise InputError(f"an up-convolution's kernel must be even, found {size}: use 2 or 4")
        shape = (size, size, self.features, x.shape[-1])
        init = uniform_init(shape[0] * shape[1] * shape[2])  # torch counts the output channels here
        kernel = self.param("kernel", init, shape)
        bias = self.param("bias", init, (self.features,))
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        if size == 2:
            n, h, w, _ = x.shape
            x = jnp.einsum("nhwi,aboi->nhawbo", x, kernel).reshape(n, 2 * h, 2 * w, self.features)
        else:
            x = jax.lax.conv_general_dilated(
                x,
                jnp.flip(kernel, (0, 1)).swapaxes(2, 3),
                window_strides=(1, 1),
                padding=((size // 2, size // 2),) * 2,
                lhs_dilation=(2, 2),
                dimension_numbers=_DIMENSIONS,
            )
        return _add_bias(x, bias)


class BatchNorm(nn.Module):
    """Batch normalisation with PyTorch's running statistics, computed in float32 or better.

    In training each channel is normalised by the batch's mean and biased variance (under `jit` over
    a mesh: the global batch's), and the running statistics move by 10 % towards the batch's mean
    and *unbiased* variance. Torch stores the unbiased one; Flax's own module the biased one.
    Parameters `scale` and `bias`, batch_stats `mean` and `var`, all [C].
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)

        out_dtype = self.dtype or x.dtype
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if train:
            mean, var = _moments(x, (0, 1, 2))
            if not self.is_initializing():
                n = x.size // x.shape[-1]
                unbiased = var * (n / max(n - 1, 1))
                running_mean.value = _blend(running_mean.value, mean, self.momentum)
                running_var.value = _blend(running_var.value, unbiased, self.momentum)
        else:
            mean, var = running_mean.value, running_var.value
        x = x - _per_channel(mean)
        x = x * _per_channel(jax.lax.rsqrt(var + self.epsilon) * scale) + _per_channel(bias)
        return x.astype(out_dtype)


class InstanceNorm(nn.Module):
    """Instance normalisation like torch's InstanceNorm2d: each channel of each image by itself.

    Computed in float32 or better. `affine` adds `scale` and `bias` [C], off by default as in torch.
    """

    affine: bool = False
    epsilon: float = 1e-5
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        out_dtype = self.dtype or x.dtype
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean, var = _moments(x, (1, 2))
        x = (x - mean) * jax.lax.rsqrt(var + self.epsilon)
        if self.affine:
            channels = (x.shape[-1],)
            x = x * _per_channel(self.param("scale", nn.initializers.ones, channels))
            x = x + _per_channel(self.param("bias", nn.initializers.zeros, channels))
        return x.astype(out_dtype)


class DoubleConv(nn.Module):
    """Twice a 3x3 convolution, a norm and ReLU. [N, H, W, C] -> [N, H, W, features].

    Submodules have the names of torch's `Sequential`: 0, 1, 3, 4. `mid_features` is the number of
    channels in between, `features` if None.
    """

    features: int
    mid_features: int | None = None
    use_bias: bool = True
    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        widths = (self.mid_features or self.features, self.features)
        for width, conv, norm in zip(widths, "03", "14", strict=True):
            x = self.conv(width, use_bias=self.use_bias, normed=train, name=conv)(x)
            x = nn.relu(self.norm(name=norm)(x, train))
        return x


class AttentionGate(nn.Module):
    """The additive gate of Attention U-Net: the skip times a map of one channel.

    gate, skip [N, H, W, C] -> [N, H, W, C]: skip * sigmoid(BN(psi(relu(BN(W_g gate) +
    BN(W_x skip))))). W_g and W_x are 1x1 convolutions to `features` channels, psi is one to 1.
    """

    features: int
    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm

    @nn.compact
    def __call__(self, gate: jax.Array, skip: jax.Array, train: bool) -> jax.Array:
        def conv_norm(x, features, name):
            x = self.conv(features, 1, normed=train, name=f"{name}.0")(x)
            return self.norm(name=f"{name}.1")(x, train)

        x = conv_norm(gate, self.features, "W_g") + conv_norm(skip, self.features, "W_x")
        logits = conv_norm(nn.relu(x), 1, "psi")
        precise = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        return skip * nn.sigmoid(precise).astype(skip.dtype)


def max_pool(x: jax.Array) -> jax.Array:
    """2x2 with stride 2. An odd last row or column is dropped, as in torch."""
    return nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))


def upsample_nearest(x: jax.Array, factor: int = 2) -> jax.Array:
    """Repeats every pixel `factor` times along H and W."""
    return x.repeat(factor, axis=1).repeat(factor, axis=2)


def pad_to(x: jax.Array, like: jax.Array) -> jax.Array:
    """Zero-pads `x` to the sides of `like`; an odd difference puts one more at bottom or right."""
    down, right = (like.shape[i] - x.shape[i] for i in (1, 2))
    pads = ((0, 0), (down // 2, down - down // 2), (right // 2, right - right // 2), (0, 0))
    return jnp.pad(x, pads)


def check_image(
    network: str, image: jax.Array, in_channels: int, divisor: int, min_side: int = 0
) -> None:
    """Refuses a batch of images that a network cannot take.

    Args:
        network: the network's name, for the message.
        image: [N, H, W, C].
        in_channels: the C that the network was built for.
        divisor: H and W must be multiples of it.
        min_side: smallest H and W, of the networks that pad.

    Raises:
        InputError: a wrong rank, number of channels or size.
    """
    if image.ndim != 4 or image.shape[-1] != in_channels:
        raise InputError(
            f"{network} expects images [N, H, W, {in_channels}], found {list(image.shape)}"
        )
    h, w = image.shape[1:3]
    if min(h, w) < min_side:
        raise InputError(
            f"{network} needs sides of {min_side} or more, found {h}x{w}: use larger images"
        )
    if h % divisor or w % divisor or 0 in (h, w):
        near = [max(round(side / divisor), 1) * divisor for side in (h, w)]
        raise InputError(
            f"{network} needs sides divisible by {divisor}, found {h}x{w}: "
            f"the nearest is {near[0]}x{near[1]}"
        )


def check_widths(
    network: str, widths: Sequence[int], least: int, most: int | None = None, smallest: int = 1
) -> None:
    """Refuses channels of levels that a network cannot be made of.

    Args:
        network: the network's name, for the message.
        widths: channels of each level.
        least: smallest number of levels.
        most: `least` or None, for any number.
        smallest: fewest channels of a level.

    Raises:
        InputError: another number of levels, or a level without channels.
    """
    count = f"{least}" if most == least else f"{least} or more"
    several = isinstance(widths, list | tuple)
    fits = several and least <= len(widths) <= (len(widths) if most is None else most)
    if not fits or not all(isinstance(w, numbers.Integral) and w >= smallest for w in widths):
        found = list(widths) if several else repr(widths)
        raise InputError(
            f"{network}'s widths must be {count} whole numbers from {smallest} up, found {found}"
        )


def _add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """Adds in float32 or better, because the bias's gradient sums over all pixels. `x`'s dtype."""
    precise = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (precise + _per_channel(bias)).astype(x.dtype)


def _per_channel(vector: jax.Array) -> jax.Array:
    """[C] -> [1, 1, 1, C], to combine with [N, H, W, C] without implicit rank promotion."""
    return jnp.expand_dims(vector, (0, 1, 2))


def _convolve_single(x: jax.Array, kernel: jax.Array, pads: list[int], dilation: int) -> jax.Array:
    """Convolution of one channel to one channel, as a sum of shifted images.

    On CPU, jax 0.10.2 crashes the process when it compiles LightUNet's float64 input gradient with
    XLA's own convolution.
    """
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (pads[0], pads[0]), (pads[1], pads[1]), (0, 0)))
    shifted = [
        kernel[i, j, 0, 0]
        * padded[:, i * dilation : i * dilation + height, j * dilation : j * dilation + width]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    ]
    return jnp.asarray(sum(shifted))


def _moments(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance over `axes`, which keep length 1 unless the batch is one of them.

    In two passes: E[x^2] - E[x]^2 loses digits where the mean is large compared to the spread.
    """
    keep = 0 not in axes
    mean = x.mean(axes, keepdims=True)
    var = jnp.square(x - mean).mean(axes, keepdims=keep)
    return (mean if keep else mean.reshape(-1)), var


def _blend(old: jax.Array, new: jax.Array, momentum: float) -> jax.Array:
    return (momentum * old + (1.0 - momentum) * new).astype(jnp.promote_types(old.dtype, new.dtype))
