"""Reads the nodule crops and their readers' masks before anything is written."""

import collections
import itertools

import numpy as np

from prnet_jax.data.integrity import Report, listed
from prnet_jax.data.readers import read_png
from prnet_jax.errors import InputError

from .layout import FOLDERS, IMAGES, READERS, Layout, patient_of


def inspect(layout: Layout) -> Report:
    """Reads every image and mask; defects go into the report."""
    report = Report(layout.root, unit="grey")
    images = layout.ids[IMAGES]
    complete = set.intersection(*layout.ids.values())
    anywhere = set.union(*layout.ids.values())
    report.match(images, complete | (anywhere - images))
    report.masks = sum(len(layout.ids[folder]) for folder in FOLDERS[1:])
    if not complete:
        report.defect(
            f"{layout.root} has no slice with an image and {READERS} masks "
            "(NODULE/images/slice-0.png, NODULE/mask-0/slice-0.png, ...); check the names"
        )
    for folder in layout.missing_folders:
        report.defect(f"{folder} is missing; each nodule has {', '.join(FOLDERS)}: add it")
    _report_missing_files(layout, anywhere, report)
    readings = [_inspect_slice(layout, id, report) for id in sorted(anywhere)]
    readings = [masks for masks in readings if masks is not None]
    report.facts |= _facts(layout, readings)
    return report


def reader_dice(readings: list[np.ndarray]) -> dict[str, tuple[float, int]]:
    """How well readers agree: the mean Dice over slices and pairs of readers, in two ways.

    Args:
        readings: for each slice the masks of all readers, bool [readers, H, W].

    Returns:
        (mean, number of pairs); NaN where there are none. "both" is over the pairs in which both
        readers marked something, "either" over those in which at least one did, where a blank mask
        scores 0. Pairs of two blank masks count in neither.
    """
    both, either = [], []
    for masks in readings:
        for one, two in itertools.combinations(masks, 2):
            marked = int(one.sum()), int(two.sum())
            if not any(marked):
                continue
            either.append(2 * int((one & two).sum()) / sum(marked))
            if all(marked):
                both.append(either[-1])
    return {
        name: (float(np.mean(values)) if values else float("nan"), len(values))
        for name, values in (("both", both), ("either", either))
    }


def _report_missing_files(layout: Layout, ids: set[str], report: Report) -> None:
    """Adds a defect for each missing file of a slice, unless its folder is missing altogether."""
    for id in sorted(ids):
        for folder in FOLDERS:
            file = layout.file(id, folder)
            if id in layout.ids[folder] or file.rpartition("/")[0] in layout.missing_folders:
                continue
            present = next(other for other in FOLDERS if id in layout.ids[other])
            report.defect(
                f"{layout.file(id, present)} has no {file}; "
                "add it, or remove the slice from the image's and all masks' folders"
            )


def _inspect_slice(layout: Layout, id: str, report: Report) -> np.ndarray | None:
    """All masks, bool [readers, H, W]; None unless all exist and have one size."""
    pixels = {}
    for folder in FOLDERS:
        if id not in layout.ids[folder]:
            continue
        name = layout.file(id, folder)
        try:
            pixels[folder] = read_png(layout.read(id, folder), name)
        except InputError as error:
            report.add_unreadable(name, error)
    image = pixels.pop(IMAGES, None)
    if image is not None:
        name = layout.file(id, IMAGES)
        report.add_image(name, image, patient_id=patient_of(id))
        if image.dtype != np.uint8:
            report.defect(
                f"{name} is {image.dtype}; expected 8-bit grey values: export it in 8 bits"
            )
    shape = None if image is None else image.shape
    for folder, mask in pixels.items():
        report.add_mask(layout.file(id, folder), mask, layout.file(id, IMAGES), shape)
    if len(pixels) < READERS or len({mask.shape for mask in pixels.values()}) > 1:
        return None
    return np.stack([mask != 0 for mask in pixels.values()])


def _facts(layout: Layout, readings: list[np.ndarray]) -> dict[str, str]:
    readers = collections.Counter(int(masks.any((1, 2)).sum()) for masks in readings)
    deepest = [int(masks.sum(0).max()) for masks in readings]
    empty = {k: sum(votes < k for votes in deepest) for k in range(1, READERS + 1)}
    dice = reader_dice(readings)
    return {
        "patients": f"{len(layout.patients)}, nodules: {len(layout.nodules)}",
        "readers who mark": ", ".join(f"{n}: {readers[n]}" for n in sorted(readers)) or "none",
        "consensus empty": ", ".join(f"{k} of {READERS}: {n}" for k, n in empty.items()),
        "reader Dice": "{:.4f} over {} pairs who both mark the slice".format(*dice["both"]),
        "with blank as 0": "{:.4f} over {} pairs of whom at least one does".format(*dice["either"]),
        "skipped": listed(layout.skipped),
    }
