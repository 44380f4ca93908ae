"""Intervals and tests whose independent unit is the patient, not the image.

Slices of one patient resemble each other. If they counted as independent, every interval would be
too narrow and every p-value too small.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import ArrayLike

EXACT_UNTIL = 50  # SciPy's own limit for the exact distribution of the signed-rank statistic
ROUND_TO = 12  # decimals: 0.7 - 0.6 and 0.4 - 0.3 are a tie


def mean_of_scored(scores: ArrayLike) -> np.ndarray:
    """The mean over axis 0 of all values that are not NaN; NaN where there are none."""
    scores = np.asarray(scores, np.float64)
    scored = ~np.isnan(scores)
    total = np.where(scored, scores, 0.0).sum(axis=0)
    number = scored.sum(axis=0)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def bootstrap_interval(
    values: ArrayLike,
    groups: Sequence | np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean, resampling groups with replacement.

    The mean is over all values of the drawn groups (a cluster bootstrap), so a group of many images
    weighs more, as it does in the mean itself. With few groups such intervals are slightly too
    narrow.

    Args:
        values: float [N], in any unit; NaN is left out. To compare two methods on the same images,
            pass the differences.
        groups: [N], the patient of each value; None makes each value its own group.
        level: in (0, 1), the coverage of the interval.
        resamples: the number of times that the groups are drawn.
        seed: of the random draws; the same seed gives the same interval.

    Returns:
        (low, high); both NaN if fewer than two groups have a value.

    Raises:
        ValueError: infinite values, lengths that differ, a level outside (0, 1), or fewer than one
            resample.
    """
    values = np.asarray(values, np.float64)
    low, high = bootstrap_intervals(values[:, None], groups, level, resamples, seed)
    return float(low[0]), float(high[0])


