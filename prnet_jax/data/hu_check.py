"""Whether files hold Hounsfield units, or HU + 1024 and the like, judged by their values."""

import collections
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from prnet_jax.data.hounsfield import OPTION
from prnet_jax.data.integrity import listed

SHIFT = 1024  # of the files that are told from HU

# In HU, lung lies around -850 and fat around -100; in HU + 1024 fat and muscle lie from 850 to 1150
# and only padding below -100, which may be noisy but keeps away from 0.
_LUNG_AND_FAT = -1000, -100
_FAT = -400, -100
_BODY = 850, 1150
_GREY = 255  # the highest value of 8-bit pictures, which may have been saved in 16 bits


class HuCheck:
    """Judges each file, and the files of a data set together.

    The lowest value of a slice may be padding and does not count. Of its other pixels

    * HU - 1024 has 5 % or more below -1500, and less than 5 % above -500;
    * HU + 1024 (or + 1000) has 10 % or more from 850 to 1150, more than between -1000 and -100, and
      less than 2 % between -400 and -100; or else 10 % or more above 600, and nothing from -1024 up
      to 0;
    * HU has 2 % or more between -1000 and -100.

    A file may be none of these: a blank picture, a crop. Files of which none can be judged are not
    HU if they hold values above 255 and nothing from -1024 up to 0.
    """

    def __init__(self, hu_offset: int | None = None):
        """Begins without files.

        Args:
            hu_offset: what has been added to the values; None for a data set without that option.
        """
        self.hu_offset = hu_offset
        self.names = collections.defaultdict(list)  # by what is too much: 1024, -1024, 0 or None
        self.not_below_0: list[str] = []  # of None, and neither blank nor grey
        self.below_0 = False  # whether any file has values from -1024 up to 0

    def add(self, name: str, values: np.ndarray) -> None:
        """Judges a file after `hu_offset` was added: int16 [H, W] or [H, W, D].

        A slice of HU + 1024 in a volume of HU is listed as `name z0004`.
        """
        counts = [_Counts.of(slice) for slice in np.moveaxis(np.atleast_3d(values), -1, 0)]
        total = _Counts.sum(counts)
        excess = total.excess()
        if excess == 0:
            shifted = [z for z, each in enumerate(counts) if each.excess() == SHIFT]
            self.names[SHIFT] += [f"{name} z{z:04d}" for z in shifted]
        self.names[excess].append(name)
        self.below_0 |= total.below_0 > 0
        if excess is None and total.all and not total.below_0 and values.max() > _GREY:
            self.not_below_0.append(name)

    def finding(self) -> tuple[str, str]:
        """What is wrong with all files together, and what to do; empty where nothing is."""
        judged = [excess for excess in (SHIFT, -SHIFT, 0) if self.names[excess]]
        if len(judged) > 1:
            kinds = [f"{self._held(excess)} ({listed(self.names[excess])})" for excess in judged]
            found = f"expected HU in all images, but they seem to hold {' and '.join(kinds)}"
            without = " and leave out hu_offset" if self.hu_offset else ""
            return found, self._or_as_stored(f"export all in HU{without}")
        if judged and judged != [0]:
            excess = judged[0]
            found = (
                f"the images seem to hold {self._held(excess)} ({listed(self.names[excess])}), "
                f"{self._not_hu()} where lung lies near -850 and muscle near 50"
            )
            return found, self._add(-excess)
        if not judged and not self.below_0 and self.not_below_0:
            found = (
                f"the images hold nothing below 0, {self._not_hu()} where air is -1000; they may "
                f"hold {self._held(SHIFT)} ({listed(self.not_below_0)})"
            )
            return found, self._add(-SHIFT)
        return "", ""

    def _not_hu(self) -> str:
        return f"so hu_offset={self.hu_offset} does not make HU," if self.hu_offset else "not HU,"

    def _held(self, excess: int) -> str:
        """What the files themselves hold: `HU + 1024`."""
        stored = excess - (self.hu_offset or 0)
        return f"HU {'+' if stored > 0 else '-'} {abs(stored)}" if stored else "HU"

    def _add(self, more: int) -> str:
        if self.hu_offset is None:
            return "export them again in HU"
        offset = self.hu_offset + more
        other = ", or minus whatever else was added to HU" if offset else ""
        return self._or_as_stored(f"set {OPTION}hu_offset={offset}{other}")

    def _or_as_stored(self, mend: str) -> str:
        if self.hu_offset is None:
            return mend
        return f"{mend}; or, if the values are meant as they are, set {OPTION}hu_as_stored=True"


def excess_of(slices: Iterable[np.ndarray]) -> int | None:
    """What the values of a picture or volume have too much for HU: 1024, -1024, or 0 for HU.

    Args:
        slices: [H, W] each, at least one.

    Returns:
        None where the values do not tell.
    """
    return _Counts.sum(map(_Counts.of, slices)).excess()


class _Counts(NamedTuple):
    """Pixels above the lowest value of their slice, by value; `below_0` counts those as well."""

    all: int
    lung_and_fat: int
    fat: int
    body: int
    below_1500: int  # below -1500
    above_500: int  # above -500
    above_600: int
    below_0: int  # from -1024

    @classmethod
    def of(cls, values: np.ndarray) -> "_Counts":
        """Counts a slice [H, W]."""
        below_0 = (-1024 <= values) & (values < 0)
        values = values[values > values.min()]
        kinds = (
            *((low < values) & (values < high) for low, high in (_LUNG_AND_FAT, _FAT)),
            (_BODY[0] <= values) & (values <= _BODY[1]),
            *(values < -1500, values > -500, values > 600, below_0),
        )
        return cls(values.size, *(int(np.count_nonzero(kind)) for kind in kinds))

    @classmethod
    def sum(cls, counts: Iterable["_Counts"]) -> "_Counts":
        """Those of several slices."""
        return cls(*map(sum, zip(*counts, strict=True)))

    def excess(self) -> int | None:
        """What is too much for HU: 1024, -1024, or 0 for HU; None where the values do not tell."""
        if not self.all:
            return None
        if self.below_1500 >= 0.05 * self.all > self.above_500:
            return -SHIFT
        if self.above_600 >= 0.1 * self.all and not self.below_0:
            return SHIFT
        if self.body >= 0.1 * self.all and self.fat < 0.02 * self.all:
            return SHIFT if self.body > self.lung_and_fat else None
        return 0 if self.lung_and_fat >= 0.02 * self.all else None
