"""Masks and probabilities as files, in the kind and the geometry of what they belong to."""

import gzip
import io
import os
import pathlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from prnet_jax.data.nifti import read_header
from prnet_jax.data.scan import Scan, import_library
from prnet_jax.predict.inputs import Input
from prnet_jax.run.files import new_name

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's x and y run against NIfTI's


def suffix_of(source: Input) -> str:
    """The suffix of its results: NIfTI for DICOM, PNG for every picture."""
    if source.format == "NIfTI":
        return ".nii.gz" if source.files[0].name.lower().endswith(".gz") else ".nii"
    return {"DICOM": ".nii.gz", "NumPy": ".npy"}.get(source.format, ".png")


def write_mask(path: pathlib.Path, source: Input, scan: Scan, mask: np.ndarray) -> None:
    """Writes a mask: 0 and 1 in volumes and NumPy files, 0 and 255 in pictures.

    Args:
        path: ends with `suffix_of(source)`; replaced where it exists.
        source: what was predicted.
        scan: the same, as read.
        mask: bool, of the shape of `scan.pixels`.
    """
    scale = 255 if path.suffix == ".png" else 1
    _write(path, source, scan, mask.view(np.uint8) * np.uint8(scale))


def write_prob(path: pathlib.Path, source: Input, scan: Scan, prob: np.ndarray) -> None:
    """Writes a probability: float32, in pictures 16 bits of which 65535 is 1.

    Arguments as for `write_mask`, with `prob` float32 0..1.
    """
    if path.suffix == ".png":
        prob = np.round(prob * 65535).astype(np.uint16)
    _write(path, source, scan, prob)


def _write(path: pathlib.Path, source: Input, scan: Scan, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        _replace(path, lambda file: Image.fromarray(array).save(file, format="PNG"))
    elif path.suffix == ".npy":
        _replace(path, lambda file: np.save(file, scan.as_stored(array), allow_pickle=False))
    else:
        image = (_as_nifti if source.format == "NIfTI" else _dicom_as_nifti)(source, scan, array)
        compress = path.suffix == ".gz"
        _replace(path, lambda file: _stream_nifti(image, file, compress))


def _as_nifti(source: Input, scan: Scan, array: np.ndarray):
    """With the shape, affine and codes of the source's header."""
    original = read_header(source.files[0], source.name)
    header = original.header.copy()
    header.set_data_dtype(array.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    data = scan.as_stored(array).reshape(original.shape)
    return type(original)(data, original.affine, header)


def _dicom_as_nifti(source: Input, scan: Scan, array: np.ndarray):
    """Columns, rows and slices as NIfTI's axes; without a place in the patient, codes of 0."""
    nibabel = import_library("nibabel", source.name)
    volume = np.atleast_3d(array).transpose(1, 0, 2)
    if scan.affine is None:
        row, column = scan.spacing_mm or (1.0, 1.0)
        image = nibabel.Nifti1Image(volume, np.diag([column, row, 1.0, 1.0]))
        code = 0
    else:
        affine = _LPS_TO_RAS @ scan.affine[:, [1, 0, 2, 3]]
        image = nibabel.Nifti1Image(volume, affine)
        code = 1  # the scanner's coordinates
    image.header.set_qform(image.affine, code)
    image.header.set_sform(image.affine, code)
    image.header.set_xyzt_units("mm")
    return image


def _stream_nifti(image, file: io.BufferedIOBase, compress: bool) -> None:
    # Level 1: masks compress well at any, and higher ones take longer than predicting.
    if compress:
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, mtime=0) as packed:
            image.to_stream(packed)
    else:
        image.to_stream(file)


def _replace(path: pathlib.Path, write: Callable[[io.BufferedIOBase], None]) -> None:
    """Writes a file under another name and renames it when it is complete."""
    fresh = new_name(path)
    with open(fresh, "wb") as file:
        write(file)
    os.replace(fresh, path)
