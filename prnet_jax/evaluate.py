"""Scores of a split: tables, summary, pictures. Run as a command, see `prnet_jax.evaluate_command`.

    python -m prnet_jax.evaluate --workdir RUN
"""

import csv
import json
import math
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from prnet_jax import evaluation_curves, figures, processes, writers
from prnet_jax.data.pipeline import Slices
from prnet_jax.inference import EvalStep, Predictions, predict_split
from prnet_jax.metrics import (
    METRICS,
    agreement,
    calibration,
    find_policy,
    mean_of_scored,
    pooled,
    score_image,
    summarize,
)
from prnet_jax.metrics.policy import json_number
from prnet_jax.run_directory import write_whole

SUMMARY_FILE = "summary.json"
_UNITS = (
    "fractions; _px in pixels of image_size, _mm in mm; hd95 the larger of the two directed 95th "
    "percentiles, hd95_pooled the percentile of both directions together; distances, also those in "
    "mm, are of masks at image_size"
)
_SPACING = ("spacing_row_mm", "spacing_column_mm")  # of the pixels that were scored
_THRESHOLD_COLUMNS = ("dsc", "iou", "sen", "ppv")
_READER = "reader_"  # masks of one record that are named so are outlines by several people


def about_run(config: ml_collections.ConfigDict, variables: Any) -> dict[str, Any]:
    """What a summary says of the network and of how it was used, as the config has it."""
    return {
        "network": config.model.name,
        "parameters": sum(x.size for x in jax.tree.leaves(variables["params"])),
        "seed": config.seed,
        "dataset": config.dataset.name,
        "mask": config.dataset.mask,
        "window_hu": list(config.dataset.window_hu),
        "tta": "none",
        "threshold_from": "given",
    }


