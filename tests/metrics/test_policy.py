"""Every case of the policies for empty masks."""

import math

import pytest

from prnet_jax import metrics
from prnet_jax.errors import InputError
from tests.metrics.squares import EMPTY, MM, MOVED, SQUARE, score, six_rows

NAN = math.nan
SPACING = (0.5, 2.0)
DIAGONAL = {"px": 10.0, "mm": math.hypot(3, 16)}


def distances(unit, value, surface_dice):
    names = ("hd", "hd95", "hd95_pooled", "assd")
    tolerance = {"px": 1, "mm": 2}[unit]
    row = {f"{name}_{unit}": value for name in names}
    return row | {f"surface_dice_{tolerance}{unit}": surface_dice}


# What does not depend on a policy
PROBABILITIES = {
    "both_empty": {"acc": 1, "spe": 1, "mae": 0, "brier": 0, "auc": NAN},
    "missed": {"acc": 39 / 48, "spe": 1, "mae": 9 / 48, "brier": 9 / 48, "auc": 0.5},
    "false_alarm": {"acc": 39 / 48, "spe": 39 / 48, "mae": 9 / 48, "brier": 9 / 48, "auc": NAN},
}
MASKS = {"both_empty": (EMPTY, EMPTY), "missed": (EMPTY, SQUARE), "false_alarm": (SQUARE, EMPTY)}
# iou, dsc, sen, ppv, surface dice, distances in diagonals
CASES = [
    ("penalise", "both_empty", (NAN, NAN, NAN, NAN, NAN, NAN)),
    ("penalise", "missed", (0, 0, 0, 0, 0, 1)),
    ("penalise", "false_alarm", (0, 0, NAN, 0, 0, 1)),
    ("perfect_if_both_empty", "both_empty", (1, 1, 1, 1, 1, 0)),
    ("perfect_if_both_empty", "missed", (0, 0, 0, 0, 0, 1)),
    ("perfect_if_both_empty", "false_alarm", (0, 0, NAN, 0, 0, 1)),
    ("skip_empty", "both_empty", (NAN, NAN, NAN, NAN, NAN, NAN)),
    ("skip_empty", "missed", (0, 0, 0, NAN, 0, NAN)),
    ("skip_empty", "false_alarm", (NAN, NAN, NAN, 0, NAN, NAN)),
]


@pytest.mark.parametrize(("policy", "state", "scores"), CASES)
def test_empty_masks(policy, state, scores):
    iou, dsc, sen, ppv, surface_dice, diagonals = scores
    expected = {"iou": iou, "dsc": dsc, "sen": sen, "ppv": ppv, "empty": state}
    expected |= PROBABILITIES[state] | {"mae_binary": PROBABILITIES[state]["mae"]}
    for unit, diagonal in DIAGONAL.items():
        expected |= distances(unit, diagonals * diagonal, surface_dice)
    given = metrics.POLICIES[policy]
    for choice in (policy, given):
        row = score(*MASKS[state], spacing_mm=SPACING, policy=choice)
        assert row == pytest.approx(expected, nan_ok=True)


def test_where_no_mask_is_empty_all_policies_agree():
    rows = [score(MOVED, SQUARE, spacing_mm=SPACING, policy=name) for name in metrics.POLICIES]
    assert rows[0] == rows[1] == rows[2]
    assert list(metrics.POLICIES) == ["penalise", "perfect_if_both_empty", "skip_empty"]
    assert rows[0] == score(MOVED, SQUARE, spacing_mm=SPACING)


def test_an_unknown_policy_is_a_persons_mistake():
    for call in (lambda p: score(MOVED, SQUARE, policy=p), lambda p: metrics.summarize([], p)):
        with pytest.raises(InputError, match="one of penalise, .*, skip_empty, found 'ignore'"):
            call("ignore")


def test_a_miss_is_worse_than_the_worst_hit():
    corner, opposite = EMPTY.copy(), EMPTY.copy()
    corner[0, 0] = opposite[-1, -1] = True
    hit, miss = score(corner, opposite), score(EMPTY, opposite)
    for name, higher in metrics.HIGHER_IS_BETTER.items():
        if name.endswith("px"):
            assert hit[name] >= miss[name] if higher else hit[name] < miss[name]
    assert {name for name in metrics.METRICS if math.isnan(miss[name])} == MM


def test_missing_a_hard_image_improves_a_distance_only_where_it_is_skipped():
    bad = EMPTY.copy()
    bad[5, 7] = True
    for policy in metrics.POLICIES:
        found, missed = (
            metrics.summarize(
                [score(pred, SQUARE, policy=policy) for pred in (MOVED, hard)], policy
            )["metrics"]["hd_px"]
            for hard in (bad, EMPTY)
        )
        assert (missed["mean"] < found["mean"]) == (policy == "skip_empty")
        assert (missed["missed"], missed["left_out"]) == (1, int(policy == "skip_empty"))


def test_summaries_under_the_other_policies():
    perfect = metrics.summarize(six_rows("perfect_if_both_empty"), "perfect_if_both_empty")
    assert perfect["metrics"]["dsc"]["mean"] == pytest.approx((1 + 1 / 3 + 0 + 0 + 1 + 1) / 6)
    assert perfect["metrics"]["hd_px"]["mean"] == pytest.approx((0 + 2 + 10 + 10 + 0 + 0) / 6)
    skipped = metrics.summarize(six_rows("skip_empty"), metrics.POLICIES["skip_empty"])
    assert skipped["metrics"]["dsc"]["mean"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert skipped["metrics"]["hd_px"]["mean"] == pytest.approx((0 + 2) / 2)
    for summary in (perfect, skipped):
        assert summary["counts"] == {"n_images": 6, "both_empty": 2, "missed": 1, "false_alarm": 1}
        for found in summary["metrics"].values():
            assert (found["missed"], found["false_alarm"]) == (1, 1)
            assert found["n"] + found["left_out"] == 6
        rule = metrics.POLICIES[summary["empty_policy"]].rule
        assert summary["empty_rule"] == rule and len(rule.splitlines()) == 1


@pytest.mark.parametrize("scored", list(metrics.POLICIES))
@pytest.mark.parametrize("summarized", list(metrics.POLICIES))
def test_rows_are_not_summarized_under_another_policy(scored, summarized):
    rows = six_rows(scored)
    if scored == summarized:
        assert metrics.summarize(rows, summarized)["empty_policy"] == scored
    else:
        with pytest.raises(ValueError, match="must be scored under the policy"):
            metrics.summarize(rows, summarized)


def test_a_policy_of_ones_own():
    mild = metrics.EmptyPolicy(
        name="mild",
        rule="half a point for everything",
        both_empty=metrics.EmptyScores(dsc=1),
        missed=metrics.EmptyScores(dsc=0.5, distance=0.5),
        false_alarm=metrics.EmptyScores(dsc=0.5),
    )
    row = score(EMPTY, SQUARE, policy=mild)
    assert (row["dsc"], row["hd_px"]) == (0.5, 5.0) and math.isnan(row["iou"])
    assert metrics.summarize([row], mild)["empty_rule"] == "half a point for everything"
