"""Reliability by hand, and scores at many thresholds against plain thresholding."""

import numpy as np
import pytest

from prnet_jax import metrics
from prnet_jax.metrics import calibration


def test_reliability_by_hand():
    prob = np.array([0.0, 0.1, 0.3, 0.4, 0.6, 0.6, 1.0, 0.75])
    target = np.array([0, 1, 0, 0, 1, 0, 1, 1], bool)
    table = calibration.reliability(prob, target, bins=4)
    np.testing.assert_array_equal(table["pixels"], [2, 2, 2, 2])
    np.testing.assert_allclose(table["mean_prob"], [0.05, 0.35, 0.6, 0.875])
    np.testing.assert_allclose(table["foreground"], [0.5, 0, 0.5, 1])
    error = calibration.calibration_error(table)
    assert error == pytest.approx((0.45 + 0.35 + 0.1 + 0.125) / 4)


def test_a_calibrated_predictor_has_no_error_and_empty_bins_do_not_count():
    generator = np.random.default_rng(0)
    prob = generator.choice([0.1, 0.9], 400_000)
    table = calibration.reliability(prob, generator.random(prob.size) < prob, bins=8)
    assert np.isnan(table["mean_prob"][1:7]).all() and table["pixels"][1:7].sum() == 0
    assert calibration.calibration_error(table) < 0.003
    wrong = calibration.reliability(prob, generator.random(prob.size) < 1 - prob, bins=8)
    assert calibration.calibration_error(wrong) == pytest.approx(0.8, abs=0.003)


def test_images_one_at_a_time_give_the_table_of_all_pixels_to_the_last_bit():
    generator = np.random.default_rng(2)
    probs = [generator.random(shape, np.float32) for shape in ((37, 41), (64, 64), (1, 1))]
    probs += [np.ones((3, 3)), np.zeros((2, 2))]
    targets = [generator.random(prob.shape) < 0.4 for prob in probs]
    every_prob, every_target = (np.concatenate([x.ravel() for x in y]) for y in (probs, targets))
    accumulated = calibration.Reliability()
    for prob, target in zip(probs, targets, strict=True):
        accumulated.add(prob, target)
    table = accumulated.table()
    for name, values in calibration.reliability(every_prob, every_target).items():
        assert table[name].dtype == values.dtype
        np.testing.assert_array_equal(table[name], values)
    bin_of = np.minimum((every_prob.astype(np.float64) * 15).astype(int), 14)
    np.testing.assert_array_equal(
        table["mean_prob"], np.bincount(bin_of, every_prob) / np.bincount(bin_of)
    )


def test_scores_by_threshold_equal_thresholding():
    generator = np.random.default_rng(1)
    probs = [np.round(generator.random((9, 7), np.float32), 2) for _ in range(3)]  # many ties
    targets = [generator.random((9, 7)) < share for share in (0.4, 0.4, 0)]
    found = calibration.scores_by_threshold(probs, targets)
    for i, (prob, target) in enumerate(zip(probs, targets, strict=True)):
        for t, threshold in enumerate(calibration.THRESHOLDS):
            pred = prob >= np.float32(threshold)
            assert found["pred_empty"][i, t] == (not pred.any())
            assert found["target_empty"][i, t] == (not target.any())
            for name, value in metrics.overlap(pred, target).items():
                assert found[name][i, t] == pytest.approx(value, nan_ok=True)


def test_best_threshold():
    thresholds = [0.2, 0.4, 0.6, 0.9]
    dsc = np.array([[0.5, 0.9, 0.9, 0.1], [0.3, 0.7, np.nan, 0.1]])
    assert calibration.best_threshold(dsc, thresholds) == 0.6  # 0.9 over the one image scored
    assert calibration.best_threshold(dsc[:1], thresholds) in (0.4, 0.6)
    assert calibration.best_threshold([[0.8, 0.1, 0.1, 0.8]], thresholds) == 0.2  # nearer to 0.5
    assert np.isnan(calibration.best_threshold(np.full((2, 4), np.nan), thresholds))
