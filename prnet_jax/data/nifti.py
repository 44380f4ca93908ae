"""NIfTI files as `Scan`s."""

import gzip
import logging
import math
import os
import pathlib
import types
from typing import IO

import numpy as np

from prnet_jax.data.scan import NOT_ORIENTED, Scan, import_library, two_or_three_axes, upright
from prnet_jax.data.untrusted import DEFLATE, MAX_VOXELS, check_bytes, check_number, one_line
from prnet_jax.errors import InputError

_GZIP = b"\x1f\x8b"
_PAIR = (b"ni1\0", b"ni2\0")  # the magic of a header whose pixels are in another file
_MM = {"meter": 1000.0, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}  # by NIfTI's unit
_SLACK = 2**20  # bytes that may follow the pixels


def read_nifti(file: pathlib.Path, name: str | None = None) -> Scan:
    """Reads a `.nii` or `.nii.gz` file with its scaling applied, turned upright.

    Whether it is compressed is told by its first bytes, since names are often wrong. The spacing is
    the length of the affine's columns. nibabel assumes x to the left where the header states no
    orientation; a note says so.

    Raises:
        InputError: nibabel is missing; the file is damaged or has other dimensions or an
            impossible affine; or it is a single slice that is not axial.
    """
    name = str(file) if name is None else name
    nibabel = import_library("nibabel", name)
    with one_line(name, "NIfTI"), open(file, "rb") as stored:
        found = os.fstat(stored.fileno()).st_size
        opened = _uncompressed(stored)
        compressed = opened is not stored
        image = _opened(nibabel, opened, name)
        header = image.header
        dtype = header.get_data_dtype()
        if dtype.kind not in "buif":
            raise InputError(f"{name} holds {dtype}; expected one number per voxel")
        check_number(name, image.shape, MAX_VOXELS)
        declared = image.dataobj.offset + math.prod(image.shape) * dtype.itemsize
        check_bytes(name, declared, found, DEFLATE if compressed else 1)
        pixels = np.asanyarray(image.dataobj)  # the stored type where nothing is scaled
        # gzip has its checksum at the end, so what follows is read.
        more = len(opened.read(_SLACK)) if compressed else found - declared
        if more >= _SLACK:
            raise ValueError("more bytes than the header declares")
        unit = header.get_xyzt_units()[0]
        oriented = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine  # NIfTI's x is right, y front
        pixels = two_or_three_axes(pixels, name)
        affine[:3] *= _MM[unit]
        notes = () if oriented else (NOT_ORIENTED,)
        return upright(np.atleast_3d(pixels), affine, name, notes=notes)


def read_header(file: pathlib.Path, name: str | None = None):
    """nibabel's image of a file, of which type, shape, affine and header are known, not pixels.

    Arguments and errors as for `read_nifti`; how the file is compressed is told in the same way.
    """
    name = str(file) if name is None else name
    nibabel = import_library("nibabel", name)
    with one_line(name, "NIfTI"), open(file, "rb") as stored:
        return _opened(nibabel, _uncompressed(stored), name)


def _uncompressed(stored: IO[bytes]) -> IO[bytes]:
    """The file itself, or what gzip packed in it."""
    compressed = stored.read(2) == _GZIP
    stored.seek(0)
    return gzip.GzipFile(fileobj=stored) if compressed else stored


def _opened(nibabel: types.ModuleType, opened: IO[bytes], name: str):
    """nibabel's image of NIfTI 1 or 2, of which only the header is read yet."""
    nibabel.imageglobals.logger.setLevel(logging.CRITICAL)  # it reports what it finds in headers
    start = opened.read(348)
    opened.seek(0)
    if start[344:348] in _PAIR or start[4:8] in _PAIR:
        raise InputError(
            f"{name} is the header of a pair of files .hdr and .img; convert both to one .nii.gz "
            "(nibabel.save(nibabel.load(file), new))"
        )
    second = 540 in (int.from_bytes(start[:4], order) for order in ("little", "big"))
    return (nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_stream(opened)
