"""A split through a predictor, and the figures that steer a training."""

import json
import socket
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax import sharding
from prnet_jax.data.pipeline import Slices
from prnet_jax.data.prepare import prepare
from prnet_jax.metrics import counts, merge_counts, overlap
from prnet_jax.predictor import predict_split, validate


@pytest.fixture
def slices(tiny_config):
    data = tiny_config.dataset
    tiny_config.eval_batch_size = 2  # three images: the last batch is padded
    return Slices(prepare(data.name, data.data_dir, **data.options), "test", data)


def predictor(variables, batch):
    """Says that everything is foreground, more so in later images."""
    prob = jnp.ones(batch["mask"].shape[:3]) * (0.7 + 0.1 * batch["index"][:, None, None])
    target = batch["mask"][..., 0] > 0.5
    return {
        "index": batch["index"],
        "prob": prob,
        "loss": jnp.ones(len(prob)),
        **counts(prob >= 0.5, target),
    }


def test_every_slice_once_in_order(slices, tiny_config):
    found = predict_split(predictor, None, slices, tiny_config, sharding.make_mesh())
    assert [prob.shape for prob in found.probs] == [(32, 32)] * 3
    np.testing.assert_allclose([prob[0, 0] for prob in found.probs], [0.7, 0.8, 0.9], rtol=1e-6)
    for i, mask in enumerate(found.masks):
        np.testing.assert_array_equal(mask, slices[i]["mask"][..., 0] == 1)


def test_validation_means_over_images(slices, tiny_config):
    scores, picture = validate(predictor, None, slices, tiny_config, sharding.make_mesh())
    share = np.array([slices[i]["mask"].mean(dtype=np.float64) for i in range(3)])
    assert scores["loss"] == 1.0
    assert scores["iou"] == pytest.approx(share.mean())
    assert scores["dsc"] == pytest.approx((2 * share / (1 + share)).mean())
    pooled = 2 * share.mean() / (1 + share.mean())
    assert scores["dsc_pooled"] == pytest.approx(pooled) != scores["dsc"]
    assert picture.dtype == np.uint8 and picture.shape[2] == 3


COUNT = """
import json, sys
import jax
import numpy as np

rank, port, records = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)

from prnet_jax import sharding
from prnet_jax.config import make_config
from prnet_jax.data.pipeline import Slices
from prnet_jax.data.prepare import prepare
from prnet_jax.inference import run_split
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
parts = list(run_split(sharding.jit_eval_step(mesh, step), (), slices, config, mesh))
index = np.concatenate([part.pop("index") for part in parts])
merged = {name: int(total) for name, total in merge_counts(parts).items()}
print(json.dumps([index.tolist(), merged]))
"""


@pytest.mark.slow
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
        out, error = process.communicate(timeout=240)
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
