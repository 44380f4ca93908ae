"""The report on a folder of images and masks: what it holds, and what to fix. Builders fill it."""

import collections
import dataclasses
import hashlib
import pathlib
import shutil
import sys
import textwrap
from collections.abc import Iterable

import numpy as np

from prnet_jax.errors import InputError


@dataclasses.dataclass
class Report:
    """Facts and defects of a folder. `str()` gives one row for each kind of fact.

    A builder says which files belong together (`match`), adds the images and masks that it could
    read (`add_image`, `add_mask`) and those that it could not (`add_unreadable`), and anything else
    as a `defect` or as a row in `facts`. Empty and full masks are facts, not defects.

    Counters map a description, such as "512x512", to the number of files.
    """

    folder: pathlib.Path
    unit: str = "HU"  # of the images, "HU" or "grey"; may be set after the files are read
    mask_advice: str = "export it without grey levels or smoothing"
    images: int = 0
    masks: int = 0
    pairs: tuple[str, ...] = ()
    images_without_mask: tuple[str, ...] = ()
    masks_without_image: tuple[str, ...] = ()
    sizes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    image_types: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    mask_types: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    mask_values: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    value_range: tuple[int, int] | None = None
    empty_masks: list[str] = dataclasses.field(default_factory=list)
    full_masks: list[str] = dataclasses.field(default_factory=list)
    unreadable: list[str] = dataclasses.field(default_factory=list)
    facts: dict[str, str] = dataclasses.field(default_factory=dict)
    _found: list[str] = dataclasses.field(default_factory=list)
    _same: dict = dataclasses.field(default_factory=lambda: collections.defaultdict(list))

    def match(self, image_ids: Iterable[str], mask_ids: Iterable[str]) -> None:
        """Counts images and masks, and records which ids have both."""
        image_ids, mask_ids = set(image_ids), set(mask_ids)
        self.images, self.masks = len(image_ids), len(mask_ids)
        self.pairs = tuple(sorted(image_ids & mask_ids))
        self.images_without_mask = tuple(sorted(image_ids - mask_ids))
        self.masks_without_image = tuple(sorted(mask_ids - image_ids))

    def add_image(
        self,
        name: str,
        pixels: np.ndarray,
        stored_type: np.dtype | str | None = None,
        patient_id: str | None = None,
    ) -> None:
        """Counts an image.

        Two images with the same pixels are a defect, since two splits could share the picture. They
        are not if both have the same `patient_id`, because a patient stays in one split.

        Args:
            name: what messages call the file.
            pixels: [H, W], any real type, the same for all images.
            stored_type: the type in the file; by default that of `pixels`.
            patient_id: given only by a builder that keeps a patient's images together.
        """
        self.sizes[size(pixels)] += 1
        self.image_types[np.dtype(stored_type or pixels.dtype).name] += 1
        low, high = pixels.min().item(), pixels.max().item()
        if self.value_range is not None:
            low, high = min(low, self.value_range[0]), max(high, self.value_range[1])
        self.value_range = low, high
        key = pixels.shape, hashlib.sha256(pixels.tobytes()).digest()
        self._same[key].append((name, patient_id))

    def add_mask(
        self,
        name: str,
        mask: np.ndarray,
        image_name: str | None = None,
        image_shape: tuple[int, ...] | None = None,
        several: bool = False,
    ) -> None:
        """Counts a mask; several values besides 0, or another size than its image's, are defects.

        Args:
            name: what messages call the file.
            mask: [H, W], any real type.
            image_name: the name of its image, if messages should give it.
            image_shape: (H, W) of its image; None if that could not be read.
            several: whether several values besides 0 are right.
        """
        values = np.unique(mask).tolist()
        foreground = [value for value in values if value]
        self.mask_types[mask.dtype.name] += 1
        self.mask_values[listed_values(values)] += 1
        if len(foreground) > 1 and not several:
            self.defect(
                f"{name} holds the values {listed_values(values)}; a mask holds 0 and one "
                f"other value: {self.mask_advice}"
            )
        elif not foreground:
            self.empty_masks.append(name)
        elif values == foreground:
            self.full_masks.append(name)
        if image_shape is not None and mask.shape != image_shape:
            image = "its image" + (f" {image_name}" if image_name else "")
            self.defect(
                f"{name} is {size(mask)} but {image} is {'x'.join(map(str, image_shape))}; "
                "a mask must have its image's size: export it again"
            )

    def add_unreadable(self, name: str, error: InputError) -> None:
        """Counts a file that cannot be read; the error's message is the defect."""
        self.unreadable.append(name)
        self.defect(str(error))

    def defect(self, line: str) -> None:
        """Adds a line: what was expected, what was found, what to do."""
        self._found.append(" ".join(line.splitlines()))  # file names may contain line breaks

    @property
    def duplicates(self) -> list[tuple[str, ...]]:
        """The names of images with the same pixels, a tuple for each picture."""
        return [tuple(name for name, _ in same) for same in self._same.values() if len(same) > 1]

    @property
    def defects(self) -> list[str]:
        """A line for each thing to fix, in the order found, duplicates last."""
        lines = list(self._found)
        for (first, patient), *others in self._same.values():
            # The same picture in train and test would flatter the result.
            shared = [name for name, other in others if patient is None or other != patient]
            if shared:
                lines.append(
                    f"{shared[0]} has the same pixels as {first}; "
                    "a picture may occur only once, or splits could share it: remove one pair"
                )
        return lines

    def __str__(self) -> str:
        missing = [f"{id} (mask)" for id in self.images_without_mask]
        missing += [f"{id} (image)" for id in self.masks_without_image]
        values = "none" if self.value_range is None else "{:g} to {:g}".format(*self.value_range)
        if self.unit == "HU" and self.value_range and self.value_range[0] >= 0:
            values += " (nothing below 0, although air is -1000: are these Hounsfield units?)"
        rows = {
            "pairs": f"{len(self.pairs)} of {self.images} images and {self.masks} masks",
            "missing partners": listed(missing),
            "unreadable": listed(self.unreadable),
            "sizes": counted(self.sizes),
            "image types": counted(self.image_types),
            f"{self.unit} range": values,
            "mask types": counted(self.mask_types),
            "mask values": counted(self.mask_values),
            "empty masks": listed(self.empty_masks),
            "full masks": listed(self.full_masks),
            "duplicate images": listed([_alike(names) for names in self.duplicates]),
            **self.facts,
            "defects": listed(self.defects, "\n" + " " * 20),
        }
        return "\n".join([f"Integrity of {self.folder}", *(row(*item) for item in rows.items())])

    def raise_for_defects(self) -> None:
        """Raises InputError with the first defect and, if there are more, their number."""
        defects = self.defects
        if defects:
            number = len(defects)
            raise InputError(defects[0] + (f" ({number} defects)" if number > 1 else ""))


