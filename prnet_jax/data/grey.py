"""Pictures that a program normalised to 0..1 or -1..1, as grey values."""

import numpy as np

# Notes, one for each scaling, that a report shows with the files' names.
NORMALISED = (
    "normalised to 0..1, read as grey: times 255, rounded",
    "normalised to -1..1, read as grey: plus 1, times 127.5, rounded",
)


def grey_of_normalised(pixels: np.ndarray) -> tuple[np.ndarray, str] | None:
    """uint8 grey values of a normalised picture and which of `NORMALISED` it was, or None.

    Floats of several values that all lie from -1 to 1 are a normalised picture; no CT is, since its
    air is at -1000 HU. The network sees 256 grey levels either way.

    Args:
        pixels: [H, W] or [H, W, D], any real type.
    """
    if pixels.dtype.kind != "f":
        return None
    low, high = pixels.min(), pixels.max()
    if not -1 <= low < high <= 1:  # false also where a value is NaN
        return None
    if low >= 0:
        return np.rint(pixels * 255.0).astype(np.uint8), NORMALISED[0]
    return np.rint((pixels + 1.0) * 127.5).astype(np.uint8), NORMALISED[1]
