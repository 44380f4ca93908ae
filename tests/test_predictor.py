"""A predictor on a split, on arrays of any size, and as it is loaded from a run."""

import json
import shutil
import socket
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import prnet_jax
from prnet_jax import sharding
from prnet_jax.data import preprocess
from prnet_jax.data.pipeline import Slices, open_splits
from prnet_jax.data.prepare import prepare
from prnet_jax.errors import InputError, Stopped
from prnet_jax.evaluate.scores import validate
from prnet_jax.metrics import counts, merge_counts, overlap
from prnet_jax.predictor import Predictor, make_predictor
from prnet_jax.run.variables import load_variables
from tests.programs import PATIENCE_S


@pytest.fixture
def slices(tiny_config):
    data = tiny_config.dataset
    tiny_config.eval_batch_size = 2  # three images: the last batch is padded
    return Slices(prepare(data.name, data.data_dir, **data.options), "test", data)


def brighter(variables, batch):
    """Says that everything is foreground, more so in later images."""
    prob = jnp.ones(batch["mask"].shape[:3]) * (0.7 + 0.1 * batch["index"][:, None, None])
    target = batch["mask"][..., 0] > 0.5
    return {
        "index": batch["index"],
        "prob": prob,
        "loss": jnp.ones(len(prob)),
        **counts(prob >= 0.5, target),
    }


def predictor(config, step=brighter):
    return Predictor(config, step, None, sharding.make_mesh(), "HU")


def test_every_slice_once_in_order(slices, tiny_config):
    found = list(predictor(tiny_config).predict_split(slices))
    assert [index for index, _ in found] == [0, 1, 2]
    assert [prob.shape for _, prob in found] == [(32, 32)] * 3
    np.testing.assert_allclose([prob[0, 0] for _, prob in found], [0.7, 0.8, 0.9], rtol=1e-6)


def test_devices_compute_while_results_are_used(slices, tiny_config):
    tiny_config.eval_batch_size = 1
    events = []

    class Computed:
        """An array that notes when somebody waits for it."""

        def __init__(self, array):
            self.array = np.asarray(array)

        def __array__(self, dtype=None, copy=None):
            events.append(f"wait {self.array[0]}")
            return self.array

    def step(variables, batch):
        events.append(f"begin {batch['index'][0]}")
        return {**brighter(variables, batch), "index": Computed(batch["index"])}

    for results in predictor(tiny_config, step).run(slices):
        events.append(f"use {results['index'][0]}")
    events = list(dict.fromkeys(events))  # it may be read twice
    assert events == [
        *("begin 0", "wait 0", "begin 1", "use 0", "wait 1", "begin 2", "use 1", "wait 2", "use 2"),
    ]


def test_a_request_to_stop_is_met_between_batches(slices, tiny_config):
    tiny_config.eval_batch_size = 1
    answers = iter([False, False, True])
    results = predictor(tiny_config).run(slices, stop=lambda: next(answers))
    assert next(results)["index"].tolist() == [0]
    with pytest.raises(Stopped, match="during an evaluation"):
        next(results)


def test_validation_means_over_images(slices, tiny_config):
    scores, picture = validate(predictor(tiny_config), slices)
    share = np.array([slices[i]["mask"].mean(dtype=np.float64) for i in range(3)])
    assert scores["loss"] == 1.0
    assert scores["iou"] == pytest.approx(share.mean())
    assert scores["dsc"] == pytest.approx((2 * share / (1 + share)).mean())
    pooled = 2 * share.mean() / (1 + share.mean())
    assert scores["dsc_pooled"] == pytest.approx(pooled) != scores["dsc"]
    assert picture.dtype == np.uint8 and picture.shape[2] == 3


# ---- arrays


def as_seen(variables, batch):
    """The probability is the image as the network sees it."""
    prob = batch["image"][..., 0]
    return {"index": batch["index"], "prob": prob}


def test_an_array_is_windowed_resized_and_resized_back(tiny_config):
    """A step at a pixel of the network stays where it was, and its sides keep their values."""
    tiny_config.dataset.resize = "stretch"
    tiny_config.dataset.window_hu = (-1000.0, 1000.0)
    image = np.full((96, 64), -800, np.int16)  # network pixels of 3 x 2
    image[:, 32:] = 600
    found = predictor(tiny_config, as_seen).predict(image)
    assert found.prob.dtype == np.float32 and found.mask.dtype == bool
    assert found.prob.shape == found.mask.shape == (96, 64)
    np.testing.assert_allclose(found.prob[:, :31], 0.1, rtol=1e-6)
    np.testing.assert_allclose(found.prob[:, 33:], 0.8, rtol=1e-6)
    assert not found.mask[:, :31].any() and found.mask[:, 33:].all()
    assert found.warnings == []


