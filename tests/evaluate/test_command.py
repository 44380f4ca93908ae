"""python -m prnet_jax.evaluate on a run of a tiny network: every choice, and every mistake."""

import csv
import json
import shutil

import jax
import ml_collections
import numpy as np
import pytest
from PIL import Image

from prnet_jax.compare.__main__ import main as compare
from prnet_jax.compare.runs import read_runs
from prnet_jax.data.pipeline import open_splits, splits_hash
from prnet_jax.data.prepare import prepare
from prnet_jax.evaluate.__main__ import main
from prnet_jax.run.variables import load_variables


@pytest.fixture
def run(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


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
    before.pop("provenance"), after.pop("provenance")
    assert after.pop("cost")["gflop"] > 0  # measured by evaluate only
    assert after == before
    assert (run / "test" / "per_image.csv").read_bytes() == rows
    printed = capsys.readouterr().out
    assert "Test split of lung_phantom (mask 'mask') at 32x32, unet of epoch" in printed


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
    of_run, elsewhere = (read_runs([folder])[0] for folder in (run, tmp_path / "mine"))
    assert of_run.epochs == elsewhere.epochs == 16
    assert of_run.trained_on == elsewhere.trained_on and of_run.trained_on.startswith(
        "lung_phantom/"
    )
    assert compare([str(run), str(tmp_path / "mine"), "--out", str(tmp_path / "out")]) == 2
    assert compare([str(tmp_path / "mine"), "--out", str(tmp_path / "out")]) == 0


def test_the_threshold_is_chosen_on_validation_only(run, capsys):
    assert evaluate(run, "--threshold", "auto-on-validation") == 0
    folder = run / "test_auto-threshold"
    found = summary(folder)
    assert found["threshold_from"] == "validation"
    with open(folder / "thresholds_validation.csv", newline="") as file:
        table = [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(file)]
    assert all(row["dsc_same_images"] == row["dsc"] for row in table)  # each image marks something
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
    assert found["leakage"].startswith("no patient and no image in two splits (14 patients, 14 im")
    # The seed that it was trained with: two of its training images are in this test split.
    for said in ("is in two splits, train and test of lung_phantom", "has the same pixels as"):
        assert evaluate(run, *fresh) == 2
        assert said in capsys.readouterr().err
        fresh += ("--other-patients",)


def test_images_that_chose_the_checkpoint_are_no_test_images(run, capsys):
    """Slices 8 to 11 were validation images; here they are the test split."""
    others = ("--option", "num_slices=4,4,4")
    assert evaluate(run, *others, "--split", "test") == 2
    assert "is in two splits, validation and test of lung_phantom" in capsys.readouterr().err


def test_what_the_run_has_seen_is_said(run, capsys):
    assert evaluate(run, "--split", "all") == 0
    said = "the run's own splits; 8 images were trained on; 4 images chose the checkpoint"
    assert summary(run / "all")["leakage"] == said
    assert f"leakage    {said}" in capsys.readouterr().out
    assert evaluate(run, "--split", "validation") == 0
    said = "the run's own splits; 4 images chose the checkpoint"
    assert summary(run / "validation")["leakage"] == said


def started_from(run, first, **num_slices):
    """`run` as if it had started from a run in `first` with these numbers of slices."""
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"init_from": str(first)}))
    first.mkdir()
    config["dataset"]["options"] |= num_slices
    data = ml_collections.ConfigDict(config).dataset
    builder = prepare(data.name, data.data_dir, **data.options)
    about = {
        "records": builder.info.full_name,
        "split_manifest_sha256": splits_hash(open_splits(builder, data)),
    }
    (first / "config.json").write_text(json.dumps(config))
    (first / "provenance.json").write_text(json.dumps(about))


def test_what_the_run_started_from_has_seen_counts_too(run, tmp_path, capsys):
    """A run of an earlier version, which kept no record of its start."""
    first = tmp_path / "first"
    started_from(run, first, num_slices=[4, 4, 8])  # slices 0-3 train, 4-7 validate
    assert evaluate(run) == 0
    said = summary(run / "test")["leakage"]
    assert said.startswith(f"the run's own splits; start from {first}: no patient and no image in")

    # Slices 20 to 22 are in the test split of other data. The first run is now said to be of
    # another length, so that they were trained on.
    other = ("--option", "num_slices=18,2,3")
    assert evaluate(run, *other) == 0
    shutil.rmtree(first)
    started_from(run, first, num_slices=[23, 2, 2])
    assert evaluate(run, *other) == 2
    assert f"is in two splits, train split of {first} and test of lung" in capsys.readouterr().err
    assert evaluate(run) == 2
    assert f"is in the train split of {first}, where the weights of" in capsys.readouterr().err

    shutil.rmtree(first)
    assert evaluate(run) == 0
    said = f"the run's own splits; start from {first}: not known: {first} is not a run directory"
    assert summary(run / "test")["leakage"].startswith(said)
    assert evaluate(run, *other) == 0
    (folder,) = run.glob("lung_phantom-*_test")
    assert f"; start from {first}: not known: " in summary(folder)["leakage"]


