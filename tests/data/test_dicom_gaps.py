"""DICOM series whose slices lie at uneven distances: what is said, and how thick each is."""

import numpy as np
import pytest

from prnet_jax.data.volumes import read_scan
from tests.data.scans import dicom

STORED = np.arange(12, dtype=np.uint16).reshape(3, 4)
LOST = ": are some missing? A"
UNEVEN = ", at uneven distances: a"


def series(folder, gaps, **tags):
    """A series whose slices lie so many mm apart, each with other pixels."""
    files = []
    for number, z in enumerate(np.cumsum([0, *gaps])):
        place = {"ImagePositionPatient": [0, 0, float(z)]}
        files.append(dicom(folder / f"{number:02d}.dcm", STORED + number, **place | tags))
    return files


@pytest.mark.parametrize(
    ("gaps", "found"),
    [
        ([5] * 12 + [1.25] * 10, f"1.25 to 5 mm apart{UNEVEN} mask in NIfTI is placed with their "),
        ([5, 7, 5, 7, 5, 7], f"5 to 7 mm apart{UNEVEN}"),
        ([5, 10, 10, 10, 5, 10, 10], f"5 to 10 mm apart{LOST}"),
        ([10, 10, 10, 10, 5], f"5 to 10 mm apart{LOST}"),
        ([5, 5, 5, 10, 5, 5], f"5 to 10 mm apart{LOST}"),
        ([2.5, 2.5, 2.8], f"2.5 to 2.8 mm apart{UNEVEN}"),
    ],
)
def test_a_note_says_that_gaps_are_uneven(tmp_path, gaps, found):
    scan = read_scan(series(tmp_path, gaps))
    (note,) = scan.notes
    assert note.startswith(f"slices lie {found}") and not scan.evenly_spaced
    assert note.endswith(
        f"mask in NIfTI is placed with their mean distance, {np.mean(gaps):.3g} mm"
    )


@pytest.mark.parametrize(("first", "distance"), [(0.13, 0.625), (0.05, 3.75), (0.02, 1.25)])
def test_positions_in_tenths_need_no_note(tmp_path, first, distance):
    places = np.round(first + distance * np.arange(30), 1)
    assert read_scan(series(tmp_path, np.diff(places))).notes == ()


@pytest.mark.parametrize("gaps", [[], [5], [2.5] * 6, [0.6, 0.7, 0.6, 0.6], [5, 5.02, 4.99, 5]])
def test_even_gaps_need_no_note(tmp_path, gaps):
    scan = read_scan(series(tmp_path, gaps))
    assert (scan.notes, scan.evenly_spaced, scan.thickness) == ((), True, None)


def test_thickness_by_hand(tmp_path):
    """Half the gaps on both sides; the outermost slices are as thick as their only gap."""
    scan = read_scan(series(tmp_path, [4, 4, 1, 1]))
    assert scan.affine[2, 2] == pytest.approx(2.5)
    np.testing.assert_allclose(scan.thickness, np.array([4, 4, 2.5, 1, 1]) / 2.5)