def test_a_network_of_the_middle_says_what_it_did_not_see(tiny_config):
    tiny_config.dataset.resize = "middle"
    tiny_config.dataset.window_hu = (-1000.0, 1000.0)
    image = np.random.default_rng(0).integers(-900, 900, (96, 40))
    found = predictor(tiny_config, as_seen).predict(image)
    middle = np.s_[32:64, 4:36]
    np.testing.assert_allclose(found.prob[middle], (image[middle] + 1000) / 2000, rtol=1e-6)
    assert np.count_nonzero(found.prob) == 32 * 32
    assert found.warnings == [
        "only the middle 32x32 of 96x40 pixels were looked at, as in training: nothing else is "
        "marked"
    ]
    assert predictor(tiny_config, as_seen).predict(image[middle]).warnings == []
    volume = image[None]
    assert predictor(tiny_config, as_seen).doubts(volume, None, tiled=True) == []


@pytest.mark.parametrize("shape", [(96, 48), (48, 96), (2, 96, 48)])
def test_padding_is_air_for_the_network_and_is_cut_off(tiny_config, shape):
    tiny_config.dataset.window_hu = (-1000.0, 1000.0)
    seen = []

    def watched(variables, batch):
        seen.append(np.asarray(batch["image"]))
        return as_seen(variables, batch)

    found = predictor(tiny_config, watched).predict(np.full(shape, 600))
    assert found.prob.shape == found.mask.shape == shape
    np.testing.assert_allclose(found.prob, 0.8, rtol=1e-6)  # up to the border
    (image,) = seen
    first = image[0, ..., 0] if shape[-1] == 48 else image[0, ..., 0].T
    np.testing.assert_allclose(first[:, 8:24], 0.8, rtol=1e-6)
    assert not first[:, :8].any() and not first[:, 24:].any()


def test_a_slice_of_the_networks_size_is_not_resampled(tiny_config):
    image = np.random.default_rng(0).integers(-1200, 600, (32, 32)).astype(np.int16)
    found = predictor(tiny_config, as_seen).predict(image)
    expected = preprocess.window(image, *tiny_config.dataset.window_hu)
    np.testing.assert_allclose(found.prob, expected, atol=1e-6)
    tiny_config.threshold = 0.9
    high = predictor(tiny_config, as_seen).predict(image)
    np.testing.assert_array_equal(high.mask, high.prob >= 0.9)


@pytest.mark.parametrize("depth", [1, 3, 9])
def test_a_volume_is_its_slices_in_either_order_of_axes(tiny_config, depth):
    volume = np.random.default_rng(1).integers(-1000, 400, (depth, 40, 36)).astype(np.float32)
    network = predictor(tiny_config, as_seen)
    first, last = network.predict(volume), network.predict(np.moveaxis(volume, 0, -1), axes="HWD")
    assert first.prob.shape == (depth, 40, 36) and last.prob.shape == (40, 36, depth)
    np.testing.assert_array_equal(np.moveaxis(last.prob, -1, 0), first.prob)
    np.testing.assert_array_equal(np.moveaxis(last.mask, -1, 0), first.mask)
    for pixels, prob in zip(volume, first.prob, strict=True):
        np.testing.assert_array_equal(network.predict(pixels).prob, prob)


def test_a_volume_whose_axes_seem_to_be_in_the_other_order_is_a_warning(tiny_config):
    volume = np.random.default_rng(1).integers(-1000, 400, (3, 40, 40))
    network = predictor(tiny_config, as_seen)
    last = np.moveaxis(volume, 0, -1)
    assert network.predict(last).warnings == [
        "the array is 40x40x3, read as 40 slices of 40x3 (axes='DHW'): if its slices are square, "
        "give axes='HWD'"
    ]
    assert (
        "3x40x40, read as 40 slices of 3x40 (axes='HWD')"
        in (network.predict(volume, axes="HWD").warnings[0])
    )
    assert network.predict(volume).warnings == network.predict(last, axes="HWD").warnings == []


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (np.zeros(4), {}, r"expected one slice \[H, W\] or a volume of them, found \(4,\)"),
        (np.zeros((0, 4)), {}, "expected one slice"),
        (np.zeros((2, 2), complex), {}, "expected real numbers, found an array of complex128"),
        (np.full((2, 2), np.nan), {}, "holds NaN or infinities"),
        (np.full((2, 2), np.inf), {}, "holds NaN or infinities"),
        (np.zeros((2, 2, 2)), {"axes": "WHD"}, "axes must be one of DHW, HWD, found 'WHD'"),
        (np.zeros((2, 2)), {"spacing_mm": (1, 0)}, "spacing_mm must be 2 positive numbers"),
        (np.zeros((2, 2, 2)), {"spacing_mm": (1, 1)}, "spacing_mm must be 3 positive numbers"),
    ],
)
def test_arrays_that_cannot_be_used(tiny_config, array, options, message):
    with pytest.raises(InputError, match=message):
        predictor(tiny_config, as_seen).predict(array, **options)


