"""How the metrics of single images become a summary, and what an empty mask counts for.

An image with an empty mask is `both_empty`, `missed` (only the prediction is empty) or a
`false_alarm` (only the target is). An `EmptyPolicy` says what each of them counts for; its name
and its rule in words stand in every summary, and the three counts beside every mean. "-" is not
scored: NaN, left out of the mean. D is the picture's diagonal.

=========================  ============  ====  ====  ====  ====  ============  =========
policy                     image         IoU   DSC   SEN   PPV   surface Dice  distances
=========================  ============  ====  ====  ====  ====  ============  =========
`penalise` (the default)   both_empty    -     -     -     -     -             -
`penalise`                 missed        0     0     0     0     0             D
`penalise`                 false_alarm   0     0     -     0     0             D
`perfect_if_both_empty`    both_empty    1     1     1     1     1             0
`perfect_if_both_empty`    the others as `penalise`
`skip_empty`               both_empty    -     -     -     -     -             -
`skip_empty`               missed        0     0     0     -     0             -
`skip_empty`               false_alarm   -     -     -     0     -             -
=========================  ============  ====  ====  ====  ====  ============  =========

ACC, SPE, MAE and the Brier score are scored by every image that has the pixels for it, AUC by every
image whose target has both classes.

The diagonal, from corner to corner of the picture in the unit of the distance, is longer than any
distance between two of its pixels. So under `penalise` a missed image drops out of no mean, and
can never make a mean overlap or distance look better.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prnet_jax.errors import InputError
from prnet_jax.metrics.overlap import as_mask, auc, brier, mae, overlap, overlap_from_counts
from prnet_jax.metrics.statistics import bootstrap_intervals
from prnet_jax.metrics.surface import (
    check_spacing,
    mean_distance,
    percentile_distance,
    share_within,
    surface_distances,
)

TOLERANCE_PX = 1
TOLERANCE_MM = 2
TOLERANCES = {"px": TOLERANCE_PX, "mm": TOLERANCE_MM}
DISTANCES = ("hd", "hd95", "hd95_pooled", "assd")  # each with the suffix of its unit

PIXEL_METRICS = ("iou", "dsc", "acc", "spe", "sen", "ppv", "auc", "mae", "brier")
METRICS = PIXEL_METRICS + tuple(
    name
    for unit, tolerance in TOLERANCES.items()
    for name in (*(f"{d}_{unit}" for d in DISTANCES), f"surface_dice_{tolerance}{unit}")
)
HIGHER_IS_BETTER = {
    name: name not in ("mae", "brier") and not name.startswith(DISTANCES) for name in METRICS
}
EMPTY_STATES = ("both_empty", "missed", "false_alarm")

RESAMPLES, SEED = 10_000, 0  # of the bootstrap


@dataclass(frozen=True)
class EmptyScores:
    """What an image with an empty mask scores; NaN: not scored.

    `distance` is in diagonals of the picture, the others are fractions.
    """

    iou: float = math.nan
    dsc: float = math.nan
    sen: float = math.nan
    ppv: float = math.nan
    surface_dice: float = math.nan
    distance: float = math.nan


@dataclass(frozen=True)
class EmptyPolicy:
    """What images with empty masks count for, in each of the three cases."""

    name: str  # for files and command lines
    rule: str  # the same in words, one line, for people
    both_empty: EmptyScores
    missed: EmptyScores
    false_alarm: EmptyScores


_WORST = EmptyScores(iou=0, dsc=0, sen=0, ppv=0, surface_dice=0, distance=1)
_WORST_WITHOUT_TARGET = EmptyScores(iou=0, dsc=0, ppv=0, surface_dice=0, distance=1)
_WORST_RULE = (
    "false alarm (only the target empty): iou = dsc = ppv = surface dice = 0, distances = the "
    "picture's diagonal, no sen; missed (only the prediction empty): iou = dsc = sen = ppv = "
    "surface dice = 0, distances = the picture's diagonal"
)

PENALISE = EmptyPolicy(
    name="penalise",
    rule=f"both masks empty: counted, scored by acc, spe, mae and brier only; {_WORST_RULE}",
    both_empty=EmptyScores(),
    missed=_WORST,
    false_alarm=_WORST_WITHOUT_TARGET,
)
# Common in challenges. In a set of many empty images its means are near 1 whatever becomes of the
# few others: misses hide behind images in which there was nothing to find.
PERFECT_IF_BOTH_EMPTY = EmptyPolicy(
    name="perfect_if_both_empty",
    rule="both masks empty: iou = dsc = sen = ppv = surface dice = 1, distances = 0 (in sets of "
    f"many empty images this can hide misses); {_WORST_RULE}",
    both_empty=EmptyScores(iou=1, dsc=1, sen=1, ppv=1, surface_dice=1, distance=0),
    missed=_WORST,
    false_alarm=_WORST_WITHOUT_TARGET,
)
# What MONAI and code like it does by default. A missed image drops out of the means of distances,
# so that they can get better by missing the hard images: read n and missed beside them.
SKIP_EMPTY = EmptyPolicy(
    name="skip_empty",
    rule="scored only where no convention is needed: iou, dsc, sen and surface dice where the "
    "target is not empty, ppv where the prediction is not, distances where neither is (a missed "
    "image drops out of the means of distances)",
    both_empty=EmptyScores(),
    missed=EmptyScores(iou=0, dsc=0, sen=0, surface_dice=0),
    false_alarm=EmptyScores(ppv=0),
)
POLICIES = {policy.name: policy for policy in (PENALISE, PERFECT_IF_BOTH_EMPTY, SKIP_EMPTY)}


def find_policy(policy: str | EmptyPolicy) -> EmptyPolicy:
    """The policy of a name; an `EmptyPolicy` is returned as it is.

    Raises:
        InputError: no policy has this name.
    """
    if isinstance(policy, EmptyPolicy):
        return policy
    if policy not in POLICIES:
        raise InputError(
            f"the policy for empty masks must be one of {', '.join(POLICIES)}, found {policy!r}"
        )
    return POLICIES[policy]


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
        spacing_mm: (row, column) distance of pixel centres in mm; None or NaN where not known.
        policy: what empty masks count for: a name in `POLICIES`, or one of your own.

    Returns:
        Every name of `METRICS`, NaN where not scored or (`_mm`) the spacing is not known; and
        `empty`: "both_empty", "missed", "false_alarm", or "" where neither mask is empty. `hd95`
        is the larger of the two directed percentiles, `hd95_pooled` the percentile of both
        directions together.

    Raises:
        ValueError: as `overlap`, `mae`, `surface_distances` and `find_policy`.
    """
    policy = find_policy(policy)
    prob, target = np.asarray(prob), as_mask(target, "target")
    pred = prob >= threshold
    row = overlap(pred, target)
    row |= {"auc": auc(prob, target), "mae": mae(prob, target), "brier": brier(prob, target)}
    mm = None
    if spacing_mm is not None and not np.isnan(spacing_mm).any():
        mm = tuple(map(float, spacing_mm))
        check_spacing(mm)
    empty = _empty_state(pred, target)
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
        rows: results of `score_image` under the same policy. If they have a `patient_id`, patients
            are what the bootstrap draws, an image without one (None or "") standing for itself.
            Further keys are ignored.
        policy: the one that the rows were scored under.

    Returns:
        metrics: name -> mean, sd (ddof 1), median, q1, q3, ci95_low, ci95_high (see
            `statistics.bootstrap_interval`), over the n images that were scored, None (JSON's
            null) where n is too small; `left_out`, the images that were not; `missed` and
            `false_alarm`, how many images of the set are such. These two are the same for all
            metrics and stand beside each mean on purpose.
        counts: n_images, both_empty, missed, false_alarm.
        empty_policy, empty_rule: name and words of the policy.
        bootstrap: resamples, seed, unit ("patient" or "image") and how many units there are.

    Raises:
        ValueError: a row that was not scored under this policy; `find_policy`.
    """
    policy = find_policy(policy)
    rows = list(rows)
    for row in rows:
        _check_scored_under(policy, row)
    states = [row["empty"] for row in rows]
    counts = {state: states.count(state) for state in EMPTY_STATES}
    patients = [row.get("patient_id") for row in rows]
    # Two words, so that no patient can bear the name of an image; padded, to sort as numbers do.
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


def pooled(
    probs: Sequence[np.ndarray], targets: Sequence[np.ndarray], threshold: float = 0.5
) -> dict:
    """The pixel metrics of all images taken as one: from summed counts, over all pixels.

    No policy has a say here: an image with an empty mask gives its pixels like any other.

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
    ) | {"auc": auc(prob, target), "mae": mae(prob, target), "brier": brier(prob, target)}
    return {"pooled": {name: json_number(values[name]) for name in PIXEL_METRICS}}


