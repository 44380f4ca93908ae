"""Paired tests of every row of a comparison against a reference."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prnet_jax.compare.rows import Row
from prnet_jax.metrics.names import Metric
from prnet_jax.metrics.statistics import holm, paired_comparison
from prnet_jax.run.files import csv_text

STATISTICS_NOTE = (
    "Differences are network minus reference; the value of an image is the mean over the seeds. "
    "They are over the images that both score, and over those without a target where one raises a "
    "false alarm and the other rightly marks nothing, which counts as a perfect answer. So a "
    "difference need not be that of the table's means. Interval: 95 % percentile bootstrap of the "
    "mean difference, drawing patients. p: two-sided Wilcoxon signed-rank test of the patients' "
    "mean differences. Holm's correction is over the networks within a metric, not over the "
    "metrics. Effect size: matched-pairs rank-biserial correlation, from -1 to 1. Difference and "
    "interval weigh images equally, p and effect size weigh patients equally: if patients have "
    "different numbers of images, they can point in opposite directions. The tests generalise to "
    "other test images, not to another training."
)
_COLUMNS = (
    *("metric", "network", "reference", "mean_difference", "ci95_low", "ci95_high"),
    *("p_value", "p_holm", "effect_size", "better", "n_images", "n_units", "n_equal"),
)


def compare_to(reference: Row, rows: Sequence[Row], metrics: Sequence[Metric]) -> list[dict]:
    """Paired tests of every other row against the reference, on every metric.

    Returns:
        For each metric and row: `metric`, `network` and `reference` (labels), the entries of
        `prnet_jax.metrics.statistics.paired_comparison` for network minus reference, `p_holm`
        (over the networks within a metric), and `better`: "network", "reference" or "".
    """
    results = []
    for metric in metrics:
        name, family = metric.name, []
        for row in rows:
            if row is reference or name not in row.scores or name not in reference.scores:
                continue
            # Where both rightly mark nothing, there is nothing to compare.
            nothing = row.both_empty & reference.both_empty
            found = paired_comparison(
                np.where(nothing, np.nan, row.paired[name]),
                np.where(nothing, np.nan, reference.paired[name]),
                reference.runs[0].patients,
            )
            gain = found["mean_difference"] * (1 if metric.higher_is_better else -1)
            better = "network" if gain > 0 else "reference" if gain < 0 else ""
            labels = {"metric": name, "network": row.label, "reference": reference.label}
            family.append(labels | found | {"better": better})
        adjusted = holm([result["p_value"] for result in family])
        results += [r | {"p_holm": p} for r, p in zip(family, adjusted, strict=True)]
    return results


def statistics_csv(results: Sequence[Mapping[str, Any]]) -> str:
    """The results of `compare_to`, one line each; shares as fractions."""
    return csv_text(results, _COLUMNS)


def signed(metric: Metric, value: float) -> str:
    """A difference in the metric's unit with its sign, "-" for NaN.

    It has one decimal more than the table, in whose decimals a difference can vanish.
    """
    if math.isnan(value):
        return "-"
    return f"{value * metric.factor:+.{metric.decimals + 1}f}"


def p_text(p: float) -> str:
    """A p-value with two significant digits, "-" for NaN."""
    if math.isnan(p):
        return "-"
    return "<0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"
