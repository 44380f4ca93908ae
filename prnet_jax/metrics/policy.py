"""How the metrics of single images become a summary, and what an empty mask counts for.

The rule for empty masks, the same in every table and file of this project:

==================  ==========================  ==================================================
image               called                      counts as
==================  ==========================  ==================================================
both masks empty    `both_empty`                acc, spe and mae only; the others are not scored
                                                (NaN, left out of the mean)
target alone empty  `false_alarm`               iou = dsc = ppv = 0, distances = the picture's
                                                diagonal; sen and auc do not exist
pred alone empty    `missed`                    iou = dsc = sen = ppv = 0, distances = the
                                                picture's diagonal
==================  ==========================  ==================================================

The diagonal, from corner to corner of the picture in the unit of the distance, is longer than any
distance between two of its pixels. So a missed image drops out of no mean, and can never make a
mean overlap or distance look better.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from prnet_jax.metrics.overlap import as_mask, auc, mae, overlap, overlap_from_counts
from prnet_jax.metrics.surface import percentile_distance, surface_distances

PIXEL_METRICS = ("iou", "dsc", "acc", "spe", "sen", "ppv", "auc", "mae")
METRICS = (*PIXEL_METRICS, "hd_px", "hd95_px", "hd_mm", "hd95_mm")
EMPTY_RULE = (
    "both masks empty: counted, scored by acc, spe and mae only; "
    "false alarm (only the target empty): iou = dsc = ppv = 0, distances = the picture's diagonal; "
    "missed (only the prediction empty): iou = dsc = sen = ppv = 0, distances = the picture's "
    "diagonal"
)


def score_image(
    prob: np.ndarray,
    target: np.ndarray,
    threshold: float = 0.5,
    spacing_mm: Sequence[float] | None = None,
) -> dict[str, float | str]:
    """All metrics of one image under the rule above.

    Args:
        prob: float [H, W] in [0, 1], the probability of foreground.
        target: bool [H, W].
        threshold: the predicted mask is `prob >= threshold`.
        spacing_mm: (row, column) distance of pixel centres in mm; None or NaN where not known.

    Returns:
        Every name of `METRICS`, NaN where not scored or (`_mm`) the spacing is not known; and
        `empty`: "both_empty", "missed", "false_alarm", or "" where neither mask is empty. HD95
        is the larger of the two directed percentiles.

    Raises:
        ValueError: as `overlap`, `mae` and `surface_distances`.
    """
    prob, target = np.asarray(prob), as_mask(target, "target")
    pred = prob >= threshold
    row = overlap(pred, target) | {"auc": auc(prob, target), "mae": mae(prob, target)}
    empty = _empty_state(pred, target)
    if empty == "missed":
        row["ppv"] = 0.0
    known = spacing_mm is not None and not np.isnan(spacing_mm).any()
    units = {"px": (1.0, 1.0), "mm": tuple(map(float, spacing_mm)) if known else None}
    for unit, spacing in units.items():
        row[f"hd_{unit}"], row[f"hd95_{unit}"] = _distances(pred, target, spacing, empty)
    return {name: row[name] for name in METRICS} | {"empty": empty}


def summarize(rows: Iterable[Mapping]) -> dict:
    """Mean, spread and median of each metric over images: the body of `summary.json`.

    Args:
        rows: results of `score_image`; further keys are ignored.

    Returns:
        `metrics`: name -> mean, sd (ddof 1), median, n, over the n images that were scored; None
        (JSON's null) for what n is too small for. `counts`: n_images, both_empty, missed,
        false_alarm. `empty_rule`: the rule in words.
    """
    rows = list(rows)
    states = [row["empty"] for row in rows]
    return {
        "metrics": {name: _statistics([row[name] for row in rows]) for name in METRICS},
        "counts": {
            "n_images": len(rows),
            **{state: states.count(state) for state in ("both_empty", "missed", "false_alarm")},
        },
        "empty_rule": EMPTY_RULE,
    }


def pooled(
    probs: Sequence[np.ndarray], targets: Sequence[np.ndarray], threshold: float = 0.5
) -> dict:
    """The pixel metrics of all images taken as one: from summed counts, over all pixels.

    Args:
        probs: float [H, W] in [0, 1] each; the images may differ in size.
        targets: bool [H, W] each.
        threshold: as for `score_image`.

    Returns:
        `pooled`: name -> value for `PIXEL_METRICS`, None where not defined.

    Raises:
        ValueError: as `overlap` and `mae`, or no image at all.
    """
    prob = np.concatenate([np.ravel(prob) for prob in probs])
    target = np.concatenate([np.ravel(as_mask(target, "target")) for target in targets])
    pred = prob >= threshold
    values = overlap_from_counts(
        tp=np.sum(pred & target),
        fp=np.sum(pred & ~target),
        fn=np.sum(~pred & target),
        tn=np.sum(~pred & ~target),
    ) | {"auc": auc(prob, target), "mae": mae(prob, target)}
    return {"pooled": {name: _json_number(value) for name, value in values.items()}}


def _empty_state(pred: np.ndarray, target: np.ndarray) -> str:
    if target.any():
        return "" if pred.any() else "missed"
    return "false_alarm" if pred.any() else "both_empty"


def _distances(
    pred: np.ndarray, target: np.ndarray, spacing: tuple[float, float] | None, empty: str
) -> tuple[float, float]:
    """HD and HD95 in the unit of `spacing`, which is None where not known."""
    if spacing is None or empty == "both_empty":
        return math.nan, math.nan
    if empty:
        diagonal = math.hypot(pred.shape[0] * spacing[0], pred.shape[1] * spacing[1])
        return diagonal, diagonal
    both_ways = surface_distances(pred, target, spacing)
    return tuple(percentile_distance(*both_ways, q, "max") for q in (100, 95))


def _statistics(values: Sequence[float]) -> dict[str, float | int | None]:
    scored = np.asarray([value for value in values if not math.isnan(value)], np.float64)
    n = scored.size
    return {
        "mean": float(scored.mean()) if n else None,
        "sd": float(scored.std(ddof=1)) if n > 1 else None,
        "median": float(np.median(scored)) if n else None,
        "n": n,
    }


def _json_number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
