"""Looks through a folder of CT slices and masks before anything is made from it."""

import collections
import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from prnet_jax.data.readers import Folder, as_hu, read_tiff
from prnet_jax.errors import InputError

IMAGES, MASKS = "2d_images", "2d_masks"


@dataclasses.dataclass
class Report:
    """What `inspect` found. `str()` gives it as text; `defects` one line for each thing to mend.

    Counters map a description, such as "512x512", to the number of files. `empty_masks` and
    `full_masks` are facts about a person's data and no defects.
    """

    folder: pathlib.Path
    images: int = 0
    masks: int = 0
    pairs: tuple[str, ...] = ()
    images_without_mask: tuple[str, ...] = ()
    masks_without_image: tuple[str, ...] = ()
    sizes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    image_types: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    mask_types: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    mask_values: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    hu_range: tuple[int, int] | None = None
    empty_masks: list[str] = dataclasses.field(default_factory=list)
    full_masks: list[str] = dataclasses.field(default_factory=list)
    duplicates: list[tuple[str, ...]] = dataclasses.field(default_factory=list)
    unreadable: list[str] = dataclasses.field(default_factory=list)
    defects: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        missing = [f"{id} (mask)" for id in self.images_without_mask]
        missing += [f"{id} (image)" for id in self.masks_without_image]
        hu = "none" if self.hu_range is None else f"{self.hu_range[0]} to {self.hu_range[1]}"
        if self.hu_range and self.hu_range[0] >= 0:
            hu += " (nothing below 0, although air is -1000: are these Hounsfield units?)"
        rows = {
            "pairs": f"{len(self.pairs)} of {self.images} images and {self.masks} masks",
            "missing partners": _listed(missing),
            "unreadable": _listed(self.unreadable),
            "sizes": _counted(self.sizes),
            "image types": _counted(self.image_types),
            "HU range": hu,
            "mask types": _counted(self.mask_types),
            "mask values": _counted(self.mask_values),
            "empty masks": _listed(self.empty_masks),
            "full masks": _listed(self.full_masks),
            "duplicate images": _listed([" = ".join(ids) for ids in self.duplicates]),
            "defects": _listed(self.defects, "\n" + " " * 20),
        }
        lines = [f"  {name:<18}{value}" for name, value in rows.items()]
        return "\n".join([f"Integrity of {self.folder}", *lines])

    def raise_for_defects(self) -> None:
        """Raises InputError with the first defect and, where there are more, their number."""
        if self.defects:
            number = len(self.defects)
            raise InputError(self.defects[0] + (f" ({number} defects)" if number > 1 else ""))


def inspect(manual_dir: str | os.PathLike) -> Report:
    """Reads every image and mask of `<manual_dir>/2d_images` and `2d_masks` (folders or zips).

    Raises:
        InputError: neither folder nor zip is there, or a zip is damaged. All else is in the report.
    """
    images, masks = Folder(manual_dir, IMAGES), Folder(manual_dir, MASKS)
    image_ids, mask_ids = set(images.ids), set(masks.ids)
    report = Report(
        folder=pathlib.Path(manual_dir),
        images=len(image_ids),
        masks=len(mask_ids),
        pairs=tuple(sorted(image_ids & mask_ids)),
        images_without_mask=tuple(sorted(image_ids - mask_ids)),
        masks_without_image=tuple(sorted(mask_ids - image_ids)),
    )
    if not report.pairs:
        report.defects.append(
            f"{manual_dir} has no pair of an image {IMAGES}/NAME.tif and a mask {MASKS}/NAME.tif "
            f"(found {len(image_ids)} images, {len(mask_ids)} masks); check the names"
        )
    for id in report.images_without_mask:
        report.defects.append(
            f"{images.file(id)} has no mask {MASKS}/{id}.tif; add the mask or remove the image"
        )
    for id in report.masks_without_image:
        report.defects.append(
            f"{masks.file(id)} has no image {IMAGES}/{id}.tif; add the image or remove the mask"
        )
    ids_of_pixels = collections.defaultdict(list)
    for id in sorted(image_ids | mask_ids):
        hu = _inspect_image(images, id, report) if id in image_ids else None
        mask = _inspect_mask(masks, id, report) if id in mask_ids else None
        if hu is not None:
            ids_of_pixels[hu.shape, hashlib.sha256(hu.tobytes()).digest()].append(id)
            if mask is not None and mask.shape != hu.shape:
                report.defects.append(
                    f"{masks.file(id)} is {_size(mask)} but its image is {_size(hu)}; "
                    "a mask must have its image's size: export it again"
                )
    # The same picture in train and test would flatter the result.
    report.duplicates = [tuple(ids) for ids in ids_of_pixels.values() if len(ids) > 1]
    for first, *others in report.duplicates:
        report.defects.append(
            f"{images.file(others[0])} has the same pixels as {images.file(first)}; "
            "a picture may be there once, or splits would share it: remove one pair"
        )
    return report


def _inspect_image(images: Folder, id: str, report: Report) -> np.ndarray | None:
    try:
        pixels = read_tiff(images.read(id), images.file(id))
        hu = as_hu(pixels, images.file(id))
    except InputError as error:
        report.unreadable.append(images.file(id))
        report.defects.append(str(error))
        return None
    report.sizes[_size(hu)] += 1
    report.image_types[str(pixels.dtype)] += 1
    low, high = report.hu_range or (int(hu.min()), int(hu.max()))
    report.hu_range = min(low, int(hu.min())), max(high, int(hu.max()))
    return hu


def _inspect_mask(masks: Folder, id: str, report: Report) -> np.ndarray | None:
    try:
        mask = read_tiff(masks.read(id), masks.file(id))
    except InputError as error:
        report.unreadable.append(masks.file(id))
        report.defects.append(str(error))
        return None
    values = np.unique(mask).tolist()
    foreground = [value for value in values if value]
    report.mask_types[str(mask.dtype)] += 1
    report.mask_values[_listed_values(values)] += 1
    if len(foreground) > 1:
        report.defects.append(
            f"{masks.file(id)} holds the values {_listed_values(values)}; a mask holds 0 and one "
            "other value: export it without grey levels or smoothing"
        )
    elif not foreground:
        report.empty_masks.append(masks.file(id))
    elif values == foreground:
        report.full_masks.append(masks.file(id))
    return mask


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]}x{pixels.shape[1]}"


def _counted(counter: collections.Counter) -> str:
    return ", ".join(f"{what}: {number}" for what, number in counter.most_common()) or "none"


def _listed(items: list[str] | tuple[str, ...], separator: str = ", ", limit: int = 5) -> str:
    if not items:
        return "none"
    shown = separator.join(items[:limit])
    more = f"{separator}and {len(items) - limit} more" if len(items) > limit else ""
    return f"{len(items)}: {shown}{more}"


def _listed_values(values: list, limit: int = 6) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:limit])
    return "{" + shown + (f", ... {len(values)} in all" if len(values) > limit else "") + "}"
