"""The files of an evaluation: tables, summary, pictures."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from prnet_jax import progress
from prnet_jax.evaluate.scores import (
    UNITS,
    _pixels,
    compare_readers,
    reader_summary,
    threshold_table,
)
from prnet_jax.figures import evaluation
from prnet_jax.metrics import METRICS, calibration, pooled, score_image, summarize
from prnet_jax.predictor import Predictions
from prnet_jax.run.files import SUMMARY, csv_text, write_whole

SPACING = ("spacing_row_mm", "spacing_column_mm")  # of the pixels that were scored


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
    with progress.progress(len(slices), desc="score", unit="images") as bar:
        for index, (prob, mask) in enumerate(zip(probs, masks, strict=True)):
            item = slices[index]
            scores = score_image(prob, mask, threshold, item["spacing_mm"], policy)
            about_image = {"id": item["id"], "patient_id": item["patient_id"]}
            spacing = dict(zip(SPACING, map(float, item["spacing_mm"]), strict=True))
            rows.append(about_image | scores | spacing)
            bar.update(1)
    reliability = calibration.reliability(*map(_pixels, (probs, masks)))
    readers = compare_readers(predictions, threshold)
    thresholds = threshold_table(predictions, policy)
    summary = {
        **about,
        "image_size": probs[0].shape[0],
        "threshold": threshold,
        "units": UNITS,
        **summarize(rows, policy),
        **pooled(probs, masks, threshold),
        "calibration_error": calibration.calibration_error(reliability),
    }
    if readers:
        summary["readers"] = reader_summary(readers)

    # First away and last written: a folder with a summary is whole.
    directory.mkdir(parents=True, exist_ok=True)
    (directory / SUMMARY).unlink(missing_ok=True)

    def samples():
        for index, (mask, prob) in enumerate(zip(masks, probs, strict=True)):
            yield slices[index]["image"][..., 0], mask, prob

    overlays = slices.write_overlays(directory / "overlays", rows, samples(), threshold)
    slices.contact_sheet(directory / "overview.png", rows, samples(), threshold=threshold)
    scored = [row | {"overlay": overlay.name} for row, overlay in zip(rows, overlays, strict=True)]
    columns = ("id", "patient_id", *METRICS, "empty", "overlay", *SPACING)
    write_whole(directory / "per_image.csv", csv_text(scored, columns))
    write_whole(directory / "calibration.csv", csv_text(rows_of(reliability)))
    evaluation.draw_calibration(
        reliability, summary["calibration_error"], directory / "calibration.png"
    )
    write_thresholds(thresholds, about["split"], threshold, directory / "thresholds")
    if readers:
        write_whole(directory / "readers.csv", csv_text(readers))
    text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
    write_whole(directory / SUMMARY, text)
    return summary


def write_thresholds(
    table: Mapping[str, np.ndarray], split: str, used: float, stem: pathlib.Path
) -> None:
    """Writes a `threshold_table` of a split as `stem`.csv and, `used` marked, as `stem`.png."""
    columns = {name: values for name, values in table.items() if name != "best"}
    write_whole(stem.with_suffix(".csv"), csv_text(rows_of(columns)))
    evaluation.draw_thresholds(table, used, split, stem.with_suffix(".png"))


def rows_of(columns: Mapping[str, np.ndarray]) -> list[dict]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
