import csv
import io
import json
import math

import numpy as np
import pytest

from prnet_jax.compare.rows import find_row, group
from prnet_jax.compare.runs import read_runs
from prnet_jax.compare.statistics import compare_to
from prnet_jax.compare.tables import main_table, markdown
from prnet_jax.errors import InputError
from prnet_jax.metrics.names import METRIC_NAMED
from prnet_jax.run.files import csv_text
from tests.compare.folders import change_json, masks, probs, write_run


def rows_of(*folders):
    return group(read_runs(folders))


def refusal(*folders):
    with pytest.raises(InputError) as caught:
        rows_of(*folders)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.fixture
def make(tmp_path):
    return lambda name, *args, **kwargs: write_run(
        tmp_path / name, *args, **{"overlays": False} | kwargs
    )


def test_seeds_are_averaged(make):
    """Value and spread are mean and standard deviation of the runs' means, not of the images."""
    a, b = make("a", "unet", 0), make("b", "unet", 1)
    (row,) = rows_of(b, a)
    summaries = [json.loads((f / "test/summary.json").read_text()) for f in (a, b)]
    means = [summary["metrics"]["dsc"]["mean"] for summary in summaries]
    assert means[0] != means[1]
    assert row.title == "UNet (2 seeds)" and [run.seed for run in row.runs] == [0, 1]
    assert row.mean["dsc"] == pytest.approx(np.mean(means), abs=1e-12)
    assert row.sd_seeds["dsc"] == pytest.approx(abs(means[0] - means[1]) / math.sqrt(2), abs=1e-12)
    single = [run.scores["dsc"] for run in row.runs]
    np.testing.assert_allclose(row.scores["dsc"], (single[0] + single[1]) / 2)
    assert row.sd_images["dsc"] == pytest.approx(np.std(row.scores["dsc"], ddof=1))
    assert math.isnan(rows_of(a)[0].sd_seeds["dsc"])


def test_masks_of_another_program_have_no_metrics_of_probabilities(make):
    """MAE and Brier score of a mask are 1 - ACC, and would rank it by that."""
    network = make("a", "unet")
    its_masks = (probs(0.8, 0) >= 0.5).astype(np.float32)
    theirs = make("b", "theirs", prob=its_masks, predictions="masks", seed=None)
    unet, other = rows_of(network, theirs)
    for name in ("mae", "brier", "auc"):
        assert not math.isnan(unet.mean[name]) and math.isnan(other.mean[name])
    for name in ("mae_binary", "dsc"):
        assert other.mean[name] == unet.mean[name]
    text = markdown(main_table([unet, other], [], paper=False))
    assert "A dash under MAE: masks" in text and "same number of images" not in text
    probabilities = make("c", "theirs", prob=probs(0.8, 0), predictions="probs", seed=None)
    assert rows_of(probabilities)[0].mean["mae"] == unet.mean["mae"]


def test_evaluations_from_before_the_mae_of_masks_have_it(make):
    run = make("a")
    mean = rows_of(run)[0].mean["mae_binary"]
    path = run / "test/per_image.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert mean == pytest.approx(np.mean([1 - float(row["acc"]) for row in rows]))
    path.write_text(csv_text([{k: v for k, v in r.items() if k != "mae_binary"} for r in rows]))
    assert rows_of(run)[0].mean["mae_binary"] == mean


def test_an_image_that_one_seed_did_not_score_is_not_scored(make):
    a, b = make("a", "unet", 0), make("b", "unet", 1)
    lines = (a / "test/per_image.csv").read_text().splitlines()
    column = lines[0].split(",").index("hd_px")
    cells = lines[1].split(",")
    lost = float(cells[column])
    cells[column] = ""
    (a / "test/per_image.csv").write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]))
    summary = json.loads((a / "test/summary.json").read_text())
    scores = summary["metrics"]["hd_px"]
    scores["mean"] = (12 * scores["mean"] - lost) / 11
    change_json(a / "test/summary.json", metrics=summary["metrics"])
    (row,) = rows_of(a, b)
    assert np.isnan(row.scores["hd_px"]).tolist() == [True] + [False] * 11


def test_rows_are_told_apart_by_what_differs(make):
    wide = {"model": {"name": "unet", "base": 64}, "learning_rate": 1e-3}
    narrow = {"model": {"name": "unet", "base": 32}, "learning_rate": 1e-3}
    rows = rows_of(
        make("a", "unet", 0, config=wide),
        make("b", "unet", 1, config=narrow),
        make("c", "prnet", 0),
        make("d", "unet", 1, config=wide),
    )
    assert [row.title for row in rows] == ["UNet (base=64) (2 seeds)", "UNet (base=32)", "PR-Net"]


def test_other_training_is_another_row(make):
    """Runs with different learning rates are not seeds of one row."""
    rows = rows_of(make("a", seed=0), make("b", seed=1, config={"learning_rate": 0.5}))
    labels = ["PR-Net (learning_rate=0.001)", "PR-Net (learning_rate=0.5)"]
    assert [row.label for row in rows] == labels


