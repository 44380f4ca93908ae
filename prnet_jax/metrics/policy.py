"""What an image with an empty mask counts for.

Such an image is `both_empty`, `missed` (only the prediction is empty) or a `false_alarm` (only the
target is). An `EmptyPolicy` gives the scores of each case. "-" means not scored: NaN, left out of
the mean. D is the diagonal of the picture.

=========================  ============  ====  ====  ====  ====  ============  =========
policy                     image         IoU   DSC   SEN   PPV   surface Dice  distances
=========================  ============  ====  ====  ====  ====  ============  =========
`penalise` (the default)   both_empty    -     -     -     -     -             -
`penalise`                 missed        0     0     0     0     0             D
`penalise`                 false_alarm   0     0     -     0     0             D
`perfect_if_both_empty`    both_empty    1     1     1     1     1             0
`perfect_if_both_empty`    missed        0     0     0     0     0             D
`perfect_if_both_empty`    false_alarm   0     0     -     0     0             D
`skip_empty`               both_empty    -     -     -     -     -             -
`skip_empty`               missed        0     0     0     -     0             -
`skip_empty`               false_alarm   -     -     -     0     -             -
=========================  ============  ====  ====  ====  ====  ============  =========

No policy changes ACC, SPE, either MAE, the Brier score or the AUC. They are scored wherever they
are defined: the AUC where the target has both classes.

The diagonal, in the unit of the distance, is longer than any distance between two pixels. So under
`penalise` a missed image drops out of no mean, and missing an image never improves a mean.
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
    """Scores of an image with an empty mask, as fractions; NaN where it is not scored.

    `distance` is in diagonals of the picture and holds for every distance metric.
    """

    iou: float = math.nan
    dsc: float = math.nan
    sen: float = math.nan
    ppv: float = math.nan
    surface_dice: float = math.nan
    distance: float = math.nan


@dataclass(frozen=True)
class EmptyPolicy:
    """The scores of images with empty masks in each of the three cases.

    Attributes:
        name: for files and command lines.
        rule: the same in words, in one line.
        both_empty, missed, false_alarm: what such an image scores.
    """

    name: str
    rule: str
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

# Common in challenges. In a set of mostly empty images its means are near 1 however the others are
# segmented: misses hide behind images in which there was nothing to find.
PERFECT_IF_BOTH_EMPTY = EmptyPolicy(
    name="perfect_if_both_empty",
    rule="both masks empty: iou = dsc = sen = ppv = surface dice = 1, distances = 0 (in sets of "
    f"many empty images this can hide misses); {_WORST_RULE}",
    both_empty=EmptyScores(iou=1, dsc=1, sen=1, ppv=1, surface_dice=1, distance=0),
    missed=_WORST,
    false_alarm=_WORST_WITHOUT_TARGET,
)

# What MONAI does by default. A missed image drops out of the means of distances, so missing hard
# images can improve them: read n and missed beside them.
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
    """The policy with this name; an `EmptyPolicy` is returned unchanged.

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
    """One of `EMPTY_STATES`, or "" where neither mask is empty; both masks bool [H, W]."""
    if target.any():
        return "" if pred.any() else "missed"
    return "false_alarm" if pred.any() else "both_empty"


def check_scored_under(policy: EmptyPolicy, row: Mapping) -> None:
    """Raises a ValueError if a result of `score_image` was scored under another policy."""
    if not row["empty"]:
        return
    scores = getattr(policy, row["empty"])
    expected = [scores.iou, scores.dsc, scores.sen, scores.ppv, scores.surface_dice]
    found = [row[k] for k in ("iou", "dsc", "sen", "ppv", f"surface_dice_{TOLERANCE_PX}px")]
    if not np.array_equal(expected, found, equal_nan=True):
        raise ValueError(
            f"rows must be scored under the policy {policy.name!r} that they are summarized under: "
            f"for a {row['empty']} image it gives iou, dsc, sen, ppv, surface dice = {expected}, "
            f"found {found}"
        )
