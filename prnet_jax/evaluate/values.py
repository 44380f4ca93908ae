"""What the values of another program's predictions mean: probabilities, a mask, or labels."""

import numpy as np

from prnet_jax.datasets.image_folder import labels
from prnet_jax.errors import InputError

_MOST_LABELS = 128  # TotalSegmentator has 117; grey levels of 8 bits are up to 256


def as_probability(
    pixels: np.ndarray, name: str, label: tuple[int, ...] | None = None
) -> np.ndarray:
    """Floats from 0 to 1 as they are, and of all other values whether they are above 0.

    What lies beyond them by rounding is 0 or 1. With `label` the file is a label map, in which 0.0
    and 1.0 are labels too, and its values other than fractions become whether they are chosen.

    Raises:
        InputError: negative values, values that are not finite, or too many for labels.
    """
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InputError(f"{name} holds NaN or infinities; expected a mask or probabilities")
    if pixels.min() < (-labels.NEAR if pixels.dtype.kind == "f" else 0):
        raise InputError(f"{name} holds {pixels.min()}; expected values from 0 on")
    if is_probability(pixels, whole=label is None):
        return np.clip(pixels, 0, 1)
    if label is None:
        labels_in(pixels, name)
        return pixels > 0
    pixels = labels.as_labels(pixels, name)
    return labels.foreground(pixels, labels.with_equals(label, [labels_in(pixels, name)]))


def is_probability(pixels: np.ndarray, whole: bool) -> bool:
    """Whether all are floats up to 1 or its rounding, and, unless `whole`, some are fractions."""
    up_to_1 = pixels.dtype.kind == "f" and pixels.max() <= 1 + labels.NEAR
    return up_to_1 and (whole or np.abs(pixels - np.rint(pixels)).max() > labels.NEAR)


def labels_in(pixels: np.ndarray, name: str) -> list[float]:
    """The values other than 0, sorted; more than labels can be are refused."""
    found = labels.labels_in(pixels)
    if len(found) > _MOST_LABELS:
        raise InputError(
            f"{name} holds {len(found)} values from {found[0]:g} to {found[-1]:g}, as grey levels "
            "or probabilities in whole numbers do; expected a mask: write 0 and 1, labels, or "
            "probabilities as floats from 0 to 1 (NumPy, TIFF, NIfTI)"
        )
    return found
