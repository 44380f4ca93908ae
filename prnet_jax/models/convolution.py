"""Convolutions that are cheaper on CPU or TPU than XLA's own, and equal to them within rounding.

On CPU, XLA computes the gradient of a convolution's kernel at a fifth of a matrix product's speed,
and a layer of many channels and few pixels at half of it. In float32, stride 1, without groups, and
where it was measured to be faster (docs/performance.md):

* 1x1: one matrix product.
* 3x3 with 128 channels or more: Winograd's minimal filtering, forward and for both gradients. A
  tile of m x m outputs takes (m + 2)^2 multiplications for each pair of channels instead of 9 m^2.
* 3x3 dilated, with many channels and few pixels: one product with the nine shifted images side by
  side.
* 3x3 with 64 channels or more and many pixels: only the kernel's gradient, as products over strips
  of rows.

On TPU, 1x1 convolutions from or to one channel are those of `prnet_jax.models.one_channel`.

Everything else, and every other platform, is left to XLA. So are exports of any batch, all where
PRNET_CPU_CONVOLUTIONS=0 is set, and everything within `as_xla`, for counts of operations that do
not depend on the way of computing.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from prnet_jax.models.one_channel import by_channel, has_one_channel

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_left_to_xla = os.environ.get("PRNET_CPU_CONVOLUTIONS") == "0"


@contextlib.contextmanager
def as_xla() -> Iterator[None]:
    """Within it, networks are traced with XLA's own convolutions.

    Trace new functions only: JAX keeps what it has traced, and would run it in training too.
    """
    global _left_to_xla
    before, _left_to_xla = _left_to_xla, True
    try:
        yield
    finally:
        _left_to_xla = before


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    pads: Sequence[int],
    dilation: int = 1,
    stride: int = 1,
    groups: int = 1,
) -> jax.Array:
    """[N, H, W, C], [kh, kw, C / groups, features] -> [N, H / stride, W / stride, features].

    Args:
        x, kernel: of one dtype.
        pads: zeros on either side of H and of W, two numbers.
        dilation: distance between the taps, in pixels.
        stride: of both sides, in pixels.
        groups: number of channel groups.
    """
    plain = _left_to_xla or not stride == groups == 1
    way = None if plain else _way(x, kernel, dilation)
    if way:
        return _convolve(x, kernel, way, dilation)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=[(pad, pad) for pad in pads],
        rhs_dilation=(dilation, dilation),
        feature_group_count=groups,
        dimension_numbers=_DIMENSIONS,
    )


def _way(x: jax.Array, kernel: jax.Array, dilation: int) -> str | None:
    """The way of computing on CPU, or None: XLA's. "one channel" is XLA's on CPU, not on TPU."""
    if not all(isinstance(side, int) for side in x.shape):
        return None  # in an export, whose batch is symbolic
    size, pixels, least = kernel.shape[:2], x.size // x.shape[-1], min(kernel.shape[2:])
    if x.dtype == jnp.bfloat16 and has_one_channel(kernel):
        return "one channel"
    if x.dtype != jnp.float32 or size not in ((1, 1), (3, 3)):
        return None
    if size == (1, 1):
        return "product"
    if dilation > 1:
        return "side by side" if least >= 128 and pixels <= 1024 else None
    if least >= 128:
        return "winograd"
    return "strips" if least >= 64 and pixels >= 2**14 else None


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x, kernel, way, dilation):
    xla = partial(_xla, dilation=dilation)
    ours: dict[str, Callable] = {"cpu": partial(_FORWARD.get(way, _xla), dilation=dilation)}
    if has_one_channel(kernel):
        ours["tpu"] = by_channel
    return jax.lax.platform_dependent(x, kernel, **ours, default=xla)


def _keep(x, kernel, way, dilation):
    return _convolve(x, kernel, way, dilation), (x, kernel)


def _gradients(way, dilation, kept, grad):
    def of_xla(x, kernel, grad):
        return jax.vjp(partial(_xla, dilation=dilation), x, kernel)[1](grad)

    ours: dict[str, Callable] = {"cpu": of_xla}
    if way in _BACKWARD:
        ours["cpu"] = partial(_BACKWARD[way], dilation=dilation)
    if has_one_channel(kept[1]):
        ours["tpu"] = lambda x, kernel, grad: jax.vjp(by_channel, x, kernel)[1](grad)
    return jax.lax.platform_dependent(*kept, grad, **ours, default=of_xla)


_convolve.defvjp(_keep, _gradients)


def _xla(x, kernel, dilation):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=[(dilation * (side - 1) // 2,) * 2 for side in kernel.shape[:2]],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_DIMENSIONS,
    )


# 1x1


def _product(x, kernel, dilation):
    return (_flat(x) @ kernel[0, 0]).reshape(*x.shape[:-1], kernel.shape[-1])


def _product_gradients(x, kernel, grad, dilation):
    in_grad = (_flat(grad) @ kernel[0, 0].T).reshape(x.shape)
    return in_grad, _outer(_flat(x), _flat(grad))[None, None]


# The nine shifted images side by side


def _side_by_side(x, kernel, dilation):
    columns = _columns(x, dilation)
    return (columns @ kernel.reshape(-1, kernel.shape[-1])).reshape(*x.shape[:-1], kernel.shape[-1])


def _side_by_side_gradients(x, kernel, grad, dilation):
    kernel_grad = _outer(_columns(x, dilation), _flat(grad)).reshape(kernel.shape)
    # Tap by tap, each moved back to the pixel that it read.
    taps = (_flat(grad) @ kernel.reshape(-1, kernel.shape[-1]).T).reshape(*x.shape[:-1], 9, -1)
    moved = [
        _shift(taps[..., i, :], -row, -column) for i, (row, column) in enumerate(_taps(dilation))
    ]
    return sum(moved), kernel_grad


def _columns(x, dilation):
    """[all pixels, 9 C]: what the taps read at each pixel."""
    return _flat(jnp.concatenate([_shift(x, *tap) for tap in _taps(dilation)], -1))


def _taps(dilation):
    return [(row * dilation, column * dilation) for row in (-1, 0, 1) for column in (-1, 0, 1)]


def _shift(x, row, column):
    """The pixel at [row, column] comes to [0, 0]; zeros follow."""
    edges = ((0, 0, 0), (-row, row, 0), (-column, column, 0), (0, 0, 0))
    return jax.lax.pad(x, jnp.zeros((), x.dtype), edges)


# Strips


def _strips_gradients(x, kernel, grad, dilation):
    in_grad = jax.vjp(lambda x: _xla(x, kernel, dilation), x)[1](grad)[0]
    return in_grad, _strips_kernel_gradient(x, grad)


def _strips_kernel_gradient(x, grad):
    """A sum over strips: three images shifted by rows times three gradients shifted by columns.

    Both stand side by side, so a strip is one product of 3 C x 3 features, and no product is
    wasted.
    """
    n, h, w, c = x.shape
    features = grad.shape[-1]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    grad = jnp.pad(grad, ((0, 0), (0, 0), (2, 2), (0, 0)))
    rows = max(r for r in range(1, h + 1) if h % r == 0 and (r == 1 or n * r * w <= _STRIP))

    def add(total, first):
        part = jax.lax.dynamic_slice_in_dim(x, first, rows + 2, 1)
        side = jax.lax.dynamic_slice_in_dim(grad, first, rows, 1)
        part = jnp.concatenate([part[:, i : i + rows] for i in range(3)], -1)
        side = jnp.concatenate([side[:, :, 2 - j : w + 4 - j] for j in range(3)], -1)
        return total + _outer(_flat(part), _flat(side)), None

    total = jnp.zeros((3 * c, 3 * features), x.dtype)
    total = jax.lax.scan(add, total, jnp.arange(0, h, rows))[0]
    return total.reshape(3, c, 3, features).swapaxes(1, 2)


# Winograd


def _winograd(x, kernel, dilation):
    return _winograd_by(x, _filters(kernel, m := _tile(x)), m, 1)


def _winograd_gradients(x, kernel, grad, dilation):
    m = _tile(x)
    to_tile, to_filter, from_tile = _MATRICES[m]
    in_grad = _winograd_by(grad, _filters(kernel[::-1, ::-1], m), m, 2)
    tiles = _tiles(_pad(x, m, 1), to_tile, m)
    grads = _tiles(_pad(grad, m, 0), from_tile.T, m)
    products = [_batched(a, b, 1, 1) for a, b in zip(tiles, grads, strict=True)]
    columns = _combine(to_filter.T, products)
    kernel_grad = [jnp.stack(_combine(to_filter.T, list(column))) for column in columns]
    return in_grad, jnp.stack(kernel_grad, 1)


def _winograd_by(x, filters, m, contracted):
    n, h, w, _ = x.shape
    down, right = -(-h // m), -(-w // m)
    to_tile, _, from_tile = _MATRICES[m]
    tiles = _tiles(_pad(x, m, 1), to_tile, m)
    products = [_batched(a, b, 2, contracted) for a, b in zip(tiles, filters, strict=True)]
    columns = jax.lax.optimization_barrier(_combine(from_tile, products))
    pixels = [
        [pixel.reshape(n, down, right, -1) for pixel in _combine(from_tile, list(column))]
        for column in columns
    ]
    rows = [jnp.stack([column[i] for column in pixels], 3) for i in range(m)]
    rows = [row.reshape(n, down, 1, m * right, -1) for row in rows]
    return jnp.concatenate(rows, 2).reshape(n, m * down, m * right, -1)[:, :h, :w]


def _tile(x):
    """The tile's side: larger filters pay off from some thousand pixels on."""
    return 4 if x.size // x.shape[-1] >= 4096 else 2