def test_where_the_data_are_and_what_was_logged_make_no_other_row(make):
    other = {"dataset": {"data_dir": "/elsewhere"}, "log_every_steps": 3, "threshold": 0.4}
    assert len(rows_of(make("a", seed=0), make("b", seed=1, config=other))) == 1


def test_another_window_is_another_row(make):
    rows = rows_of(make("a", seed=0), make("b", seed=1, window_hu=[-600, 200]))
    assert [row.label for row in rows] == [
        "PR-Net (dataset.window_hu not known)",
        "PR-Net (dataset.window_hu=[-600, 200])",
    ]


def test_a_false_alarm_counts_against_a_network_that_rightly_marks_nothing(make):
    """The table scores it 0 and leaves the other out; the paired test compares 0 with 1."""
    target = masks()
    target[:3] = False
    quiet = target.astype(np.float32)
    loud = quiet.copy()
    loud[:2, 4:9, 4:9] = 1
    prnet, unet = reversed(
        rows_of(
            make("a", "prnet", prob=loud, target=target),
            make("b", "unet", prob=quiet, target=target),
        )
    )
    assert prnet.mean["dsc"] == pytest.approx(9 / 11) and unet.mean["dsc"] == 1
    assert np.isnan(unet.scores["dsc"][:3]).all()
    assert unet.paired["dsc"].tolist() == [1.0] * 12
    assert prnet.paired["dsc"].tolist() == [0.0, 0.0] + [1.0] * 10
    assert prnet.paired["hd_px"][:3].tolist() == [32 * 2**0.5] * 2 + [0.0]
    assert np.isnan(prnet.paired["hd_mm"]).all()  # no spacing
    assert prnet.both_empty.tolist() == [False, False, True] + [False] * 9
    (found,) = compare_to(prnet, [prnet, unet], [METRIC_NAMED["dsc"]])
    assert found["n_images"] == 11  # the image without anything to compare is out
    assert found["mean_difference"] == pytest.approx(2 / 11)
    assert found["better"] == "network"


def test_thresholds(make):
    """Seeds may differ in a threshold from validation. A given one, or TTA, makes another row."""
    chosen = {"threshold_from": "validation"}
    rows = rows_of(
        make("a", seed=0, threshold=0.45, **chosen),
        make("b", seed=1, threshold=0.55, **chosen),
        make("c", seed=0),
        make("d", seed=0, tta="flips"),
    )
    assert [row.label for row in rows] == [
        "PR-Net (threshold=from validation, tta=none)",
        "PR-Net (threshold=0.5, tta=none)",
        "PR-Net (threshold=0.5, tta=flips)",
    ]
    assert [row.threshold for row in rows] == ["0.45 to 0.55 (validation)", "0.5", "0.5"]
    assert [row.tta for row in rows] == ["none", "none", "flips"]


def test_rows_are_in_the_papers_order(make):
    rows = rows_of(make("a", "my_net"), make("b", "prnet"), make("c", "unetpp"), make("d", "unet"))
    assert [row.label for row in rows] == ["UNet", "UNet++", "PR-Net", "my_net"]


def test_an_evaluation_folder_is_a_run(make):
    folder = make("a")
    (run,) = read_runs([folder / "test"])
    assert run.settings == {"learning_rate": 1e-3}
    (folder / "config.json").unlink()
    (run,) = read_runs([folder / "test"])
    assert run.settings is None and run.provenance["git_revision"] == "0123abc"


def test_images_are_matched_by_id(make):
    a = make("a")
    b = make("b", "unet")
    lines = (b / "test/per_image.csv").read_text().splitlines()
    (b / "test/per_image.csv").write_text("\n".join([lines[0], *lines[:0:-1]]))
    prnet, unet = (rows_of(a, b)[i] for i in (1, 0))
    assert prnet.runs[0].ids == unet.runs[0].ids == [f"slice_{i:02d}" for i in range(12)]
    assert unet.scores["dsc"].tolist() == prnet.scores["dsc"].tolist()  # equal predictions


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset", "lung_phantom"),
        ("mask", "reader_0"),
        ("split", "validation"),
        ("split_manifest_sha256", "cd34"),
        ("records", "finding_lungs/default-5e6f7a8b/1.1.0"),
        ("image_size", 64),
        ("empty_policy", "skip_empty"),
    ],
)
def test_runs_that_cannot_be_compared(make, field, value):
    a, b = make("a"), make("b", "unet")
    before = json.loads((b / "test/summary.json").read_text())[field]
    change_json(b / "test/summary.json", **{field: value})
    assert refusal(a, b) == (
        f"{a}/test and {b}/test cannot be compared: {field} is {before!r} and {value!r}: "
        "compare runs in which it is the same"
    )


def test_sizes_of_networks_may_differ_where_masks_are_scored_as_stored(make):
    a, b = make("a"), make("b", "unet")
    change_json(b / "test/summary.json", image_size=64, resolution="native")
    assert "resolution is 'network' and 'native'" in refusal(a, b)
    change_json(a / "test/summary.json", resolution="native")
    assert len(read_runs([a, b])) == 2


