"""Masks without a network."""

import json
import runpy
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from prnet_jax.data.prepare import prepare
from prnet_jax.evaluate import Choices
from prnet_jax.evaluate.predictions import evaluate_predictions

OPTIONS = {"size": 128, "num_slices": (8, 4, 3)}


@pytest.fixture(scope="module")
def script(root):
    return runpy.run_path(str(root / "launch" / "threshold.py"))


def disc(y, x, radius, size=256):
    rows, columns = np.mgrid[:size, :size]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


@pytest.fixture
def chest():
    """A body with two lungs, a vessel, an airway, a speck, and a couch of air and plastic."""
    hu = np.full((256, 256), -1000.0)
    hu[disc(120, 128, 100)] = 40
    lungs = disc(120, 80, 35) | disc(120, 176, 35)
    hu[lungs] = -800
    hu[disc(120, 80, 4)] = 30  # a vessel
    hu[disc(100, 128, 6)] = -990  # the trachea
    hu[160, 128] = -500  # a speck
    hu[235:238, 40:216] = 100  # the couch
    return hu, lungs


def test_lungs_without_airway_speck_and_couch(script, chest):
    hu, lungs = chest
    found = script["lungs_of"](hu)
    assert found[disc(120, 80, 4)].all()  # the vessel is filled
    assert not found[disc(100, 128, 6)].any() and not found[160, 128] and not found[:, :30].any()
    assert (found ^ lungs).sum() <= 0.01 * lungs.sum()


def test_the_space_between_two_lungs_that_touch_stays_open(script, chest):
    hu, lungs = chest
    ring = disc(120, 128, 80) & ~disc(120, 128, 45)  # around a heart
    hu[disc(120, 128, 90)] = 40
    hu[ring] = -800
    found = script["lungs_of"](hu)
    assert not found[disc(120, 128, 40)].any() and found[ring].all()


def test_nothing_in_air_and_in_a_belly(script, chest):
    assert not script["lungs_of"](np.full((64, 64), -1000)).any()
    hu, lungs = chest
    hu[lungs] = 40
    assert not script["lungs_of"](hu).any()


def test_the_threshold_counts(script, chest):
    hu, lungs = chest
    hu[lungs & (hu < -400)] = -350
    assert script["lungs_of"](hu)[lungs].mean() > 0.99
    assert not script["lungs_of"](hu, -400)[lungs].any()


def test_masks_of_a_data_set_are_a_row_of_all_its_images(script, records_dir, tmp_path):
    prepare("lung_phantom", records_dir, **OPTIONS)
    out = tmp_path / "masks"
    options = [f"--option={name}={value}" for name, value in OPTIONS.items()]
    given = ["--dataset", "lung_phantom", *options, "--data-dir", str(records_dir)]
    assert script["main"]([*given, "--out", str(out)]) == 0
    files = sorted(out.rglob("*.png"))
    assert len(files) == 15
    assert set(np.unique(np.asarray(Image.open(files[0])))) <= {0, 255}
    choices = Choices(
        dataset="lung_phantom",
        options=OPTIONS,
        data_dir=records_dir,
        split="all",
        out=tmp_path / "scores",
    )
    summary = evaluate_predictions(out, choices, "HU threshold")
    assert summary["counts"]["n_images"] == 15 and summary["metrics"]["dsc"]["mean"] > 0.8
    written = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert (written["network"], written["split"]) == ("HU threshold", "all")
    assert written["parameters"] == 0 and 0 < written["cost"]["seconds_per_slice"] < 10


def test_mistakes_are_one_line(script, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert script["main"](["--out", str(tmp_path), "--manual-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    missing = ["--manual-dir", str(tmp_path / "no"), "--out", str(tmp_path / "new")]
    assert script["main"](missing) == 2
    assert "does not exist" in capsys.readouterr().err
    assert script["main"](["--air-hu", "nan", "--out", str(tmp_path / "new")]) == 2
    assert "--air-hu is nan" in capsys.readouterr().err


def test_help_imports_no_jax(root):
    code = (
        "import runpy, sys\nsys.argv = ['threshold.py', '--help']\n"
        "try:\n    runpy.run_path('launch/threshold.py', run_name='__main__')\n"
        "except SystemExit:\n    print({'jax', 'numpy', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr
    assert "--air-hu" in done.stdout and "python launch/threshold.py" in done.stdout
