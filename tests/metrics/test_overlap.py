"""Pixel metrics against hand-computed cases and brute force."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prnet_jax import metrics

# 3 hits, 1 false alarm, 2 misses, 6 true negatives
PRED = np.array([[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
TARGET = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]], bool)
EMPTY, FULL = np.zeros((3, 4), bool), np.ones((3, 4), bool)


def test_overlap_by_hand():
    expected = {"iou": 3 / 6, "dsc": 6 / 9, "acc": 9 / 12, "spe": 6 / 7, "sen": 3 / 5, "ppv": 3 / 4}
    found = metrics.overlap(PRED, TARGET)
    assert found == pytest.approx(expected, abs=1e-15)
    assert all(type(value) is float for value in found.values())
    assert metrics.overlap(PRED.astype(np.uint8), TARGET.astype(np.uint8)) == found


@pytest.mark.parametrize(
    ("pred", "target", "expected"),
    [
        (EMPTY, EMPTY, {"acc": 1, "spe": 1}),
        (PRED, EMPTY, {"iou": 0, "dsc": 0, "acc": 8 / 12, "spe": 8 / 12, "ppv": 0}),
        (EMPTY, TARGET, {"iou": 0, "dsc": 0, "acc": 7 / 12, "spe": 1, "sen": 0}),
        (FULL, FULL, {"iou": 1, "dsc": 1, "acc": 1, "sen": 1, "ppv": 1}),
    ],
    ids=["both empty", "target empty", "pred empty", "both full"],
)
def test_overlap_of_empty_and_full_masks(pred, target, expected):
    undefined = dict.fromkeys(("iou", "dsc", "acc", "spe", "sen", "ppv"), math.nan)
    assert metrics.overlap(pred, target) == pytest.approx(undefined | expected, nan_ok=True)


def test_counts_of_a_batch_under_jit_lead_to_the_same_metrics():
    pred, target = np.stack([PRED, EMPTY, FULL]), np.stack([TARGET, TARGET, TARGET])
    counts = jax.jit(metrics.counts)(jnp.asarray(pred), jnp.asarray(target))
    assert {name: value.tolist() for name, value in counts.items()} == {
        "tp": [3, 0, 5],
        "fp": [1, 0, 7],
        "fn": [2, 5, 0],
        "tn": [6, 7, 0],
    }
    batch = metrics.overlap_from_counts(**counts)
    for i in range(3):
        single = metrics.overlap(pred[i], target[i])
        assert {name: value[i] for name, value in batch.items()} == pytest.approx(
            single, nan_ok=True
        )
    assert metrics.counts(jnp.asarray(pred), jnp.asarray(target), axis=None)["tp"] == 8


def test_merged_counts_are_those_of_all_images_together():
    pred, target = np.stack([PRED, EMPTY, FULL]), np.stack([TARGET, TARGET, EMPTY])
    batches = [
        metrics.counts(jnp.asarray(pred[part]), jnp.asarray(target[part]))
        for part in (slice(2), slice(2, 3))
    ]
    total = metrics.merge_counts(batches)
    assert total == {"tp": 3, "fp": 13, "fn": 7, "tn": 13}
    assert metrics.merge_counts([total, total])["tn"] == 26
    assert metrics.merge_counts([]) == {"tp": 0, "fp": 0, "fn": 0, "tn": 0}


def test_merged_counts_do_not_overflow():
    most = np.int32(2**31 - 1)
    total = metrics.merge_counts([dict.fromkeys(("tp", "fp", "fn", "tn"), np.array([most, 7]))] * 3)
    assert total["tn"] == 3 * (2**31 + 6)
    assert {value.dtype for value in total.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"tp": 1, "fp": 1, "fn": 1}, "found tp, fp, fn"),
        (dict.fromkeys(("tp", "fp", "fn", "tn"), np.float32(1)), "integers, found float32"),
    ],
)
def test_other_things_than_counts_are_not_merged(part, message):
    with pytest.raises(ValueError, match=message):
        metrics.merge_counts([part])


def test_large_counts_are_not_rounded():
    ratios = metrics.overlap_from_counts(tp=2**40, fp=1, fn=0, tn=2**40)
    assert 1 - ratios["iou"] == pytest.approx(2.0**-40, rel=1e-3)


def test_mae_by_hand():
    assert metrics.mae(np.array([[0.25, 1.0], [0.5, 0.0]]), np.eye(2, dtype=bool)) == 0.8125
    assert metrics.mae(PRED.astype(np.float32), TARGET) == pytest.approx(
        1 - metrics.overlap(PRED, TARGET)["acc"], abs=1e-15
    )


def test_brier_by_hand():
    # errors 0.75, 1, 0.5 and 1, squared
    assert metrics.brier(np.array([[0.25, 1.0], [0.5, 0.0]]), np.eye(2, dtype=bool)) == 2.8125 / 4
    assert metrics.brier(PRED.astype(np.float32), TARGET) == metrics.mae(PRED, TARGET)


@given(prob=hnp.arrays(np.float32, (5, 6), elements=st.floats(0, 1, width=32)))
def test_brier_lies_between_the_square_of_mae_and_mae(prob):
    target = np.arange(30).reshape(5, 6) % 3 == 0
    score, error = metrics.brier(prob, target), metrics.mae(prob, target)
    assert error**2 - 1e-12 <= score <= error + 1e-12
    assert metrics.brier(1 - prob.astype(np.float64), ~target) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize(
    ("prob", "expected"),
    [
        ([[0.9, 0.8], [0.2, 0.1]], 1.0),
        ([[0.1, 0.2], [0.8, 0.9]], 0.0),
        ([[0.5, 0.5], [0.5, 0.5]], 0.5),
        ([[0.9, 0.3], [0.3, 0.1]], 0.875),  # 3 pairs won and one tied, of 4
    ],
)
def test_auc_by_hand(prob, expected):
    assert metrics.auc(np.array(prob), np.array([[1, 1], [0, 0]], bool)) == expected


@given(
    prob=hnp.arrays(np.float32, (5, 6), elements=st.sampled_from([0, 0.1, 0.5, 0.7, 1])),
    target=hnp.arrays(bool, (5, 6)),
)
def test_auc_counts_pairs(prob, target):
    positive, negative = prob[target][:, None], prob[~target][None, :]
    pairs = positive.size * negative.size
    won = np.sum(positive > negative) + np.sum(positive == negative) / 2
    expected = won / pairs if pairs else math.nan
    assert metrics.auc(prob, target) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("call", [metrics.mae, metrics.brier, metrics.auc])
@pytest.mark.parametrize(
    ("prob", "target", "message"),
    [
        (np.zeros((3, 4)), np.zeros((3, 4, 1), bool), "same shape"),
        (np.zeros((0, 4)), np.zeros((0, 4), bool), "at least one pixel"),
        (np.full((3, 4), 1.5), EMPTY, r"in \[0, 1\], found 1.5"),
        (np.full((3, 4), np.nan), EMPTY, "found nan"),
        (np.zeros((3, 4)), np.full((3, 4), 255), "target must be a mask of 0 and 1"),
    ],
)
def test_bad_probabilities_are_refused(call, prob, target, message):
    with pytest.raises(ValueError, match=message):
        call(prob, target)


@pytest.mark.parametrize(
    ("pred", "message"),
    [
        (np.zeros((4, 3), bool), "same shape"),
        (np.zeros((3, 4, 1), bool), "same shape"),
        (np.full((3, 4), 0.5), "pred must be a mask of 0 and 1"),
    ],
)
def test_bad_masks_are_refused(pred, message):
    with pytest.raises(ValueError, match=message):
        metrics.overlap(pred, TARGET)


def test_counts_refuse_what_would_broadcast_or_is_no_mask():
    with pytest.raises(ValueError, match="but target is"):
        metrics.counts(jnp.zeros((2, 3, 4), bool), jnp.zeros((3, 4), bool))
    with pytest.raises(ValueError, match="must be bool"):
        metrics.counts(jnp.zeros((3, 4)), jnp.zeros((3, 4), bool))
