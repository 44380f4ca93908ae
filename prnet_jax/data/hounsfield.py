"""Pixels of a file as whole Hounsfield units."""

import numpy as np

from prnet_jax.errors import InputError

OPTION = "--config.dataset.options."  # as a person types it

_INT16 = np.iinfo(np.int16)


def as_hu(pixels: np.ndarray, name: str, advice: str = "export it as 16-bit signed") -> np.ndarray:
    """Pixels that are whole Hounsfield units already, as int16.

    Args:
        pixels: [H, W] or [H, W, D], any real type.
        name: what messages call the file.
        advice: what to do about values that do not fit.

    Raises:
        InputError: 8-bit pixels (a windowed picture, no longer HU), or values that are not whole
            or do not fit int16.
    """
    if pixels.dtype.itemsize == 1:
        raise InputError(
            f"{name} is an 8-bit picture; expected Hounsfield units in 16 bits: "
            "export the slice without windowing"
        )
    low, high = pixels.min(), pixels.max()
    whole = pixels.dtype.kind != "f" or bool(np.all(pixels == np.rint(pixels)))
    if not whole or not (_INT16.min <= low and high <= _INT16.max):
        raise InputError(
            f"{name} holds {pixels.dtype} from {low} to {high}; expected whole Hounsfield units "
            f"from {_INT16.min} to {_INT16.max}: {advice}"
        )
    return pixels.astype(np.int16)


def rounded_hu(pixels: np.ndarray, name: str, offset: int = 0) -> tuple[np.ndarray, float]:
    """HU rounded to int16 after adding `offset`, and the largest change by rounding.

    Args:
        pixels: [H, W] or [H, W, D], any real type with more than 8 bits.
        name: what messages call the file.
        offset: added to every pixel.

    Raises:
        InputError: 8-bit values, values outside int16 or not finite, or fractions in so narrow a
            range that the picture was probably scaled and is no longer HU.
    """
    change = 0.0
    if pixels.dtype.kind == "f":
        rounded = np.rint(pixels)
        with np.errstate(invalid="ignore"):  # infinities are refused below
            change = float(np.max(np.abs(pixels - rounded)))
        if change > 1e-3 and np.ptp(pixels) <= 50:
            raise InputError(
                f"{name} holds {pixels.dtype} from {pixels.min():g} to {pixels.max():g} and "
                "seems scaled; expected Hounsfield units: export it without normalisation"
            )
        pixels = rounded
    if offset and pixels.dtype.itemsize > 1:
        low = min(pixels.min(), _INT16.min)
        pixels = pixels.astype(np.float64 if pixels.dtype.kind == "f" else np.int64) + offset
        pixels = np.maximum(pixels, low)  # padding of -32768 stays in int16
    if np.median(pixels) > _INT16.max - 4096:  # as ImageJ and others store signed values
        return as_hu(pixels, name, f"if it holds HU + 32768, set {OPTION}hu_offset=-32768"), change
    return as_hu(pixels, name), change
