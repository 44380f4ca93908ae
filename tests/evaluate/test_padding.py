"""Scores of slices that were padded to a square: those of the slice alone, by hand."""

import csv

import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax import sharding
from prnet_jax.data.pipeline import Slices
from prnet_jax.evaluate.split import score_split
from prnet_jax.figures.slices import marked_panel
from prnet_jax.predictor import Predictor
from tests.data.made_up_records import MadeUp

SIZE = 64  # 400x512 become 50x64


@pytest.fixture
def slices(tiny_config):
    """One slice of 400x512 with 0.75 mm; its mask is 26x32 network pixels."""
    mask = np.zeros((400, 512), bool)
    mask[96:304, 128:384] = True
    tiny_config.dataset.image_size, tiny_config.eval_batch_size = SIZE, 1
    made_up = MadeUp(
        [(np.where(mask, 0, -1000), {"mask": mask, "reader_1": mask, "reader_2": mask})]
    )
    return Slices(made_up, "test", tiny_config.dataset)


def to_the_right(variables, batch):
    """The mask, two pixels to the right; all of the padding is foreground."""
    prob = jnp.where(batch["valid"], jnp.roll(batch["mask"], 2, axis=2), 1.0)
    return {"index": batch["index"], "prob": prob[..., 0]}


def test_scores_by_hand(slices, tiny_config, tmp_path):
    network = Predictor(tiny_config, to_the_right, None, sharding.make_mesh(), "HU")
    summary = score_split(network, slices, tmp_path, {"split": "test"})
    pixels, wrong = 50 * 64, 2 * 26  # on either side
    scores = {name: of_images["mean"] for name, of_images in summary["metrics"].items()}
    expected = {
        "dsc": 30 / 32,
        "iou": 30 / 34,
        "acc": 1 - 2 * wrong / pixels,
        "spe": 1 - wrong / (pixels - 26 * 32),
        "mae": 2 * wrong / pixels,
        "brier": 2 * wrong / pixels,
        "hd_px": 2,
        "hd_mm": 12,
        "hd95_mm": 12,
    }
    assert {name: scores[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    for name in ("dsc", "iou", "acc", "spe", "mae"):
        assert summary["pooled"][name] == pytest.approx(expected[name], rel=1e-12)
    assert summary["readers"]["network_with_readers"]["dice_both_marked"] == 30 / 32
    assert summary["calibration_error"] == pytest.approx(2 * wrong / pixels, rel=1e-12)
    with open(tmp_path / "calibration.csv", newline="") as file:
        assert sum(int(row["pixels"]) for row in csv.DictReader(file)) == pixels
    with open(tmp_path / "thresholds.csv", newline="") as file:
        assert {float(row["dsc"]) for row in csv.DictReader(file)} == {30 / 32}
    with open(tmp_path / "per_image.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["spacing_row_mm"], row["spacing_column_mm"]) == ("6.0", "6.0")
    assert marked_panel(tmp_path / "overlays" / row["overlay"]).size == (512, 400)
