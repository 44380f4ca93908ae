"""Masks scored at the size of the data: by hand, with a network that answers in blocks."""

import csv

import numpy as np
import pytest

from prnet_jax import sharding
from prnet_jax.data.pipeline import Slices
from prnet_jax.errors import InputError
from prnet_jax.evaluate.choices import Choices
from prnet_jax.evaluate.scores import ThresholdTable
from prnet_jax.evaluate.split import predicted, score_split
from prnet_jax.predictor import Predictor
from tests.data.made_up_records import MadeUp

SIZE = 32  # 64x48 become 32x24, padded to 32x32


@pytest.fixture
def slices(tiny_config):
    """A mask of 20x12 stored pixels that no network pixel is cut by; 0.5 x 0.25 mm."""
    mask = np.zeros((64, 48), bool)
    mask[10:30, 20:32] = True
    tiny_config.dataset.image_size, tiny_config.eval_batch_size = SIZE, 1
    masks = {"mask": mask, "reader_1": mask, "reader_2": np.roll(mask, 4, axis=0)}
    made_up = MadeUp([(np.where(mask, 0, -1000), masks)], spacing_mm=(0.5, 0.25))
    return Slices(made_up, "test", tiny_config.dataset)


@pytest.fixture
def down(tiny_config):
    """Answers with the mask one network pixel lower: two stored pixels."""

    def step(variables, batch):
        prob = np.roll(np.asarray(batch["mask"]), 1, axis=1)
        return {"index": batch["index"], "prob": prob[..., 0]}

    return Predictor(tiny_config, step, None, sharding.make_mesh(), "HU")


@pytest.mark.parametrize("native", [False, True])
def test_scores_by_hand(slices, down, tmp_path, native):
    summary = score_split(down, slices, tmp_path, {"split": "test"}, native=native)
    scores = {name: of_images["mean"] for name, of_images in summary["metrics"].items()}
    # 18 of 20 rows overlap at either size; interpolation moves no edge at 0.5.
    assert scores["dsc"] == pytest.approx(0.9)
    assert scores["hd_px"] == (2 if native else 1)
    assert scores["hd_mm"] == pytest.approx(1.0)
    assert ("as stored" if native else "image_size") in summary["units"]
    with open(tmp_path / "per_image.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    spacing = [float(row[f"spacing_{axis}_mm"]) for axis in ("row", "column")]
    assert spacing == ([0.5, 0.25] if native else [1.0, 0.5])
    agreement = summary["readers"]["readers_with_each_other"]["dice_both_marked"]
    assert agreement == pytest.approx(0.8)  # 16 of 20 rows


@pytest.mark.parametrize("native", [False, True])
def test_a_volume_by_hand(tiny_config, down, tmp_path, native):
    """A cuboid of three slices that lies 1 mm lower; a pixel of the network is two stored ones."""
    mask = np.zeros((64, 48), bool)
    mask[10:30, 20:32] = True
    tiny_config.dataset.image_size = SIZE
    picture = (np.where(mask, 0, -1000), {"mask": mask})
    made_up = MadeUp([picture] * 3, spacing_mm=(0.5, 0.25), slice_mm=3.0)
    slices = Slices(made_up, "test", tiny_config.dataset)
    summary = score_split(down, slices, tmp_path, {"split": "test"}, native=native)
    assert summary["volumes"]["hd_mm_3d"]["mean"] == pytest.approx(1.0)
    assert summary["volumes"]["dsc_3d"]["mean"] == pytest.approx(0.9)
    with open(tmp_path / "per_volume.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    spacing = [float(row[f"spacing_{axis}_mm"]) for axis in ("row", "column", "slice")]
    assert spacing == ([0.5, 0.25, 3.0] if native else [1.0, 0.5, 3.0])


def test_a_threshold_is_tuned_where_masks_are_scored(slices, down):
    table = ThresholdTable()
    for index, prob in predicted(down, slices, native=True):
        assert prob.shape == (64, 48) == slices.picture(index, native=True)["mask"].shape
        table.add(prob, slices.picture(index, native=True)["mask"])
    assert table.best() == pytest.approx(0.5, abs=0.3)


def test_the_folder_and_the_refusal():
    assert Choices(resolution="native").folder_name("d", "d/c/1") == "test_native"
    with pytest.raises(InputError, match="resolution must be one of network, native"):
        Choices(resolution="own").check()
