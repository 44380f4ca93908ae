"""What a network costs, for the columns beside its scores in a comparison.

`cost` in summary.json, and `cost.json` beside the predictions of another program, hold these; each
is None or absent where it is not known:

* `gflop`: operations of one image at the network's size in 1e9, a multiply-add as two.
* `train_minutes`: wall time of the training, validation included.
* `peak_mib`: the largest memory of the training: of the device, on CPUs of the process.
* `seconds_per_slice`: wall time of the network on a full batch, divided by its size, the shortest
  of three; reading and resizing are not in it.

`cost.json` may hold `parameters`, their number, too.
"""

import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prnet_jax import steps
from prnet_jax.errors import InputError
from prnet_jax.models.operations import gflop
from prnet_jax.predictor import Predictor
from prnet_jax.run.directory import train_clock

COST = ("gflop", "train_minutes", "peak_mib", "seconds_per_slice")
FILE = "cost.json"
_RUNS = 3


def of_network(predictor: Predictor) -> dict[str, float | None]:
    """`gflop` and `seconds_per_slice` of a network; the latter only where one process predicts."""
    return {"gflop": _gflop(predictor), "seconds_per_slice": _seconds(predictor)}


def of_training(workdir: pathlib.Path) -> dict[str, float | None]:
    """`train_minutes` and `peak_mib`, as far as a run's checkpoints tell."""
    clock = train_clock(workdir)
    seconds = clock.get("train_s")
    minutes = None if seconds is None else seconds / 60
    return {"train_minutes": minutes, "peak_mib": clock.get("peak_mib")}


def of_predictions(folder: pathlib.Path) -> tuple[int | None, dict[str, float]]:
    """The parameters of another program and its costs, of a `cost.json` in its folder, if any.

    Raises:
        InputError: the file is not an object of numbers with these names.
    """
    path = folder / FILE
    if not path.is_file():
        return None, {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = {name: value for name, value in found.items() if value is not None}
        right = all(
            name in (*COST, "parameters") and type(value) in (int, float) and 0 <= value < 1e18
            for name, value in known.items()
        )
    except (OSError, ValueError, AttributeError, RecursionError):
        right = False
    if not right:
        raise InputError(
            f"{path} must be a JSON object of numbers named parameters, {', '.join(COST)}: correct "
            "or remove it"
        )
    parameters = known.pop("parameters", None)
    return None if parameters is None else int(parameters), known


def _gflop(predictor: Predictor) -> float | None:
    """Depends neither on the device nor on the compiler."""
    config = predictor.config
    model, size = steps.make_model(config), config.dataset.image_size
    image = jax.ShapeDtypeStruct((1, size, size, model.in_channels), jnp.float32)

    def run(variables: Any, image: jax.Array) -> jax.Array:
        return model.apply(variables, image, train=False)

    return gflop(run, predictor.variables, image)


def _seconds(predictor: Predictor) -> float | None:
    if jax.process_count() > 1:
        return None
    number, size = predictor.config.eval_batch_size, predictor.config.dataset.image_size
    images = np.zeros((number, size, size, 1), np.float32)
    predictor.prob(images).block_until_ready()  # compiles
    times = []
    for _ in range(_RUNS):
        begin = time.perf_counter()
        predictor.prob(images).block_until_ready()
        times.append(time.perf_counter() - begin)
    return min(times) / number
