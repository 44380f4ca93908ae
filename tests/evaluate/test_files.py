"""A split through evaluation, with predictors whose scores are known."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax import metrics, sharding
from prnet_jax.data.pipeline import Slices
from prnet_jax.data.prepare import prepare
from prnet_jax.evaluate.files import emptied_on_failure, write_evaluation
from prnet_jax.evaluate.scores import SplitScores, ThresholdTable, validate
from prnet_jax.evaluate.split import score_split
from prnet_jax.figures.gallery import Gallery
from prnet_jax.metrics import HIGHER_IS_BETTER, METRICS, counts
from prnet_jax.predictor import Predictor


@pytest.fixture
def slices(tiny_config):
    data = tiny_config.dataset
    tiny_config.eval_batch_size = 2  # three images: the last batch is padded
    return Slices(prepare(data.name, data.data_dir, **data.options), "test", data)


def predictor(prob_of):
    """An eval step that predicts `prob_of(batch)`, with a loss of one an image."""

    def step(variables, batch):
        prob = prob_of(batch)
        return {
            "index": batch["index"],
            "prob": prob,
            "loss": jnp.ones(len(prob)),
            **counts(prob >= 0.5, batch["mask"][..., 0] > 0.5),
        }

    return step


def evaluate(prob_of, slices, config, directory):
    network = Predictor(config, predictor(prob_of), None, sharding.make_mesh(), "HU")
    return score_split(network, slices, directory, {"split": "test"})


def test_a_constant_predictor(slices, tiny_config, tmp_path):
    """Three quarters everywhere: every pixel is foreground."""
    summary = evaluate(
        lambda batch: jnp.full(batch["mask"].shape[:3], 0.75), slices, tiny_config, tmp_path
    )
    share = np.array([slices[i]["mask"].mean(dtype=np.float64) for i in range(3)])
    assert (0.05 < share).all() and (share < 0.5).all()
    expected = {
        "iou": share,
        "dsc": 2 * share / (1 + share),
        "acc": share,
        "spe": np.zeros(3),
        "sen": np.ones(3),
        "ppv": share,
        "auc": np.full(3, 0.5),
        "mae": 0.25 * share + 0.75 * (1 - share),
        "brier": 0.0625 * share + 0.5625 * (1 - share),
    }
    for name, values in expected.items():
        found = summary["metrics"][name]
        assert found["n"] == 3
        assert found["mean"] == pytest.approx(values.mean(), abs=1e-12), name
        assert found["sd"] == pytest.approx(values.std(ddof=1), abs=1e-12), name
        pooled = 2 * share.mean() / (1 + share.mean()) if name == "dsc" else values.mean()
        assert summary["pooled"][name] == pytest.approx(pooled, abs=1e-12), name
    no_empty = {"n_images": 3, "both_empty": 0, "missed": 0, "false_alarm": 0}
    assert summary["counts"] == no_empty
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    with open(tmp_path / "per_image.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    spacing = ["spacing_row_mm", "spacing_column_mm"]
    assert [float(rows[0][name]) for name in spacing] == list(slices[0]["spacing_mm"])
    assert list(rows[0]) == ["id", "patient_id", *METRICS, "empty", "overlay", *spacing]
    assert [row["id"] for row in rows] == slices.ids
    np.testing.assert_allclose([float(row["iou"]) for row in rows], share)
    overlays = sorted(path.name for path in (tmp_path / "overlays").glob("*.png"))
    assert sorted(row["overlay"] for row in rows) == overlays and len(overlays) == 3
    assert all(row["id"] in row["overlay"] for row in rows)


def test_a_perfect_predictor(slices, tiny_config, tmp_path):
    summary = evaluate(lambda batch: batch["mask"][..., 0], slices, tiny_config, tmp_path)
    means = {name: values["mean"] for name, values in summary["metrics"].items()}
    assert means == {name: float(higher) for name, higher in HIGHER_IS_BETTER.items()}


def test_a_blind_predictor_is_a_miss_everywhere(slices, tiny_config, tmp_path):
    def nothing(batch):
        return jnp.zeros(batch["mask"].shape[:3])

    summary = evaluate(nothing, slices, tiny_config, tmp_path)
    assert summary["counts"]["missed"] == 3
    assert summary["metrics"]["dsc"]["mean"] == 0.0
    assert summary["metrics"]["hd_px"]["mean"] == pytest.approx(32 * 2**0.5)
    diagonals = [np.hypot(*(32 * slices[i]["spacing_mm"])) for i in range(3)]
    assert summary["metrics"]["hd_mm"]["mean"] == pytest.approx(np.mean(diagonals))


def test_calibration_of_a_constant_predictor(slices, tiny_config, tmp_path):
    summary = evaluate(
        lambda batch: jnp.full(batch["mask"].shape[:3], 0.75), slices, tiny_config, tmp_path
    )
    share = np.mean([slices[i]["mask"] for i in range(3)], dtype=np.float64)
    assert summary["calibration_error"] == pytest.approx(0.75 - share, abs=1e-9)
    with open(tmp_path / "calibration.csv", newline="") as file:
        bins = list(csv.DictReader(file))
    assert [int(row["pixels"]) for row in bins] == [0] * 11 + [3 * 32 * 32] + [0] * 3
    assert float(bins[11]["foreground"]) == pytest.approx(share)
    assert bins[0]["foreground"] == ""
    assert (tmp_path / "calibration.png").stat().st_size > 5000


def rows(number):
    mask = np.zeros((8, 8), bool)
    mask[:number] = True
    return mask


def test_the_network_beside_the_readers(tmp_path):
    """Two 8 x 8 pictures and three readers; the numbers are the marked rows."""
    probs = [rows(4).astype(np.float32), rows(1).astype(np.float32)]
    targets = [rows(4), rows(0)]
    readers = {"reader_0": (4, 0), "reader_1": (4, 2), "reader_2": (2, 0)}
    scores = SplitScores(0.5)
    with Gallery(tmp_path, 0.5) as gallery:
        for i in range(2):
            about = {"id": f"i{i}", "patient_id": f"p{i}", "spacing_mm": np.full(2, np.nan)}
            outlines = {name: rows(number[i]) for name, number in readers.items()}
            row = scores.add(probs[i], targets[i], about, outlines)
            gallery.add(row, np.zeros((8, 8), np.float32), targets[i], probs[i])
        summary = write_evaluation(scores, gallery, tmp_path, {"split": "test"})
    between = [[1, 0], [2 * 2 / 6, None], [2 * 2 / 6, 0]]  # 0-1, 0-2, 1-2 on both images
    with_network = [[1, 0], [1, 2 / 3], [2 * 2 / 6, 0]]
    for key, pairs in (
        ("readers_with_each_other", between),
        ("network_with_readers", with_network),
    ):
        any_marked = [np.mean([v for v in pair if v is not None]) for pair in pairs]
        both_marked = [np.mean([v for v in pair if v]) for pair in pairs]
        assert summary["readers"][key] == pytest.approx(
            {"dice_any_marked": np.mean(any_marked), "dice_both_marked": np.mean(both_marked)}
        )
    with open(tmp_path / "readers.csv", newline="") as file:
        table = {(row["first"], row["second"]): row for row in csv.DictReader(file)}
    assert len(table) == 10  # network, target, three readers: every two
    assert float(table["network", "mask"]["dice_any_marked"]) == 0.5


def test_threshold_table_equals_scoring_at_each_threshold(tmp_path):
    """Also where masks become empty, under every policy."""
    generator = np.random.default_rng(0)
    probs = [generator.random((8, 8), np.float32) * top for top in (1.0, 0.6, 0.3, 0.5)]
    masks = [prob > 0.4 * prob.max() for prob in probs]
    masks[3][:] = False
    for policy in metrics.POLICIES:
        gathered = ThresholdTable(policy)
        for prob, mask in zip(probs, masks, strict=True):
            gathered.add(prob, mask)
        table = gathered.columns()
        for threshold, *found in zip(
            *(table[name] for name in ("threshold", "dsc", "iou", "sen", "ppv")), strict=True
        ):
            scored = [
                metrics.score_image(prob, mask, threshold, None, policy)
                for prob, mask in zip(probs, masks, strict=True)
            ]
            summary = metrics.summarize(scored, policy)["metrics"]
            for name, value in zip(("dsc", "iou", "sen", "ppv"), found, strict=True):
                mean = summary[name]["mean"]
                assert value == pytest.approx(np.nan if mean is None else mean, nan_ok=True), name
        best = gathered.best()
        by = table["dsc_same_images"]
        assert np.nanmax(by) == by[table["threshold"] == best]


@pytest.mark.parametrize(
    ("policy", "best"), [("penalise", 0.5), ("perfect_if_both_empty", 0.5), ("skip_empty", 0.4)]
)
def test_thresholds_are_compared_over_the_same_images(policy, best):
    """Up to 0.4 the marked rows are found, and something in a picture without any: DSC 1 and 0.

    Above, a quarter of them and nothing: DSC 0.4, and a picture that `penalise` leaves out of `dsc`
    only there.
    """
    table = ThresholdTable(policy)
    table.add(np.float32(0.4) * rows(4) + np.float32(0.4) * rows(1), rows(4))
    table.add(np.float32(0.4) * rows(1), rows(0))
    found = table.columns()
    low, high = 29, 49  # thresholds 0.3 and 0.5
    means = {
        "penalise": ((0.5, 0.4), (0.5, 0.7)),
        "perfect_if_both_empty": ((0.5, 0.7), (0.5, 0.7)),
        "skip_empty": ((1.0, 0.4), (1.0, 0.4)),
    }[policy]
    for name, values in zip(("dsc", "dsc_same_images"), means, strict=True):
        np.testing.assert_allclose(found[name][[low, high]], values)
    assert table.best() == best


@pytest.mark.parametrize("policy", metrics.POLICIES)
def test_without_a_marked_image_no_threshold_is_the_best(policy):
    table = ThresholdTable(policy)
    for share in (0.2, 0.3):
        table.add(share * rows(1).astype(np.float32), rows(0))
    assert np.isnan(table.best())


def test_a_validation_that_marks_nothing_has_a_loss_alone(slices, tiny_config):
    class Blank:
        """The slices without their masks."""

        def __len__(self):
            return len(slices)

        def __getitem__(self, i):
            return {**slices[i], "mask": np.zeros((32, 32, 1), np.float32)}

    def constant(batch):
        return jnp.full(batch["mask"].shape[:3], 0.75)

    network = Predictor(tiny_config, predictor(constant), None, sharding.make_mesh(), "HU")
    scores, picture = validate(network, Blank())
    assert scores.pop("loss") == 1.0
    assert scores.keys() == {"dsc", "iou", "dsc_pooled"} and np.isnan(list(scores.values())).all()
    assert picture.dtype == np.uint8
    assert not np.isnan(list(validate(network, slices)[0].values())).any()


@pytest.mark.parametrize("before", [None, [], ["summary.json"]])
def test_a_failure_leaves_a_folder_as_it_was_unless_it_held_results(tmp_path, before):
    """An earlier evaluation's files are never removed; a new folder blocks no second try."""
    folder = tmp_path / "scores"
    if before is not None:
        folder.mkdir()
        for name in before:
            (folder / name).touch()
    with pytest.raises(KeyboardInterrupt), emptied_on_failure(folder):
        (folder / "overlays").mkdir(parents=True)
        (folder / "per_image.csv").touch()
        raise KeyboardInterrupt
    left = sorted(path.name for path in folder.iterdir()) if folder.exists() else None
    assert left == (["overlays", "per_image.csv", "summary.json"] if before else before)
