"""A split through evaluation, with predictors whose scores are known."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax import sharding
from prnet_jax.data.pipeline import Slices
from prnet_jax.data.prepare import prepare
from prnet_jax.evaluate import evaluate_split, validate
from prnet_jax.metrics import METRICS, counts


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
    mesh = sharding.make_mesh()
    return evaluate_split(
        predictor(prob_of), None, slices, config, mesh, directory, {"split": "test"}
    )


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
    assert list(rows[0]) == ["id", "patient_id", *METRICS, "empty"]
    assert [row["id"] for row in rows] == slices.ids
    np.testing.assert_allclose([float(row["iou"]) for row in rows], share)
    assert len(list((tmp_path / "overlays").glob("*.png"))) == 3


def test_a_perfect_predictor(slices, tiny_config, tmp_path):
    summary = evaluate(lambda batch: batch["mask"][..., 0], slices, tiny_config, tmp_path)
    means = {name: values["mean"] for name, values in summary["metrics"].items()}
    ones = dict.fromkeys(("iou", "dsc", "acc", "spe", "sen", "ppv", "auc"), 1.0)
    zeros = dict.fromkeys(("mae", "hd_px", "hd95_px", "hd_mm", "hd95_mm"), 0.0)
    assert means == ones | zeros


def test_a_blind_predictor_is_a_miss_everywhere(slices, tiny_config, tmp_path):
    def nothing(batch):
        return jnp.zeros(batch["mask"].shape[:3])

    summary = evaluate(nothing, slices, tiny_config, tmp_path)
    assert summary["counts"]["missed"] == 3
    assert summary["metrics"]["dsc"]["mean"] == 0.0
    assert summary["metrics"]["hd_px"]["mean"] == pytest.approx(32 * 2**0.5)
    diagonals = [np.hypot(*(32 * slices[i]["spacing_mm"])) for i in range(3)]
    assert summary["metrics"]["hd_mm"]["mean"] == pytest.approx(np.mean(diagonals))


def test_validation_means_over_images(slices, tiny_config):
    def all_foreground(batch):
        return jnp.ones(batch["mask"].shape[:3])

    scores, picture = validate(
        predictor(all_foreground), None, slices, tiny_config, sharding.make_mesh()
    )
    share = np.array([slices[i]["mask"].mean(dtype=np.float64) for i in range(3)])
    assert scores["loss"] == 1.0
    assert scores["iou"] == pytest.approx(share.mean())
    assert scores["dsc"] == pytest.approx((2 * share / (1 + share)).mean())
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
