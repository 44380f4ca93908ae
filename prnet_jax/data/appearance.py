"""What the images of a training looked like, and whether another one looks like them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

_AIR = {"HU": -900.0, "grey": 25.0}  # below it a pixel counts as air
_AIR_MARGIN = 0.1  # of all pixels: an image may lie so far outside what was seen
_SIZE_MARGIN = 1.25  # likewise, as a factor, for sizes in mm


class Appearance:
    """Ranges over the images of a split, which are added one at a time.

    Args:
        unit: of the pixels, "HU" or "grey".
    """

    def __init__(self, unit: str):
        self._unit = unit
        self._air: list[float] = []
        self._spacing: list[float] = []
        self._view: list[float] = []

    def add(self, pixels: np.ndarray, spacing_mm: Sequence[float]) -> None:
        """Adds an image: [H, W] as stored; spacing (row, column), NaN where not known."""
        self._air.append(share_of_air(pixels, self._unit))
        if np.isfinite(spacing_mm).all():
            self._spacing += map(float, spacing_mm)
            self._view.append(field_of_view(pixels.shape, spacing_mm))

    def facts(self) -> dict[str, Any]:
        """[lowest, highest] of `share_of_air`, `spacing_mm` and `field_of_view_mm`, or None."""
        ranges = {
            "share_of_air": self._air,
            "spacing_mm": self._spacing,
            "field_of_view_mm": self._view,
        }
        return {name: [min(v), max(v)] if v else None for name, v in ranges.items()}


def share_of_air(pixels: np.ndarray, unit: str) -> float:
    """The share of the pixels of an image that are air: below -900 HU, or grey below 25."""
    return float(np.mean(pixels < _AIR[unit]))


def field_of_view(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """The longer side of an image in mm."""
    return float(max(np.multiply(shape[:2], spacing_mm)))


def unlike(
    slices: Iterable[np.ndarray],
    spacing_mm: Sequence[float] | None,
    unit: str,
    seen: Mapping[str, Any],
    resized: bool = True,
) -> list[str]:
    """One line for each way in which a picture or volume differs from what was trained on.

    Args:
        slices: [H, W] each, at least one.
        spacing_mm: (row, column), or None.
        unit: of the pixels.
        seen: of `Appearance.facts`; {} where it is not known.
        resized: whether whole slices are brought to the network's size, so that their fields of
            view must be alike; else their pixels.
    """
    shares = []
    shape: tuple[int, ...] = ()
    for pixels in slices:
        shares.append(share_of_air(pixels, unit))
        shape = pixels.shape
    doubts = []
    if known := seen.get("share_of_air"):
        share, (low, high) = float(np.median(shares)), known
        if not low - _AIR_MARGIN <= share <= high + _AIR_MARGIN:
            doubts.append(
                f"{100 * share:.0f} % of the pixels are air, in training {100 * low:.0f} to "
                f"{100 * high:.0f} %: is it another region, another unit or inverted?"
            )
    if spacing_mm is None:
        return doubts
    if resized:
        what, sizes, digits = "field of view", [field_of_view(shape, spacing_mm)], "0f"
    else:
        what, sizes, digits = "side of a pixel", list(spacing_mm), "2f"
    known = seen.get("field_of_view_mm" if resized else "spacing_mm")
    low, high = known or (0.0, np.inf)
    for size in sizes:
        if not low / _SIZE_MARGIN <= size <= high * _SIZE_MARGIN:
            doubts.append(
                f"the {what} is {size:.{digits}} mm, in training {low:.{digits}} to "
                f"{high:.{digits}} mm: the network sees everything at another scale"
            )
            break
    return doubts
