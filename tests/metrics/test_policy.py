"""Every case of the rule for empty masks, and summaries by hand."""

import json
import math

import numpy as np
import pytest

from prnet_jax import metrics

NAN = math.nan
EMPTY = np.zeros((6, 8), bool)
SQUARE = EMPTY.copy()
SQUARE[1:4, 1:4] = True
MOVED = np.roll(SQUARE, 2, axis=1)  # shares 3 of its 9 pixels with SQUARE


def score(pred, target, **arguments):
    return metrics.score_image(pred.astype(np.float32), target, **arguments)


def test_score_of_two_masks_by_hand():
    row = score(MOVED, SQUARE, spacing_mm=(0.5, 0.75))
    assert row == pytest.approx(
        {
            "iou": 3 / 15,
            "dsc": 6 / 18,
            "acc": 36 / 48,
            "spe": 33 / 39,
            "sen": 3 / 9,
            "ppv": 3 / 9,
            "auc": (3 / 9 + 33 / 39) / 2,  # of a binary map: the mean of SEN and SPE
            "mae": 12 / 48,
            "hd_px": 2.0,
            "hd95_px": 2.0,
            "hd_mm": 1.5,
            "hd95_mm": 1.5,
            "empty": "",
        }
    )
    assert tuple(row) == (*metrics.METRICS, "empty")


def test_the_threshold_belongs_to_the_foreground_and_leaves_auc_and_mae_alone():
    prob = np.where(SQUARE, 0.5, 0.25).astype(np.float32)
    at = {t: metrics.score_image(prob, SQUARE, threshold=t) for t in (0.5, 0.6, 0.25)}
    assert [at[t]["dsc"] for t in at] == [1.0, 0.0, 18 / 57]
    assert {(row["auc"], row["mae"]) for row in at.values()} == {(1.0, (9 / 2 + 39 / 4) / 48)}


@pytest.mark.parametrize("spacing", [None, (NAN, NAN), np.full(2, np.nan, np.float32)])
def test_without_spacing_there_are_no_millimetres(spacing):
    row = score(MOVED, SQUARE, spacing_mm=spacing)
    assert row["hd_px"] == 2.0
    assert math.isnan(row["hd_mm"]) and math.isnan(row["hd95_mm"])


def test_empty_masks():
    both, false_alarm, missed = (
        score(pred, target, spacing_mm=(0.5, 2.0))
        for pred, target in ((EMPTY, EMPTY), (SQUARE, EMPTY), (EMPTY, SQUARE))
    )
    unscored = dict.fromkeys(metrics.METRICS, NAN)
    assert both == pytest.approx(
        unscored | {"acc": 1, "spe": 1, "mae": 0, "empty": "both_empty"}, nan_ok=True
    )
    zero = {"iou": 0, "dsc": 0, "ppv": 0, "acc": 39 / 48, "mae": 9 / 48}
    diagonal = {
        "hd_px": 10,
        "hd95_px": 10,
        "hd_mm": math.hypot(3, 16),
        "hd95_mm": math.hypot(3, 16),
    }
    assert false_alarm == pytest.approx(
        zero | diagonal | {"spe": 39 / 48, "sen": NAN, "auc": NAN, "empty": "false_alarm"},
        nan_ok=True,
    )
    assert missed == pytest.approx(
        zero | diagonal | {"spe": 1, "sen": 0, "auc": 0.5, "empty": "missed"}
    )


def test_a_miss_is_worse_than_the_worst_hit():
    corner, opposite = EMPTY.copy(), EMPTY.copy()
    corner[0, 0] = opposite[-1, -1] = True
    hit, miss = score(corner, opposite), score(EMPTY, opposite)
    assert hit["hd_px"] < miss["hd_px"]
    scored = {name for name in metrics.METRICS if not math.isnan(miss[name])}
    assert scored == set(metrics.METRICS) - {"hd_mm", "hd95_mm"}


def test_summary_by_hand():
    rows = [
        score(SQUARE, SQUARE),
        score(MOVED, SQUARE),
        score(EMPTY, SQUARE),
        score(SQUARE, EMPTY),
        score(EMPTY, EMPTY),
        score(EMPTY, EMPTY),
    ]
    summary = metrics.summarize(rows)
    assert summary["counts"] == {"n_images": 6, "both_empty": 2, "missed": 1, "false_alarm": 1}
    dsc = [1, 1 / 3, 0, 0]
    assert summary["metrics"]["dsc"] == pytest.approx(
        {"mean": 1 / 3, "sd": np.std(dsc, ddof=1), "median": 1 / 6, "n": 4}
    )
    assert summary["metrics"]["sen"] == pytest.approx(
        {"mean": 4 / 9, "sd": np.std([1, 1 / 3, 0], ddof=1), "median": 1 / 3, "n": 3}
    )
    assert summary["metrics"]["hd_px"]["mean"] == (0 + 2 + 10 + 10) / 4
    assert summary["metrics"]["hd_mm"] == {"mean": None, "sd": None, "median": None, "n": 0}
    assert summary["empty_rule"] == metrics.EMPTY_RULE
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_summary_of_one_image_has_no_spread():
    summary = metrics.summarize([score(MOVED, SQUARE)])
    assert summary["metrics"]["hd_px"] == {"mean": 2.0, "sd": None, "median": 2.0, "n": 1}


def test_pooled_is_the_score_of_all_pixels_together():
    rng = np.random.default_rng(0)
    probs = [rng.random((6, 8), np.float32), rng.random((4, 6), np.float32)]
    targets = [rng.random(prob.shape) < 0.3 for prob in probs]
    found = metrics.pooled(probs, targets, threshold=0.7)["pooled"]
    as_one = [np.concatenate([part.reshape(-1, 8) for part in parts]) for parts in (probs, targets)]
    expected = metrics.score_image(*as_one, threshold=0.7)
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-12)
    assert set(found) == {"iou", "dsc", "acc", "spe", "sen", "ppv", "auc", "mae"}


def test_pooled_of_empty_masks_is_json():
    found = metrics.pooled([np.zeros((2, 2), np.float32)] * 2, [np.zeros((2, 2), bool)] * 2)
    undefined = dict.fromkeys(("iou", "dsc", "sen", "ppv", "auc"))
    assert found == {"pooled": undefined | {"acc": 1.0, "spe": 1.0, "mae": 0.0}}
