"""Joins the folds of a cross-validation into one run, in which every image is scored once."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from prnet_jax.compare.evaluation import Run
from prnet_jax.errors import InputError
from prnet_jax.metrics import mean_of_scored

_FOLD = "dataset.options.fold"
_COUNTS = ("missed", "false_alarm", "both_empty")
_OF_SPLIT = re.compile(r"default|seed\d+|fold\d+of\d+")


def join_folds(runs: Sequence[Run]) -> list[Run]:
    """Replaces the folds of one network, with one seed and the same settings, by one run.

    A fold counts where it is scored on its own test split and another fold of the same k is there.
    Where all k are there, the split is called "all": each of the data set's images is scored once,
    by a network that was trained without its patient.

    Raises:
        InputError: a fold is given twice, or an image is in the test split of two folds.
    """
    groups: dict[str, list[Run]] = {}
    for position, run in enumerate(runs):
        fold = _fold_of(run)
        key = f"single {position}" if fold is None else _key(run, fold[1])
        groups.setdefault(key, []).append(run)
    return [group[0] if len(group) == 1 else _joined(group) for group in groups.values()]


def records_without_split(records: str | None) -> str | None:
    """ "finding_lungs/default-1a2b3c4d/1.2.0" of the records of a fold or of another split.

    The options of a split are part of the name of records, see `prnet_jax.data.builder`.
    """
    if "+" in (records or ""):  # several data sets
        return "+".join(records_without_split(part) for part in records.split("+"))
    found = re.fullmatch(r"(.+)/(.+?)(-[0-9a-f]{8})?/(.+)", records or "")
    if not found:
        return records
    name, options, fingerprint, version = found.groups("")
    kept = [part for part in options.split("_") if not _OF_SPLIT.fullmatch(part)]
    return f"{name}/{'_'.join(kept) or 'default'}{fingerprint}/{version}"


def _fold_of(run: Run) -> tuple[int, int] | None:
    """(2, 5) of the second of five folds; None of a run that is no fold, or scored elsewhere."""
    found = re.fullmatch(r"(\d+)/(\d+)", str((run.settings or {}).get(_FOLD, "")))
    if not found or run.summary["split"] != "test":
        return None
    return int(found[1]), int(found[2])


def _key(run: Run, k: int) -> str:
    """Equal for the folds of one network with one seed."""
    settings = {k: v for k, v in run.distinct.items() if k not in (_FOLD, "trained_on")}
    summary = run.summary
    same = [summary["network"], run.seed, summary["dataset"], summary["mask"], k, settings]
    return json.dumps(same, sort_keys=True, default=str)


def _joined(folds: Sequence[Run]) -> Run:
    """One run of several folds, at least two."""
    numbers = {}
    for run in folds:
        number, k = _fold_of(run)
        if number in numbers:
            raise InputError(
                f"{numbers[number].folder} and {run.folder} are both fold {number}/{k} of the same "
                f"network with the same seed ({run.seed}): leave one of them out"
            )
        numbers[number] = run
    folds = [numbers[number] for number in sorted(numbers)]
    names = f"folds {', '.join(map(str, sorted(numbers)))} of {k}"
    first = folds[0]

    ids = np.concatenate([run.ids for run in folds])
    order = np.argsort(ids)
    ids = ids[order].tolist()
    if repeated := [a for a, b in zip(ids, ids[1:], strict=False) if a == b]:
        raise InputError(
            f"{first.folder}: {names} test the image {repeated[0]!r} twice: they were split in "
            "different ways; compare folds of one split"
        )

    def of_images(parts: Sequence[Any]) -> np.ndarray:
        return np.concatenate(parts)[order]

    def scores(of: str) -> dict[str, np.ndarray]:
        every = [getattr(run, of) for run in folds]
        shared = [name for name in every[0] if all(name in other for other in every)]
        return {name: of_images([other[name] for other in every]) for name in shared}

    joined = scores("scores")
    records = records_without_split(first.summary.get("records"))
    complete = len(folds) == k
    summary = first.summary | {
        "split": "all" if complete else "test",
        "records": records if complete else f"{records}, {names}",
        "split_manifest_sha256": _digest(run.summary["split_manifest_sha256"] for run in folds),
        "metrics": {name: {"mean": float(mean_of_scored(v))} for name, v in joined.items()},
        "counts": {name: sum(run.summary["counts"][name] for run in folds) for name in _COUNTS},
    }
    summary.pop("pooled", None)
    epochs = {run.epochs for run in folds}
    images = {run.train_images for run in folds}
    return Run(
        folder=first.folder,
        summary=summary,
        settings=first.settings | {_FOLD: names},
        epochs=epochs.pop() if len(epochs) == 1 else None,
        trained_on=f"{records}, {names}",
        train_images=images.pop() if len(images) == 1 else None,
        provenance=first.provenance,
        ids=ids,
        patients=of_images([run.patients for run in folds]).tolist(),
        scores=joined,
        paired=scores("paired"),
        both_empty=of_images([run.both_empty for run in folds]),
        overlays=[[path for run in folds for path in run.overlays][i] for i in order],
        parts=tuple(folds),
    )


def _digest(texts) -> str:
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()