def evaluate_split(
    eval_step: EvalStep,
    variables: Any,
    slices: Slices,
    config: ml_collections.ConfigDict,
    mesh: Mesh,
    directory: pathlib.Path,
    about: dict[str, Any],
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Predicts a split in all processes and scores it at `config.threshold` in the first.

    Arguments and errors as for `predict_split` and `write_evaluation`.
    """
    predictions = predict_split(eval_step, variables, slices, config, mesh, stop)
    return processes.on_first(
        lambda: write_evaluation(predictions, directory, about, config.threshold)
    )


def write_evaluation(
    predictions: Predictions,
    directory: pathlib.Path,
    about: Mapping[str, Any],
    threshold: float,
    policy: str = "penalise",
) -> dict[str, Any]:
    """Scores a split and writes all that there is to know of it.

    summary.json, per_image.csv, overlays/ (the worst first), overview.png; calibration.csv and
    .png, thresholds.csv and .png; and readers.csv where the records hold several readers' masks.
    Files of those names are replaced.

    Scores are taken at the network's resolution, `config.dataset.image_size`: a distance in pixels
    is in those pixels, one in mm uses their size.

    Args:
        predictions: of the split.
        directory: for the files; made where absent.
        about: entries for the summary to begin with: which network, split, checkpoint, data.
        threshold: the predicted mask is `prob >= threshold`.
        policy: what empty masks count for, a name of `prnet_jax.metrics.POLICIES`.

    Returns:
        What summary.json holds.
    """
    slices, probs, masks = predictions.slices, predictions.probs, predictions.masks
    rows = []
    with writers.progress(len(slices), desc="score", unit="images") as bar:
        for index, (prob, mask) in enumerate(zip(probs, masks, strict=True)):
            item = slices[index]
            scores = score_image(prob, mask, threshold, item["spacing_mm"], policy)
            about_image = {"id": item["id"], "patient_id": item["patient_id"]}
            spacing = dict(zip(_SPACING, map(float, item["spacing_mm"]), strict=True))
            rows.append(about_image | scores | spacing)
            bar.update(1)
    reliability = calibration.reliability(*map(_pixels, (probs, masks)))
    readers = _readers(predictions, threshold)
    thresholds = threshold_table(predictions, policy)
    summary = {
        **about,
        "image_size": probs[0].shape[0],
        "threshold": threshold,
        "units": _UNITS,
        **summarize(rows, policy),
        **pooled(probs, masks, threshold),
        "calibration_error": calibration.calibration_error(reliability),
    }
    if readers:
        summary["readers"] = _reader_summary(readers)

    # First away and last written: a folder with a summary is whole.
    directory.mkdir(parents=True, exist_ok=True)
    (directory / SUMMARY_FILE).unlink(missing_ok=True)

    def samples():
        for index, (mask, prob) in enumerate(zip(masks, probs, strict=True)):
            yield slices[index]["image"][..., 0], mask, prob

    overlays = figures.write_overlays(directory / "overlays", rows, samples(), threshold)
    figures.contact_sheet(directory / "overview.png", rows, samples(), threshold=threshold)
    _write_table(
        directory / "per_image.csv",
        [row | {"overlay": overlay.name} for row, overlay in zip(rows, overlays, strict=True)],
        ("id", "patient_id", *METRICS, "empty", "overlay", *_SPACING),
    )
    _write_table(directory / "calibration.csv", _rows_of(reliability))
    evaluation_curves.draw_calibration(
        reliability, summary["calibration_error"], directory / "calibration.png"
    )
    write_thresholds(thresholds, about["split"], threshold, directory / "thresholds")
    if readers:
        _write_table(directory / "readers.csv", readers)
    text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
    write_whole(directory / SUMMARY_FILE, text)
    return summary


def threshold_table(predictions: Predictions, policy: str = "penalise") -> dict[str, np.ndarray]:
    """Mean overlap over the images at every threshold of `calibration.THRESHOLDS`.

    Returns:
        `threshold` and, as means over the images that `policy` scores, `dsc`, `iou`, `sen`, `ppv`:
        float64 [T]; and `best`, float64 [], the threshold with the highest mean DSC, NaN where no
        image is scored.
    """
    scores = calibration.scores_by_threshold(predictions.probs, predictions.masks)
    pred_empty = scores["pred_empty"]
    target_empty = np.array([not mask.any() for mask in predictions.masks])[:, None]
    for state, where in {
        "both_empty": pred_empty & target_empty,
        "missed": pred_empty & ~target_empty,
        "false_alarm": ~pred_empty & target_empty,
    }.items():
        counted = getattr(find_policy(policy), state)
        for name in _THRESHOLD_COLUMNS:
            scores[name][where] = getattr(counted, name)
    means = {name: mean_of_scored(scores[name]) for name in _THRESHOLD_COLUMNS}
    best = calibration.best_threshold(scores["dsc"])
    return {"threshold": calibration.THRESHOLDS, **means, "best": np.float64(best)}


def write_thresholds(
    table: Mapping[str, np.ndarray], split: str, used: float, stem: pathlib.Path
) -> None:
    """Writes a `threshold_table` of a split as `stem`.csv and, `used` marked, as `stem`.png."""
    columns = {name: values for name, values in table.items() if name != "best"}
    _write_table(stem.with_suffix(".csv"), _rows_of(columns))
    evaluation_curves.draw_thresholds(table, used, split, stem.with_suffix(".png"))


def _readers(predictions: Predictions, threshold: float) -> list[dict]:
    """Every two of network, target and readers, see `agreement.pairwise_dice`; or nothing."""
    slices = predictions.slices
    names = [name for name in slices.mask_names if name.startswith(_READER)]
    if not names:
        return []
    outlines = {
        "network": [prob >= threshold for prob in predictions.probs],
        slices.mask_name: predictions.masks,
    }
    for name in names:
        outlines[name] = [slices.mask(i, name) for i in range(len(slices))]
    return agreement.pairwise_dice(outlines)


def _reader_summary(rows: Sequence[Mapping]) -> dict[str, dict[str, float | None]]:
    """Mean Dice of the network with each reader, and of the readers with each other."""

    def mean(chosen):
        return {
            name: json_number(np.mean([row[name] for row in chosen]))
            for name in ("dice_both_marked", "dice_any_marked")
        }

    readers = [row for row in rows if row["second"].startswith(_READER)]
    return {
        "network_with_readers": mean([row for row in readers if row["first"] == "network"]),
        "readers_with_each_other": mean(
            [row for row in readers if row["first"].startswith(_READER)]
        ),
    }


def _pixels(images: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([image.ravel() for image in images])


def _rows_of(columns: Mapping[str, np.ndarray]) -> list[dict]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _write_table(
    path: pathlib.Path, rows: Sequence[Mapping], columns: Sequence[str] | None = None
) -> None:
    """A CSV file; what is not known (NaN) is an empty cell."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns or list(rows[0]))
        table.writeheader()
        for row in rows:
            unknown = {k: "" for k, v in row.items() if isinstance(v, float) and math.isnan(v)}
            table.writerow(row | unknown)


if __name__ == "__main__":
    from prnet_jax.evaluate_command import main

    sys.exit(main())
