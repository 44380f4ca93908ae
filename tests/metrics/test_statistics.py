"""Intervals and tests against SciPy, enumeration and hand-made cases."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from prnet_jax.metrics import bootstrap_interval, holm, paired_comparison
from prnet_jax.metrics.statistics import bootstrap_intervals

NAN = math.nan


def test_interval_equals_scipys_within_monte_carlo_error():
    values = np.random.default_rng(1).gamma(2, size=40)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", random_state=5
    ).confidence_interval
    # An estimated 2.5 % quantile of 10,000 has a standard error of 0.027 standard deviations.
    error = 4 * 0.027 * 2**0.5 * values.std() / 40**0.5
    found = bootstrap_interval(values)
    assert found == pytest.approx(tuple(expected), abs=error)
    assert bootstrap_interval(values, level=0.5)[0] > found[0]
    assert bootstrap_interval(values, seed=1) != found == bootstrap_interval(values, seed=0)


def test_two_groups_by_hand():
    # A quarter of the drawings takes the first twice, a quarter the second: means 0, 1/2, 1.
    assert bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)
    assert bootstrap_interval([0.0, 1.0], level=0.4) == (0.5, 0.5)
    # Three images in the second: 0, (0 + 3) / 4, 1, because the mean is over images.
    assert bootstrap_interval([0, 1, 1, 1], ["p", "q", "q", "q"], level=0.4) == (0.75, 0.75)


def test_slices_that_are_copies_of_each_other_make_no_interval_narrower():
    patients = np.random.default_rng(2).normal(size=20)
    slices, groups = np.repeat(patients, 25), np.repeat(np.arange(20), 25)
    low, high = bootstrap_interval(slices, groups)
    assert (low, high) == pytest.approx(bootstrap_interval(patients), abs=1e-12)
    naive = np.diff(bootstrap_interval(slices))[0]
    assert (high - low) / naive == pytest.approx(5, rel=0.1)  # the square root of 25


def test_groups_of_unequal_size_equal_a_loop():
    rng = np.random.default_rng(3)
    sizes = [1, 9, 2, 5, 3, 1, 7, 4]
    groups = np.repeat([f"p{i}" for i in range(8)], sizes)
    values = rng.normal(size=8).repeat(sizes) + rng.normal(scale=0.3, size=groups.size)
    members = [values[groups == name] for name in np.unique(groups)]
    means = []
    for _ in range(4000):
        means.append(np.concatenate([members[i] for i in rng.integers(8, size=8)]).mean())
    error = 4 * 0.027 * (1 + 2.5) ** 0.5 * np.std(means)  # 4,000 drawings here, 10,000 there
    assert bootstrap_interval(values, groups) == pytest.approx(
        tuple(np.percentile(means, (2.5, 97.5))), abs=error
    )


def test_many_groups_in_pieces():
    values = np.random.default_rng(4).normal(size=10_000)
    low, high = bootstrap_interval(values, resamples=1000)
    width = 2 * 1.96 * values.std() / 100
    assert high - low == pytest.approx(width, rel=0.15)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.1 * width)


def test_values_that_are_not_there():
    values, groups = [NAN, 1.0, 2.0, 4.0, NAN], ["a", "b", "b", "c", "d"]
    assert bootstrap_interval(values, groups) == bootstrap_interval([1, 2, 4], ["b", "b", "c"])
    for few, patients in (([], None), ([1.0], None), ([1, NAN], None), ([1, 2, 3], ["a"] * 3)):
        assert np.isnan(bootstrap_interval(few, patients)).all()
    assert bootstrap_interval([0.1] * 7) == (0.1, 0.1)


def test_columns_are_what_single_columns_are():
    rng = np.random.default_rng(6)
    columns = np.where(rng.random((30, 6)) < [0, 0, 0.3, 0.3, 0.9, 1], NAN, rng.random((30, 6)))
    groups = rng.integers(12, size=30)
    together = np.transpose(bootstrap_intervals(columns, groups))
    apart = [bootstrap_interval(column, groups) for column in columns.T]
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, math.inf],), "found infinity"),
        (([1.0, 2.0], ["a"]), "1 for 2 values"),
        (([1.0, 2.0], None, 1.0), "level"),
        (([1.0, 2.0], None, 0.9, 0), "resamples"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(*arguments)


def test_coverage_of_the_true_mean():
    """30 patients of 5 similar slices: intervals of 95 % hold the true mean about that often."""
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(30), 5)
    by_patient = by_slice = 0
    for _ in range(400):
        values = rng.normal(size=30).repeat(5) + rng.normal(scale=0.5, size=150)
        for which in (groups, None):
            low, high = bootstrap_interval(values, which, resamples=400)
            by_patient += (low < 0 < high) * (which is not None)
            by_slice += (low < 0 < high) * (which is None)
    assert 0.90 < by_patient / 400 < 0.975  # a percentile interval of 30 units: about 94 %
    assert by_slice / 400 < 0.75


def walsh_effect_size(differences):
    """The rank-biserial correlation without ranks: signs of all pairwise sums."""
    d = [x for x in differences if x != 0]
    signs = [np.sign(x + y) for x, y in itertools.combinations_with_replacement(d, 2)]
    return np.mean(signs) if signs else 0.0


@pytest.mark.parametrize("n", [2, 9, 50, 51, 200])
@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_p_value_equals_scipys(n, shift):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(2, n))
    a = a + shift
    found = paired_comparison(a, b)
    expected = stats.wilcoxon(a, b, method="exact" if n <= 50 else "auto")
    assert found["p_value"] == pytest.approx(expected.pvalue, abs=1e-9)
    assert found["effect_size"] == pytest.approx(walsh_effect_size(a - b), abs=1e-12)
    assert found["mean_difference"] == pytest.approx(a.mean() - b.mean(), abs=1e-12)
    assert (found["ci95_low"], found["ci95_high"]) == bootstrap_interval(a - b)
    assert (found["n_images"], found["n_units"], found["n_equal"]) == (n, n, 0)
    other_way = paired_comparison(b, a)
    assert other_way["p_value"] == found["p_value"]
    assert other_way["effect_size"] == -found["effect_size"]


@settings(max_examples=50)
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=9))
def test_p_value_with_ties_is_that_of_all_signs(differences):
    found = paired_comparison(differences, np.zeros(len(differences)))
    nonzero = np.array([d for d in differences if d], float)
    ranks = stats.rankdata(np.abs(nonzero))
    lower = min(ranks[nonzero > 0].sum(), ranks[nonzero < 0].sum())
    sums = [ranks @ signs for signs in itertools.product((0, 1), repeat=nonzero.size)]
    assert found["p_value"] == pytest.approx(min(1, 2 * np.mean(np.array(sums) <= lower)))
    assert found["effect_size"] == pytest.approx(walsh_effect_size(differences), abs=1e-12)
    assert found["n_equal"] == differences.count(0)


def test_p_value_with_ties_is_exact_beyond_scipys_enumeration():
    differences = np.random.default_rng(9).integers(1, 6, size=16) * np.repeat([1, -1], [11, 5])
    ranks = stats.rankdata(np.abs(differences))
    lower = min(ranks[:11].sum(), ranks[11:].sum())
    signs = np.arange(2**16)[:, None] >> np.arange(16) & 1
    found = paired_comparison(differences, np.zeros(16))["p_value"]
    assert found == pytest.approx(2 * np.mean(signs @ ranks <= lower), abs=1e-12)
    assert 0.1 < found < 0.9


def test_many_ties_equal_scipys_approximation():
    differences = np.random.default_rng(0).integers(-3, 5, size=90).astype(float)
    expected = stats.wilcoxon(differences, zero_method="wilcox").pvalue
    assert paired_comparison(differences, np.zeros(90))["p_value"] == pytest.approx(expected)


def test_differences_that_only_rounding_tells_apart_are_ties():
    # 0.1 five times, once the other way: of 32 choices of signs, 6 have so little on one side.
    a, b = np.array([0.7, 0.4, 0.3, 0.2, 0.5]), np.array([0.6, 0.3, 0.2, 0.1, 0.6])
    assert np.unique(np.abs(a - b)).size > 1
    assert paired_comparison(a, b)["p_value"] == pytest.approx(2 * 6 / 32)


def test_patients_are_averaged_before_the_test():
    # Three patients: differences (1, 2, 3) -> 2, (-1) -> -1, (4, -4) -> 0
    a, b = np.array([1.0, 2, 3, 0, 4, -4, 9]), np.array([0.0, 0, 0, 1, 0, 0, NAN])
    found = paired_comparison(a, b, ["p", "p", "p", "q", "r", "r", "s"])
    assert (found["n_images"], found["n_units"], found["n_equal"]) == (6, 3, 1)
    assert found["mean_difference"] == pytest.approx(5 / 6)
    assert found["p_value"] == 1.0  # ranks 1 and 2 of either sign: W is 1, and P(W <= 1) = 1/2
    assert found["effect_size"] == pytest.approx((2 - 1) / 3)


def test_slices_that_are_copies_leave_the_comparison_as_it_is():
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(2, 12))
    slices = paired_comparison(a.repeat(6), b.repeat(6), np.arange(12).repeat(6))
    assert slices == pytest.approx(paired_comparison(a, b) | {"n_images": 72})


def test_comparison_with_nothing_to_compare():
    equal = paired_comparison([1.0, 2, 3], [1.0, 2, 3])
    assert (equal["p_value"], equal["effect_size"], equal["n_equal"]) == (1.0, 0.0, 3)
    for a, groups in (([1.0, NAN], None), ([1.0, 2.0], ["p", "p"])):
        one = paired_comparison(a, [0.0, 0.0], groups)
        assert one["n_units"] == 1 and math.isfinite(one["mean_difference"])
        assert np.isnan([one[k] for k in ("p_value", "effect_size", "ci95_low")]).all()
    none = paired_comparison([NAN, math.inf], [1.0, 1.0])
    assert none["n_units"] == none["n_images"] == 0 and math.isnan(none["mean_difference"])
    with pytest.raises(ValueError, match="one length"):
        paired_comparison([1.0, 2.0], [1.0])


def test_holm_by_hand():
    # Ascending 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04 -> 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, NAN, 0.6, 0.5]) == pytest.approx([0.06, NAN, 1.0, 1.0], nan_ok=True)
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        holm([0.5, 1.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_no_correction_and_bonferroni(p_values):
    adjusted = np.array(holm(p_values))
    assert (adjusted >= p_values).all()
    assert (adjusted <= np.minimum(1, len(p_values) * np.array(p_values))).all()
    assert (np.diff(adjusted[np.argsort(p_values)]) >= 0).all()
    assert adjusted.min() == min(1, len(p_values) * min(p_values))
