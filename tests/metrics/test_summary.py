"""Scores and summaries by hand, and the pixels of many images pooled."""

import json
import math

import numpy as np
import pytest

from prnet_jax import metrics
from prnet_jax.metrics import summary as summaries
from tests.metrics.squares import EMPTY, MM, MOVED, SQUARE, score, six_rows

NAN = math.nan


def test_score_of_two_masks_by_hand():
    row = score(MOVED, SQUARE, spacing_mm=(0.5, 0.75))
    # Of the 8 surface pixels of each square 3 are 0 columns from the other's, 2 are 1, 3 are 2.
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
            "mae_binary": 12 / 48,
            "brier": 12 / 48,
            "hd_px": 2.0,
            "hd95_px": 2.0,
            "hd95_pooled_px": 2.0,
            "assd_px": 1.0,
            "surface_dice_1px": 5 / 8,
            "hd_mm": 1.5,
            "hd95_mm": 1.5,
            "hd95_pooled_mm": 1.5,
            "assd_mm": 0.75,
            "surface_dice_2mm": 1.0,
            "empty": "",
        }
    )
    assert tuple(row) == (*metrics.METRICS, "empty")
    assert all(type(row[name]) is float for name in metrics.METRICS)


def test_the_two_definitions_of_hd95_are_told_apart():
    pred, target = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    pred[0, ::2] = target[0, ::2] = target[5, 0] = True
    row = score(pred, target)
    # From pred: 4 zeros. From target: 4 zeros and a 5. Of 5 values place 3.8, of 9 place 7.6.
    assert row["hd95_px"] == pytest.approx(0.8 * 5)
    assert row["hd95_pooled_px"] == pytest.approx(0.6 * 5)


def test_the_threshold_belongs_to_the_foreground_and_leaves_the_probabilities_alone():
    prob = np.where(SQUARE, 0.5, 0.25).astype(np.float32)
    at = {t: metrics.score_image(prob, SQUARE, threshold=t) for t in (0.5, 0.6, 0.25)}
    assert [at[t]["dsc"] for t in at] == [1.0, 0.0, 18 / 57]
    assert {(row["auc"], row["mae"], row["brier"]) for row in at.values()} == {
        (1.0, (9 / 2 + 39 / 4) / 48, (9 / 4 + 39 / 16) / 48)
    }


@pytest.mark.parametrize("spacing", [None, (NAN, NAN), np.full(2, np.nan, np.float32)])
@pytest.mark.parametrize("pred", [MOVED, EMPTY])
def test_without_spacing_there_are_no_millimetres(pred, spacing):
    row = score(pred, SQUARE, spacing_mm=spacing)
    assert {name for name in metrics.METRICS if math.isnan(row[name])} == MM


@pytest.mark.parametrize("pred", [MOVED, EMPTY])
@pytest.mark.parametrize("spacing", [(0, 1), (-1, -1), (math.inf, math.inf), (1, 1, 1)])
def test_an_impossible_spacing_is_refused(pred, spacing):
    with pytest.raises(ValueError, match="spacing"):
        score(pred, SQUARE, spacing_mm=spacing)


def test_a_spacing_of_squares_needs_no_second_transform(monkeypatch):
    calls = []
    measure = summaries.surface_distances
    monkeypatch.setattr(
        summaries, "surface_distances", lambda *given: calls.append(given) or measure(*given)
    )
    row = score(MOVED, SQUARE, spacing_mm=(0.7, 0.7))
    assert len(calls) == 1
    assert row["assd_mm"] == pytest.approx(0.7) and row["hd_mm"] == pytest.approx(1.4)
    score(MOVED, SQUARE, spacing_mm=(0.7, 0.8))
    assert len(calls) == 3


