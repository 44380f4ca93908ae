"""How far apart the slices of volumes lie, and where that is not one number."""

import types

import numpy as np
import pytest

from prnet_jax.data.scan import Scan, upright
from prnet_jax.data.stacks import KeptVolumes, Placed, keep
from prnet_jax.data.volumes import read_scan
from prnet_jax.metrics.volumes import Stack
from tests.data.scans import dicom

PIXELS = np.zeros((5, 4, 3), np.int16)


def stack_of(affine):
    return Placed.of(upright(PIXELS, np.asarray(affine, float), "a")).stack()


@pytest.mark.parametrize("turn", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_distance_of_slices_of_an_oblique_volume(turn):
    """The axis nearest to the patient's length counts the slices, whichever it is in the file."""
    angle = np.radians(20)
    rotation = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    affine = np.eye(4)
    affine[:3, :3] = np.array(rotation)[:, turn] * np.array([0.5, 0.7, 3.0])[list(turn)]
    found = stack_of(affine)
    assert found.slices == PIXELS.shape[turn.index(2)]
    assert found.spacing_mm == pytest.approx(3.0)


def test_volumes_without_one_distance():
    assert Placed.of(Scan(PIXELS)).stack().unknown == (
        "the file does not state how far apart slices lie"
    )
    sheared = np.diag([0.5, 0.7, 3.0, 1.0])
    sheared[1, 2] = 0.5
    assert "shifted sideways" in stack_of(sheared).unknown
    far = stack_of(np.diag([0.5, 0.7, 3000.0, 1.0]))
    assert far.spacing_mm is None and "impossible" in far.unknown


@pytest.mark.parametrize(
    ("places", "even"),
    [
        ((0, 2.5, 5, 7.5), True),
        ((0, 0.6, 1.3, 1.9), True),  # 0.625 mm in tenths
        ((0, 2.5, 7.5, 10), False),
        ((0, 2.5, 5, 7.6), False),
    ],
)
def test_a_series_of_dicom(tmp_path, places, even):
    stored = np.arange(12, dtype=np.uint16).reshape(3, 4)
    files = [dicom(tmp_path / f"{z}.dcm", stored, ImagePositionPatient=[0, 0, z]) for z in places]
    stack = Placed.of(read_scan(files)).stack()
    if even:
        assert stack == Stack(4, pytest.approx(places[-1] / 3))
    else:
        assert stack == Stack(4, None, "slices lie at unequal distances")


def test_what_records_keep():
    info = types.SimpleNamespace(metadata={})
    placed = Placed.of(upright(PIXELS, np.diag([0.5, 0.7, 3.0, 1.0]), "a"))
    keep(info, {"v": placed})
    kept = KeptVolumes(info)
    assert kept.placed("v") == placed and kept.stack("v") == Stack(3, pytest.approx(3.0))
    assert kept.placed("w") is None and "do not state" in kept.stack("w").unknown
    for old in (None, {}):
        records = KeptVolumes(types.SimpleNamespace(metadata=old))
        assert "of an earlier version" in records.stack("v").unknown