def own_images(folder, seed, marked=True):
    """Six grey pictures with masks, each its own patient, the splits in a table."""
    generator = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    lines = ["id,split"]
    for number, split in enumerate(("train", "validation", "test") * 2):
        pixels = generator.integers(0, 255, (32, 32)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"images/case{number}.png")
        Image.fromarray((pixels > 128) * np.uint8(255 * marked)).save(
            folder / f"masks/case{number}.png"
        )
        lines.append(f"case{number},{split}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return str(folder)


def test_other_images_under_the_same_names_are_not_the_runs_own(run, tmp_path, capsys):
    """The splits' hash knows only names: the fingerprint of the files must agree too."""
    mine, others = own_images(tmp_path / "a", 1), own_images(tmp_path / "b", 2)
    config = json.loads((run / "config.json").read_text())
    config["dataset"] |= {"name": "image_folder", "options": {}, "manual_dir": mine}
    config["dataset"]["window_hu"] = [0.0, 255.0]
    (run / "config.json").write_text(json.dumps(config))
    data = ml_collections.ConfigDict(config).dataset
    builder = prepare("image_folder", data.data_dir, mine)
    about = {
        "records": builder.info.full_name,
        "split_manifest_sha256": splits_hash(open_splits(builder, data)),
    }
    (run / "provenance.json").write_text(json.dumps(about))
    assert evaluate(run) == 0
    before = contents(run)
    assert evaluate(run, "--manual-dir", others) == 2
    assert "other images or splits than image_folder/" in capsys.readouterr().err
    assert contents(run) == before
    # Said to be another set it is looked through: same names, but no picture in common.
    other_set = ("--manual-dir", others, "--option", "slices=all", "--split", "all")
    assert evaluate(run, *other_set) == 2
    assert "patient case" in capsys.readouterr().err
    assert evaluate(run, *other_set, "--other-patients") == 0


def test_one_patient_can_be_scored(run, tmp_path, capsys):
    own_images(tmp_path / "one", 4)
    for number in range(1, 6):
        for name in ("images", "masks"):
            (tmp_path / f"one/{name}/case{number}.png").unlink()
    (tmp_path / "one/metadata.csv").unlink()
    external = ("--dataset", "image_folder", "--manual-dir", str(tmp_path / "one"))
    external += ("--window", "0", "255")
    assert evaluate(run, *external, "--split", "all") == 0
    (folder,) = run.glob("image_folder-*_all*")
    assert summary(folder)["counts"]["n_images"] == 1
    assert "0 train / 0 validation / 1 test (patients 0 / 0 / 1)" in capsys.readouterr().out
    assert evaluate(run, *external, "--split", "train") == 2
    said = "has no images: choose --split all, or one of test"
    assert said in capsys.readouterr().err


def test_nothing_marked_and_nothing_found_is_no_crash(run, tmp_path, capsys):
    blank = own_images(tmp_path / "blank", 3, marked=False)
    external = ("--dataset", "image_folder", "--manual-dir", blank, "--window", "0", "255")
    assert evaluate(run, *external, "--empty-policy", "skip_empty", "--split", "all") == 0
    (folder,) = run.glob("image_folder-*_all*")
    assert summary(folder)["metrics"]["dsc"]["mean"] is None
    with open(folder / "thresholds.csv", newline="") as file:
        assert {row["dsc"] for row in csv.DictReader(file)} == {""}
    # A threshold from the run's own validation split is no tuning on these images.
    assert evaluate(run, *external, "--split", "all", "--threshold", "auto-on-validation") == 0
    assert "their ids are not compared" in capsys.readouterr().out


def test_a_summary_says_what_it_is_of(run):
    found = summary(run / "test")
    about = json.loads((run / "provenance.json").read_text())
    assert found["split_manifest_sha256"] == about["split_manifest_sha256"]
    size = sum(x.size for x in jax.tree.leaves(load_variables(run)["params"]))
    assert found["parameters"] == size
    assert (found["network"], found["seed"], found["split"]) == ("unet", 0, "test")


def spoilt_config(run):
    (run / "config.json").write_text("{")


def no_checkpoints(run):
    shutil.rmtree(run / "checkpoints")


def other_splits(run):
    path = run / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"split_manifest_sha256": "aa"}))


def no_provenance(run):
    (run / "provenance.json").write_text("[]")


def full_out(run):
    (run / "out").mkdir()
    (run / "out" / "mine.txt").touch()


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (shutil.rmtree, (), "is not a run directory (it has no config.json): name one that"),
        (spoilt_config, (), "config.json cannot be read (JSONDecodeError): restore it"),
        (no_checkpoints, (), "is a run without a checkpoint yet"),
        (other_splits, (), "other images or splits than lung_phantom/"),
        (None, ("--mask", "lung"), "has no mask 'lung'"),
        (None, ("--dataset", "lungs"), "no data set 'lungs'"),
        (None, ("--option", "sise=64"), "has no option 'sise'; did you mean 'size'?"),
        (None, ("--empty-policy", "none"), "policy for empty masks must be one of penalise, perf"),
        (None, ("--batch-size", "0"), "must be a positive multiple of 1 devices"),
        (
            None,
            ("--out", "{run}/config.json/new"),
            "config.json is not a folder that you can write to",
        ),
        (None, ("--window", "400", "-1000"), "window must be (lower, upper); found (400, -1000)"),
        (None, ("--window", "nan", "5"), "window must be (lower, upper); found (nan, 5)"),
        (None, ("--option", "seed=abc"), "seed is 'abc'; expected a whole number"),
        (None, ("--option", "num_slices=5"), "num_slices is 5; expected three whole numbers"),
        (no_provenance, (), "provenance.json does not say split_manifest_sha256 and records"),
        (full_out, ("--out", "{run}/out"), "out already exists: name a new or an empty folder"),
        (
            None,
            ("--split", "validation", "--threshold", "auto-on-validation"),
            "would be tuned on images that it scores",
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
