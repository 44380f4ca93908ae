"""Components, holes and measures of masks by hand and against SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from prnet_jax.data.scan import Scan
from prnet_jax.data.volumes import read_scan
from prnet_jax.predict.masks import fill_holes, keep_largest, measure
from tests.data.scans import dicom


def test_largest_components_by_hand():
    mask = np.zeros((6, 8), bool)
    mask[0, :3] = mask[2:4, 5:7] = mask[5, 0] = True
    for number, sizes in ((1, [4]), (2, [3, 4]), (3, [1, 3, 4]), (9, [1, 3, 4])):
        kept = keep_largest(mask, number)
        labels, _ = ndimage.label(kept)
        assert sorted(np.bincount(labels.ravel())[1:]) == sizes
        assert not (kept & ~mask).any()
    assert not keep_largest(np.zeros((3, 3), bool), 1).any()


def test_components_of_a_volume_are_joined_across_slices():
    mask = np.zeros((4, 4, 3), bool)
    mask[0, 0, :] = True  # 3 voxels in 3 slices
    mask[2:, 2, 0] = True  # 2 voxels in one
    kept = keep_largest(mask, 1)
    assert kept.sum() == 3 and kept[0, 0].all()


@pytest.mark.parametrize("seed", range(5))
def test_against_scipy(seed):
    mask = np.random.default_rng(seed).random((20, 18, 9)) < 0.2
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())[1:]
    kept = keep_largest(mask, 2)
    assert kept.sum() == np.sort(sizes)[-2:].sum()
    assert measure(Scan(mask * 1.0), mask)["components"] == len(sizes)


def test_holes_are_filled_within_a_slice():
    ring = np.zeros((5, 5, 2), bool)
    ring[1:4, 1:4, 0] = True
    ring[2, 2, 0] = False
    filled = fill_holes(ring)
    assert filled[2, 2, 0] and filled.sum() == 9
    assert fill_holes(ring[..., 0])[2, 2]


def test_measures_by_hand():
    pixels = np.full((4, 5, 3), -800, np.int16)
    pixels[0, 0, 1] = -500
    affine = np.diag([0.5, 0.8, 2.0, 1.0])
    mask = np.zeros(pixels.shape, bool)
    mask[0, :3, 1] = mask[3, 4, 2] = True
    found = measure(Scan(pixels, (0.5, 0.8), affine), mask)
    assert found == {
        "slices": 3,
        "slices_marked": 2,
        "pixels_marked": 4,
        "area_mm2": None,
        "volume_ml": pytest.approx(4 * 0.5 * 0.8 * 2.0 / 1000),
        "mean_inside": pytest.approx((-500 - 3 * 800) / 4),
        "components": 2,
    }
    found = measure(Scan(pixels[..., 1], (0.5, 0.8)), mask[..., 1])
    assert (found["area_mm2"], found["volume_ml"]) == (pytest.approx(3 * 0.4), None)
    nothing = measure(Scan(pixels), np.zeros(pixels.shape, bool))
    assert (nothing["mean_inside"], nothing["volume_ml"], nothing["components"]) == (None, None, 0)


@pytest.mark.parametrize("upwards", [True, False])
@pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1]])
def test_the_volume_of_uneven_slices_by_hand(tmp_path, upwards, orientation):
    """12 gaps of 5 mm, then 10 of 1.25 mm; axial and coronal, and turned around."""
    gaps = [5.0] * 12 + [1.25] * 10
    normal = np.cross(orientation[:3], orientation[3:])
    files = []
    for i, place in enumerate(np.cumsum([0, *gaps]) * (1 if upwards else -1)):
        tags = {"ImagePositionPatient": (place * normal).tolist(), "PixelSpacing": [1, 1]}
        stored = np.full((8, 8), i, np.uint16)
        files.append(
            dicom(tmp_path / f"{i}.dcm", stored, ImageOrientationPatient=orientation, **tags)
        )
    scan = read_scan(files)
    number = scan.pixels + 1024  # of the file
    for marked, volume in (
        (number >= 13, 64 * 10 * 1.25),
        (number < 12, 64 * 12 * 5),
        (number == 12, 64 * (5 + 1.25) / 2),
        (number == 0, 64 * 5),
        (number < 0, 0),
        (number >= 0, 64 * (12 * 5 + 3.125 + 10 * 1.25)),
    ):
        assert measure(scan, marked)["volume_ml"] == pytest.approx(volume / 1000), volume
