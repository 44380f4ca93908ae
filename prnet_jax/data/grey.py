"""Pictures that a program normalised to 0..1 or -1..1, as grey values."""

import numpy as np

# Notes, one for each scaling, that a report shows with the files' names.
NORMALISED = (
    "normalised to 0..1, read as grey: times 255, rounded",
    "normalised to -1..1, read as grey: plus 1, times 127.5, rounded",
)
_ROUNDING = 1e-3


def grey_of_normalised(pixels: np.ndarray) -> tuple[np.ndarray, str] | None:
    """uint8 grey values of a normalised picture and which of `NORMALISED` it was, or None.

    Floats of several values that all lie from -1 to 1, or beyond by no more than rounding, are a
    normalised picture; no CT is, since its air is at -1000 HU.

    Args:
        pixels: [H, W] or [H, W, D], any real type.
    """
    if pixels.dtype.kind != "f":
        return None
    low, high = pixels.min(), pixels.max()
    if not -1 - _ROUNDING <= low < high <= 1 + _ROUNDING:  # false also where a value is NaN
        return None
    grey, note = (pixels + 1.0) * 127.5, NORMALISED[1]
    if low >= -_ROUNDING:
        grey, note = pixels * 255.0, NORMALISED[0]
    return np.rint(np.clip(grey, 0, 255)).astype(np.uint8), note
