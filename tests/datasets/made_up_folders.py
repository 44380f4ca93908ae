"""Made-up folders for the tests of image_folder."""

import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from prnet_jax.data.prepare import prepare

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
    """Writes pixels as they are shown in the format of the suffix; NIfTI with x to the right."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npy":
        np.save(file, pixels)
    elif file.suffix == ".npz":
        np.savez(file, pixels)
    elif file.name.endswith((".nii", ".nii.gz")):
        nibabel = pytest.importorskip("nibabel")
        affine = np.diag([0.5, 0.7, 3.0, 1.0])
        affine[0, 3] = shift_mm
        stored = np.atleast_3d(pixels).transpose(1, 0, 2)[::-1, ::-1]
        if stored.dtype == bool:
            stored = stored.astype(np.uint8)
        nibabel.Nifti1Image(stored, affine).to_filename(file)
    elif file.suffix in (".tif", ".tiff") and pixels.dtype == np.int16:
        Image.fromarray(pixels.view(np.uint16)).save(file, tiffinfo={339: 2})
    else:
        Image.fromarray(pixels).save(file)


def save_series(
    folder: pathlib.Path, hu: np.ndarray, patient: str = "", prefix: str = "IM"
) -> None:
    """DICOM files of stored = HU + 1024, the upper slices first by name."""
    pydicom = pytest.importorskip("pydicom")
    folder.mkdir(parents=True, exist_ok=True)
    for z in range(hu.shape[2]):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        data.Modality, data.PatientID, data.SeriesInstanceUID = "CT", patient, "1.2.3"
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelRepresentation, data.RescaleSlope, data.RescaleIntercept = 0, 1, -1024
        data.Rows, data.Columns = hu.shape[:2]
        data.PixelSpacing, data.ImageOrientationPatient = [0.7, 0.5], [1, 0, 0, 0, 1, 0]
        # Where save() puts a NIfTI: its upper left pixel is the last of both stored axes.
        data.ImagePositionPatient = [-0.5 * (hu.shape[1] - 1), -0.7 * (hu.shape[0] - 1), 3.0 * z]
        data.PixelData = (hu[..., z] + 1024).astype(np.uint16).tobytes()
        data.save_as(folder / f"{prefix}{99 - z:04d}", enforce_file_format=True)


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
