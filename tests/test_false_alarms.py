"""docs/results/false_alarms.py: the figures on whole volumes in the cards of weights."""

import runpy
import sys

import numpy as np
import pytest

from tests.data.scans import nifti

pytest.importorskip("nibabel")


@pytest.fixture
def folders(tmp_path):
    """Masks of two volumes, one's name the beginning of the other's, and predictions of them."""
    truth = np.zeros((8, 8, 4), np.uint8)
    truth[2:6, 2:6, :2] = 1
    found = truth.copy()
    found[:4, :4, 3] = 1  # 16 pixels of 9 mm2
    affine = np.diag([3.0, 3.0, 5.0, 1.0])
    for folder in ("masks", "found"):
        (tmp_path / folder).mkdir()
    for name in ("a", "a1"):
        nifti(tmp_path / "masks" / f"{name}.nii.gz", truth, affine)
        nifti(tmp_path / "found" / f"{name}.nii.gz", found, affine)
    nifti(tmp_path / "found" / "a_prob.nii.gz", found, affine)
    return tmp_path


def run(root, monkeypatch, *folders):
    monkeypatch.setattr(sys, "argv", ["false_alarms.py", *map(str, folders)])
    runpy.run_path(str(root / "docs" / "results" / "false_alarms.py"), run_name="__main__")


def test_each_volume_is_compared_with_its_own(root, folders, monkeypatch, capsys):
    run(root, monkeypatch, folders / "masks", folders / "found")
    dice = 100 * 2 * 32 / (32 + 48)
    line = f"3-D Dice {dice:.2f} %; of 2 slices without lung 1 marked, the largest 1.44 cm2"
    assert capsys.readouterr().out.splitlines() == [
        f"a: {line}",
        f"a1: {line}",
        "all: 2 of 4 slices without lung have more than 1 cm2 marked",
    ]


def test_mistakes(root, folders, monkeypatch):
    (folders / "found" / "a.nii.gz").unlink()
    with pytest.raises(SystemExit, match="error: .*found holds no a.nii or a.nii.gz"):
        run(root, monkeypatch, folders / "masks", folders / "found")
    with pytest.raises(SystemExit, match="error: .* holds no NIfTI masks"):
        run(root, monkeypatch, folders, folders / "found")