def _alike(names: tuple[str, ...], limit: int = 3) -> str:
    more = f" = {len(names) - limit} more" if len(names) > limit else ""
    return " = ".join(names[:limit]) + more


def row(name: str, value: str) -> str:
    """A row of the report; builders print their decisions (splits, exclusions) as more of them.

    On a terminal a value that is too long for the line is folded within its column.
    """
    text = f"  {name:<18}{value}"
    if not sys.stdout.isatty():
        return text
    fold = textwrap.TextWrapper(
        shutil.get_terminal_size().columns,
        subsequent_indent=" " * 20,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(part for line in text.splitlines() for part in fold.wrap(line))


def size(pixels: np.ndarray) -> str:
    """The shape as text: `512x512`."""
    return "x".join(map(str, pixels.shape))


def counted(counter: collections.Counter) -> str:
    """`512x512: 260, 256x256: 4`, the most frequent first, or `none`."""
    return ", ".join(f"{what}: {number}" for what, number in counter.most_common()) or "none"


def listed(items: list[str] | tuple[str, ...], separator: str = ", ", limit: int = 5) -> str:
    """`7: a, b, c, d, e, and 2 more`, or `none`."""
    if not items:
        return "none"
    shown = separator.join(items[:limit])
    more = f"{separator}and {len(items) - limit} more" if len(items) > limit else ""
    return f"{len(items)}: {shown}{more}"


def listed_values(values: list, limit: int = 6) -> str:
    """`{0, 255}`, or `{0, 1, 2, 3, 4, 5, ... 256 in all}`."""
    shown = ", ".join(f"{value:g}" for value in values[:limit])
    return "{" + shown + (f", ... {len(values)} in all" if len(values) > limit else "") + "}"
