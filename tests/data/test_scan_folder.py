"""A folder is read where it is one DICOM series, and otherwise never in part."""

import numpy as np
import pytest
from PIL import Image

from prnet_jax.data.folders import files_below
from prnet_jax.data.volumes import read_scan
from prnet_jax.errors import InputError
from tests.data.scans import dicom, nifti


def read(folder):
    return read_scan(files_below(folder), str(folder))


@pytest.mark.parametrize("name", ["0.png", "z.tif", "notes.txt"])
def test_a_picture_among_the_slices_of_a_series(tmp_path, name):
    for z in range(3):
        place = {"ImagePositionPatient": [0, 0, z]}
        dicom(tmp_path / f"a{z}.dcm", np.full((4, 4), z, np.uint16), **place)
    assert read(tmp_path).pixels.shape == (4, 4, 3)
    if name.endswith("txt"):
        (tmp_path / name).write_text("no picture")
    else:
        Image.new("L", (4, 4)).save(tmp_path / name)
    with pytest.raises(InputError) as error:
        read(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} holds 4 files, of which are not DICOM 1: {name}; expected one file, or one "
        f"DICOM series: name one, or use python -m prnet_jax.predict {tmp_path}"
    )


def test_several_files_of_one_format(tmp_path):
    (tmp_path / "nifti").mkdir()
    for number in range(3):
        nifti(tmp_path / "nifti" / f"{number}.nii", np.zeros((4, 4, 2)), np.eye(4))
        Image.new("L", (4, 4)).save(tmp_path / f"{number}.tif")
    with pytest.raises(InputError, match=r"not DICOM 6: 0\.tif, 1\.tif, 2\.tif, 0\.nii"):
        read(tmp_path)
    with pytest.raises(
        InputError, match=r"holds 3 files, .* not DICOM 3: 0\.nii, 1\.nii, 2\.nii; exp"
    ):
        read(tmp_path / "nifti")
    for number in (1, 2):
        (tmp_path / "nifti" / f"{number}.nii").unlink()
    assert read(tmp_path / "nifti").pixels.shape == (4, 4, 2)
