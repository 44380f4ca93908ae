"""Whole volumes of the phantom, and the command that writes them."""

import numpy as np
import pytest
from scipy import ndimage

from prnet_jax.data.volumes import read_scan
from prnet_jax.datasets.lung_phantom import volumes
from prnet_jax.datasets.lung_phantom.person import Person
from prnet_jax.datasets.lung_phantom.phantom import HIPS, JAW

PLAIN = {"one_lung": False, "effusion": False, "thick": False}


@pytest.fixture(scope="module")
def volume():
    return volumes.make_volume(2, seed=1, size=48, step_mm=12.0, features=PLAIN)


def test_a_volume_runs_from_the_hips_to_the_jaw(volume):
    person = Person.draw(1, 2, PLAIN)
    length = person.height - HIPS + JAW
    assert volume.hu.shape == volume.lung.shape == (int(np.ceil(length / 12)), 48, 48)
    assert volume.hu.dtype == np.int16 and volume.spacing_mm[0] == 12.0
    with_lung = np.flatnonzero(volume.lung.any((1, 2)))
    assert (np.diff(with_lung) == 1).all()
    assert with_lung[0] * 12 == pytest.approx(-HIPS, abs=40)
    assert (len(volume.hu) - 1 - with_lung[-1]) * 12 == pytest.approx(JAW, abs=40)


def test_the_lungs_of_a_volume_are_two_bodies(volume):
    labels, count = ndimage.label(volume.lung, np.ones((3, 3, 3)))
    sizes = np.sort(np.bincount(labels.ravel())[1:])[::-1]
    assert sizes[:2].sum() > 0.97 * sizes.sum()
    litres = volume.lung.sum() * np.prod(volume.spacing_mm) / 1e6
    assert 2 < litres < 10


def test_the_command_writes_files_that_are_read_as_made(tmp_path, capsys):
    pytest.importorskip("nibabel")
    options = ["--out", str(tmp_path), "--seed", "1", "--size", "32", "--step-mm", "60"]
    assert volumes.main(options) == 0
    assert "1 volumes in" in capsys.readouterr().out
    made = volumes.make_volume(0, seed=1, size=32, step_mm=60.0)
    for folder, array in (("images", made.hu), ("masks", made.lung)):
        (file,) = (tmp_path / folder).iterdir()
        assert file.name == "phantom1_0000.nii.gz"
        scan = read_scan([file])
        np.testing.assert_array_equal(np.moveaxis(scan.pixels, -1, 0), array)
