"""Agreement of outlines, computed by hand."""

import math

import numpy as np
import pytest

from prnet_jax.metrics.agreement import PairwiseDice, pairwise_dice


def row(*pixels):
    return np.array([pixels], bool)


def test_three_outlines_by_hand():
    outlines = {
        "a": [row(1, 1, 0, 0), row(0, 0, 0, 0), row(0, 0, 0, 0)],
        "b": [row(1, 0, 0, 0), row(1, 1, 0, 0), row(0, 0, 0, 0)],
        "c": [row(1, 1, 1, 0), row(0, 1, 1, 0), row(0, 0, 0, 0)],
    }
    found = {(pair["first"], pair["second"]): pair for pair in pairwise_dice(outlines)}
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found["a", "b"]["dice_both_marked"] == pytest.approx(2 / 3)
    assert found["a", "b"]["dice_any_marked"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["b", "c"]["dice_both_marked"] == pytest.approx((2 / 4 + 2 / 4) / 2)
    assert [pair["n_both_marked"] for pair in found.values()] == [1, 1, 2]
    assert [pair["n_any_marked"] for pair in found.values()] == [2, 2, 2]


def test_blank_outlines_have_no_agreement():
    blank = [row(0, 0)]
    (pair,) = pairwise_dice({"a": blank, "b": blank})
    assert pair["n_any_marked"] == pair["n_both_marked"] == 0
    assert math.isnan(pair["dice_any_marked"]) and math.isnan(pair["dice_both_marked"])


def test_images_are_added_with_the_same_outlines():
    pairs = PairwiseDice()
    for _ in range(2):
        pairs.add({"a": row(1, 1), "b": row(1, 0), "c": row(0, 0)})
    outlines = {"a": [row(1, 1)] * 2, "b": [row(1, 0)] * 2, "c": [row(0, 0)] * 2}
    np.testing.assert_equal(pairs.rows(), pairwise_dice(outlines))
    with pytest.raises(ValueError, match="same outlines, found a, c"):
        pairs.add({"a": row(1, 1), "c": row(0, 0)})
