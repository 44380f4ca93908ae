"""One evaluation, read from its folder."""

import csv
import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prnet_jax.compare.settings import plain, settings_of, starting_weights
from prnet_jax.errors import InputError
from prnet_jax.metrics import METRICS, mean_of_scored
from prnet_jax.metrics.calibration import are_masks
from prnet_jax.metrics.names import DISTANCES, METRIC_NAMED, OF_PROBABILITIES
from prnet_jax.metrics.policy import PERFECT_IF_BOTH_EMPTY
from prnet_jax.run import files
from prnet_jax.run.directory import epochs_run

_NEEDED = (
    *("dataset", "mask", "split", "split_manifest_sha256", "empty_policy"),
    *("network", "threshold", "metrics", "counts"),
)
_AGAIN = "evaluate again (python -m prnet_jax.evaluate)"
_DATA = ("records", "split_manifest_sha256")
_OWN_SPLITS = "the run's own splits"  # begins `leakage` where a run is scored on its own data
_TOLERANCE = 1e-6  # between a mean in summary.json and that of per_image.csv


@dataclasses.dataclass(frozen=True)
class Run:
    """One evaluation.

    Attributes:
        folder: that holds summary.json, per_image.csv and overlays/.
        summary: the content of summary.json.
        settings: the fields of the run's config that count, see `prnet_jax.compare.settings`; None
            if the folder has no config, and for imported weights.
        epochs: that the run was trained for; None if not recorded.
        trained_on: the records and the hash of their splits; None if not recorded.
        train_images: how many images it was trained on; None if not recorded.
        provenance: what the run was made with.
        ids, patients: of the images, sorted by id.
        scores: {metric: float64 [images]}, NaN where an image is not scored; where another
            program's predictions are masks, metrics of probabilities are NaN.
        paired: the same for paired tests. An image that is not scored because both masks are empty
            has the score of a perfect answer, because another network may raise a false alarm
            there.
        both_empty: bool [images], where both masks are empty.
        overlays: the pictures' paths, None where there is none.
        parts: the folds that this joins, see `prnet_jax.compare.folds`; or nothing.
    """

    folder: pathlib.Path
    summary: dict[str, Any]
    settings: dict[str, Any] | None
    epochs: int | None
    trained_on: str | None
    train_images: int | None
    provenance: dict[str, Any]
    ids: list[str]
    patients: list[str]
    scores: dict[str, np.ndarray]
    paired: dict[str, np.ndarray]
    both_empty: np.ndarray
    overlays: list[pathlib.Path | None]
    parts: tuple["Run", ...] = ()

    @property
    def seed(self) -> int | None:
        return self.summary.get("seed")

    @property
    def threshold_from(self) -> str:
        """ "given" or "validation"."""
        return self.summary.get("threshold_from") or "given"

    @property
    def distinct(self) -> dict[str, Any]:
        """The settings that rows are told apart by: the run's and the evaluation's."""
        how: dict[str, Any] = {"tta": self.summary.get("tta") or "none"}
        if self.threshold_from == "validation":
            how["threshold"] = "from validation"  # its value differs between seeds
        else:
            how["threshold"] = float(self.summary["threshold"])
        if self.trained_on is not None:
            how["trained_on"] = self.trained_on
        if self.settings is None:
            known = {name: self.summary.get(name) for name in ("weights", "predictions")}
            return how | {"settings": "not known", **known}
        settings = dict(self.settings)
        how["evaluated with window_hu"] = "as trained"
        if "window_hu" in self.summary:
            window = plain(self.summary["window_hu"])
            if settings.setdefault("dataset.window_hu", window) != window:
                how["evaluated with window_hu"] = window
        return settings | how


def evaluation_folder(path: pathlib.Path) -> pathlib.Path:
    """The folder with the summary: a run's `test/`, or the folder itself."""
    for folder in (path / files.TEST, path):
        if (folder / files.SUMMARY).is_file():
            return folder
    if not path.is_dir():
        raise InputError(f"{path} is not a folder: name a run directory or an evaluation's folder")
    raise InputError(
        f"{path} has no {files.TEST}/{files.SUMMARY}: finish the run, or evaluate it "
        "(python -m prnet_jax.evaluate)"
    )


