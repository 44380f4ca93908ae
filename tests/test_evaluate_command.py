"""python -m prnet_jax.evaluate on a run of a tiny network: every choice, and every mistake."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest

from prnet_jax import train
from prnet_jax.checkpoint import load_variables
from prnet_jax.compare import main as compare
from prnet_jax.config import make_config
from prnet_jax.evaluate_command import main


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two epochs on the phantom; not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    config = make_config("prnet", "quick")
    config.model.widths = (4, 8, 16)
    config.model.heads = 2
    config.dataset.data_dir = str(folder / "records")
    config.dataset.options.size = 64
    config.dataset.options.num_slices = (8, 4, 3)
    config.dataset.image_size = 32
    config.batch_size = config.eval_batch_size = 4
    config.num_epochs = 2
    train.train_and_evaluate(config, folder / "run")
    return folder / "run"


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def evaluate(run, *arguments):
    return main(["--workdir", str(run), *arguments])


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_test_split_again_gives_the_same(run, capsys):
    before, rows = summary(run / "test"), (run / "test" / "per_image.csv").read_bytes()
    assert evaluate(run) == 0
    after = summary(run / "test")
    for changing in ("leakage", "provenance"):
        before.pop(changing, None), after.pop(changing)
    assert after == before
    assert (run / "test" / "per_image.csv").read_bytes() == rows
    printed = capsys.readouterr().out
    assert "Test split of lung_phantom (mask 'mask') at 32x32, prnet of epoch" in printed


def test_other_choices_lie_beside(run):
    before = contents(run / "test")
    assert evaluate(run, "--split", "validation", "--threshold", "0.3") == 0
    assert evaluate(run, "--tta", "flips", "--empty-policy", "skip_empty") == 0
    assert evaluate(run, "--split", "all", "--mask", "nodule_mask") == 0
    assert contents(run / "test") == before
    validation = summary(run / "validation_threshold0.3")
    assert validation["counts"]["n_images"] == 4 and validation["threshold"] == 0.3
    flips = summary(run / "test_flips_skip_empty")
    assert (flips["tta"], flips["empty_policy"]) == ("flips", "skip_empty")
    assert flips["metrics"]["mae"]["mean"] != summary(run / "test")["metrics"]["mae"]["mean"]
    nodules = summary(run / "all_nodule_mask")
    assert nodules["counts"]["n_images"] == 15 and nodules["mask"] == "nodule_mask"


def test_an_evaluation_elsewhere_can_be_compared(run, tmp_path):
    assert evaluate(run, "--out", str(tmp_path / "mine")) == 0
    for name in ("per_image.csv", "overview.png"):
        assert (tmp_path / "mine" / name).read_bytes() == (run / "test" / name).read_bytes()
    assert (tmp_path / "mine/config.json").read_bytes() == (run / "config.json").read_bytes()
    assert compare([str(run), str(tmp_path / "mine"), "--out", str(tmp_path / "out")]) == 2
    assert compare([str(tmp_path / "mine"), "--out", str(tmp_path / "out")]) == 0


def test_the_threshold_is_chosen_on_validation_only(run, capsys):
    assert evaluate(run, "--threshold", "auto-on-validation") == 0
    folder = run / "test_auto-threshold"
    found = summary(folder)
    assert found["threshold_from"] == "validation"
    with open(folder / "thresholds_validation.csv", newline="") as file:
        table = [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(file)]
    best = np.nanmax([row["dsc"] for row in table])
    (used,) = [row for row in table if row["threshold"] == found["threshold"]]
    assert used["dsc"] == pytest.approx(best, abs=1e-12)
    assert (folder / "thresholds_validation.png").stat().st_size > 5000
    # The same figure comes out of scoring the validation split there.
    assert evaluate(run, "--split", "validation", "--threshold", str(found["threshold"])) == 0
    scored = summary(run / f"validation_threshold{found['threshold']:g}")
    assert scored["metrics"]["dsc"]["mean"] == pytest.approx(best, abs=1e-9)
    assert "the best on validation" in capsys.readouterr().out


def test_another_data_set_is_looked_through_for_training_images(run, capsys):
    fresh = ("--option", "size=64", "--option", "num_slices=2,2,2")
    assert evaluate(run, *fresh, "--option", "seed=7") == 0
    (folder,) = run.glob("lung_phantom-*_test")
    found = summary(folder)
    assert found["leakage"].startswith("no patient and no image in two splits (10 patients, 10 im")
    # The seed that it was trained with: two of its training images are in this test split.
    for said in ("is in two splits, train and test of lung_phantom", "has the same pixels as"):
        assert evaluate(run, *fresh) == 2
        assert said in capsys.readouterr().err
        fresh += ("--other-patients",)


def test_a_summary_says_what_it_is_of(run):
    found = summary(run / "test")
    about = json.loads((run / "provenance.json").read_text())
    assert found["split_manifest_sha256"] == about["split_manifest_sha256"]
    size = sum(x.size for x in jax.tree.leaves(load_variables(run)["params"]))
    assert found["parameters"] == size
    assert (found["network"], found["seed"], found["split"]) == ("prnet", 0, "test")


def spoilt_config(run):
    (run / "config.json").write_text("{")


def no_checkpoints(run):
    shutil.rmtree(run / "checkpoints")


def other_splits(run):
    path = run / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"split_manifest_sha256": "aa"}))


def full_out(run):
    (run / "out").mkdir()
    (run / "out" / "mine.txt").touch()


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (shutil.rmtree, (), "is no run directory (it holds no config.json): name one that"),
        (spoilt_config, (), "config.json cannot be read (JSONDecodeError): mend it"),
        (no_checkpoints, (), "is a run without a checkpoint yet"),
        (other_splits, (), "with other splits or images than lung_phantom/"),
        (None, ("--mask", "lung"), "has no mask 'lung'"),
        (None, ("--dataset", "lungs"), "no data set 'lungs'"),
        (None, ("--option", "sise=64"), "has no option 'sise'; did you mean 'size'?"),
        (None, ("--empty-policy", "none"), "--empty-policy must be one of penalise, perfect_if"),
        (None, ("--batch-size", "0"), "must divide by 1 devices"),
        (full_out, ("--out", "{run}/out"), "out holds files and is not overwritten"),
        (
            None,
            ("--split", "validation", "--threshold", "auto-on-validation"),
            "would be tuned on the split that it scores",
        ),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(run, capsys, spoil, arguments, message):
    if spoil:
        spoil(run)
    before = contents(run) if run.exists() else {}
    assert evaluate(run, *(argument.format(run=run) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ") and message in error
    assert (contents(run) if run.exists() else {}) == before


@pytest.mark.parametrize("threshold", ["0", "1", "1.5", "auto", "nan"])
def test_a_threshold_that_is_none(run, capsys, threshold):
    with pytest.raises(SystemExit, match="2"):
        evaluate(run, "--threshold", threshold)
    assert "must lie between 0 and 1, or be auto-on-validation" in capsys.readouterr().err
