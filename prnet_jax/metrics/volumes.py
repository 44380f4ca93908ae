"""Scores of volumes: overlap and surface distances over the voxels of all their slices together."""

import collections
import dataclasses
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from prnet_jax.metrics.names import VOLUME_METRIC_NAMED
from prnet_jax.metrics.overlap import overlap_from_counts
from prnet_jax.metrics.policy import EmptyPolicy, empty_state, find_policy
from prnet_jax.metrics.summary import empty_surface_metrics, json_number, surface_metrics
from prnet_jax.metrics.surface import surface_distances

VOLUME_METRICS = tuple(VOLUME_METRIC_NAMED)
SPACING = ("spacing_row_mm", "spacing_column_mm", "spacing_slice_mm")
NO_DISTANCES = "no_distances"  # why a volume has none
_NOT_STATED = "the data do not state how far apart slices lie"
_NO_PIXEL_SIZE = "the data do not state the size of pixels"
_INCOMPLETE = "not all slices of the volume are scored"
_SLICE = re.compile(r"(?P<volume>.+)_z(?P<number>\d{4,})")  # ids of slices: case_z0042
_PLAIN = {name: name.removesuffix("_3d") for name in VOLUME_METRICS}
_OVERLAP = ("dsc", "iou", "sen", "ppv")


@dataclasses.dataclass(frozen=True)
class Stack:
    """How the slices of a volume lie on one another.

    Attributes:
        slices: how many it has, also those that are not scored.
        spacing_mm: the distance of their centres; None where it is not known or not one number.
        unknown: why it is None.
    """

    slices: int
    spacing_mm: float | None
    unknown: str = ""


UNKNOWN = Stack(0, None, _NOT_STATED)


def volume_and_number(id: str) -> tuple[str, int] | None:
    """("case", 42) of the slice "case_z0042", counted from 0; None of what is no slice."""
    found = _SLICE.fullmatch(id)
    return None if found is None else (found["volume"], int(found["number"]))


class VolumeScores:
    """Gathers slices whose ids name a volume. Slices come one at a time, in any order.

    Of a slice its compressed masks are kept, a few kilobytes, until its volume is complete and was
    measured. A volume without a known distance of slices is only counted.

    Args:
        policy: what empty masks count for, a name of `prnet_jax.metrics.POLICIES`.
        stack_of: from a volume's name to how its slices lie.
    """

    def __init__(
        self,
        policy: str | EmptyPolicy = "penalise",
        stack_of: Callable[[str], Stack] = lambda name: UNKNOWN,
    ):
        self._policy = find_policy(policy)
        self._stack_of = stack_of
        self._volumes: dict[str, _Volume] = {}

    def add(self, about: Mapping[str, Any], pred: np.ndarray, mask: np.ndarray) -> None:
        """Adds a slice.

        Args:
            about: its `id`, `patient_id` and `spacing_mm` (row, column; NaN where not known).
            pred: bool [H, W].
            mask: bool [H, W], the target.
        """
        found = volume_and_number(str(about["id"]))
        if found is None:
            return
        name, number = found
        if name not in self._volumes:
            spacing = tuple(map(float, about["spacing_mm"]))
            self._volumes[name] = _Volume(about["patient_id"], self._stack_of(name), spacing)
        self._volumes[name].add(number, pred, mask, self._policy)

    def rows(self) -> list[dict[str, Any]]:
        """One row for each volume of two slices or more.

        `id`, `patient_id` and `slices` that were scored; `VOLUME_METRICS`, NaN where the policy
        scores none or, of distances, where they cannot be measured; `SPACING`, NaN where not known;
        and `no_distances`, why they cannot be measured, else "".
        """
        return [
            {"id": name, **volume.row(self._policy)}
            for name, volume in self._volumes.items()
            if volume.slices > 1
        ]


class _Volume:
    """What is known of a volume so far."""

    def __init__(self, patient_id: str, stack: Stack, spacing_mm: tuple[float, ...]):
        self.slices = 0
        self._patient_id = patient_id
        self._stack = stack
        slice_mm = math.nan if stack.spacing_mm is None else stack.spacing_mm
        self._spacing = (*spacing_mm, slice_mm)
        self._counts = [0, 0, 0, 0]  # tp, fp, fn, tn
        self._packed: dict[int, bytes] = {}
        self._distances: dict[str, float] = {}  # empty until measured

    def add(self, number: int, pred: np.ndarray, mask: np.ndarray, policy: EmptyPolicy) -> None:
        self.slices += 1
        for i, pixels in enumerate((pred & mask, pred & ~mask, ~pred & mask, ~pred & ~mask)):
            self._counts[i] += int(np.count_nonzero(pixels))
        if np.isfinite(self._spacing).all():
            self._packed[number] = zlib.compress(np.packbits([pred, mask]).tobytes(), 1)
            if len(self._packed) == self._stack.slices:
                self._distances = self._measure(pred.shape, policy)
                self._packed.clear()

    def row(self, policy: EmptyPolicy) -> dict[str, Any]:
        tp, fp, fn, tn = map(np.array, self._counts)
        scores = {name: float(v) for name, v in overlap_from_counts(tp, fp, fn, tn).items()}
        if empty := empty_state(tp + fp, tp + fn):
            scores |= {name: float(getattr(getattr(policy, empty), name)) for name in _OVERLAP}
        scores |= self._distances
        return {
            "patient_id": self._patient_id,
            "slices": self.slices,
            **{name: scores.get(plain, math.nan) for name, plain in _PLAIN.items()},
            **dict(zip(SPACING, self._spacing, strict=True)),
            NO_DISTANCES: self._why_not(),
        }

    def _measure(self, shape: tuple[int, int], policy: EmptyPolicy) -> dict[str, float]:
        """The distances in mm; the arrays of a whole volume exist only here."""
        both = np.empty((2, *shape, len(self._packed)), bool)
        for z, number in enumerate(sorted(self._packed)):
            bits = np.frombuffer(zlib.decompress(self._packed[number]), np.uint8)
            both[..., z] = np.unpackbits(bits, count=2 * math.prod(shape)).reshape(2, *shape)
        pred, mask = both
        if empty := empty_state(pred, mask):
            return empty_surface_metrics(getattr(policy, empty), pred.shape, self._spacing, "mm")
        return surface_metrics(surface_distances(pred, mask, self._spacing), "mm")

    def _why_not(self) -> str:
        if self._distances:
            return ""
        if self._stack.spacing_mm is None:
            return self._stack.unknown
        return _NO_PIXEL_SIZE if np.isnan(self._spacing).any() else _INCOMPLETE


def summarize_volumes(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of rows of `VolumeScores`.

    Returns:
        `n`, the number of volumes; for each metric, `mean`, `sd`, `median` and `n` over the volumes
        that have it; and `no_distances` {why: number of volumes}.
    """
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
    reasons = collections.Counter(row[NO_DISTANCES] for row in rows if row[NO_DISTANCES])
    return summary | {NO_DISTANCES: dict(reasons)}
