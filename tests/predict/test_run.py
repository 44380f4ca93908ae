"""Predictions of files by a network that needs no training: it marks what is brighter than 0.5."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from prnet_jax.errors import InputError
from prnet_jax.predict.options import Options
from prnet_jax.predict.run import predict_files
from prnet_jax.predictor import Predictor
from tests.data.scans import dicom
from tests.predict.made_up import ABOUT, SIZE, slice_hu


def rows_of(out):
    with open(out / "predictions.csv", encoding="utf-8", newline="") as file:
        return {row["input"]: row for row in csv.DictReader(file)}


def test_masks_tables_and_one_bad_file(bright, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for i in range(5):
        np.save(folder / f"{i}.npy", slice_hu(i))
    volume = np.stack([slice_hu(i) for i in range(7)], -1)
    np.save(folder / "volume.npy", volume)
    (folder / "bad.npy").write_bytes(b"nonsense")
    np.save(folder / "nan.npy", np.full((SIZE, SIZE), np.nan))
    predictor, calls = bright
    rows = predict_files([predictor], [folder], out, ABOUT, Options(prob=True))
    for i in range(5):
        np.testing.assert_array_equal(np.load(out / f"{i}.npy"), slice_hu(i) == 400)
        np.testing.assert_array_equal(np.load(out / f"{i}_prob.npy"), slice_hu(i) == 400)
    np.testing.assert_array_equal(np.load(out / "volume.npy"), volume == 400)
    # 12 slices of 6 inputs fill three batches.
    assert calls == [(4, SIZE, SIZE, 1)] * 3
    bad = {name for name, row in rows.items() if row["error"]}
    assert bad == {"bad", "nan"} and "NaN or infinities" in rows["nan"]["error"]
    errors = capsys.readouterr().err
    assert errors.count("error: ") == 2 and "bad.npy" in errors
    table = rows_of(out)
    assert table[str(folder / "0.npy")]["pixels_marked"] == "30"
    assert table[str(folder / "volume.npy")]["slices"] == "7"
    report = json.loads((out / "report.json").read_text())
    assert report["settings"]["threshold"] == 0.5 and report["weights"] == ABOUT["weights"]
    assert not list(out.rglob("*.new"))


def test_a_second_start_keeps_what_is_there(bright, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    np.save(folder / "a.npy", slice_hu(0))
    predictor, calls = bright
    predict_files([predictor], [folder], out, ABOUT)
    np.save(folder / "b.npy", slice_hu(1))
    stamp = (out / "a.npy").stat().st_mtime_ns
    rows = predict_files([predictor], [folder], out, ABOUT)
    assert (out / "a.npy").stat().st_mtime_ns == stamp and len(calls) == 2
    assert {name: row["error"] for name, row in rows.items()} == {"a": None, "b": None}
    # One whose mask or row is missing is made again; a kill may leave either.
    (out / "a.npy").unlink()
    predict_files([predictor], [folder], out, ABOUT)
    np.testing.assert_array_equal(np.load(out / "a.npy"), slice_hu(0) == 400)
    report = json.loads((out / "report.json").read_text())
    del report["inputs"]["b"]
    (out / "report.json").write_text(json.dumps(report))
    assert predict_files([predictor], [folder], out, ABOUT)["b"]["error"] is None


def test_nothing_is_overwritten_without_a_word(bright, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    np.save(folder / "a.npy", slice_hu(0))
    (out / "a.npy").write_text("another's")
    predictor, _ = bright
    rows = predict_files([predictor], [folder], out, ABOUT)
    assert "exists and is not overwritten" in rows["a"]["error"]
    assert (out / "a.npy").read_text() == "another's"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.html").write_text("another's")
    rows = predict_files([predictor], [folder], elsewhere, ABOUT, Options(page=True))
    assert "a.html exists and is not overwritten" in rows["a"]["error"]
    overwrite = Options(overwrite=True)
    assert predict_files([predictor], [folder], out, ABOUT, overwrite)["a"]["error"] is None
    # An input that has changed, other settings, other weights
    np.save(folder / "a.npy", slice_hu(3))
    rows = predict_files([predictor], [folder], out, ABOUT)
    assert "has changed since a.npy was made" in rows["a"]["error"]
    for about, options in (
        (ABOUT, Options(threshold=0.4)),
        ({**ABOUT, "weights": [{"sha256": "b"}]}, Options()),
        ({**ABOUT, "weights": []}, Options()),
    ):
        with pytest.raises(InputError, match="other weights or settings"):
            predict_files([predictor], [folder], out, about, options)


def test_options_change_masks(bright, tmp_path):
    pixels = np.full((SIZE, SIZE), -1000, np.int16)
    pixels[1:6, 1:6] = 400
    pixels[3, 3] = -1000  # a hole
    pixels[10:12, 10:12] = 400
    np.save(tmp_path / "a.npy", pixels)
    predictor, _ = bright

    def mask(**options):
        out = tmp_path / "_".join(options)
        predict_files([predictor], [tmp_path / "a.npy"], out, ABOUT, Options(**options))
        return np.load(out / "a.npy")

    assert mask(keep_largest=1).sum() == 24 and mask(fill_holes=True).sum() == 29
    assert mask(threshold=0.99).sum() == 28 and mask(batch_size=1).sum() == 28
    for wrong in ({"threshold": 1.0}, {"keep_largest": 0}):
        with pytest.raises(InputError, match="must"):
            mask(**wrong)


def test_the_mean_of_several_networks(bright, tmp_path):
    predictor, _ = bright
    config = predictor.config.copy_and_resolve_references()
    config.threshold = 0.7
    dark = Predictor(
        config,
        lambda variables, arrays: {"prob": 1 - arrays["image"][..., 0]},
        {},
        predictor.mesh,
        "HU",
    )
    np.save(tmp_path / "a.npy", slice_hu(0))
    rows = predict_files(
        [predictor, dark], [tmp_path / "a.npy"], tmp_path / "out", ABOUT, Options(prob=True)
    )
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "a_prob.npy"), 0.5)
    # The mean of the thresholds is 0.6.
    assert rows["a"]["pixels_marked"] == 0
    assert any("nothing is marked" in warning for warning in rows["a"]["warnings"])


def test_an_older_report_says_less_of_the_weights(bright, tmp_path):
    predictor, _ = bright
    np.save(tmp_path / "a.npy", slice_hu(0))
    out = tmp_path / "out"

    def predict(**about):
        about = {**ABOUT, "weights": [{"sha256": "a", **about}]}
        return predict_files([predictor], [tmp_path / "a.npy"], out, about)

    predict()
    assert predict(resize="pad")["a"]["error"] is None
    (out / "report.json").unlink()
    (out / "a.npy").unlink()
    predict(resize="pad")
    with pytest.raises(InputError, match="other weights or settings"):
        predict(resize="middle")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_each_of_several_networks_says_its_doubts_once(bright, tmp_path, order):
    predictor, _ = bright
    config = predictor.config.copy_and_resolve_references()
    config.dataset.resize = "middle"
    both = predictor, dataclasses.replace(predictor, config=config)
    np.save(tmp_path / "a.npy", np.kron(slice_hu(0), np.ones((2, 2), np.int16)))
    rows = predict_files([both[i] for i in order], [tmp_path / "a.npy"], tmp_path / "out", ABOUT)
    assert sum("only the middle" in line for line in rows["a"]["warnings"]) == 1
    rows = predict_files([both[1]] * 2, [tmp_path / "a.npy"], tmp_path / "twice", ABOUT)
    assert sum("only the middle" in line for line in rows["a"]["warnings"]) == 1


@pytest.mark.parametrize("shape", [(16, 16), (40, 33), (9, 50)])
def test_windows_cover_a_slice_of_any_size(bright, tmp_path, shape):
    pixels = np.random.default_rng(1).integers(-1000, 400, shape).astype(np.int16)
    np.save(tmp_path / "a.npy", pixels)
    predictor, calls = bright
    options = Options(tile=True, prob=True)
    predict_files([predictor], [tmp_path / "a.npy"], tmp_path / "out", ABOUT, options)
    found = np.load(tmp_path / "out" / "a_prob.npy")
    np.testing.assert_allclose(found, (pixels + 1000) / 1400, atol=1e-5)
    assert set(calls) == {(4, SIZE, SIZE, 1)}


def test_pictures_of_other_formats_and_sizes(bright, tmp_path):
    predictor, _ = bright
    large = np.kron(slice_hu(2), np.ones((3, 3), np.int16))
    Image.fromarray(large).save(tmp_path / "a.tif")
    predict_files([predictor], [tmp_path / "a.tif"], tmp_path / "out", ABOUT)
    mask = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert mask.shape == large.shape and set(np.unique(mask)) == {0, 255}
    assert np.mean((mask == 255) == (large == 400)) > 0.97  # the edges are interpolated


def test_doubtful_values_are_said(bright, tmp_path):
    predictor, _ = bright
    slice = slice_hu(0)
    slice[slice == 400] = 40
    padded = slice + np.int16(1024)
    padded[0] = -2000
    grey = Predictor(predictor.config, predictor.step, {}, predictor.mesh, "grey")
    grey.config.dataset.window_hu = (0.0, 255.0)
    for name, pixels, network, warning in (
        ("a", padded, predictor, "look like HU + 1024: subtract 1024"),
        ("b", np.zeros_like(slice), predictor, "every pixel is 0"),
        ("c", (slice == 40) * np.float32(0.9), grey, "normalised to 0..1, read as grey"),
    ):
        np.save(tmp_path / f"{name}.npy", pixels)
        rows = predict_files([network], [tmp_path / f"{name}.npy"], tmp_path / name, ABOUT)
        assert any(warning in text for text in rows[name]["warnings"]), name
    np.testing.assert_array_equal(np.load(tmp_path / "c" / "c.npy"), slice == 40)
    # From Python as from the command line
    np.testing.assert_array_equal(grey.predict_file(tmp_path / "c.npy").mask, slice == 40)


def test_a_file_from_python_is_turned_and_turned_back(bright, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    predictor, _ = bright
    volume = np.stack([slice_hu(i) for i in range(3)], 1)  # stored [x, z, y]
    affine = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])
    nibabel.Nifti1Image(volume, affine).to_filename(tmp_path / "a.nii.gz")
    result = predictor.predict_file(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(result.mask, volume == 400)
    assert result.prob.dtype == np.float32 and result.warnings == []


def test_pictures_beside_masks(bright, tmp_path):
    predictor, _ = bright
    (tmp_path / "in" / "a").mkdir(parents=True)
    volume = np.stack([slice_hu(0), np.full((SIZE, SIZE), -1000, np.int16), slice_hu(1)], -1)
    np.save(tmp_path / "in" / "a" / "volume.npy", volume)
    Image.fromarray(slice_hu(4)).save(tmp_path / "in" / "b.tif")
    options = Options(preview=True, page=True, keep_largest=1)
    predict_files([predictor], [tmp_path / "in"], tmp_path / "out", ABOUT, options)
    names = {file.relative_to(tmp_path / "out").as_posix() for file in tmp_path.rglob("out/**/*.*")}
    assert names == {
        *("a/volume.npy", "a/volume_preview.png", "a/volume.html"),
        *("b.png", "b_preview.png", "b.html", "predictions.csv", "report.json"),
    }
    text = (tmp_path / "out" / "a" / "volume.html").read_text()
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    # The mask is what was written, of its two components one; the probability is the network's.
    assert sorted(data["areas"]) == [0, 0, 30]
    assert [uri is not None for uri in data["probs"]] == [True, False, True]
    assert data["threshold"] == 0.5 and data["windows"][2] == {
        "name": "network",
        "low": -1000,
        "high": 400,
    }


def test_what_is_asked_for_later_is_added(bright, tmp_path):
    predictor, calls = bright
    np.save(tmp_path / "a.npy", slice_hu(0))
    for options, expected in (
        ({}, 1),
        ({"page": True}, 2),
        ({"page": True, "dicomseg": True}, 2),  # a NumPy file has none
        ({"page": True, "prob": True}, 3),
        ({}, 3),
    ):
        rows = predict_files(
            [predictor], [tmp_path / "a.npy"], tmp_path / "out", ABOUT, Options(**options)
        )
        assert rows["a"]["error"] is None and len(calls) == expected
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"a.npy", "a.html", "a_prob.npy", "predictions.csv", "report.json"}


def test_without_a_dicom_segmentation_the_mask_is_written(bright, tmp_path, capsys):
    """The slice lacks what a segmentation refers to, or highdicom is not installed."""
    predictor, _ = bright
    file = dicom(tmp_path / "a.dcm", (slice_hu(0) + 1024).astype(np.uint16))
    for _ in range(2):  # a second start tries again
        options = Options(dicomseg=True)
        (row,) = predict_files([predictor], [file], tmp_path / "out", ABOUT, options).values()
        assert row["mask"] == "a.nii.gz" and row["pixels_marked"] == 30
        assert row["error"] in capsys.readouterr().err
    assert (tmp_path / "out" / "a.nii.gz").is_file()
    assert rows_of(tmp_path / "out")[str(file)]["error"] == row["error"]
