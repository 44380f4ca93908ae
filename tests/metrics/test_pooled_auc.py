"""The AUC of many images: exact up to a limit, then within the bound it states."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prnet_jax import metrics
from prnet_jax.metrics.pooled_auc import PooledAuc

PIXELS = 400


def images(seed=0, count=6, shape=(20, 20)):
    """Overlapping classes with many values near 0 and 1, as a trained network gives."""
    rng = np.random.default_rng(seed)
    targets = [rng.random(shape) < 0.3 for _ in range(count)]
    logits = [6 * rng.normal(size=shape) + 6 * target - 3 for target in targets]
    return [(1 / (1 + np.exp(-x))).astype(np.float32) for x in logits], targets


def add_all(probs, targets, **limit):
    pooled = PooledAuc(**limit)
    for prob, target in zip(probs, targets, strict=True):
        pooled.add(prob, target)
    return pooled.result()


def exact(probs, targets):
    return metrics.auc(*(np.concatenate([np.ravel(x) for x in part]) for part in (probs, targets)))


@pytest.mark.parametrize("limit", [6 * PIXELS, math.inf])
def test_up_to_the_limit_it_is_the_exact_auc(limit):
    probs, targets = images()
    assert add_all(probs, targets, exact_pixels=limit) == (exact(probs, targets), 0.0)
    assert add_all(probs, targets) == (exact(probs, targets), 0.0)


@pytest.mark.parametrize("limit", [0, 1, PIXELS, 3 * PIXELS, 6 * PIXELS - 1])
def test_beyond_the_limit_the_bound_holds_wherever_it_was_crossed(limit):
    probs, targets = images()
    found, bound = add_all(probs, targets, exact_pixels=limit)
    assert 0 < bound < 1e-3
    assert abs(found - exact(probs, targets)) <= bound + 1e-12
    assert (found, bound) == add_all(probs, targets, exact_pixels=0)


@pytest.mark.parametrize(
    ("low", "high", "one_bin"),
    [
        (0.25, np.nextafter(np.float32(0.25), np.float32(1)), True),
        (0.25, 0.25 * (1 + 2**-13), False),
        (1 - 0.25 * (1 + 2**-13), 0.75, False),
        (0.5, np.nextafter(np.float32(0.5), np.float32(1)), False),
        (0.0, 1e-45, True),  # the smallest float32
        (-0.0, 0.0, True),
        (0.0, 1e-40, False),
        (1 - 2**-24, 1.0, False),  # the largest float32 below 1
        (1 - 2**-12 - 2**-24, 1 - 2**-12, False),
        (0.0, 1.0, False),
    ],
)
def test_pixels_of_one_bin_are_a_tie_and_the_bound_says_so(low, high, one_bin):
    prob, target = np.array([[low, high]], np.float32), np.array([[False, True]])
    right, wrong = (add_all([prob], [mask], exact_pixels=0) for mask in (target, ~target))
    assert right == ((0.5, 0.5) if one_bin else (1.0, 0.0))
    assert wrong == ((0.5, 0.5) if one_bin else (0.0, 0.0))


@settings(max_examples=50)
@given(
    prob=hnp.arrays(np.float64, (5, 6), elements=st.floats(0, 1)),
    target=hnp.arrays(bool, (5, 6)),
    limit=st.sampled_from([0, 29, 30]),
)
def test_any_float64_probabilities(prob, target, limit):
    found, bound = add_all([prob, prob], [target, target], exact_pixels=limit)
    expected = metrics.auc(prob, target)
    if target.all() or not target.any():
        assert math.isnan(found) and bound == 0.0
    else:
        assert abs(found - expected) <= bound + 1e-12


@pytest.mark.parametrize("limit", [0, 3 * PIXELS, math.inf])
def test_a_result_in_between_changes_nothing(limit):
    probs, targets = images()
    pooled = PooledAuc(limit)
    for prob, target in zip(probs, targets, strict=True):
        pooled.add(prob, target)
        assert pooled.result() == pooled.result()
    assert pooled.result() == add_all(probs, targets, exact_pixels=limit)


def test_without_pixels_or_with_one_class_there_is_no_auc():
    assert math.isnan(PooledAuc().result()[0])
    blank = np.zeros((2, 2), np.float32), np.zeros((2, 2), bool)
    for limit in (0, 100):
        found, bound = add_all(*[[part] for part in blank], exact_pixels=limit)
        assert math.isnan(found) and bound == 0.0


def test_bad_probabilities_are_refused():
    with pytest.raises(ValueError, match=r"in \[0, 1\], found 1.5"):
        PooledAuc().add(np.full((2, 2), 1.5), np.zeros((2, 2), bool))