def bootstrap_intervals(
    columns: ArrayLike,
    groups: Sequence | np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """`bootstrap_interval` of every column of float [N, M]: low [M] and high [M].

    Columns with values in the same groups share their draws. The results are those of single
    columns, but faster.
    """
    columns = np.asarray(columns, np.float64)
    if np.isinf(columns).any():
        raise ValueError("values must be finite or NaN, found infinity: its mean has no interval")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(
            "level must lie in (0, 1) and resamples must be 1 or more, "
            f"found {level} and {resamples}"
        )
    group = _group_numbers(groups, len(columns))
    sums, counts = _group_sums(columns, group)
    intervals = np.full((2, columns.shape[1]), np.nan)
    patterns, pattern_of = np.unique(counts > 0, axis=1, return_inverse=True)
    for number, has_values in enumerate(patterns.T):
        if np.count_nonzero(has_values) < 2:
            continue
        chosen = np.flatnonzero(pattern_of.ravel() == number)
        pick = np.ix_(has_values, chosen)
        means = _resampled_means(sums[pick], counts[pick], resamples, seed)
        tails = (50 * (1 - level), 50 * (1 + level))
        intervals[:, chosen] = np.percentile(means, tails, axis=0)
    return intervals[0], intervals[1]


def paired_comparison(
    a: ArrayLike, b: ArrayLike, groups: Sequence | np.ndarray | None = None
) -> dict[str, float | int]:
    """Two methods on the same images: difference, interval, Wilcoxon signed-rank test, effect size.

    The differences are averaged within each group, and the averages are tested. Averages of exactly
    zero are dropped (`zero_method="wilcox"`: Wilcoxon's own rule, and R's). `n_equal` counts them:
    if they are many, the methods hardly differ whatever p is. Up to 50 averages the p-value is
    exact, also with ties; beyond that it is the normal approximation corrected for ties.

    Args:
        a: float [N], one metric of the first method for each image.
        b: float [N], the same for the second method. Pairs in which either is NaN or infinite are
            left out.
        groups: [N], the patient of each image; None makes each image its own group.

    Returns:
        A dict of

        * mean_difference: the mean of a - b over images, the difference of the two means.
        * ci95_low, ci95_high: its `bootstrap_interval` over groups.
        * p_value: two-sided; 1 if all averages are zero, NaN with fewer than two groups.
        * effect_size: matched-pairs rank-biserial correlation (D. S. Kerby, "The simple difference
          formula", Comprehensive Psychology 3, 2014) in [-1, 1]: 1 if a is larger in every
          group, 0 if all averages are zero, NaN with fewer than two groups.
        * n_images, n_units, n_equal: the pairs, the groups, and the groups whose average is zero.

    Raises:
        ValueError: lengths that differ.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"a and b must be [N] of one length, found {a.shape} and {b.shape}")
    usable = np.isfinite(a) & np.isfinite(b)
    difference = a[usable] - b[usable]
    group = _group_numbers(groups, len(a))[usable]
    sums, counts = _group_sums(difference[:, None], group)
    counted = counts[:, 0] > 0
    averages = np.round(sums[counted, 0] / counts[counted, 0], ROUND_TO)
    p_value, effect_size = _signed_rank(averages) if averages.size > 1 else (math.nan, math.nan)
    low, high = bootstrap_interval(difference, group)
    return {
        "mean_difference": float(difference.mean()) if difference.size else math.nan,
        "ci95_low": low,
        "ci95_high": high,
        "p_value": p_value,
        "effect_size": effect_size,
        "n_images": int(difference.size),
        "n_units": int(averages.size),
        "n_equal": int(np.count_nonzero(averages == 0)),
    }


def holm(p_values: ArrayLike) -> list[float]:
    """p-values adjusted for multiple tests (S. Holm, Scandinavian J. Statistics 6, 1979).

    Args:
        p_values: float [M] in [0, 1] or NaN.

    Returns:
        M floats in the order given, none smaller than before, at most 1, and ranked as before. NaN
        stays NaN and does not count as a test.

    Raises:
        ValueError: a value outside [0, 1].
    """
    p_values = np.asarray(p_values, np.float64)
    tests = np.flatnonzero(~np.isnan(p_values))
    if not ((p_values[tests] >= 0) & (p_values[tests] <= 1)).all():
        raise ValueError(f"p-values must lie in [0, 1], found {p_values.tolist()}")
    ascending = tests[np.argsort(p_values[tests], kind="stable")]
    remaining = np.arange(len(tests), 0, -1)
    adjusted = np.full(p_values.shape, np.nan)
    adjusted[ascending] = np.minimum(1, np.maximum.accumulate(remaining * p_values[ascending]))
    return adjusted.tolist()


def _group_numbers(groups: Sequence | np.ndarray | None, length: int) -> np.ndarray:
    """The group of each value as a number from 0, int [N]."""
    if groups is None:
        return np.arange(length)
    if len(groups) != length:
        raise ValueError(
            f"groups must have one entry for each value, found {len(groups)} for {length} values"
        )
    return np.unique(np.asarray(groups), return_inverse=True)[1].ravel()


def _group_sums(columns: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values that are not NaN, both float64 [G, M]."""
    shape = (int(group.max(initial=-1)) + 1, columns.shape[1])
    sums, counts = np.zeros(shape), np.zeros(shape)
    present = ~np.isnan(columns)
    np.add.at(sums, group, np.where(present, columns, 0.0))
    np.add.at(counts, group, present)
    return sums, counts


def _resampled_means(sums: np.ndarray, counts: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """The mean of each column in every resample of the G groups, float64 [resamples, M]."""
    rng = np.random.default_rng(seed)
    n_groups = len(sums)
    # Centred, so that equal values give equal means and not a cloud of rounding errors.
    centre = sums.sum(axis=0) / counts.sum(axis=0)
    residuals = sums - counts * centre
    means = []
    at_once = max(1, 2**21 // n_groups)  # 16 MB of weights, whatever the number of groups
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = rng.integers(n_groups, size=(rows, n_groups))
        drawn += n_groups * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * n_groups).reshape(rows, n_groups)
        weights = weights.astype(np.float64)
        means.append(centre + (weights @ residuals) / (weights @ counts))
    return np.concatenate(means)


def _signed_rank(averages: np.ndarray) -> tuple[float, float]:
    """Two-sided p-value and rank-biserial correlation of paired differences without the zeros."""
    nonzero = averages[averages != 0]
    if not nonzero.size:
        return 1.0, 0.0
    size = np.abs(nonzero)
    ranks = scipy.stats.rankdata(size)
    effect_size = float(np.sum(ranks * np.sign(nonzero)) / ranks.sum())
    if nonzero.size <= EXACT_UNTIL and np.unique(size).size < size.size:
        return _exact_p_with_ties(ranks, nonzero > 0), effect_size
    return float(scipy.stats.wilcoxon(nonzero, zero_method="wilcox").pvalue), effect_size


def _exact_p_with_ties(ranks: np.ndarray, positive: np.ndarray) -> float:
    """Two-sided p-value over all choices of signs; SciPy's exact distribution has no tied ranks.

    Tied ranks are multiples of 1/2, so twice a rank is an integer, and the distribution of the sum
    of the positive ranks is built up rank by rank.
    """
    twice = np.rint(2 * ranks).astype(int)
    probability = np.zeros(twice.sum() + 1)
    probability[0] = 1
    for step in twice:
        shifted = np.concatenate([np.zeros(step), probability[: len(probability) - step]])
        probability = (probability + shifted) / 2
    smaller = min(twice[positive].sum(), twice[~positive].sum())
    return float(min(1, 2 * probability[: smaller + 1].sum()))