def test_scores_of_the_middle_stand_beside_none_of_the_whole(make):
    a, b = make("a"), make("b", "unet")
    change_json(b / "test/summary.json", resize="middle")
    assert "image_size is 32 and 'the middle 32'" in refusal(a, b)
    change_json(a / "test/summary.json", resize="middle")
    assert len(read_runs([a, b])) == 2


def test_other_images(make):
    ids = [f"slice_{i:02d}" for i in range(11)] + ["another"]
    message = refusal(make("a"), make("b", "unet", ids=ids))
    assert "they have different images (1 only in the first, 1 only in the second" in message
    assert "for example 'another'" in message


def test_other_patients(make):
    a, b = make("a"), make("b", "unet")
    edit(b / "test/per_image.csv", "patient_0", "patient_9")
    assert "they have different patients" in refusal(a, b)


def test_the_same_twice(make, tmp_path):
    a = make("a", seed=3)
    assert "is the same evaluation as" in refusal(a, a / "test")
    (tmp_path / "link").symlink_to(a)
    assert "is the same evaluation as" in refusal(a, tmp_path / "link")
    assert "the same seed (3): leave one of them out" in refusal(a, make("b", seed=3))


def test_unfinished_and_absent(make, tmp_path):
    a = make("a")
    (a / "test/summary.json").unlink()
    assert "finish the run, or evaluate it (python -m prnet_jax.evaluate)" in refusal(a)
    assert "is not a folder" in refusal(tmp_path / "nothing")


@pytest.mark.parametrize("field", ["empty_policy", "split_manifest_sha256", "network"])
def test_an_old_summary(make, field):
    a = make("a")
    change_json(a / "test/summary.json", **{field: None})
    assert f"does not state {field}: evaluate again" in refusal(a)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"a": ' * 100_000, '{"network": "unet"}', "\udc80"]
)
def test_a_damaged_summary(make, text):
    a = make("a")
    (a / "test/summary.json").write_bytes(text.encode(errors="surrogateescape"))
    assert "evaluate again" in refusal(a)


@pytest.mark.parametrize(
    "entries",
    [
        {"metrics": {"dsc": 3}},
        {"counts": {"missed": "<b>"}},
        {"threshold": "0.5"},
        {"seed": "one"},
        {"network": ["unet"]},
    ],
)
def test_a_summary_of_another_form(make, entries):
    a = make("a")
    change_json(a / "test/summary.json", **entries)
    assert "has an entry of an unexpected type" in refusal(a)


def test_damaged_tables(make):
    a = make("a")
    path = a / "test/per_image.csv"
    whole = path.read_text()
    no_id = whole.replace("id,", "i,", 1)
    for text in ("", "id,dsc\n", "dsc\n0.5\n", whole[: len(whole) // 2], no_id):
        path.write_text(text)
        assert "is not a complete table" in refusal(a)
    path.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refusal(a)
    path.write_text(whole.replace("slice_01", "slice_00"))
    assert "has id 'slice_00' twice" in refusal(a)
    path.write_text(whole + whole.splitlines()[1].replace("slice_00", "new").replace(",0.", ",x"))
    assert "could not convert" in refusal(a)
    path.unlink()
    assert "does not exist" in refusal(a)


def test_a_summary_of_another_table(make):
    a = make("a")
    b = make("b", prob=probs(0.5, 7))
    (a / "test/per_image.csv").write_text((b / "test/per_image.csv").read_text())
    assert "the mean of iou is" in refusal(a)


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", "..\\x.png", "a/b.png"])
def test_an_overlay_outside_its_folder(make, name):
    a = make("a")
    path = a / "test/per_image.csv"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].removesuffix(",") + "," + name
    path.write_text("\n".join(lines))
    assert "is not a plain file name" in refusal(a)


def test_the_reference(make):
    rows = rows_of(
        make("a", "prnet"), make("b", "unet"), make("c", "unet", config={"learning_rate": 0.5})
    )
    assert find_row(rows, None).label == "PR-Net"
    assert find_row(rows, "PR-Net").label == "PR-Net"
    assert find_row(rows, "UNet (learning_rate=0.5)") is rows[1]
    assert find_row(rows[:2], None) is rows[0]
    with pytest.raises(InputError, match=r"'unet' names 2 rows: give one of 'UNet \(learning"):
        find_row(rows, "unet")
    with pytest.raises(InputError, match="'vnet' names no row"):
        find_row(rows, "vnet")


def test_changes_of_one_network_are_named_by_what_they_change(make):
    stated = {"heads": 8, "pam": True}
    rows = rows_of(
        make("a", "prnet", config={"model": stated}),
        make("b", "prnet", config={"model": {**stated, "pam": False}}),
        make("c", "prnet", config={"model": {**stated, "heads": 1}}),
    )
    assert [row.label for row in rows] == ["PR-Net", "PR-Net (pam=false)", "PR-Net (heads=1)"]
    labels = [row.label for row in rows_of(*(row.runs[0].folder for row in rows[:2]))]
    assert labels == ["PR-Net (pam=true)", "PR-Net (pam=false)"]
