"""python -m prnet_jax.evaluate --weights: imported weights score like the run they came from."""

import json

import pytest

from prnet_jax.compare.__main__ import main as compare
from prnet_jax.errors import InputError
from prnet_jax.evaluate import Choices, evaluate_weights
from prnet_jax.evaluate.__main__ import main
from prnet_jax.torch_weights.__main__ import main as torch_weights
from prnet_jax.torch_weights.files import read_metadata, read_state_dict, write_state_dict

# As in the run, whose rounding depends on the size of a batch.
DATA = ("--option", "size=64", "--option", "num_slices=8,4,3", "--batch-size", "4")
FIELDS = ("--field", "widths=(4,8)")


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    """The weights of the tiny run in a file that says everything and in one that says nothing."""
    folder = tmp_path_factory.mktemp("exported")
    for name in ("w.safetensors", "w.npz"):
        assert torch_weights(["export", str(finished_run), str(folder / name)]) == 0
    return folder


@pytest.fixture
def evaluate(tmp_path, records_dir):
    def run(weights, *arguments, out="out"):
        places = ("--out", str(tmp_path / out), "--data-dir", str(records_dir))
        return main(["--weights", str(weights), *places, *DATA, *arguments])

    return run


def test_a_file_scores_like_its_run(exported, evaluate, finished_run, tmp_path, capsys):
    assert evaluate(exported / "w.safetensors") == 0
    printed = capsys.readouterr().out
    assert "leakage    not known: imported weights" in printed and "assumed" not in printed
    said = f"at 32x32, unet of {exported / 'w.safetensors'}, threshold 0.5"
    assert said in " ".join(printed.split())
    bare = (exported / "w.npz", "--model", "unet", *FIELDS, "--image-size", "32")
    assert evaluate(*bare, out="bare") == 0
    expected = (finished_run / "test" / "per_image.csv").read_bytes()
    for out in ("out", "bare"):
        assert (tmp_path / out / "per_image.csv").read_bytes() == expected
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["leakage"] == "not known: imported weights"
    assert summary["weights"] == str(exported / "w.safetensors")
    assert (summary["seed"], summary["checkpoint_step"], summary["image_size"]) == (None, None, 32)


def test_a_folder_of_imported_weights_is_a_row_of_a_comparison(
    exported, evaluate, finished_run, tmp_path, monkeypatch
):
    """And so are released weights, under their name."""
    imported = tmp_path / "imported"
    assert torch_weights(["import", str(exported / "w.safetensors"), str(imported)]) == 0
    assert evaluate(imported, out="a") == 0
    known = {"released": exported / "w.safetensors"}
    monkeypatch.setattr("prnet_jax.evaluate.run.find_weights", lambda name: known[str(name)])
    assert evaluate("released", "--threshold", "auto-on-validation", out="b") == 0
    assert json.loads((tmp_path / "b" / "summary.json").read_text())["weights"] == "released"
    assert (tmp_path / "b" / "thresholds_validation.csv").is_file()
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config.keys() == {"seed", "init_from", "model", "dataset", "dtype"}
    folders = [str(finished_run), str(tmp_path / "a"), str(tmp_path / "b")]
    assert compare([*folders, "--out", str(tmp_path / "compared")]) == 0
    table = (tmp_path / "compared" / "table.md").read_text()
    for label in ("UNet ", "UNet (imported) ", "UNet (released) "):
        assert f"| {label}" in table


def test_from_python(exported, records_dir, tmp_path):
    options = {"size": 64, "num_slices": (8, 4, 3)}
    choices = Choices(
        options=options, data_dir=records_dir, split="all", batch_size=4, out=tmp_path / "out"
    )
    summary = evaluate_weights(exported / "w.safetensors", choices)
    assert summary["counts"]["n_images"] == 15
    with pytest.raises(InputError, match="no folder for results: name a new one by --out"):
        evaluate_weights(exported / "w.safetensors", Choices())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "prnet"), "holds unet, not prnet"),
        (("--image-size", "1"), "needs sides of 2 or more"),
        (("--split", "all", "--threshold", "auto-on-validation"), "tuned on images that it scores"),
        (("--mask", "lung"), "has no mask 'lung'"),
        (("--entry", "ema"), "no weights under 'ema'"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    exported, evaluate, tmp_path, capsys, arguments, message
):
    assert evaluate(exported / "w.safetensors", *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists()


def test_data_in_another_unit_are_refused(exported, evaluate, tmp_path, capsys):
    grey = tmp_path / "grey.safetensors"
    about = read_metadata(exported / "w.safetensors") | {"unit": "grey", "window_hu": "[0, 255]"}
    write_state_dict(grey, read_state_dict(exported / "w.safetensors"), about)
    assert evaluate(grey) == 2
    error = capsys.readouterr().err
    assert "was trained on images in grey, and lung_phantom/" in error
    assert "holds HU: to score it all the same, give the window by --window LOW HIGH" in error
    assert evaluate(grey, "--window", "-1000", "400") == 0


def test_a_run_takes_no_options_of_weights(finished_run, capsys):
    assert main(["--workdir", str(finished_run), *FIELDS, "--image-size", "64"]) == 2
    assert "--field, --image-size: only with --weights" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--workdir", str(finished_run), "--weights", "w.npz"])
    assert "not allowed with argument --workdir" in capsys.readouterr().err
