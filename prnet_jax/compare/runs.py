"""Reads evaluated runs, joins their folds, and refuses those that cannot be compared."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from prnet_jax.compare.evaluation import Run, evaluation_folder, read_run
from prnet_jax.compare.folds import join_folds, records_without_split
from prnet_jax.compare.settings import fill_missing
from prnet_jax.errors import InputError

# Entries of summary.json that must be the same in all runs of a comparison
SAME = (
    *("dataset", "records", "mask", "split", "split_manifest_sha256"),
    *("resolution", "image_size", "empty_policy"),
)


def read_runs(paths: Sequence[pathlib.Path]) -> list[Run]:
    """Reads evaluations, joins folds and checks that the results can be compared.

    Args:
        paths: run directories, whose `test/` is read, or folders with a summary.json.

    Raises:
        InputError: a folder is named twice, a file is missing or damaged, or two runs cannot be
            compared or, being folds, joined.
    """
    runs, seen = [], {}
    for path in paths:
        folder = evaluation_folder(path)
        if (twice := seen.setdefault(folder.resolve(), path)) is not path:
            raise InputError(f"{path} is the same evaluation as {twice}: name each run once")
        runs.append(read_run(folder))
    every = fill_missing([run.settings for run in runs])
    runs = join_folds(
        [
            dataclasses.replace(run, settings=settings)
            for run, settings in zip(runs, every, strict=True)
        ]
    )
    for run in runs:
        for fold in run.parts[1:]:
            _check_stated(run.parts[0], fold, folds=True)
    for run in runs[1:]:
        _check_comparable(runs[0], run)
    return runs


def _check_stated(first: Run, other: Run, folds: bool = False) -> None:
    """Refuses two runs, or two folds of one, that were not scored alike on the same data."""
    for name in SAME:
        a, b = (_stated(run, name, folds) for run in (first, other))
        if a != b:
            raise InputError(
                f"{first.folder} and {other.folder} cannot be {'joined' if folds else 'compared'}: "
                f"{name} is {a!r} and {b!r}: compare runs in which it is the same"
            )


def _check_comparable(first: Run, other: Run) -> None:
    _check_stated(first, other)
    for what, a, b in (
        ("images", set(first.ids), set(other.ids)),
        ("patients", _patient_of(first), _patient_of(other)),
    ):
        if a != b:
            raise InputError(
                f"{first.folder} and {other.folder} cannot be compared: they have different {what} "
                f"({len(a - b)} only in the first, {len(b - a)} only in the second; for example "
                f"{min(a ^ b)!r}): evaluate both on the same split"
            )


def _stated(run: Run, name: str, fold: bool = False) -> Any:
    if name == "resolution":  # older evaluations know no other
        return run.summary.get(name, "network")
    if fold or run.summary["split"] == "all":  # how the images are split does not matter then
        if name == "records":
            return records_without_split(run.summary.get(name))
        if name == "split_manifest_sha256":
            return None
    if name == "image_size":
        if run.summary.get("resolution") == "native":
            return None
        if run.summary.get("resize") == "middle":  # a part of each image alone
            return f"the middle {run.summary[name]}"
    return run.summary.get(name)


def _patient_of(run: Run) -> set[tuple[str, str]]:
    """(id, patient) of every image."""
    return set(zip(run.ids, run.patients, strict=True))
