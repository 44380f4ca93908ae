"""Scores of single images, and their summary over a data set."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from prnet_jax.metrics.names import DISTANCES, METRICS, PIXEL_METRICS, TOLERANCES
from prnet_jax.metrics.overlap import (
    as_mask,
    auc,
    brier,
    mae,
    overlap,
    overlap_from_counts,
    prob_pair,
)
from prnet_jax.metrics.policy import (
    EMPTY_STATES,
    EmptyPolicy,
    EmptyScores,
    check_scored_under,
    empty_state,
    find_policy,
)
from prnet_jax.metrics.pooled_auc import EXACT_PIXELS, PooledAuc
from prnet_jax.metrics.statistics import bootstrap_intervals
from prnet_jax.metrics.surface import (
    check_spacing,
    mean_distance,
    percentile_distance,
    share_within,
    surface_distances,
)

# Of the bootstrap
RESAMPLES = 10_000
SEED = 0

_UNKNOWN_IN_MM = dict.fromkeys((name for name in METRICS if name.endswith("mm")), math.nan)


def score_image(
    prob: np.ndarray,
    target: np.ndarray,
    threshold: float = 0.5,
    spacing_mm: Sequence[float] | None = None,
    policy: str | EmptyPolicy = "penalise",
) -> dict[str, float | str]:
    """All metrics of one image.

    Args:
        prob: float [H, W] in [0, 1], the probability of foreground.
        target: bool [H, W].
        threshold: the predicted mask is `prob >= threshold`.
        spacing_mm: (row, column) distance of pixel centres in mm; None or NaN if unknown.
        policy: what empty masks count for: a name in `POLICIES`, or a policy of your own.

    Returns:
        Every name of `METRICS`, NaN where not scored, or in mm if the spacing is unknown; and
        `empty`: "both_empty", "missed", "false_alarm", or "" where neither mask is empty. `hd95`
        is the larger of the two directed percentiles, `hd95_pooled` the percentile of both
        directions together. `mae_binary` is the MAE of the predicted mask, 1 - ACC.

    Raises:
        ValueError: as for `overlap`, `mae` and `surface_distances`.
        InputError: an unknown policy.
    """
    policy = find_policy(policy)
    prob, target = np.asarray(prob), as_mask(target, "target")
    pred = prob >= threshold
    row = overlap(pred, target)
    row |= {"auc": auc(prob, target), "mae": mae(prob, target), "brier": brier(prob, target)}
    row["mae_binary"] = 1 - row["acc"]
    mm = None
    if spacing_mm is not None and not np.isnan(spacing_mm).any():
        mm = tuple(map(float, spacing_mm))
        check_spacing(mm, axes=2)
    empty = empty_state(pred, target)
    if empty:
        scores = getattr(policy, empty)
        row |= {name: float(getattr(scores, name)) for name in ("iou", "dsc", "sen", "ppv")}
        row |= _empty_distances(scores, pred.shape, mm)
    else:
        row |= _distances(pred, target, mm)
    return {name: row[name] for name in METRICS} | {"empty": empty}


def summarize(rows: Iterable[Mapping], policy: str | EmptyPolicy = "penalise") -> dict:
    """Mean, spread and interval of each metric over images: the body of `summary.json`.

    Args:
        rows: results of `score_image` under the same policy. If they have a `patient_id`, the
            bootstrap draws patients; an image without one (None or "") is its own unit. Other keys
            are ignored.
        policy: the policy that the rows were scored under.

    Returns:
        A dict of

        * metrics: name -> mean, sd (ddof 1), median, q1, q3, ci95_low, ci95_high (see
          `statistics.bootstrap_interval`) over the n scored images, None (JSON's null) where n
          is too small; `left_out`, the number of images not scored; and `missed` and
          `false_alarm`, which are the same for all metrics but belong beside every mean.
        * counts: n_images, both_empty, missed, false_alarm.
        * empty_policy, empty_rule: the policy's name and rule.
        * bootstrap: resamples, seed, unit ("patient" or "image") and the number of units.

    Raises:
        ValueError: a row that was scored under another policy.
        InputError: an unknown policy.
    """
    policy = find_policy(policy)
    rows = list(rows)
    for row in rows:
        check_scored_under(policy, row)
    states = [row["empty"] for row in rows]
    counts = {state: states.count(state) for state in EMPTY_STATES}
    patients = [row.get("patient_id") for row in rows]
    # Prefixed, so that no patient has the name of an image; padded, to sort in numerical order.
    units = [f"patient {name}" if name else f"image {i:09d}" for i, name in enumerate(patients)]
    table = np.array([[row[name] for name in METRICS] for row in rows], np.float64)
    table = table.reshape(len(rows), len(METRICS))
    low, high = bootstrap_intervals(table, units, resamples=RESAMPLES, seed=SEED)
    beside = {"missed": counts["missed"], "false_alarm": counts["false_alarm"]}
    return {
        "metrics": {
            name: _statistics(table[:, i], low[i], high[i]) | beside
            for i, name in enumerate(METRICS)
        },
        "counts": {"n_images": len(rows), **counts},
        "empty_policy": policy.name,
        "empty_rule": policy.rule,
        "bootstrap": {
            "resamples": RESAMPLES,
            "seed": SEED,
            "unit": "patient" if any(patients) else "image",
            "units": len(set(units)),
        },
    }


class PooledPixels:
    """The pixel metrics of all images taken as one. Images are added one at a time.

    No policy for empty masks applies: an image with an empty mask adds its pixels like any other.
    Only the AUC needs every probability: see `PooledAuc`.

    Args:
        exact_pixels: the largest number of pixels for which the AUC is exact.
    """

    def __init__(self, exact_pixels: float = EXACT_PIXELS):
        self._counts = dict.fromkeys(("tp", "fp", "fn", "tn"), np.int64(0))
        self._absolute_error = self._squared_error = 0.0
        self._auc = PooledAuc(exact_pixels)

    def add(self, prob: ArrayLike, target: ArrayLike, threshold: float = 0.5) -> None:
        """Adds an image.

        Args:
            prob: float [H, W] in [0, 1]; the images may differ in size.
            target: bool [H, W].
            threshold: as for `score_image`.

        Raises:
            ValueError: as for `mae`.
        """
        prob, target = prob_pair(prob, target)
        self._auc.add(prob, target)
        pred = prob >= threshold
        self._counts["tp"] += np.count_nonzero(pred & target)
        self._counts["fp"] += np.count_nonzero(pred & ~target)
        self._counts["fn"] += np.count_nonzero(~pred & target)
        self._counts["tn"] += np.count_nonzero(~pred & ~target)
        error = np.abs(prob.astype(np.float64) - target)
        self._absolute_error += error.sum()
        self._squared_error += np.square(error).sum()

    def result(self) -> dict:
        """The metrics.

        Returns:
            `pooled`: name -> value for `PIXEL_METRICS`, None where not defined. The sums of MAE and
            Brier score are rounded after each image, so they equal the mean over all pixels within
            1e-12. `auc_error_bound`: how far the AUC can be from the exact one, 0.0 while exact.

        Raises:
            ValueError: no image was added.
        """
        pixels = sum(self._counts.values())
        if not pixels:
            raise ValueError("no image was added: pooled metrics need at least one")
        area, bound = self._auc.result()
        values: dict[str, Any] = overlap_from_counts(**self._counts) | {
            "auc": area,
            "mae": self._absolute_error / pixels,
            "brier": self._squared_error / pixels,
        }
        values["mae_binary"] = 1 - values["acc"]
        return {
            "pooled": {name: json_number(values[name]) for name in PIXEL_METRICS},
            "auc_error_bound": bound,
        }


def pooled(
    probs: Sequence[np.ndarray], targets: Sequence[np.ndarray], threshold: float = 0.5
) -> dict:
    """`PooledPixels.result` of images that are all at hand; the AUC is always exact.

    Returns:
        `pooled` alone.
    """
    pixels = PooledPixels(exact_pixels=math.inf)
    for prob, target in zip(probs, targets, strict=True):
        pixels.add(prob, target, threshold)
    return {"pooled": pixels.result()["pooled"]}


def json_number(value: float) -> float | None:
    """A float for a JSON file, in which NaN becomes None."""
    return None if math.isnan(value) else float(value)


def surface_metrics(both_ways: tuple[np.ndarray, np.ndarray], unit: str) -> dict[str, float]:
    """The surface metrics by name, such as "hd_mm".

    Args:
        both_ways: the two results of `surface_distances`, in this unit.
        unit: "px" or "mm".
    """
    tolerance = TOLERANCES[unit]
    return {
        f"hd_{unit}": percentile_distance(*both_ways, 100, "max"),
        f"hd95_{unit}": percentile_distance(*both_ways, 95, "max"),
        f"hd95_pooled_{unit}": percentile_distance(*both_ways, 95, "pooled"),
        f"assd_{unit}": mean_distance(*both_ways),
        f"surface_dice_{tolerance}{unit}": share_within(*both_ways, tolerance),
    }


def empty_surface_metrics(
    scores: EmptyScores, shape: Sequence[int], spacing: Sequence[float], unit: str
) -> dict[str, float]:
    """What a policy gives for `surface_metrics` where a mask is empty.

    Args:
        scores: of the policy for this case.
        shape: of the picture or volume.
        spacing: of its pixels along each axis, in this unit.
        unit: "px" or "mm".
    """
    diagonal = math.hypot(*(n * step for n, step in zip(shape, spacing, strict=True)))
    return {f"{name}_{unit}": scores.distance * diagonal for name in DISTANCES} | {
        f"surface_dice_{TOLERANCES[unit]}{unit}": float(scores.surface_dice)
    }


def _empty_distances(
    scores: EmptyScores, shape: tuple[int, int], spacing_mm: Sequence[float] | None
) -> dict[str, float]:
    """What the policy gives for the surface metrics, in px and, NaN if unknown, in mm."""
    in_px = empty_surface_metrics(scores, shape, (1.0, 1.0), "px")
    if spacing_mm is None:
        return in_px | _UNKNOWN_IN_MM
    return in_px | empty_surface_metrics(scores, shape, spacing_mm, "mm")


def _distances(
    pred: np.ndarray, target: np.ndarray, spacing_mm: Sequence[float] | None
) -> dict[str, float]:
    """The surface metrics of two masks that are not empty, in px and, NaN if unknown, in mm."""
    in_px = surface_distances(pred, target)
    row = surface_metrics(in_px, "px")
    if spacing_mm is None:
        return row | _UNKNOWN_IN_MM
    if spacing_mm[0] == spacing_mm[1]:
        in_mm = spacing_mm[0] * in_px[0], spacing_mm[0] * in_px[1]  # saves a transform
    else:
        in_mm = surface_distances(pred, target, spacing_mm)
    return row | surface_metrics(in_mm, "mm")


def _statistics(values: np.ndarray, low: float, high: float) -> dict[str, float | int | None]:
    scored = values[~np.isnan(values)]
    n = scored.size
    q1, median, q3 = np.percentile(scored, (25, 50, 75)) if n else [math.nan] * 3
    mean = scored.mean() if n else math.nan
    sd = scored.std(ddof=1) if n > 1 else math.nan
    names = ("mean", "sd", "median", "q1", "q3", "ci95_low", "ci95_high")
    found = zip(names, (mean, sd, median, q1, q3, low, high), strict=True)
    return {name: json_number(value) for name, value in found} | {
        "n": n,
        "left_out": values.size - n,
    }
