"""Overlap of volumes, counted over the voxels of all their slices together."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prnet_jax.metrics.overlap import overlap_from_counts
from prnet_jax.metrics.summary import json_number

VOLUME_METRICS = ("dsc_3d", "iou_3d", "sen_3d", "ppv_3d")
_SLICE = re.compile(r"(?P<volume>.+)_z\d{4,}")  # ids of the slices of a volume: case_z0042


class VolumeCounts:
    """Adds up the pixels of slices whose ids name a volume. Slices come one at a time."""

    def __init__(self):
        self._counts: dict[str, list[int]] = {}  # tp, fp, fn, tn
        self._about: dict[str, dict[str, Any]] = {}

    def add(self, about: Mapping[str, Any], pred: np.ndarray, mask: np.ndarray) -> None:
        """Adds a slice.

        Args:
            about: its `id` and `patient_id`.
            pred: bool [H, W].
            mask: bool [H, W], the target.
        """
        found = _SLICE.fullmatch(str(about["id"]))
        if found is None:
            return
        name = found["volume"]
        known = self._about.setdefault(name, {"patient_id": about["patient_id"], "slices": 0})
        known["slices"] += 1
        counts = self._counts.setdefault(name, [0, 0, 0, 0])
        for i, pixels in enumerate((pred & mask, pred & ~mask, ~pred & mask, ~pred & ~mask)):
            counts[i] += int(np.count_nonzero(pixels))

    def rows(self) -> list[dict[str, Any]]:
        """`id` of each volume of two slices or more, `patient_id`, `slices`, `VOLUME_METRICS`.

        Where both masks are empty the metrics are NaN.
        """
        rows = []
        for name, about in self._about.items():
            if about["slices"] < 2:
                continue
            tp, fp, fn, tn = map(np.array, self._counts[name])
            scores = overlap_from_counts(tp=tp, fp=fp, fn=fn, tn=tn)
            metrics = {m: float(scores[m.removesuffix("_3d")]) for m in VOLUME_METRICS}
            rows.append({"id": name, **about, **metrics})
        return rows


def summarize_volumes(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`n` and, for each metric, `mean`, `sd`, `median` and `n` over the volumes that have it."""
    summary: dict[str, Any] = {"n": len(rows)}
    for name in VOLUME_METRICS:
        values = np.array([row[name] for row in rows])
        values = values[~np.isnan(values)]
        summary[name] = {
            "mean": json_number(values.mean() if values.size else np.nan),
            "sd": json_number(values.std(ddof=1) if values.size > 1 else np.nan),
            "median": json_number(np.median(values) if values.size else np.nan),
            "n": int(values.size),
        }
    return summary
