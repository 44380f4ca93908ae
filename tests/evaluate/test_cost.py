"""What an evaluation records of costs, and the masks that it keeps."""

import json
import shutil
import types

import numpy as np
import pytest
from PIL import Image

from prnet_jax.data.pipeline import open_splits
from prnet_jax.data.prepare import prepare
from prnet_jax.errors import InputError
from prnet_jax.evaluate import Choices, evaluate_run
from prnet_jax.evaluate.cost import FILE, of_predictions, of_training
from prnet_jax.evaluate.masks import FILE as MASKS
from prnet_jax.evaluate.masks import KeptMasks
from prnet_jax.evaluate.predictions import evaluate_predictions
from prnet_jax.run.session import new_clock


def test_of_a_run(finished_run, records_dir, tmp_path):
    """GFLOP of the network at 32x32, the training's time and memory, and every predicted mask."""
    out = tmp_path / "out"
    choices = Choices(data_dir=records_dir, resolution="native", keep_masks=True, out=out)
    summary = evaluate_run(finished_run, choices)
    cost = summary["cost"]
    clock = max((finished_run / "checkpoints").glob("*/clock/metadata"), key=str)
    assert cost["train_minutes"] == json.loads(clock.read_text())["train_s"] / 60 > 0
    assert cost["peak_mib"] > 50 and 0 < cost["seconds_per_slice"] < 10
    # A convolution of k x k pixels takes 2 * k * k * in * out for each, and nothing else as many.
    fine = 2 * 9 * (1 * 4 + 4 * 4 + 8 * 4 + 4 * 4) + 2 * 8 * 4 + 2 * 4 * 1
    coarse = 2 * 9 * (4 * 8 + 8 * 8)
    by_hand = (fine * 32 * 32 + coarse * 16 * 16) / 1e9
    assert by_hand < cost["gflop"] < 1.1 * by_hand
    kept = KeptMasks(out / MASKS)
    rows = (out / "per_image.csv").read_text().splitlines()[1:]
    for row in rows:
        mask = kept[row.split(",")[0]]
        assert mask.shape == (64, 64)  # as stored


def test_kept_masks_are_those_that_were_scored(finished_run, records_dir, tmp_path):
    config = json.loads((finished_run / "config.json").read_text())["dataset"]
    options = config["options"]
    builder = prepare("lung_phantom", records_dir, **options)
    data = types.SimpleNamespace(**config | {"cache": False, "window_hu": (-1000, 400)})
    slices = open_splits(builder, data)["test"]
    given = tmp_path / "masks"
    given.mkdir()
    for i, id in enumerate(slices.ids):
        drawn = slices.picture(i, native=True)["mask"]
        Image.fromarray(np.roll(drawn, i, axis=1).astype(np.uint8) * 255).save(given / f"{id}.png")
    (given / FILE).write_text('{"parameters": 0, "seconds_per_slice": 0.25, "gflop": null}')
    data = {"dataset": "lung_phantom", "options": options, "data_dir": records_dir}
    summary = evaluate_predictions(given, Choices(**data, keep_masks=True, out=tmp_path / "out"))
    assert (summary["parameters"], summary["cost"]) == (0, {"seconds_per_slice": 0.25})
    kept = KeptMasks(tmp_path / "out" / MASKS)
    for i, id in enumerate(slices.ids):
        expected = np.roll(slices.picture(i, native=True)["mask"], i, axis=1)
        np.testing.assert_array_equal(kept[id], expected)


def test_a_run_without_checkpoints(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    unknown = {"train_minutes": None, "peak_mib": None}
    assert of_training(tmp_path / "run") == unknown == of_training(tmp_path / "no")
    assert "peak_mib" not in new_clock()


@pytest.mark.parametrize(
    "text", ["[1]", "{", '{"gflop": "3"}', '{"gflop": -1}', '{"gflop": true}', '{"speed": 1}']
)
def test_costs_that_are_none(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError, match="must be a JSON object of numbers named parameters"):
        of_predictions(tmp_path)
