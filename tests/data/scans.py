"""NIfTI and DICOM files, written with nibabel and pydicom."""

import pathlib

import numpy as np
import pytest


def nifti(path: pathlib.Path, pixels: np.ndarray, affine: np.ndarray) -> pathlib.Path:
    nibabel = pytest.importorskip("nibabel")
    nibabel.Nifti1Image(pixels, affine).to_filename(path)
    return path


def dicom(path: pathlib.Path, stored: np.ndarray, **tags) -> pathlib.Path:
    """A CT slice as a scanner writes it; a tag of None is left out."""
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = tags.pop("syntax", pydicom.uid.ExplicitVRLittleEndian)
    data.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    data.Rows, data.Columns = stored.shape
    data.BitsAllocated = data.BitsStored = 8 * stored.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    data.PixelData = tags.pop("data", stored.tobytes())
    defaults = {
        "Modality": "CT",
        "PatientID": "p1",
        "SeriesInstanceUID": "1.2.3",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "PixelSpacing": [0.7, 0.5],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [-10, -20, 30],
    }
    for tag, value in (defaults | tags).items():
        if value is not None:
            setattr(data, tag, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path
