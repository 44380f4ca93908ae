"""A split through the network, a batch at a time: for validation and for evaluation."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from prnet_jax import processes, progress
from prnet_jax.data.pipeline import Slices, eval_batches
from prnet_jax.errors import Stopped
from prnet_jax.metrics import mean_of_scored, merge_counts, overlap_from_counts
from prnet_jax.sharding import shard_batch

EvalStep = Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Predictions:
    """A split and what a network says of it, at the network's resolution.

    Attributes:
        slices: the split.
        probs: float32 [S, S] in [0, 1] of each slice, in order.
        masks: bool [S, S], the target of each.
    """

    slices: Slices
    probs: list[np.ndarray]
    masks: list[np.ndarray]


def run_split(
    eval_step: EvalStep,
    variables: Any,
    slices: Slices,
    config: ml_collections.ConfigDict,
    mesh: Mesh,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[dict[str, np.ndarray]]:
    """The results of `eval_step` for every slice once, in order, a batch at a time.

    Padding is taken off; arrays are left where they are until they are read, see
    `prnet_jax.steps.make_eval_step` for their names. With several processes each reads its part of
    a batch, and each gets the results of the whole.

    `stop` is asked before every batch.

    Raises:
        Stopped: it was true.
    """
    threads = config.dataset.num_threads
    for batch in eval_batches(slices, config.eval_batch_size, threads):
        if stop():
            raise Stopped("Stopped during an evaluation.")
        arrays = {name: batch[name] for name in ("image", "mask", "index")}
        results = eval_step(variables, shard_batch(mesh, arrays))
        real = np.flatnonzero(np.asarray(results["index"]) >= 0)
        order = real[np.argsort(np.asarray(results["index"])[real])]
        yield {name: np.asarray(array)[order] for name, array in results.items()}


def predict_split(
    eval_step: EvalStep,
    variables: Any,
    slices: Slices,
    config: ml_collections.ConfigDict,
    mesh: Mesh,
    stop: Callable[[], bool] = lambda: False,
) -> Predictions:
    """The probabilities of every slice; arguments and errors as for `run_split`.

    With several processes all take part, and the first has the result; that of others is empty.
    """
    probs, masks = [], []
    with progress.progress(len(slices), desc="predict", unit="images") as bar:
        for results in run_split(eval_step, variables, slices, config, mesh, stop):
            if not processes.is_first():
                continue
            for index, prob in zip(results["index"], results["prob"], strict=True):
                probs.append(prob)
                masks.append(slices[index]["mask"][..., 0] > 0.5)
                bar.update(1)
    return Predictions(slices, probs, masks)


def validate(
    eval_step: EvalStep,
    variables: Any,
    slices: Slices,
    config: ml_collections.ConfigDict,
    mesh: Mesh,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, float], np.ndarray]:
    """The figures that steer a training, and a picture of the first slices.

    Arguments and errors as for `run_split`.

    Returns:
        {loss, dsc, iou, dsc_pooled}: means over the images, where two empty masks have no DSC and
        IoU and are left out (0 if all are so), and the DSC of all pixels together, from the counts
        of all batches (0 where it has none); and uint8 [H, W, 3] from `slices.sample_grid`.
    """
    found: dict[str, list[np.ndarray]] = {}
    picture = None
    for results in run_split(eval_step, variables, slices, config, mesh, stop):
        if picture is None:
            few = range(min(4, len(results["index"])))
            image, mask = _pictures(slices, few)
            picture = slices.sample_grid(image, mask, results["prob"][: len(few)])
        for name in ("loss", "tp", "fp", "fn", "tn"):
            found.setdefault(name, []).append(results[name])
    arrays = {name: np.concatenate(parts) for name, parts in found.items()}
    loss = arrays.pop("loss")
    scores = overlap_from_counts(**arrays)
    means = {name: mean_of_scored(scores[name]) for name in ("dsc", "iou")}
    means["dsc_pooled"] = overlap_from_counts(**merge_counts([arrays]))["dsc"]
    means = {name: float(np.nan_to_num(mean)) for name, mean in means.items()}
    return {"loss": float(loss.mean(dtype=np.float64)), **means}, picture


def _pictures(slices: Slices, indices: range) -> tuple[np.ndarray, np.ndarray]:
    items = [slices[i] for i in indices]
    image = np.stack([item["image"][..., 0] for item in items])
    return image, np.stack([item["mask"][..., 0] > 0.5 for item in items])
