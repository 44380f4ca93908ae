"""Segmentation metrics: `overlap` by pixels, `surface` by distances, `policy` for summaries.

The modules `prnet_jax.metrics.overlap` and `.surface` must be imported from by their full names:
as an attribute, `metrics.overlap` is the function.
"""

from prnet_jax.metrics.overlap import auc, counts, mae, overlap, overlap_from_counts
from prnet_jax.metrics.policy import EMPTY_RULE, METRICS, pooled, score_image, summarize
from prnet_jax.metrics.surface import hausdorff

__all__ = [
    "EMPTY_RULE",
    "METRICS",
    "auc",
    "counts",
    "hausdorff",
    "mae",
    "overlap",
    "overlap_from_counts",
    "pooled",
    "score_image",
    "summarize",
]
