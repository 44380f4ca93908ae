"""Arrays that a person hands over: checked, and laid out as volumes."""

from collections.abc import Sequence

import numpy as np

from prnet_jax.data import preprocess
from prnet_jax.data.scan import AXES
from prnet_jax.errors import InputError


def as_volume(array: np.ndarray, axes: str) -> np.ndarray:
    """[D, H, W], of which one slice has D = 1.

    Raises:
        InputError: no such axes, or no slice or volume of finite real numbers.
    """
    if axes not in AXES:
        raise InputError(f"axes must be one of {', '.join(AXES)}, found {axes!r}")
    array = np.asarray(array)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise InputError(f"expected one slice [H, W] or a volume of them, found {array.shape}")
    if array.dtype.kind not in "iuf":
        raise InputError(f"expected real numbers, found an array of {array.dtype}")
    preprocess.check_finite(array, "the array")
    if array.ndim == 2:
        return array[None]
    return array if axes == "DHW" else np.moveaxis(array, -1, 0)


def other_axes(shape: tuple[int, ...], axes: str) -> str | None:
    """A one-line warning where the axes of a volume seem to be in the other order, or None.

    Slices of CT are mostly square: [128, 128, 20] hardly is 128 slices of 128x20 pixels.
    """
    if len(shape) != 3:
        return None
    first, second, third = shape
    if axes == "DHW":
        number, sides, square, others = first, f"{second}x{third}", first == second != third, "HWD"
    else:
        number, sides, square, others = third, f"{first}x{second}", second == third != first, "DHW"
    if not square:
        return None
    return (
        f"the array is {first}x{second}x{third}, read as {number} slices of {sides} "
        f"(axes={axes!r}): if its slices are square, give axes={others!r}"
    )


def check_spacing(spacing_mm: Sequence[float] | None, ndim: int) -> None:
    """Refuses anything but one positive number of mm for each axis, or None.

    Raises:
        InputError: naming what was found.
    """
    if spacing_mm is None:
        return
    values = np.asarray(spacing_mm, np.float64)
    if values.shape != (ndim,) or not (np.isfinite(values) & (values > 0)).all():
        raise InputError(f"spacing_mm must be {ndim} positive numbers, found {spacing_mm!r}")
