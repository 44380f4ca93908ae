"""Our parts that need the complete installation: predicting, reading records, evaluating.

The data are slices of the phantom, 512x512, stored as 16-bit PNG.
"""

import dataclasses
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np

from prnet_jax import sharding, steps
from prnet_jax.benchmark.task import Task
from prnet_jax.config import make_config
from prnet_jax.data.pipeline import Slices, train_batches
from prnet_jax.data.prepare import prepare
from prnet_jax.datasets.lung_phantom.phantom import make_slice
from prnet_jax.evaluate.split import score, score_split
from prnet_jax.predictor import Predictor, make_predictor

Run = Callable[[int], None]
_STORED = 512  # side of the stored slices
_DIFFERENT = 8  # slices of a volume; the others repeat them


def predict(task: Task) -> tuple[Run, dict[str, Any]]:
    """A volume through `Predictor.probabilities`: windowing, resizing, network, resizing back.

    The slices of the variant "small" are of the network's size.
    """
    predictor = _predictor(task)
    side = task.size if task.variant == "small" else _STORED
    made = [make_slice(i, 0, side).hu for i in range(min(task.slices, _DIFFERENT))]

    def run(calls):
        for _ in range(calls):
            for _ in predictor.probabilities(made[i % len(made)] for i in range(task.slices)):
                pass

    return run, {"images": task.slices}


def data(task: Task) -> tuple[Run, dict[str, Any]]:
    """Training batches: "read" from the records each time, or "kept" in memory once read.

    "prepare" makes the records from nothing.
    """
    if task.variant == "prepare":
        return _preparing(task), {"images": task.slices + 2}
    config = _config(task)
    config.dataset.cache = task.variant == "kept"
    slices = _slices(config)
    batches = train_batches(slices, task.batch, 0, config.dataset.num_threads)
    number = -(-task.slices // task.batch)

    def run(calls):
        for _ in range(calls * number):
            next(batches)

    return run, {"images": number * task.batch}


def evaluate(task: Task) -> tuple[Run, dict[str, Any]]:
    """A split scored with distances and overlays: "all", or only the device's or the host's work.

    An untrained network's masks would be noise, which no distance is meant for: the network runs,
    and then each prediction is the reference moved by two pixels.
    """
    config = _config(task)
    slices = _slices(config)
    if task.variant == "host":
        probs = [_moved(slices[i]["mask"][..., 0]) for i in range(len(slices))]
    else:
        predictor = _moving(_predictor(task))

    def once(folder: pathlib.Path) -> None:
        if task.variant == "device":
            for _ in predictor.run(slices):
                pass
        elif task.variant == "host":
            found = ((i, prob) for i, prob in enumerate(probs))
            score(found, slices, 0.5, folder, {"split": "test"}, "penalise", native=False)
        else:
            score_split(predictor, slices, folder, {"split": "test"})

    def run(calls):
        for _ in range(calls):
            with tempfile.TemporaryDirectory(dir=task.folder) as folder:
                once(pathlib.Path(folder) / "scores")

    return run, {"images": task.slices}


def _config(task: Task) -> ml_collections.ConfigDict:
    config = make_config(task.model)
    config.model.update(task.fields)
    config.dtype = task.dtype
    config.batch_size = config.eval_batch_size = task.batch
    config.dataset.image_size = task.size
    config.dataset.cache = False
    config.dataset.data_dir = str(pathlib.Path(task.folder) / "records")
    config.dataset.options.size = _STORED
    config.dataset.options.num_slices = (task.slices, 1, 1)
    return config


def _slices(config: ml_collections.ConfigDict) -> Slices:
    """All slices but two; sides that follow find the records of the first."""
    data = config.dataset
    return Slices(prepare(data.name, data.data_dir, **data.options), "train", data)


def _preparing(task: Task) -> Run:
    config = _config(task)
    data = config.dataset

    def run(calls):
        for _ in range(calls):
            folder = tempfile.mkdtemp(dir=task.folder)
            prepare(data.name, folder, **data.options)
            shutil.rmtree(folder)

    return run


def _predictor(task: Task) -> Predictor:
    """With the weights that a training begins with."""
    config = _config(task)
    mesh, model = sharding.make_mesh(), steps.make_model(config)
    image = np.zeros((1, task.size, task.size, model.in_channels), np.float32)
    variables = sharding.make_state(mesh, lambda: model.init(jax.random.key(0), image, train=False))
    return make_predictor(config, variables, mesh, "HU")


def _moving(predictor: Predictor) -> Predictor:
    """A predictor whose probabilities are the reference's, moved; the network runs before."""

    @jax.jit
    def moved(prob, mask):
        return _moved(mask[..., 0]) + 1e-3 * prob

    def step(variables, batch):
        results = predictor.step(variables, batch)
        return {**results, "prob": moved(results["prob"], batch["mask"])}

    return dataclasses.replace(predictor, step=step)


def _moved(mask: Any) -> Any:
    """[..., H, W] of 0 and 1 -> 0 and 0.9, two pixels to the right."""
    roll = np.roll if isinstance(mask, np.ndarray) else jax.numpy.roll
    return 0.9 * roll(mask, 2, axis=-1)
