"""Masks of any program: found by name, scored at the size of the data, compared with runs."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from prnet_jax.commands import MISTAKE
from prnet_jax.compare.rows import group
from prnet_jax.compare.runs import read_runs
from prnet_jax.data.volumes import read_scan
from prnet_jax.errors import InputError
from prnet_jax.evaluate import Choices, evaluate_predictions, predictions
from prnet_jax.evaluate.__main__ import main
from prnet_jax.evaluate.values import as_probability
from tests.data.scans import nifti

SHAPE = (40, 30)
AFFINE = np.diag([-0.5, -0.8, 2.0, 1.0])  # NIfTI's x and y run against rows and columns


@pytest.fixture
def data(tmp_path):
    """Two pictures and a volume [x, y, z] of three slices, with a disc of 6 px in each."""
    folder = tmp_path / "data"
    generator = np.random.default_rng(0)
    rows, columns = np.indices(SHAPE)
    disc = (rows - 20) ** 2 + (columns - 15) ** 2 < 36
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for name in ("a", "b"):
        grey = generator.integers(0, 255, SHAPE).astype(np.uint8)
        Image.fromarray(grey).save(folder / "images" / f"{name}.png")
        Image.fromarray(disc).save(folder / "masks" / f"{name}.png")
    volume = generator.integers(0, 255, (3, *SHAPE)).astype(np.uint8)
    stored = volume.transpose(2, 1, 0)
    nifti(folder / "images" / "v.nii.gz", stored, AFFINE)
    nifti(folder / "masks" / "v.nii.gz", np.stack([disc.T] * 3, -1).astype(np.uint8), AFFINE)
    return folder, disc


def choices(folder, out, **others):
    return Choices(
        dataset="image_folder",
        manual_dir=folder,
        data_dir=out.parent / "records",
        split="all",
        window=(0.0, 255.0),
        out=out,
        **others,
    )


def write_predictions(folder, disc):
    """`a` is perfect, `b` is one row off, and slice 1 of the volume is empty."""
    (folder / "deep").mkdir(parents=True)
    Image.fromarray(disc).save(folder / "deep" / "a_mask.png")
    np.save(folder / "b.npy", np.roll(disc, 1, axis=0) * np.float32(0.8))
    volume = np.stack([disc.T] * 3, -1).astype(np.uint8)
    volume[..., 1] = 0
    nifti(folder / "v.nii.gz", volume, AFFINE)


def assd_without_the_middle(disc):
    """Of a disc in three slices and in the outer two, 2 mm apart: means of distances by hand.

    All voxels of the outer slices are surface in both; the middle one's rim lies 2 mm away.
    """
    rim = disc & ~ndimage.binary_erosion(disc)
    whole, rim = disc.sum(), rim.sum()
    return 2.0 * rim / (2 * whole + 2 * whole + rim)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_scores_by_hand_and_a_row_of_compare(data, tmp_path, capsys):
    folder, disc = data
    write_predictions(tmp_path / "theirs", disc)
    out = tmp_path / "scores"
    summary = evaluate_predictions(tmp_path / "theirs", choices(folder, out), "lungmask 0.2.20")
    table = (out / "per_image.csv").read_text().splitlines()
    header = table[0].split(",")
    rows = {line.split(",")[0]: dict(zip(header, line.split(","), strict=True)) for line in table}
    moved = dice(np.roll(disc, 1, axis=0), disc)
    expected = {"a": 1.0, "b": moved, "v_z0000": 1.0, "v_z0001": 0.0, "v_z0002": 1.0}
    assert {id: float(rows[id]["dsc"]) for id in expected} == pytest.approx(expected)
    assert float(rows["b"]["hd_px"]) == 1.0
    assert float(rows["v_z0000"]["spacing_row_mm"]) == pytest.approx(0.8)
    # All voxels of the volume together
    per_volume = (out / "per_volume.csv").read_text().splitlines()
    assert per_volume[1].split(",")[:4] == ["v", "v", "3", "0.8"]
    assert summary["volumes"]["dsc_3d"]["mean"] == pytest.approx(0.8)
    (volume,) = csv.DictReader(per_volume)
    spacing = [float(volume[f"spacing_{axis}_mm"]) for axis in ("row", "column", "slice")]
    assert spacing == pytest.approx([0.8, 0.5, 2.0])
    # The empty slice lies between marked ones, 2 mm away, and their insides are surface now.
    assert [float(volume[name]) for name in ("hd_mm_3d", "surface_dice_2mm_3d")] == [2.0, 1.0]
    assert float(volume["assd_mm_3d"]) == pytest.approx(assd_without_the_middle(disc))
    assert summary["resolution"] == "native" and "image_size" not in summary
    assert summary["leakage"] == "not known: predictions of another program"
    printed = " ".join(capsys.readouterr().out.split())
    assert "as stored, lungmask 0.2.20 of" in printed and "1 volume: mean 3-D DSC 80" in printed
    (run,) = read_runs([out])
    assert run.summary["network"] == "lungmask 0.2.20" and run.settings is None


@pytest.mark.parametrize("masks", [True, False])
def test_masks_have_no_metrics_of_probabilities(data, tmp_path, capsys, masks):
    """One probability among the files is enough for all to count as probabilities."""
    folder, disc = data
    write_predictions(tmp_path / "theirs", disc)
    if masks:
        np.save(tmp_path / "theirs" / "b.npy", np.roll(disc, 1, axis=0) * np.float32(1.0))
    out = tmp_path / "scores"
    summary = evaluate_predictions(tmp_path / "theirs", choices(folder, out))
    printed = capsys.readouterr().out
    (first, *_) = csv.DictReader((out / "per_image.csv").read_text().splitlines())
    for name, label in {"mae": "MAE", "auc": "AUC %", "brier": "Brier"}.items():
        known = not masks
        assert (summary["metrics"][name]["mean"] is not None) == known
        assert (summary["pooled"][name] is not None) == known
        assert bool(first[name]) == known
        assert bool(re.search(rf"^\| {label} +\|", printed, re.MULTILINE)) == known
    assert summary["metrics"]["mae_binary"]["mean"] == pytest.approx(
        1 - summary["metrics"]["acc"]["mean"], abs=1e-12
    )
    assert summary.get("of_masks", False) == masks
    assert (summary["calibration_error"] is None) == masks
    for name in ("calibration.png", "calibration.csv", "thresholds.png", "thresholds.csv"):
        assert (out / name).exists() != masks
        assert name.endswith("csv") or (name in printed) != masks


def test_rows_of_compare(data, tmp_path):
    """Two sets of masks under one name; nothing is said of a run whose folder holds the scores."""
    folder, disc = data
    write_predictions(tmp_path / "theirs", disc)
    write_predictions(tmp_path / "again", disc)
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "provenance.json"):
        (run / name).write_text('{"records": "r", "split_manifest_sha256": "m", "model": {}}')
    places = {"theirs": run / "theirs", "again": tmp_path / "again_scored"}
    for name, out in places.items():
        evaluate_predictions(tmp_path / name, choices(folder, out), "lungmask 0.2.20")
    rows = group(read_runs(list(places.values())))
    assert all(row.runs[0].settings is None for row in rows)
    assert all(row.runs[0].trained_on is None for row in rows)
    labels = [row.label for row in rows]
    assert len(set(labels)) == 2 and all("lungmask 0.2.20 (predictions=" in at for at in labels)


def test_the_command(data, tmp_path, capsys):
    folder, disc = data
    write_predictions(tmp_path / "theirs", disc)
    command = ["--predictions", str(tmp_path / "theirs"), "--dataset", "image_folder"]
    command += ["--manual-dir", str(folder), "--data-dir", str(tmp_path / "records")]
    command += ["--split", "all", "--window", "0", "255", "--out", str(tmp_path / "scores")]
    assert main([*command, "--distributed", "off"]) == 0
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert summary["network"] == "theirs"
    capsys.readouterr()
    assert main([*command, "--model", "unet"]) == MISTAKE
    assert "--model: only with --weights" in capsys.readouterr().err


def volume(path, slices=3, move_mm=0.0):
    affine = AFFINE.copy()
    affine[2, 3] = move_mm
    nifti(path, np.zeros((*SHAPE[::-1], slices), np.uint8), affine)


def as_numpy(theirs):
    (theirs / "v.nii.gz").unlink()
    np.save(theirs / "v.npy", np.arange(3) * np.ones((*SHAPE, 1), np.int16))  # no colours


def in_two_folders(theirs, disc):
    (theirs / "other").mkdir()
    (theirs / "deep" / "a_mask.png").rename(theirs / "deep" / "a.png")
    Image.fromarray(disc).save(theirs / "other" / "a.png")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda theirs, disc: (theirs / "b.npy").unlink(), "no prediction for 1 of 5 images, such"),
        (lambda theirs, disc: np.save(theirs / "b.npy", disc[:9]), "is 9x30; expected 40x30, the"),
        (lambda theirs, disc: np.save(theirs / "b.npy", disc - 1.0), "expected values from 0 on"),
        (lambda theirs, disc: volume(theirs / "v.nii.gz", 1), "expected a volume with a slice 0"),
        (lambda theirs, disc: volume(theirs / "v.nii.gz", 4), "has 4 slices; expected 3, as its"),
        (lambda theirs, disc: volume(theirs / "v.nii.gz", 3, 7), "up to 7 mm away from its image"),
        (lambda theirs, disc: as_numpy(theirs), "since only one of them states its orientation"),
        (in_two_folders, "could both be the prediction for a"),
    ],
)
def test_predictions_that_do_not_fit(data, tmp_path, change, message):
    folder, disc = data
    theirs = tmp_path / "theirs"
    write_predictions(theirs, disc)
    change(theirs, disc)
    with pytest.raises(InputError, match=message):
        evaluate_predictions(theirs, choices(folder, tmp_path / "scores"))
    assert not (tmp_path / "scores").exists()


def test_the_same_command_after_a_mistake(data, tmp_path):
    folder, disc = data
    theirs, out = tmp_path / "theirs", tmp_path / "scores"
    write_predictions(theirs, disc)
    np.save(theirs / "b.npy", disc[:9])
    out.mkdir()  # an empty folder is taken, and left
    with pytest.raises(InputError, match="expected 40x30"):
        evaluate_predictions(theirs, choices(folder, out))
    assert list(out.iterdir()) == []
    np.save(theirs / "b.npy", disc)
    assert evaluate_predictions(theirs, choices(folder, out))["metrics"]["dsc"]["n"] == 5


def test_a_volume_is_read_once(data, tmp_path, monkeypatch):
    folder, disc = data
    write_predictions(tmp_path / "theirs", disc)
    read = []
    monkeypatch.setattr(
        predictions,
        "read_scan",
        lambda files, *rest, **how: read.append(files[0].name) or read_scan(files, *rest, **how),
    )
    evaluate_predictions(tmp_path / "theirs", choices(folder, tmp_path / "scores"))
    assert sorted(read) == ["a_mask.png", "b.npy", "v.nii.gz"]


def test_records_of_an_earlier_version_have_no_distances_in_3d(data, tmp_path, capsys):
    folder, disc = data
    write_predictions(tmp_path / "theirs", disc)
    evaluate_predictions(tmp_path / "theirs", choices(folder, tmp_path / "scores"))
    (kept,) = (tmp_path / "records").rglob("metadata.json")
    kept.unlink()
    capsys.readouterr()
    summary = evaluate_predictions(tmp_path / "theirs", choices(folder, tmp_path / "old"))
    assert summary["volumes"]["dsc_3d"]["mean"] == pytest.approx(0.8)
    assert summary["volumes"]["hd_mm_3d"]["mean"] is None
    (why,) = summary["volumes"]["no_distances"]
    printed = " ".join(capsys.readouterr().out.split())
    assert "earlier version" in why and f"Distances of 1 of 1 not measured: {why}." in printed
    (volume,) = csv.DictReader((tmp_path / "old" / "per_volume.csv").read_text().splitlines())
    assert volume["assd_mm_3d"] == "" and volume["no_distances"] == why


def test_numpy_volumes_lie_as_the_data_set_says(tmp_path):
    generator = np.random.default_rng(0)
    masks = generator.random((3, *SHAPE)) < 0.3  # slices first
    grey = generator.integers(0, 255, masks.shape).astype(np.uint8)
    for name, array in (("images", grey), ("masks", masks), ("theirs", masks)):
        (tmp_path / "data" / name).mkdir(parents=True)
        np.save(tmp_path / "data" / name / "v.npy", array)
    summary = evaluate_predictions(
        tmp_path / "data" / "theirs",
        choices(tmp_path / "data", tmp_path / "scores", options={"axes": "DHW"}),
    )
    assert summary["volumes"]["dsc_3d"]["mean"] == 1.0
    assert "the file does not state how far apart" in str(summary["volumes"]["no_distances"])


def test_what_counts_as_a_probability():
    floats = np.array([[0.0, 0.2, 1.0]], np.float32)
    np.testing.assert_array_equal(as_probability(floats, "x"), floats)
    for values in ([0, 1, 0], [0, 255, 3], [0.0, 2.0, 1.0]):
        np.testing.assert_array_equal(as_probability(np.array(values), "x"), np.array(values) > 0)
    with pytest.raises(InputError, match="NaN or infinities"):
        as_probability(np.array([np.nan]), "x")


@pytest.mark.parametrize(
    "others, message",
    [
        ({"tta": "flips"}, "as they are"),
        ({"out": None}, "by --out"),
        ({"dataset": None}, "by --dataset"),
    ],
)
def test_options_that_do_not_fit(tmp_path, others, message):
    given = {"dataset": "image_folder", "out": tmp_path / "out"} | others
    with pytest.raises(InputError, match=message):
        evaluate_predictions(tmp_path, Choices(**given))
