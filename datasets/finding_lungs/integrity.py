"""Reads `2d_images` and `2d_masks` before anything is written."""

import os
import pathlib

import numpy as np

from prnet_jax.data.folders import Folder
from prnet_jax.data.hounsfield import as_hu
from prnet_jax.data.hu_check import HuCheck
from prnet_jax.data.integrity import Report
from prnet_jax.data.readers import read_tiff
from prnet_jax.errors import InputError

IMAGES, MASKS = "2d_images", "2d_masks"


def inspect(manual_dir: str | os.PathLike) -> Report:
    """Reads every image and mask of `<manual_dir>/2d_images` and `2d_masks` (folders or zips).

    Raises:
        InputError: no folder or zip, or a damaged zip. The report has all else.
    """
    images, masks = Folder(manual_dir, IMAGES), Folder(manual_dir, MASKS)
    image_ids, mask_ids = set(images.ids), set(masks.ids)
    report = Report(pathlib.Path(manual_dir))
    report.match(image_ids, mask_ids)
    if not report.pairs:
        report.defect(
            f"{manual_dir} has no pair of an image {IMAGES}/NAME.tif and a mask {MASKS}/NAME.tif "
            f"(found {len(image_ids)} images, {len(mask_ids)} masks); check the names"
        )
    for id in report.images_without_mask:
        report.defect(
            f"{images.file(id)} has no mask {MASKS}/{id}.tif; add the mask or remove the image"
        )
    for id in report.masks_without_image:
        report.defect(
            f"{masks.file(id)} has no image {IMAGES}/{id}.tif; add the image or remove the mask"
        )
    check = HuCheck()
    for id in sorted(image_ids | mask_ids):
        hu = _inspect_image(images, id, report) if id in image_ids else None
        if hu is not None:
            check.add(images.file(id), hu)
        if id in mask_ids:
            _inspect_mask(masks, id, report, None if hu is None else hu.shape)
    not_hu, mend = check.finding()
    if not_hu:
        report.defect(f"{not_hu}: {mend}")
    return report


def _inspect_image(images: Folder, id: str, report: Report) -> np.ndarray | None:
    name = images.file(id)
    try:
        pixels = read_tiff(images.read(id), name)
        hu = as_hu(pixels, name)
    except InputError as error:
        report.add_unreadable(name, error)
        return None
    report.add_image(name, hu, pixels.dtype)
    return hu


def _inspect_mask(masks: Folder, id: str, report: Report, image_shape) -> None:
    name = masks.file(id)
    try:
        mask = read_tiff(masks.read(id), name)
    except InputError as error:
        report.add_unreadable(name, error)
        return
    report.add_mask(name, mask, image_shape=image_shape)