def _empty_state(pred: np.ndarray, target: np.ndarray) -> str:
    if target.any():
        return "" if pred.any() else "missed"
    return "false_alarm" if pred.any() else "both_empty"


def _empty_distances(
    scores: EmptyScores, shape: tuple[int, int], spacing_mm: tuple[float, float] | None
) -> dict[str, float]:
    """What the policy gives for the distances in px and mm."""
    row = {}
    for unit, spacing in (("px", (1.0, 1.0)), ("mm", spacing_mm)):
        diagonal = share = math.nan
        if spacing is not None:
            diagonal = math.hypot(shape[0] * spacing[0], shape[1] * spacing[1])
            share = float(scores.surface_dice)
        row |= {f"{name}_{unit}": scores.distance * diagonal for name in DISTANCES}
        row[f"surface_dice_{TOLERANCES[unit]}{unit}"] = share
    return row


def _distances(
    pred: np.ndarray, target: np.ndarray, spacing_mm: tuple[float, float] | None
) -> dict[str, float]:
    """All distances of two masks that are not empty, in px and, NaN where not known, in mm."""
    in_px = surface_distances(pred, target)
    row = _reduce(in_px, "px")
    if spacing_mm is None:
        return row | dict.fromkeys((name for name in METRICS if name.endswith("mm")), math.nan)
    if spacing_mm[0] == spacing_mm[1]:
        in_mm = tuple(spacing_mm[0] * distance for distance in in_px)  # the transform is not cheap
    else:
        in_mm = surface_distances(pred, target, spacing_mm)
    return row | _reduce(in_mm, "mm")


