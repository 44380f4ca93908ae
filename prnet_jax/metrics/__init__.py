"""Segmentation metrics of masks and probabilities, and their summaries.

`names` says how each metric is printed, `overlap` compares pixels, `surface` measures distances,
`policy` decides what empty masks count for, `summary` scores images and summarizes them,
`statistics` gives intervals and tests.

Import from the module `prnet_jax.metrics.overlap` by its full name: as an attribute,
`metrics.overlap` is the function.
"""

from prnet_jax.metrics.names import HIGHER_IS_BETTER, METRICS, PIXEL_METRICS
from prnet_jax.metrics.overlap import (
    auc,
    brier,
    counts,
    mae,
    merge_counts,
    overlap,
    overlap_from_counts,
)
from prnet_jax.metrics.policy import POLICIES, EmptyPolicy, EmptyScores, find_policy
from prnet_jax.metrics.statistics import (
    bootstrap_interval,
    holm,
    mean_of_scored,
    paired_comparison,
)
from prnet_jax.metrics.summary import PooledPixels, pooled, score_image, summarize
from prnet_jax.metrics.surface import assd, hausdorff, surface_dice

__all__ = [
    "HIGHER_IS_BETTER",
    "METRICS",
    "PIXEL_METRICS",
    "POLICIES",
    "EmptyPolicy",
    "EmptyScores",
    "PooledPixels",
    "assd",
    "auc",
    "bootstrap_interval",
    "brier",
    "counts",
    "find_policy",
    "hausdorff",
    "holm",
    "mae",
    "mean_of_scored",
    "merge_counts",
    "overlap",
    "overlap_from_counts",
    "paired_comparison",
    "pooled",
    "score_image",
    "summarize",
    "surface_dice",
]
