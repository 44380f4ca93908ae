"""Masks as DICOM segmentations, which refer to the series that they belong to."""

import importlib
import pathlib
import warnings

import numpy as np

from prnet_jax.data.scan import Scan, import_library
from prnet_jax.errors import InputError
from prnet_jax.predict.inputs import Input
from prnet_jax.run.files import new_name

SUFFIX = ".seg.dcm"


def write_segmentation(path: pathlib.Path, source: Input, scan: Scan, mask: np.ndarray) -> None:
    """Writes a binary DICOM SEG of one segment.

    Args:
        path: the file to write; replaced where it exists.
        source: a DICOM series.
        scan: the same, as read.
        mask: bool, of the shape of `scan.pixels`.

    Raises:
        InputError: highdicom is not installed, or the series lacks what a segmentation refers to.
    """
    try:
        highdicom = importlib.import_module("highdicom")
    except ImportError as error:
        raise InputError(
            "--dicomseg needs the library highdicom: pip install 'prnet_jax[dicomseg]'"
        ) from error
    pydicom = import_library("pydicom", source.name)
    codes = importlib.import_module("pydicom.sr.codedict").codes
    images = [pydicom.dcmread(file) for file in source.files]
    frames = np.moveaxis(np.atleast_3d(scan.as_stored(mask)), -1, 0)
    if len(images) > 1:  # as `read_dicom` stacks them
        along_row, along_column = np.reshape(images[0].ImageOrientationPatient, (2, 3))
        normal = np.cross(np.float64(along_row), np.float64(along_column))
        images.sort(key=lambda image: float(normal @ np.float64(image.ImagePositionPatient)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names and codes in the source's header
            segment = highdicom.seg.SegmentDescription(
                segment_number=1,
                segment_label="prediction",
                # What a network marks depends on its training, so nothing more is said.
                segmented_property_category=codes.SCT.AnatomicalStructure,
                segmented_property_type=codes.SCT.AnatomicalStructure,
                algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                    name="prnet_jax", version="0", family=codes.DCM.ArtificialIntelligence
                ),
            )
            segmentation = highdicom.seg.Segmentation(
                source_images=images,
                pixel_array=frames.astype(np.uint8),
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[segment],
                series_instance_uid=highdicom.UID(),
                series_number=1000,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer="prnet_jax",
                manufacturer_model_name="prnet_jax",
                software_versions="0",
                device_serial_number="0",
                omit_empty_frames=False,
            )
    except Exception as error:  # a header that lacks what the standard asks for
        raise InputError(
            f"{source.name} cannot be referred to by a DICOM segmentation ({error}): the mask is "
            "written as NIfTI only"
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = new_name(path)
    segmentation.save_as(fresh)
    fresh.replace(path)