def _reduce(both_ways: tuple[np.ndarray, np.ndarray], unit: str) -> dict[str, float]:
    tolerance = TOLERANCES[unit]
    return {
        f"hd_{unit}": percentile_distance(*both_ways, 100, "max"),
        f"hd95_{unit}": percentile_distance(*both_ways, 95, "max"),
        f"hd95_pooled_{unit}": percentile_distance(*both_ways, 95, "pooled"),
        f"assd_{unit}": mean_distance(*both_ways),
        f"surface_dice_{tolerance}{unit}": share_within(*both_ways, tolerance),
    }


def _check_scored_under(policy: EmptyPolicy, row: Mapping) -> None:
    """A summary that names another policy than its rows were scored under would be a lie."""
    if not row["empty"]:
        return
    scores = getattr(policy, row["empty"])
    expected = [scores.iou, scores.dsc, scores.sen, scores.ppv, scores.surface_dice]
    found = [row[k] for k in ("iou", "dsc", "sen", "ppv", f"surface_dice_{TOLERANCE_PX}px")]
    if not np.array_equal(expected, found, equal_nan=True):
        raise ValueError(
            f"rows must be scored under the policy {policy.name!r} that they are summarized under; "
            f"an image that is {row['empty']} has iou, dsc, sen, ppv, surface dice = {found}, "
            f"expected {expected}"
        )


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


def json_number(value: float) -> float | None:
    """A float for a JSON file, which has no NaN: None there."""
    return None if math.isnan(value) else float(value)
