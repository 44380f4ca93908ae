"""Scores of a split: by image, by threshold, by reader. No files."""

from collections.abc import Mapping, Sequence

import numpy as np

from prnet_jax.metrics import agreement, calibration, find_policy, mean_of_scored
from prnet_jax.metrics.names import json_number
from prnet_jax.predictor import Predictions

UNITS = (
    "fractions; _px in pixels of image_size, _mm in mm; hd95 the larger of the two directed 95th "
    "percentiles, hd95_pooled the percentile of both directions together; distances, also those in "
    "mm, are of masks at image_size"
)


_THRESHOLD_COLUMNS = ("dsc", "iou", "sen", "ppv")


_READER = "reader_"  # masks of one record that are named so are outlines by several people


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


def compare_readers(predictions: Predictions, threshold: float) -> list[dict]:
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


def reader_summary(rows: Sequence[Mapping]) -> dict[str, dict[str, float | None]]:
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
