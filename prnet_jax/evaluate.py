"""A split through the network: per-image scores, the summary, and both as files with pictures."""

import csv
import json
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from prnet_jax import figures, writers
from prnet_jax.data.pipeline import Slices, eval_batches
from prnet_jax.metrics import METRICS, overlap_from_counts, pooled, score_image, summarize
from prnet_jax.sharding import shard_batch

EvalStep = Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]]


def run_split(
    eval_step: EvalStep,
    variables: Any,
    slices: Slices,
    config: ml_collections.ConfigDict,
    mesh: Mesh,
) -> Iterator[dict[str, np.ndarray]]:
    """The results of `eval_step` for every slice once, in order, a batch at a time.

    Padding is taken off; arrays are left where they are until they are read, see
    `prnet_jax.steps.make_eval_step` for their names.
    """
    threads = config.dataset.num_threads
    for batch in eval_batches(slices, config.eval_batch_size, threads):
        arrays = {name: batch[name] for name in ("image", "mask", "index")}
        results = eval_step(variables, shard_batch(mesh, arrays))
        real = np.flatnonzero(np.asarray(results["index"]) >= 0)
        order = real[np.argsort(np.asarray(results["index"])[real])]
        yield {name: np.asarray(array)[order] for name, array in results.items()}


def validate(
    eval_step: EvalStep,
    variables: Any,
    slices: Slices,
    config: ml_collections.ConfigDict,
    mesh: Mesh,
) -> tuple[dict[str, float], np.ndarray]:
    """The figures that steer a training, and a picture of the first slices.

    Returns:
        {loss, dsc, iou}: means over the images, where two empty masks have no DSC and IoU and are
        left out (0 if all are so); and uint8 [H, W, 3] from `figures.sample_grid`.
    """
    found: dict[str, list[np.ndarray]] = {}
    picture = None
    for results in run_split(eval_step, variables, slices, config, mesh):
        if picture is None:
            few = range(min(4, len(results["index"])))
            image, mask = _pictures(slices, few)
            picture = figures.sample_grid(image, mask, results["prob"][: len(few)])
        for name in ("loss", "tp", "fp", "fn", "tn"):
            found.setdefault(name, []).append(results[name])
    arrays = {name: np.concatenate(parts) for name, parts in found.items()}
    loss = arrays.pop("loss")
    scores = overlap_from_counts(**arrays)
    means = {name: _mean_of_scored(scores[name]) for name in ("dsc", "iou")}
    return {"loss": float(loss.mean(dtype=np.float64)), **means}, picture


def evaluate_split(
    eval_step: EvalStep,
    variables: Any,
    slices: Slices,
    config: ml_collections.ConfigDict,
    mesh: Mesh,
    directory: pathlib.Path,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Scores a split and writes summary.json, per_image.csv, overlays/ and overview.png.

    Scores are taken at the network's resolution, `config.dataset.image_size`: a distance in pixels
    is in those pixels, one in mm uses their size.

    Args:
        eval_step: compiled, see `prnet_jax.steps.make_eval_step`.
        variables: of the network.
        slices: the split.
        config: the run's.
        mesh: see `prnet_jax.sharding`.
        directory: for the files; made where absent.
        about: further entries of the summary: which split, checkpoint, data.

    Returns:
        What summary.json holds: `about`, then `prnet_jax.metrics.summarize` and `pooled`.
    """
    rows, probs, masks = [], [], []
    with writers.progress(len(slices), desc="evaluate", unit="images") as bar:
        for results in run_split(eval_step, variables, slices, config, mesh):
            for index, prob in zip(results["index"], results["prob"], strict=True):
                item = slices[index]
                mask = item["mask"][..., 0] > 0.5
                scores = score_image(prob, mask, config.threshold, item["spacing_mm"])
                rows.append({"id": item["id"], "patient_id": item["patient_id"], **scores})
                probs.append(prob)
                masks.append(mask)
                bar.update(1)

    summary = {
        **about,
        "image_size": config.dataset.image_size,
        "threshold": config.threshold,
        "units": "fractions; hd_px and hd95_px in pixels of image_size, hd_mm and hd95_mm in mm",
        **summarize(rows),
        **pooled(probs, masks, config.threshold),
    }
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "per_image.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["id", "patient_id", *METRICS, "empty"])
        table.writeheader()
        for row in rows:
            unscored = {k: "" for k in METRICS if math.isnan(row[k])}
            table.writerow(row | unscored)

    def samples():
        for index, (mask, prob) in enumerate(zip(masks, probs, strict=True)):
            yield slices[index]["image"][..., 0], mask, prob

    figures.write_overlays(directory / "overlays", rows, samples(), config.threshold)
    figures.contact_sheet(directory / "overview.png", rows, samples(), threshold=config.threshold)
    # Last, because a run counts as evaluated when it is there.
    (directory / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return summary


def _pictures(slices: Slices, indices: range) -> tuple[np.ndarray, np.ndarray]:
    items = [slices[i] for i in indices]
    image = np.stack([item["image"][..., 0] for item in items])
    return image, np.stack([item["mask"][..., 0] > 0.5 for item in items])


def _mean_of_scored(scores: np.ndarray) -> float:
    scored = scores[~np.isnan(scores)]
    return float(scored.mean()) if scored.size else 0.0