def test_values_of_another_unit_are_a_warning(tiny_config):
    shifted = np.random.default_rng(2).integers(0, 2000, (40, 40))
    (warning,) = predictor(tiny_config, as_seen).predict(shifted).warnings
    assert "HU + 1024" in warning and "\n" not in warning


# ---- a run


def test_a_loaded_run_predicts_as_it_was_trained(finished_run, tiny_config):
    """At the network's size the same probabilities as the run's own evaluation step."""
    loaded = prnet_jax.load(str(finished_run))
    data = tiny_config.dataset
    test = open_splits(prepare(data.name, data.data_dir, **data.options), data)["test"]
    again = make_predictor(
        tiny_config, load_variables(finished_run), sharding.make_mesh(), test.unit
    )
    expected = [prob for _, prob in again.predict_split(test)]
    found = [prob for _, prob in loaded.predict_split(test)]
    np.testing.assert_array_equal(found, expected)
    # The stored slices are 64x64; the network sees 32x32.
    stored = next(test.stored())[2]
    result = loaded.predict(stored)
    assert result.prob.shape == (64, 64) and result.warnings == []
    whole = preprocess.resize_prob(expected[0], (64, 64))
    np.testing.assert_allclose(result.prob, whole, atol=1e-6, rtol=0)


def test_the_unit_of_an_older_run_follows_from_its_window(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    about = json.loads((run / "provenance.json").read_text())
    assert about.pop("unit") == "HU"
    (run / "provenance.json").write_text(json.dumps(about))
    assert prnet_jax.load(run).unit == "HU"
    config = json.loads((run / "config.json").read_text())
    config["dataset"]["window_hu"] = [0.0, 255.0]
    (run / "config.json").write_text(json.dumps(config))
    assert prnet_jax.load(run).unit == "grey"


def test_what_is_no_run_cannot_be_loaded(tmp_path):
    with pytest.raises(InputError, match="is not a run directory"):
        prnet_jax.load(tmp_path)
    with pytest.raises(InputError, match="^no_run does not exist and is no name of released"):
        prnet_jax.load("no_run")
    with pytest.raises(AttributeError, match="has no attribute 'lood'"):
        prnet_jax.lood  # noqa: B018


# ---- several processes


COUNT = """
import json, sys
import jax
import numpy as np

rank, port, records = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)

from prnet_jax import sharding
from prnet_jax.config import make_config
from prnet_jax.data.pipeline import Slices
from prnet_jax.data.prepare import prepare
from prnet_jax.predictor import Predictor
from prnet_jax.metrics import counts, merge_counts

config = make_config("prnet", "quick")
data = config.dataset
data.data_dir, data.image_size, config.eval_batch_size = records, 32, 4
data.options.size, data.options.num_slices = 64, (8, 4, 3)
slices = Slices(prepare(data.name, data.data_dir, **data.options), "train", data)

def step(variables, batch):  # a bright pixel is foreground
    image, target = batch["image"][..., 0], batch["mask"][..., 0] > 0.5
    return {"index": batch["index"], **counts(image > 0.3, target)}

mesh = sharding.make_mesh()
assert mesh.size == 4
predictor = Predictor(config, sharding.jit_eval_step(mesh, step), (), mesh, "HU")
parts = list(predictor.run(slices))
index = np.concatenate([part.pop("index") for part in parts])
merged = {name: int(total) for name, total in merge_counts(parts).items()}
print(json.dumps([index.tolist(), merged]))
"""


def test_counts_of_two_processes_are_those_of_one(tiny_config, root):
    """Two processes of two devices, each reading its part of every batch."""
    data = tiny_config.dataset
    slices = Slices(prepare(data.name, data.data_dir, **data.options), "train", data)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-c", COUNT]
    processes = [
        subprocess.Popen(
            [*command, str(rank), port, data.data_dir],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    results = []
    for process in processes:
        out, error = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, error
        results.append(json.loads(out.splitlines()[-1]))
    assert results[0] == results[1]
    index, merged = results[0]
    assert index == list(range(8))
    image = np.stack([slices[i]["image"][..., 0] for i in range(8)])
    target = np.stack([slices[i]["mask"][..., 0] > 0.5 for i in range(8)])
    one = counts(jnp.asarray(image > 0.3), jnp.asarray(target))
    assert merged == {name: int(total) for name, total in merge_counts([one]).items()}
    together = overlap((image > 0.3).reshape(-1, 32), target.reshape(-1, 32))
    tp, fp, fn = merged["tp"], merged["fp"], merged["fn"]
    assert together["dsc"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
