"""What the masks of a split mark: as they are stored, and at the size that a network sees."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from prnet_jax.data.preprocess import resize_mask, seen
from prnet_jax.errors import InputError

LOST = 0.1  # the share of masks that may become empty by resizing before a warning
_ANY_NETWORK = 32  # divides the sides of images that every network takes


@dataclasses.dataclass
class Foreground:
    """Counts over the masks of a split, which are added one at a time. `str()` is one line.

    Attributes:
        size: the side that the network sees, in px.
        resize: how slices get there, see `prnet_jax.data.preprocess.extent`.
        images: the number of masks.
        empty: those that mark nothing.
        vanished: those that mark something, but nothing once they are resized.
        cut: those that mark something outside what the network sees.
        mostly: those that mark more than half of their pixels.
        shares: the sum of the shares of the pixels that are marked, as stored.
        largest_side: of the masks as stored, in px.
    """

    size: int
    resize: str = "stretch"
    images: int = 0
    empty: int = 0
    vanished: int = 0
    cut: int = 0
    mostly: int = 0
    shares: float = 0.0
    largest_side: int = 0

    def add(self, mask: np.ndarray) -> None:
        """Adds a mask: bool [H, W] as stored."""
        share = float(mask.mean())
        self.images += 1
        self.shares += share
        self.largest_side = max(self.largest_side, *mask.shape)
        self.mostly += share > 0.5
        inside = seen(mask.shape, self.size, self.resize)
        self.cut += int(np.count_nonzero(mask[inside]) < np.count_nonzero(mask))
        if not share:
            self.empty += 1
        elif not resize_mask(mask, self.size, self.resize).any():
            self.vanished += 1

    @property
    def marked(self) -> int:
        """The number of masks that still mark something once they are resized."""
        return self.images - self.empty - self.vanished

    @property
    def few_vanished(self) -> bool:
        """Whether at most `LOST` of the masks that mark something become empty."""
        return self.vanished <= LOST * (self.images - self.empty)

    def facts(self) -> dict[str, Any]:
        """The figures for a JSON file, with `mean_share` in place of the sum."""
        names = ("images", "empty", "vanished", "cut")
        figures = {name: getattr(self, name) for name in names}
        return figures | {"mean_share": self._mean_share()}

    def __str__(self) -> str:
        return (
            f"{100 * self._mean_share():.3g} % of the pixels; of {self.images} masks {self.empty} "
            f"empty, {self.vanished} more at {self.size}x{self.size}"
        )

    def _mean_share(self) -> float:
        return self.shares / max(self.images, 1)


def check(
    found: Mapping[str, Foreground], masks: Callable[[str], Iterable[np.ndarray]]
) -> list[str]:
    """Refuses masks that nothing can be learnt from; one line for each other doubt.

    Args:
        found: of each split by name: "train", "validation", "test".
        masks: gives the masks of a split again, to look for a size that keeps them.

    Raises:
        InputError: at this size no mask of the train split marks anything.
    """
    train, size = found["train"], found["train"].size
    if not train.marked:
        if not train.vanished:
            raise InputError(
                f"all {train.images} masks of the train split are empty: check them, or choose "
                "another by --config.dataset.mask"
            )
        raise InputError(
            f"no mask of the train split marks anything at {size}x{size} pixels, {train.vanished} "
            f"do as stored: {_advice(found, masks)}"
        )
    doubts = []
    if not all(split.few_vanished for split in found.values()):
        doubts.append(
            f"masks that mark something become empty at {size}x{size} pixels "
            f"({_in_each(found, 'vanished')}): {_advice(found, masks)}"
        )
    if any(split.cut for split in found.values()):
        doubts.append(
            f"masks reach out of the middle {size}x{size} pixels, which are all that the network "
            f"sees ({_in_each(found, 'cut')}): --config.dataset.image_size takes more"
        )
    mostly, images = (
        sum(getattr(split, name) for split in found.values()) for name in ("mostly", "images")
    )
    if mostly > images / 2:
        doubts.append(
            f"more than half of the pixels are marked in {mostly} of {images} images: are the "
            "masks inverted?"
        )
    if not found["validation"].marked:
        doubts.append(
            f"validation marks nothing at {size}x{size} pixels: the best checkpoint is that of the "
            "lowest validation loss"
        )
    return doubts


def _in_each(found: Mapping[str, Foreground], what: str) -> str:
    """ "2 of 10 in train, ...": of the masks that mark something."""
    return ", ".join(
        f"{getattr(split, what)} of {split.images - split.empty} in {name}"
        for name, split in found.items()
    )


def _advice(found: Mapping[str, Foreground], masks: Callable[[str], Iterable[np.ndarray]]) -> str:
    """What to do about masks that become empty."""
    size = found["train"].size
    step = size // 2 if size // 2 % _ANY_NETWORK == 0 else size
    largest = max(split.largest_side for split in found.values())
    for larger in range(size + step, largest + step, step):
        if all(_keeps(masks(name), larger, found[name]) for name in found):
            return f"--config.dataset.image_size={larger} keeps nine in ten of them, or more"
    return "cut the images to smaller ones around the targets"


def _keeps(masks: Iterable[np.ndarray], size: int, at_first: Foreground) -> bool:
    """Whether at most `LOST` of the masks become empty at `size`; stops once it is clear."""
    allowed = LOST * (at_first.images - at_first.empty)
    vanished = 0
    for mask in masks:
        vanished += bool(mask.any()) and not resize_mask(mask, size, at_first.resize).any()
        if vanished > allowed:
            return False
    return True