def test_summary_by_hand():
    summary = metrics.summarize(six_rows())
    assert summary["counts"] == {"n_images": 6, "both_empty": 2, "missed": 1, "false_alarm": 1}
    beside = {"missed": 1, "false_alarm": 1}
    dsc = [1, 1 / 3, 0, 0]
    low, high = metrics.bootstrap_interval(dsc)
    assert summary["metrics"]["dsc"] == pytest.approx(
        {
            "mean": 1 / 3,
            "sd": np.std(dsc, ddof=1),
            "median": 1 / 6,
            "q1": 0.0,
            "q3": 0.5,
            "ci95_low": low,
            "ci95_high": high,
            "n": 4,
            "left_out": 2,
            **beside,
        }
    )
    assert summary["metrics"]["sen"]["mean"] == pytest.approx(4 / 9)
    assert (summary["metrics"]["sen"]["n"], summary["metrics"]["sen"]["left_out"]) == (3, 3)
    assert (summary["metrics"]["acc"]["n"], summary["metrics"]["acc"]["left_out"]) == (6, 0)
    assert summary["metrics"]["hd_px"]["mean"] == (0 + 2 + 10 + 10) / 4
    names = ("mean", "sd", "median", "q1", "q3", "ci95_low", "ci95_high")
    assert summary["metrics"]["hd_mm"] == dict.fromkeys(names) | {"n": 0, "left_out": 6} | beside
    assert summary["empty_policy"] == "penalise"
    assert summary["empty_rule"] == metrics.POLICIES["penalise"].rule
    assert summary["bootstrap"] == {"resamples": 10_000, "seed": 0, "unit": "image", "units": 6}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_intervals_draw_patients():
    rows = [row | {"patient_id": who} for row, who in zip(six_rows(), "aabbcd", strict=True)]
    summary = metrics.summarize(rows)
    expected = metrics.bootstrap_interval([1, 1 / 3, 0, 0], ["a", "a", "b", "b"])
    dsc = summary["metrics"]["dsc"]
    assert (dsc["ci95_low"], dsc["ci95_high"]) == pytest.approx(expected)
    assert dsc["ci95_high"] == pytest.approx(2 / 3)  # patient a twice
    assert summary["bootstrap"] == {"resamples": 10_000, "seed": 0, "unit": "patient", "units": 4}


def test_an_image_without_a_patient_stands_for_itself():
    whose = ["a", "a", "", "", None, "image 000000002"]
    rows = [row | {"patient_id": who} for row, who in zip(six_rows(), whose, strict=True)]
    assert metrics.summarize(rows)["bootstrap"]["units"] == 5
    assert metrics.summarize(rows)["bootstrap"]["unit"] == "patient"
    without = [row | {"patient_id": ""} for row in six_rows()]
    assert metrics.summarize(without) == metrics.summarize(six_rows())


def test_summary_of_one_image_has_no_spread():
    summary = metrics.summarize([score(MOVED, SQUARE)])
    assert summary["metrics"]["hd_px"] == {
        **{"mean": 2.0, "sd": None, "median": 2.0, "q1": 2.0, "q3": 2.0},
        **{"ci95_low": None, "ci95_high": None, "n": 1, "left_out": 0},
        **{"missed": 0, "false_alarm": 0},
    }


def test_summary_of_no_image():
    summary = metrics.summarize([])
    assert summary["counts"]["n_images"] == summary["bootstrap"]["units"] == 0
    assert summary["metrics"]["iou"]["mean"] is None


def test_pooled_is_the_score_of_all_pixels_together():
    rng = np.random.default_rng(0)
    probs = [rng.random((6, 8), np.float32), rng.random((4, 6), np.float32)]
    targets = [rng.random(prob.shape) < 0.3 for prob in probs]
    found = metrics.pooled(probs, targets, threshold=0.7)["pooled"]
    as_one = [np.concatenate([part.reshape(-1, 8) for part in parts]) for parts in (probs, targets)]
    expected = metrics.score_image(*as_one, threshold=0.7)
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-12)
    assert tuple(found) == metrics.PIXEL_METRICS


def test_pooled_of_empty_masks_is_json():
    found = metrics.pooled([np.zeros((2, 2), np.float32)] * 2, [np.zeros((2, 2), bool)] * 2)
    undefined = dict.fromkeys(("iou", "dsc", "sen", "ppv", "auc"))
    errors = dict.fromkeys(("mae", "mae_binary", "brier"), 0.0)
    assert found == {"pooled": undefined | {"acc": 1.0, "spe": 1.0} | errors}


@pytest.mark.parametrize("limit", [None, 40])
def test_images_added_one_at_a_time_are_pooled(limit):
    rng = np.random.default_rng(1)
    probs = [np.round(rng.random((6, 8), np.float32), 2) for _ in range(5)]  # ties
    targets = [rng.random((6, 8)) < share for share in (0.3, 0, 1, 0.1, 0.9)]
    pixels = metrics.PooledPixels() if limit is None else metrics.PooledPixels(limit)
    for prob, target in zip(probs, targets, strict=True):
        pixels.add(prob, target, 0.7)
    found = pixels.result()
    expected = metrics.pooled(probs, targets, 0.7)["pooled"]
    bound = found["auc_error_bound"]
    assert (bound == 0) == (limit is None)
    assert abs(found["pooled"].pop("auc") - expected["auc"]) <= bound
    assert found["pooled"].items() <= expected.items()
    every_prob, every_target = np.stack(probs), np.stack(targets)
    assert expected["mae"] == pytest.approx(metrics.mae(every_prob, every_target), abs=1e-12)
    assert expected["brier"] == pytest.approx(metrics.brier(every_prob, every_target), abs=1e-12)
    assert expected["auc"] == metrics.auc(every_prob, every_target)


def test_nothing_is_not_pooled():
    with pytest.raises(ValueError, match="no image was added"):
        metrics.pooled([], [])
