"""Evaluated runs from their folders, refused where they cannot stand beside each other."""

import csv
import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prnet_jax.errors import InputError
from prnet_jax.metrics import mean_of_scored
from prnet_jax.metrics.names import DISTANCES
from prnet_jax.metrics.policy import PERFECT_IF_BOTH_EMPTY
from prnet_jax.run.files import flat

# What must be the same in all runs of a comparison.
SAME = (
    *("dataset", "records", "mask", "split", "split_manifest_sha256"),
    *("image_size", "empty_policy"),
)


_NEEDED = (*(n for n in SAME if n != "records"), "network", "threshold", "metrics", "counts")


_AGAIN = "evaluate again (python -m prnet_jax.evaluate)"


_AGREE = 1e-6  # a mean in summary.json and that of per_image.csv, relative


# Fields of a run's config that do not make it another experiment: the seed, the place and the
# speed of reading; and what the evaluation itself says (its threshold).
_NO_SETTING = {
    *("seed", "threshold", "eval_batch_size", "log_every_steps", "model.name"),
    *("dataset.manual_dir", "dataset.data_dir", "dataset.num_threads", "dataset.cache"),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One evaluation.

    Attributes:
        folder: with summary.json, per_image.csv and overlays/.
        summary: what summary.json holds.
        settings: flat fields of the run's config that make the experiment; None where the folder
            does not say.
        provenance: what the run was made with.
        ids, patients: of the images, in the order of the ids.
        scores: {metric: float64 [images]}, NaN where an image is not scored.
        paired: the same for paired tests: where an image is not scored because both its masks are
            empty, what a perfect answer scores. Another network may raise a false alarm there.
        both_empty: bool [images], where neither mask has a pixel.
        overlays: file names in overlays/, "" where there is none.
    """

    folder: pathlib.Path
    summary: dict[str, Any]
    settings: dict[str, Any] | None
    provenance: dict[str, Any]
    ids: list[str]
    patients: list[str]
    scores: dict[str, np.ndarray]
    paired: dict[str, np.ndarray]
    both_empty: np.ndarray
    overlays: list[str]

    @property
    def seed(self) -> int | None:
        return self.summary.get("seed")

    def pairs(self) -> list[tuple[str, str]]:
        """(id, patient) of every image."""
        return list(zip(self.ids, self.patients, strict=True))


def read_runs(paths: Sequence[pathlib.Path], metrics: Sequence[str]) -> list[Run]:
    """Reads and checks evaluations that are to be compared.

    Args:
        paths: run directories, whose `test/` is taken, or folders with a summary.json.
        metrics: names of columns to read from per_image.csv where they are there.

    Raises:
        InputError: a folder is named twice, a file is absent or damaged, or two runs cannot be
            compared; names the folders and what differs.
    """
    runs, seen = [], {}
    for path in paths:
        folder = _evaluation_folder(path)
        if (twice := seen.setdefault(folder.resolve(), path)) is not path:
            raise InputError(f"{path} is the same evaluation as {twice}: name each run once")
        runs.append(_read_run(folder, metrics))
    for run in runs[1:]:
        _check_comparable(runs[0], run)
    return runs


def _evaluation_folder(path: pathlib.Path) -> pathlib.Path:
    for folder in (path / "test", path):
        if (folder / "summary.json").is_file():
            return folder
    if not path.is_dir():
        raise InputError(f"{path} is no folder: name a run directory or an evaluation's folder")
    raise InputError(
        f"{path} holds no test/summary.json: finish the run, or python -m prnet_jax.evaluate"
    )


def _read_run(folder: pathlib.Path, metrics: Sequence[str]) -> Run:
    summary = _read_json(folder / "summary.json")
    lacking = [name for name in _NEEDED if summary.get(name) is None]
    if lacking:
        raise InputError(f"{folder / 'summary.json'} does not say {', '.join(lacking)}: {_AGAIN}")
    if not _sound(summary):
        raise InputError(f"{folder / 'summary.json'} is not of the form that is expected: {_AGAIN}")
    table = _read_table(folder / "per_image.csv")
    table.sort(key=lambda row: row["id"])
    ids = [row["id"] for row in table]
    if repeated := [a for a, b in zip(ids, ids[1:], strict=False) if a == b]:
        raise InputError(f"{folder / 'per_image.csv'} has id {repeated[0]!r} twice: {_AGAIN}")

    scores, paired = {}, {}
    both_empty = np.array([row.get("empty") == "both_empty" for row in table])
    spacing_known = np.array([bool(row.get("spacing_row_mm")) for row in table])
    for name in metrics:
        if name in table[0]:
            scores[name] = _column(folder / "per_image.csv", table, name)
            _check_mean(folder, summary, name, scores[name])
            filled = both_empty & np.isnan(scores[name])
            filled &= spacing_known | (not name.endswith("mm"))
            paired[name] = np.where(filled, _perfect(name), scores[name])

    config = None
    for place in (folder, folder.parent):
        if (place / "config.json").is_file():
            config = _read_json(place / "config.json")
            break
    provenance = summary.get("provenance")
    if not isinstance(provenance, dict):
        path = folder.parent / "provenance.json"
        provenance = _read_json(path) if path.is_file() else {}
    return Run(
        folder=folder,
        summary=summary,
        settings=None if config is None else _settings(config),
        provenance=provenance,
        ids=ids,
        patients=[row.get("patient_id") or row["id"] for row in table],
        scores=scores,
        paired=paired,
        both_empty=both_empty,
        overlays=[_file_name(folder, row.get("overlay") or "") for row in table],
    )


def _perfect(name: str) -> float:
    """What a metric is where both masks are empty and that counts as right, or NaN."""
    scores = dataclasses.asdict(PERFECT_IF_BOTH_EMPTY.both_empty)
    if name.startswith(DISTANCES):
        return scores["distance"]
    return scores.get("surface_dice" if name.startswith("surface_dice") else name, math.nan)


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}): {_AGAIN}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is no JSON object: {_AGAIN}")
    return content


def _sound(summary: Mapping[str, Any]) -> bool:
    """Whether the entries that are used have the types that evaluate gives them."""
    return (
        isinstance(summary["network"], str)
        and summary["network"] != ""
        and isinstance(summary["threshold"], int | float)
        and isinstance(summary.get("seed"), int | None)
        and not isinstance(summary["threshold"], bool)
        and not isinstance(summary.get("seed"), bool)
        and all(isinstance(summary.get(k), str | None) for k in ("tta", "threshold_from"))
        and isinstance(summary["metrics"], dict)
        and all(isinstance(scores, dict) for scores in summary["metrics"].values())
        and isinstance(summary["counts"], dict)
        and all(
            isinstance(summary["counts"].get(name), int)
            for name in ("missed", "false_alarm", "both_empty")
        )
    )


def _read_table(path: pathlib.Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise InputError(f"{path} is not there: {_AGAIN}")
    try:
        with open(path, newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}): {_AGAIN}") from None
    # DictReader fills short lines with None and puts what is too much under the key None.
    if not table or any(None in row or None in row.values() or "id" not in row for row in table):
        raise InputError(f"{path} is no whole table with a column id: {_AGAIN}")
    return table


def _column(path: pathlib.Path, table: Sequence[Mapping[str, str]], name: str) -> np.ndarray:
    try:
        return np.array([float(row[name]) if row[name] else math.nan for row in table])
    except ValueError as error:
        raise InputError(f"{path}, column {name}: {error}: {_AGAIN}") from None


def _check_mean(
    folder: pathlib.Path, summary: Mapping[str, Any], name: str, scores: np.ndarray
) -> None:
    """Refuses a table and a summary that were not written together."""
    stated, found = summary["metrics"].get(name, {}).get("mean"), float(mean_of_scored(scores))
    if not isinstance(stated, int | float) or math.isnan(found):
        return
    if not math.isclose(stated, found, rel_tol=_AGREE, abs_tol=_AGREE):
        raise InputError(
            f"{folder}: the mean of {name} is {stated:.6g} in summary.json and {found:.6g} in "
            f"per_image.csv: {_AGAIN}"
        )


def _file_name(folder: pathlib.Path, name: str) -> str:
    if name and (pathlib.PurePath(name).name != name or "\\" in name or "\0" in name):
        raise InputError(f"{folder}/per_image.csv: overlay {name!r} is no file name: {_AGAIN}")
    return name


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flat(config).items() if name not in _NO_SETTING}


def _check_comparable(first: Run, other: Run) -> None:
    for name in SAME:
        a, b = first.summary.get(name), other.summary.get(name)
        if a != b:
            raise InputError(
                f"{first.folder} and {other.folder} cannot be compared: {name} is {a!r} and "
                f"{b!r}: compare runs that agree in it"
            )
    for what, a, b in (
        ("images", set(first.ids), set(other.ids)),
        ("patients", set(first.pairs()), set(other.pairs())),
    ):
        if a != b:
            raise InputError(
                f"{first.folder} and {other.folder} cannot be compared: not the same {what} "
                f"({len(a - b)} only in the first, {len(b - a)} only in the second; for example "
                f"{min(a ^ b)!r}): evaluate both on the same split"
            )
