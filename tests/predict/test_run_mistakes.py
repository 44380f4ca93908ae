"""Predictions that must not be kept, that are left out, and that do not end with the first."""

import gzip
import json

import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.predict import outputs
from prnet_jax.predict.options import Options
from prnet_jax.predict.run import predict_files
from tests.predict.made_up import ABOUT, slice_hu


@pytest.fixture
def predict(bright):
    """`predict_files` with the network that marks what is bright."""
    predictor, _ = bright
    return lambda paths, out, **options: predict_files(
        [predictor], paths, out, ABOUT, Options(**options)
    )


def test_a_mask_of_other_axes_is_not_kept(predict, tmp_path):
    volume = np.full((20, 16, 18), -1000, np.int16)
    volume[:4] = 400
    np.save(tmp_path / "a.npy", volume)
    out = tmp_path / "out"
    predict([tmp_path / "a.npy"], out, axes="HWD")
    assert predict([tmp_path / "a.npy"], out, axes="HWD")["a"]["slices"] == 18
    for other in ("DHW", None):
        with pytest.raises(InputError, match="holds results of other weights or settings"):
            predict([tmp_path / "a.npy"], out, axes=other)
    assert predict([tmp_path / "a.npy"], out, axes="DHW", overwrite=True)["a"]["slices"] == 20


def test_an_older_report_does_not_say_its_axes(predict, tmp_path):
    np.save(tmp_path / "a.npy", np.stack([slice_hu(0)] * 3, -1))
    out = tmp_path / "out"
    predict([tmp_path / "a.npy"], out)
    report = json.loads((out / "report.json").read_text())
    assert report["settings"].pop("axes") is None
    (out / "report.json").write_text(json.dumps(report))
    stamp = (out / "a.npy").stat().st_mtime_ns
    assert predict([tmp_path / "a.npy"], out, axes="HWD")["a"]["error"] is None
    assert (out / "a.npy").stat().st_mtime_ns == stamp


def test_the_next_file_is_predicted_whatever_happens_to_one(predict, tmp_path, monkeypatch, capsys):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", slice_hu(1))
    write_mask = outputs.write_mask

    def fail(path, *rest):
        if path.name == "a.npy":
            raise RuntimeError("a library's\nmistake")
        write_mask(path, *rest)

    monkeypatch.setattr(outputs, "write_mask", fail)
    rows = predict([tmp_path / "a.npy", tmp_path / "b.npy"], tmp_path / "out")
    said = "no results, since a library failed (RuntimeError: a library's mistake)"
    assert rows["a"]["error"] == f"{tmp_path}/a.npy: {said}" and rows["a"]["mask"] is None
    assert f"error: {rows['a']['error']}\n" in capsys.readouterr().err
    assert rows["b"]["error"] is None
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "b.npy"), slice_hu(1) == 400)


def test_a_nifti_is_predicted_whatever_its_name_says(predict, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    volume = np.stack([slice_hu(i) for i in range(3)], -1)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / "plain.nii")
    plain = (tmp_path / "plain.nii").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(plain)
    (tmp_path / "b.nii").write_bytes(gzip.compress(plain))
    out = tmp_path / "out"
    rows = predict([tmp_path / "a.nii.gz", tmp_path / "b.nii"], out)
    for name, mask in (("a", "a.nii.gz"), ("b", "b.nii")):
        assert (rows[name]["error"], rows[name]["mask"]) == (None, mask)
        np.testing.assert_array_equal(np.asarray(nibabel.load(out / mask).dataobj), volume == 400)


def test_a_file_in_the_results_folder_is_left_out_with_a_line(predict, tmp_path, capsys):
    """Also when it is named: a shell names the masks of an earlier run where it expands `**`."""
    (tmp_path / "out").mkdir()
    np.save(tmp_path / "a.npy", slice_hu(0))
    np.save(tmp_path / "out" / "z.npy", slice_hu(1))
    for _ in range(2):
        rows = predict([tmp_path / "out" / "z.npy", tmp_path / "a.npy"], tmp_path / "out")
        assert rows["a"]["error"] is None and set(rows) == {"a"}
        said = f"left out   1 files in the results' folder, such as {tmp_path}/out/z.npy\n"
        assert said in capsys.readouterr().out
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "z.npy"), slice_hu(1))


def test_nothing_to_predict(predict, tmp_path, monkeypatch):
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "readme.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nothing to predict: .* only other files, such as .*txt"):
        predict([tmp_path / "ct"], tmp_path / "out")
    with pytest.raises(InputError, match=r"nothing to predict: .* known format \([^)]*\); name"):
        predict([tmp_path / "empty"], tmp_path / "out")
    np.save(tmp_path / "ct" / "a.npy", slice_hu(0))
    monkeypatch.chdir(tmp_path)
    for paths, out in ((["ct/a.npy"], "."), (["ct"], "."), (["ct"], "ct"), (["ct/*.npy"], "ct")):
        message = f"such as ct/a.npy, lies in the folder of the results, {out}; name another one"
        with pytest.raises(InputError) as error:
            predict(paths, out)
        assert message in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.rglob("report.json"))
