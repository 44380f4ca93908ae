"""What a prediction leaves besides masks: report.json and predictions.csv."""

import hashlib
import json
import math
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from prnet_jax.errors import InputError
from prnet_jax.predict.inputs import Input
from prnet_jax.run.files import csv_text, write_json, write_whole

REPORT, TABLE = "report.json", "predictions.csv"
_EVERY_S = 2.0  # between two writings: with thousands of files they would take longer than masks
COLUMNS = (
    *("input", "mask", "slices", "slices_marked", "pixels_marked", "area_mm2", "volume_ml"),
    *("mean_inside", "components", "warnings", "error"),
)


class Report:
    """The rows of a folder of results, by the stem of the input's name.

    Attributes:
        goes_on: whether the folder holds results of the same weights and settings; files there
            that have no row yet are then of a prediction that was stopped.
        rows: see `COLUMNS`; `error` is None where a mask was written.

    Args:
        folder: of the results.
        about: weights and versions; `settings` are those that change a mask.
        overwrite: start anew where the folder holds other results.

    Raises:
        InputError: it does, and `overwrite` is false.
    """

    def __init__(self, folder: pathlib.Path, about: dict[str, Any], overwrite: bool):
        self._folder = folder
        self._about = about
        self._written_s = -math.inf
        self.rows: dict[str, dict[str, Any]] = {}
        path = folder / REPORT
        self.goes_on = path.exists() and not overwrite
        if self.goes_on:
            try:
                before = json.loads(path.read_text(encoding="utf-8"))
                self.rows = before["inputs"]
                then, now = before["weights"], about["weights"]
                # What an older report does not say of either is taken to be as now.
                same = {**about["settings"], **before["settings"]} == about["settings"]
                same = same and len(then) == len(now)
                same = same and all({**b, **a} == b for a, b in zip(then, now, strict=True))
            except (OSError, ValueError, KeyError, TypeError):
                same = False
            if not same:
                raise InputError(
                    f"{folder} holds results of other weights or settings, see {path}: name "
                    "another folder, or replace them with --overwrite"
                )

    def done(self, source: Input, digest: str) -> bool:
        """Whether the input was predicted before, from files with this digest.

        Raises:
            InputError: from files that have changed since.
        """
        row = self.rows.get(source.stem)
        if row is None or row["error"] or not (self._folder / row["mask"]).is_file():
            return False
        if row["input_sha256"] != digest:
            raise InputError(
                f"{source.name} has changed since {row['mask']} was made: predict it again with "
                "--overwrite"
            )
        return True

    def add(self, stem: str, row: dict[str, Any]) -> None:
        """Adds what became of an input; the files follow within seconds."""
        self.rows[stem] = {name: None for name in COLUMNS} | {"warnings": []} | row
        if time.monotonic() - self._written_s > _EVERY_S:
            self.write()

    def write(self) -> None:
        """Writes report.json and predictions.csv."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._folder / REPORT, {**self._about, "inputs": self.rows})
        flat = [{name: _cell(value) for name, value in row.items()} for row in self.rows.values()]
        write_whole(self._folder / TABLE, csv_text(flat, COLUMNS))
        self._written_s = time.monotonic()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = "; ".join(value)
    if isinstance(value, str):  # a file's name may hold bytes that are no text
        return value.encode(errors="replace").decode()
    return "" if value is None else value


def digest_of_files(files: Sequence[pathlib.Path]) -> str:
    """SHA-256 over the contents of files.

    Raises:
        InputError: one cannot be read.
    """
    digest = hashlib.sha256()
    for path in files:
        try:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def digest_of_weights(variables: Any) -> str:
    """SHA-256 over the names, shapes and values of all arrays."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
