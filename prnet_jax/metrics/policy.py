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
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prnet_jax.errors import InputError
from prnet_jax.metrics.names import TOLERANCE_PX

EMPTY_STATES = ("both_empty", "missed", "false_alarm")


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


def empty_state(pred: np.ndarray, target: np.ndarray) -> str:
    if target.any():
        return "" if pred.any() else "missed"
    return "false_alarm" if pred.any() else "both_empty"


def check_scored_under(policy: EmptyPolicy, row: Mapping) -> None:
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