def read_run(folder: pathlib.Path) -> Run:
    """Reads the evaluation in a folder that `evaluation_folder` found."""
    summary = _read_json(folder / files.SUMMARY)
    missing = [name for name in _NEEDED if summary.get(name) is None]
    if missing:
        raise InputError(f"{folder / files.SUMMARY} does not state {', '.join(missing)}: {_AGAIN}")
    if not _has_expected_types(summary):
        raise InputError(f"{folder / files.SUMMARY} has an entry of an unexpected type: {_AGAIN}")
    per_image = folder / files.PER_IMAGE
    table = _read_table(per_image)
    table.sort(key=lambda row: row["id"])
    ids = [row["id"] for row in table]
    if repeated := [a for a, b in zip(ids, ids[1:], strict=False) if a == b]:
        raise InputError(f"{per_image} has id {repeated[0]!r} twice: {_AGAIN}")

    foreign = "predictions" in summary  # of another program, wherever the folder lies
    scores = {}
    both_empty = np.array([row.get("empty") == "both_empty" for row in table])
    spacing_known = np.array([bool(row.get("spacing_row_mm")) for row in table])
    for name in METRICS:
        if name in table[0]:
            scores[name] = _column(per_image, table, name)
            _check_mean(folder, summary, name, scores[name])
    _complete(scores, foreign)
    paired = {}
    for name, column in scores.items():
        filled = both_empty & np.isnan(column)
        filled &= spacing_known | (not name.endswith("mm"))
        paired[name] = np.where(filled, _perfect(name), column)

    places = (place for place in (folder, folder.parent) if (place / files.CONFIG).is_file())
    home = None if foreign else next(places, None)
    known = home is not None and "weights" not in summary  # how imported ones were trained is not
    settings = settings_of(_read_json(home / files.CONFIG)) if known else None
    of_training = {} if foreign else _training(summary, home or folder.parent)
    if settings is not None and isinstance(start := of_training.get("init_from"), dict):
        settings["init_from"] = starting_weights(start)
    provenance = summary.get("provenance")
    if not isinstance(provenance, dict):
        provenance = of_training
    trained_on, images = _trained_on(of_training)
    return Run(
        folder=folder,
        summary=summary,
        settings=settings,
        epochs=summary.get("epochs_run") or (None if home is None else epochs_run(home)),
        trained_on=trained_on,
        train_images=images,
        provenance=provenance,
        ids=ids,
        patients=[row.get("patient_id") or row["id"] for row in table],
        scores=scores,
        paired=paired,
        both_empty=both_empty,
        overlays=[_overlay(folder, row.get("overlay") or "") for row in table],
    )


def _complete(scores: dict[str, np.ndarray], foreign: bool) -> None:
    """Adds the MAE of masks, which evaluations did not always have, and takes away the metrics of
    probabilities where another program's predictions are masks.
    """
    if "acc" not in scores:
        return
    scores.setdefault("mae_binary", 1 - scores["acc"])
    if foreign and are_masks(scores.get("mae", math.nan), scores["acc"]):
        for name in scores.keys() & OF_PROBABILITIES:
            scores[name] = np.full_like(scores[name], math.nan)


def _perfect(name: str) -> float:
    """What a metric scores where both masks are rightly empty; NaN if no policy scores it."""
    family = METRIC_NAMED[name].family
    field = "distance" if family in DISTANCES else family
    return getattr(PERFECT_IF_BOTH_EMPTY.both_empty, field, math.nan)


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}): {_AGAIN}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object: {_AGAIN}")
    return content


def _has_expected_types(summary: Mapping[str, Any]) -> bool:
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
        raise InputError(f"{path} does not exist: {_AGAIN}")
    try:
        with open(path, newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}): {_AGAIN}") from None
    # DictReader fills short lines with None and puts extra cells under the key None.
    if not table or any(None in row or None in row.values() or "id" not in row for row in table):
        raise InputError(f"{path} is not a complete table with a column id: {_AGAIN}")
    return table


def _column(path: pathlib.Path, table: Sequence[Mapping[str, str]], name: str) -> np.ndarray:
    try:
        return np.array([float(row[name]) if row[name] else math.nan for row in table])
    except ValueError as error:
        raise InputError(f"{path}, column {name}: {error}: {_AGAIN}") from None


def _check_mean(
    folder: pathlib.Path, summary: Mapping[str, Any], name: str, scores: np.ndarray
) -> None:
    """Refuses a table and a summary that do not belong together."""
    stated, found = summary["metrics"].get(name, {}).get("mean"), float(mean_of_scored(scores))
    if not isinstance(stated, int | float) or math.isnan(found):
        return
    if not math.isclose(stated, found, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
        raise InputError(
            f"{folder}: the mean of {name} is {stated:.6g} in {files.SUMMARY} and {found:.6g} in "
            f"{files.PER_IMAGE}: {_AGAIN}"
        )


def _overlay(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    if name and (pathlib.PurePath(name).name != name or "\\" in name or "\0" in name):
        raise InputError(
            f"{folder / files.PER_IMAGE}: overlay {name!r} is not a plain file name: {_AGAIN}"
        )
    return folder / files.OVERLAYS / name if name else None


def _training(summary: Mapping[str, Any], home: pathlib.Path) -> dict[str, Any]:
    """What is recorded of a run's training: the content of its provenance.json; {} if nothing is.

    Args:
        summary: of the evaluation, which repeats it since it can lie elsewhere.
        home: the folder of the run's config.
    """
    if isinstance(summary.get("trained_on"), dict):
        return summary["trained_on"]
    if (home / files.PROVENANCE).is_file():
        return _read_json(home / files.PROVENANCE)
    own = str(summary.get("leakage", "")).startswith(_OWN_SPLITS)
    return {name: summary.get(name) for name in _DATA} if own else {}


def _trained_on(of_training: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """The data of a training and the number of images, None where they are not recorded."""
    if any(of_training.get(name) is None for name in _DATA):
        return None, None
    records, manifest = (of_training[name] for name in _DATA)
    try:
        images = of_training["foreground"]["train"]["images"]
    except (KeyError, TypeError):
        images = None
    return f"{records}, splits {str(manifest)[:8]}", images
