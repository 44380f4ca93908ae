"""Made-up folders for the tests of image_folder."""

import pathlib

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from prnet_jax.data.prepare import prepare
from tests.data.scans import dicom, nifti

SHAPE = (12, 10)
DEPTH = 4


def picture(number: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(number)
    hu = generator.integers(-1000, 400, SHAPE).astype(np.int16)
    return hu, generator.random(SHAPE) < 0.3


def volume(number: int) -> tuple[np.ndarray, np.ndarray]:
    """As it is shown: [H, W, D]; the lowest slice has no mask."""
    generator = np.random.default_rng(100 + number)
    hu = generator.integers(-1000, 400, (*SHAPE, DEPTH)).astype(np.int16)
    mask = generator.random(hu.shape) < 0.3
    mask[..., 0] = False
    return hu, mask


def save(file: pathlib.Path, pixels: np.ndarray, shift_mm: float = 0.0) -> None:
    """Writes pixels as they are shown in the suffix's format; NIfTI with x to the right."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npy":
        np.save(file, pixels)
    elif file.suffix == ".npz":
        np.savez(file, pixels)
    elif file.name.endswith((".nii", ".nii.gz")):
        affine = np.diag([0.5, 0.7, 3.0, 1.0])
        affine[0, 3] = shift_mm
        stored = np.atleast_3d(pixels).transpose(1, 0, 2)[::-1, ::-1]
        if stored.dtype == bool:
            stored = stored.astype(np.uint8)
        nifti(file, stored, affine)
    elif file.suffix in (".tif", ".tiff") and pixels.dtype == np.int16:
        Image.fromarray(pixels.view(np.uint16)).save(file, tiffinfo={339: 2})
    else:
        Image.fromarray(pixels).save(file)


def save_series(
    folder: pathlib.Path, hu: np.ndarray, patient: str = "", prefix: str = "IM", **tags
) -> None:
    """DICOM files of stored = HU + 1024, the upper slices first by name."""
    for z in range(hu.shape[2]):
        dicom(
            folder / f"{prefix}{99 - z:04d}",
            (hu[..., z] + 1024).astype(np.uint16),
            PatientID=patient,
            # As save() places a NIfTI, whose upper left pixel is the last of both stored axes.
            ImagePositionPatient=[-0.5 * (hu.shape[1] - 1), -0.7 * (hu.shape[0] - 1), 3.0 * z],
            **tags,
        )


def six_pairs(folder: pathlib.Path) -> pathlib.Path:
    """Six pairs of TIFF and PNG: case_0 to case_5."""
    for number in range(6):
        hu, mask = picture(number)
        save(folder / f"images/case_{number}.tif", hu)
        save(folder / f"masks/case_{number}.png", np.uint8(255) * mask)
    return folder


def build(folder: pathlib.Path, **options) -> tfds.core.DatasetBuilder:
    data_dir = folder.parent / "data"
    return prepare("image_folder", data_dir=data_dir, manual_dir=folder, **options)
