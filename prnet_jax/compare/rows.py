"""Runs as rows of a table: a row is a network with one set of settings, over all its seeds."""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prnet_jax.compare.evaluation import Run
from prnet_jax.errors import InputError
from prnet_jax.metrics import mean_of_scored
from prnet_jax.metrics.statistics import bootstrap_intervals
from prnet_jax.paper import TABLE_1


@dataclasses.dataclass(frozen=True)
class Row:
    """Runs that differ only in the seed.

    Attributes:
        network: its name in this package.
        label: as printed, without the number of seeds; unique among the rows.
        runs: in the order of their seeds.
        scores: {metric: float64 [images]}, the mean over the seeds for each image; NaN where a
            seed did not score it.
        paired: the same for `Run.paired`.
        both_empty: bool [images], where the target is empty and no seed marks anything.
        mean: {metric: mean over the seeds of each run's mean over its images}, NaN without scores.
        sd_seeds: {metric: standard deviation (n - 1) of the runs' means}; NaN for one seed.
        sd_images: {metric: standard deviation (n - 1) over the images of `scores`}.
        counts: {missed, false_alarm, both_empty}, the mean over the seeds.
    """

    network: str
    label: str
    runs: list[Run]
    scores: dict[str, np.ndarray]
    paired: dict[str, np.ndarray]
    both_empty: np.ndarray
    mean: dict[str, float]
    sd_seeds: dict[str, float]
    sd_images: dict[str, float]
    counts: dict[str, float]

    @property
    def trainings(self) -> list[Run]:
        """The runs, and in place of a cross-validation its folds."""
        return [part for run in self.runs for part in run.parts or (run,)]

    @property
    def title(self) -> str:
        """The label, with the number of folds and seeds if there are several."""
        numbers = ((len(self.runs[0].parts), "folds"), (len(self.runs), "seeds"))
        several = [f"{number} {what}" for number, what in numbers if number > 1]
        return f"{self.label} ({', '.join(several)})" if several else self.label

    @functools.cached_property
    def ci95(self) -> dict[str, tuple[float, float]]:
        """{metric: 95 % bootstrap interval of `mean`, drawing patients}.

        Without metrics that have infinite scores, or of which the seeds scored different images.
        """
        columns = {}
        for name, scores in self.scores.items():
            unscored = np.stack([np.isnan(run.scores[name]) for run in self.runs])
            if not np.isinf(scores).any() and (unscored == unscored[0]).all():
                columns[name] = scores
        if not columns:
            return {}
        stacked = np.stack(list(columns.values()), axis=1)
        low, high = bootstrap_intervals(stacked, self.runs[0].patients)
        return dict(zip(columns, zip(low.tolist(), high.tolist(), strict=True), strict=True))

    @property
    def tta(self) -> str:
        """The test-time augmentation."""
        return self.runs[0].summary.get("tta") or "none"

    @property
    def threshold(self) -> str:
        """The threshold, or the range over the trainings, and whether validation chose it."""
        values = sorted({float(run.summary["threshold"]) for run in self.trainings})
        text = f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"
        return text + (" (validation)" if self.runs[0].threshold_from == "validation" else "")


def group(runs: Sequence[Run]) -> list[Row]:
    """Groups runs that differ only in the seed into rows.

    The rows are in the order of the paper's table, then other networks in the order given.

    Raises:
        InputError: two runs of a network have the same settings and the same seed.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps([run.summary["network"], run.distinct], sort_keys=True)
        groups.setdefault(key, []).append(run)
    for members in groups.values():
        seeds: dict[Any, Run] = {}
        for run in members:
            if run.seed in seeds:
                raise InputError(
                    f"{seeds[run.seed].folder} and {run.folder} are the same network with the same "
                    f"settings and the same seed ({run.seed}): leave one of them out"
                )
            seeds[run.seed] = run
        members.sort(key=lambda run: (run.seed is None, run.seed))
    printed = list(TABLE_1)

    def place(members: list[Run]) -> int:
        network = members[0].summary["network"]
        return printed.index(network) if network in printed else len(printed)

    ordered = sorted(groups.values(), key=place)
    labels = _labels([members[0] for members in ordered])
    return [_row(label, members) for label, members in zip(labels, ordered, strict=True)]


def find_row(rows: Sequence[Row], wanted: str | None) -> Row:
    """The row that the others are tested against.

    Args:
        rows: of the comparison.
        wanted: a network's name or a row's label; None for prnet, or the first row if there is no
            prnet.

    Raises:
        InputError: no row, or more than one, has this name.
    """
    found = [row for row in rows if wanted in (row.label, row.title)]
    found = found or [row for row in rows if row.network == (wanted or "prnet")]
    if wanted is None:
        return found[0] if found else rows[0]
    if len(found) != 1:
        labels = ", ".join(repr(row.label) for row in rows)
        number = "no row" if not found else f"{len(found)} rows"
        raise InputError(f"--reference {wanted!r} names {number}: give one of {labels}")
    return found[0]


def method_of(network: str) -> str:
    """A network's name as the paper prints it, or as it is."""
    return TABLE_1.get(network, {"method": network})["method"]


def _labels(firsts: Sequence[Run]) -> list[str]:
    """The label of each row: the network and, if it has several rows, how they differ.

    A field of the network in which most rows agree is named only where it differs, so that a change
    of one field has that field in its label. Imported weights, of which no setting is known, have
    the name of their file.
    """
    labels = []
    for run in firsts:
        network = run.summary["network"]
        label = method_of(network)
        if weights := run.summary.get("weights"):
            labels.append(f"{label} ({pathlib.PurePath(weights).name})")
            continue
        same = [
            other.distinct
            for other in firsts
            if other.summary["network"] == network and "weights" not in other.summary
        ]
        mine = run.distinct
        differ = [
            name.removeprefix("model.")
            + (f"={_short(mine[name])}" if name in mine else " not known")
            for name in sorted(set().union(*same))
            if not _is_usual(name, mine, same)
        ]
        if differ:
            more = f", {len(differ) - 3} more" if len(differ) > 3 else ""
            label += f" ({', '.join(differ[:3])}{more})"
        labels.append(label)
    return [
        label if labels.count(label) == 1 else f"{label} [{run.folder}]"
        for label, run in zip(labels, firsts, strict=True)
    ]


def _is_usual(name: str, mine: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a setting goes without saying: all rows have it or, of the network's, most."""
    alike = sum(row.get(name) == mine.get(name) for row in rows)
    of_network = name.startswith("model.") and name in mine
    return alike == len(rows) or (of_network and 2 * alike > len(rows))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 30 else f"{text[:27]}..."


def _row(label: str, runs: list[Run]) -> Row:
    names = [name for name in runs[0].scores if all(name in run.scores for run in runs)]
    scores = {name: np.mean([run.scores[name] for run in runs], axis=0) for name in names}
    means = {
        name: mean_of_scored(np.stack([run.scores[name] for run in runs], axis=1)) for name in names
    }
    return Row(
        network=runs[0].summary["network"],
        label=label,
        runs=runs,
        scores=scores,
        paired={name: np.mean([run.paired[name] for run in runs], axis=0) for name in names},
        both_empty=np.all([run.both_empty for run in runs], axis=0),
        mean={name: float(np.mean(values)) for name, values in means.items()},
        sd_seeds={name: _sd(values) for name, values in means.items()},
        sd_images={name: _sd(scores[name][np.isfinite(scores[name])]) for name in names},
        counts={
            name: float(np.mean([run.summary["counts"][name] for run in runs]))
            for name in ("missed", "false_alarm", "both_empty")
        },
    )


def _sd(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