def _pad(x, m, border):
    """Zeros around, and at bottom and right as many more as fill the last tiles."""
    n, h, w, c = x.shape
    return jnp.pad(x, ((0, 0), (border, -h % m + border), (border, -w % m + border), (0, 0)))


def _tiles(x, matrix, m):
    """Every tile, in steps of m, as matrix @ tile @ matrix.T.

    A list by the result's column: [rows, tiles, C].
    """
    rows, side = matrix.shape
    down, right = ((length - side) // m + 1 for length in x.shape[1:3])
    x = _combine(matrix, [x[:, i : i + m * (down - 1) + 1 : m] for i in range(side)])
    x = jax.lax.optimization_barrier(jnp.stack(x))
    x = _combine(matrix, [x[:, :, :, i : i + m * (right - 1) + 1 : m] for i in range(side)])
    return [column.reshape(rows, -1, column.shape[-1]) for column in x]


def _filters(kernel, m):
    """The kernel as to_filter @ kernel @ to_filter.T. A list by column: [rows, C, features]."""
    matrix = _MATRICES[m][1]
    columns = _combine(matrix, [kernel[:, j] for j in range(3)])
    return [jnp.stack(_combine(matrix, list(column))) for column in columns]


def _combine(matrix, arrays):
    """matrix @ arrays, written out without the zeros."""
    return [
        sum(
            array if factor == 1 else float(factor) * array
            for factor, array in zip(row, arrays, strict=True)
            if factor
        )
        for row in matrix
    ]


def _matrices(points, m):
    """Toom and Cook's matrices for m outputs of a kernel of 3, by the points and infinity.

    Returns to_tile [m + 2, m + 2], to_filter [m + 2, 3] and from_tile [m, m + 2]:
    y = from_tile @ ((to_filter @ kernel) * (to_tile @ x)).
    """
    points = np.array(points)
    to_tile, to_filter = np.zeros((m + 2, m + 2)), np.zeros((m + 2, 3))
    from_tile = np.zeros((m, m + 2))
    for i, point in enumerate(points):
        others = np.delete(points, i)
        to_tile[i, :-1] = np.poly(others)[::-1]
        to_filter[i] = point ** np.arange(3) / np.prod(point - others)
        from_tile[:, i] = point ** np.arange(m)
    to_tile[-1] = np.poly(points)[::-1]
    to_filter[-1, -1] = from_tile[-1, -1] = 1.0
    return to_tile, to_filter, from_tile


# The usual 0, 1, -1, 2, -2 would lose five times as many digits.
_MATRICES = {
    2: _matrices([0.0, 1.0, -1.0], 2),
    4: _matrices([0.0, 0.75, -0.75, 1.5, -1.5], 4),
}


# Products


def _flat(x):
    """[..., C] -> [all pixels, C]."""
    return x.reshape(-1, x.shape[-1])


def _outer(a, b):
    """a.T @ b: the sum over pixels."""
    return jax.lax.dot_general(a, b, (((0,), (0,)), ((), ())))


def _batched(a, b, a_axis, b_axis):
    return jax.lax.dot_general(a, b, (((a_axis,), (b_axis,)), ((0,), (0,))))


_STRIP = 1024  # pixels
_FORWARD = {"product": _product, "winograd": _winograd, "side by side": _side_by_side}
_BACKWARD = {
    "product": _product_gradients,
    "winograd": _winograd_gradients,
    "side by side": _side_by_side_gradients,
    "strips": _strips_gradients,
}
