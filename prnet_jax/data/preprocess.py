"""From stored pixels to a network's input, and from its probability back to the picture's size."""

import functools
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from prnet_jax.data.hu_check import excess_of
from prnet_jax.errors import InputError

AIR = -1000  # HU
LOWEST_EXPECTED = -200  # HU; every chest slice has lung or air below it
HIGHEST_EXPECTED = 4000  # HU; 12 bits end at 3071, and metal, which exceeds them, has few pixels
_MOST_ABOVE = 0.01  # of the pixels
# How a slice becomes a square: "pad" resizes it in proportion and fills up with air, "stretch"
# resizes each side, "middle" cuts out its middle and resizes nothing.
RESIZES = ("pad", "stretch", "middle")


def window(hu: np.ndarray, low: float, high: float) -> np.ndarray:
    """Clips HU to low..high and maps them to 0..1, float32."""
    return ((np.clip(hu, low, high) - low) / (high - low)).astype(np.float32)


def extent(shape: Sequence[int], size: int, how: str) -> tuple[int, int]:
    """The rows and columns that a picture fills of [size, size].

    Args:
        shape: (H, W) of the picture.
        size: the side of the square.
        how: "pad": the longer side fills the square, and the shorter one keeps the proportion, to
            the nearest whole pixel. "stretch": both sides fill it. "middle": nothing is resized,
            and what exceeds the square is cut off.
    """
    if how == "stretch":
        return size, size
    if how == "middle":
        rows, columns = (min(n, size) for n in shape)
        return rows, columns
    longer = max(shape)
    rows, columns = (max(1, (2 * n * size + longer) // (2 * longer)) for n in shape)
    return rows, columns


def inside(extent: Sequence[int], size: int) -> tuple[slice, slice]:
    """Where a picture of `extent` lies in [size, size]: in the middle. The rest is padding."""
    return _middle(extent, (size, size))


def seen(shape: Sequence[int], size: int, how: str) -> tuple[slice, slice]:
    """The rows and the columns of a picture (H, W) that come into [size, size]; see `extent`."""
    return _middle(extent(shape, size, how) if how == "middle" else shape, shape)


def pixel_scale(shape: Sequence[int], size: int, how: str) -> np.ndarray:
    """The stored pixels that one of [size, size] is long and wide: float64 [2]; see `extent`."""
    filled = extent(shape, size, how)
    return np.divide(filled if how == "middle" else shape, filled)


def resize_image(image: np.ndarray, size: int, how: str = "stretch") -> np.ndarray:
    """[H, W] -> [size, size] float32: each new pixel is the mean over the area it covers.

    `how` as for `extent`. The padding is 0: after `window` the lowest value, air.
    """
    filled = extent(image.shape, size, how)
    image = image[seen(image.shape, size, how)]
    weights = (_area_weights(old, new) for old, new in zip(image.shape, filled, strict=True))
    square = np.zeros((size, size), np.float32)
    square[inside(filled, size)] = _weighted(image, *weights)
    return square


def resize_mask(mask: np.ndarray, size: int, how: str = "stretch") -> np.ndarray:
    """Bool [H, W] -> [size, size]: set where more than half of the covered area is set.

    `how` as for `resize_image`; the padding is not set.
    """
    return resize_image(mask, size, how) > 0.5


def resize_prob(prob: np.ndarray, shape: tuple[int, int], how: str = "stretch") -> np.ndarray:
    """Brings a network's probability back to the size of the picture before `resize_image`.

    Padding is cut off, and what was not `seen` gets 0. Both grids cover the same area, so no border
    moves. An axis that grows is interpolated linearly between pixel centres (PyTorch's
    `align_corners=False`) and constant beyond the outermost ones. An axis that shrinks takes the
    mean over the area each new pixel covers, as `resize_image` does.

    Args:
        prob: float [S, S] in 0..1.
        shape: (H, W) of the result.
        how: as for `resize_image`.

    Returns:
        float32 [H, W] in 0..1. A constant stays constant, and an equal shape changes nothing.
    """
    if how != "stretch":
        prob = prob[inside(extent(shape, len(prob), how), len(prob))]
    if how == "middle":
        picture = np.zeros(shape, np.float32)
        picture[_middle(prob.shape, shape)] = prob
        return picture
    rows, columns = (
        _area_weights(old, new) if new <= old else _linear_weights(old, new)
        for old, new in zip(prob.shape, shape, strict=True)
    )
    return _weighted(prob, rows, columns)


def check_finite(pixels: np.ndarray, name: str) -> None:
    """Refuses NaN and infinities.

    Args:
        pixels: [H, W] or [H, W, D]; looked at slice by slice, which takes little memory.
        name: what the message calls them.

    Raises:
        InputError: there is one.
    """
    volume = np.atleast_3d(pixels)
    if not all(np.isfinite(volume[..., z]).all() for z in range(volume.shape[2])):
        raise InputError(f"{name} holds NaN or infinities: replace them, by air for example")


def implausible(pixels: np.ndarray, unit: str) -> str | None:
    """A one-line warning where pixels do not look like `unit`, or None.

    Args:
        pixels: [H, W] or [D, H, W] of any real type, not empty, all finite.
        unit: "HU" or "grey" (0 to 255), as in `records.UNITS`.
    """
    low, high = float(pixels.min()), float(pixels.max())
    found = f"found values from {low:g} to {high:g}"
    if low == high:
        return f"every pixel is {low:g}: the picture is empty; check the file"
    if unit == "grey":
        expected = f"expected grey values from 0 to 255, {found}"
        if low < 0 or high > 255:
            return f"{expected}: window and scale the picture as for training"
        if high <= 1:
            return f"{expected}, which look scaled to 0..1: multiply them by 255"
        return None
    expected = f"expected Hounsfield units with air near {AIR}, {found}"
    if low >= 0 and high <= 1:
        return f"{expected}, which look scaled to 0..1: export the picture without scaling"
    if low >= 0 and high <= 255:
        return f"{expected}, which look like grey values: export the picture without windowing"
    if low >= 0:
        return f"{expected}, which look like HU + 1024: subtract 1024"
    if low >= LOWEST_EXPECTED:
        return f"{expected}: export the picture without windowing or scaling"
    above = np.count_nonzero(pixels > HIGHEST_EXPECTED) if high > HIGHEST_EXPECTED else 0
    if above > _MOST_ABOVE * pixels.size:
        return (
            f"{expected}, {100 * above / pixels.size:.0f} % of the pixels above "
            f"{HIGHEST_EXPECTED}, which look like padding or a wrong scale: set padding to {AIR}, "
            "or correct the scale"
        )
    excess = excess_of(pixels if pixels.ndim == 3 else pixels[None])
    if excess:  # in spite of padding below 0
        sign, mend = ("+", "subtract") if excess > 0 else ("-", "add")
        return f"{expected}, which look like HU {sign} {abs(excess)}: {mend} {abs(excess)}"
    return None


def _middle(inner: Sequence[int], outer: Sequence[int]) -> tuple[slice, slice]:
    """Where `inner` rows and columns lie in the middle of `outer` ones."""
    rows, columns = (
        slice((n - m) // 2, (n - m) // 2 + m) for m, n in zip(map(int, inner), outer, strict=True)
    )
    return rows, columns


def _weighted(pixels: np.ndarray, rows: sparse.csr_array, columns: sparse.csr_array) -> np.ndarray:
    """[H, W] -> [rows, columns] float32, each the weighted sum of old pixels."""
    # Dense products would start BLAS threads, which the loader's own threads then wait for.
    return (columns @ (rows @ pixels.astype(np.float64)).T).T.astype(np.float32, order="C")


@functools.lru_cache(maxsize=64)
def _area_weights(old: int, new: int) -> sparse.csr_array:
    """[new, old] float64: the share of each old pixel in each new one; rows sum to 1."""
    edges = np.linspace(0.0, old, new + 1)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(old)
    overlap = np.minimum(right, pixel + 1) - np.maximum(left, pixel)
    return sparse.csr_array(np.clip(overlap, 0.0, None) * (new / old))


@functools.lru_cache(maxsize=64)
def _linear_weights(old: int, new: int) -> sparse.csr_array:
    """[new, old] float64: linear interpolation at the centres of new pixels; rows sum to 1."""
    centre = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    return sparse.csr_array(np.clip(1 - np.abs(centre[:, None] - np.arange(old)), 0.0, None))
