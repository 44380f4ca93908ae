"""What is advised where a mask does not lie on its image."""

import numpy as np
import pytest

from prnet_jax.data.volumes import read_scan
from prnet_jax.datasets.image_folder.geometry import misfit
from tests.data.scans import dicom, nifti

HU = np.random.default_rng(0).integers(-1000, 400, (8, 10, 6)).astype(np.int16)
MASK = (HU > 0).astype(np.uint8)
AFFINE = np.diag([-0.8, -0.7, 2.5, 1.0])
AFFINE[:3, 3] = 30, 40, 100
COPY = "if the mask was drawn on this image, copy the "


def found(image, mask) -> str:
    return misfit("images/a", read_scan([image]), "masks/a", read_scan([mask], mask=True))


def test_a_mask_in_place(tmp_path):
    image = nifti(tmp_path / "image.nii", HU, AFFINE)
    assert found(image, nifti(tmp_path / "mask.nii", MASK, AFFINE)) == ""
    assert found(image, nifti(tmp_path / "rounded.nii", MASK, np.round(AFFINE, 1))) == ""


@pytest.mark.parametrize("stored", ["xyz", "zxy"])
@pytest.mark.parametrize("lost", ["identity", "codes"])
def test_a_lost_header_is_to_be_copied(tmp_path, lost, stored):
    """Resampling such a mask onto the image would empty it."""
    nibabel = pytest.importorskip("nibabel")
    order = ["xyz".index(axis) for axis in stored]
    hu, affine = HU.transpose(order), AFFINE[:, [*order, 3]]
    made = nibabel.Nifti1Image(MASK.transpose(order), np.eye(4))
    if lost == "codes":
        made.header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
        made.set_sform(None, 0)
        made.set_qform(None, 0)
    made.to_filename(tmp_path / "mask.nii")
    message = found(nifti(tmp_path / "image.nii", hu, affine), tmp_path / "mask.nii")
    assert f"{COPY}affine of images/a into masks/a" in message
    assert message.count("masks/a seems to have lost its header") == 1
    assert "resample" not in message and "\n" not in message
    assert ("is up to" in message) == (stored == "xyz")
    assert ("a mask must have its image's size" in message) == (stored == "zxy")


def test_an_image_that_lost_its_header(tmp_path):
    image = nifti(tmp_path / "image.nii", HU, np.eye(4))
    message = found(image, nifti(tmp_path / "mask.nii", MASK, AFFINE))
    assert "images/a seems to have lost its header" in message
    assert f"{COPY}affine of masks/a into images/a" in message


def test_a_tilted_gantry(tmp_path):
    """Slices at 15 degrees; the mask comes from a converter that straightened their stack."""
    angle = np.deg2rad(15)
    direction = [1, 0, 0, 0, np.cos(angle), -np.sin(angle)]
    folder = tmp_path / "series"
    for z in range(6):
        slice = (HU[..., z] + 1024).astype(np.uint16)
        place = {"ImagePositionPatient": [0, 0, 5 * z], "ImageOrientationPatient": direction}
        dicom(folder / f"{z}.dcm", slice, **place)
    image = read_scan(sorted(folder.iterdir()), "images/a")
    straight = image.affine.copy()
    straight[:3, 2] = [0, 0, 5 * np.cos(angle)]
    mask = (image.pixels > 0).astype(np.uint8)
    to_nifti = np.diag([-1.0, -1.0, 1.0, 1.0])
    for affine, expected in ((image.affine, ""), (straight, "tilted by 15 degrees (gantry tilt)")):
        path = nifti(tmp_path / "mask.nii", mask, to_nifti @ affine)
        message = misfit("images/a", image, "masks/a", read_scan([path], mask=True))
        assert expected in message and bool(message) == bool(expected)
    assert message.endswith("convert image and mask with the same tool")


def test_any_other_place(tmp_path):
    moved = AFFINE.copy()
    moved[0, 3] += 12
    image = nifti(tmp_path / "image.nii", HU, AFFINE)
    message = found(image, nifti(tmp_path / "mask.nii", MASK, moved))
    assert message.startswith("masks/a is up to 12 mm away from its image images/a; their headers")
    assert f"{COPY}image's affine into it" in message
    assert "convert image and mask with the same tool; else resample the mask" in message
    smaller = found(image, nifti(tmp_path / "small.nii", MASK[:-1], AFFINE))
    assert smaller == (
        "masks/a is 10x7x6 but its image images/a is 10x8x6; a mask must have its image's size: "
        "export it again"
    )
