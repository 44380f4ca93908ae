"""The names of a run's files, and files that are written completely or not at all.

A run directory is described in docs/runs.md; every other module takes the names from here.
"""

import csv
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

CONFIG = "config.json"
PROVENANCE = "provenance.json"
METRICS = "metrics.jsonl"
CURVES = "curves.png"
FIRST_BATCH = "first_batch.png"  # with its masks, as read and augmented
EVENTS = "events"  # TensorBoard's
PROFILE = "profile"  # traces of training steps, TensorBoard's too
CHECKPOINTS = "checkpoints"  # one folder for each step
INTERIM = "interim"  # likewise, between validations
DAMAGED = "damaged"  # checkpoints that were set aside
TEST = "test"  # the evaluation of the test split

# In the folder of an evaluation
SUMMARY = "summary.json"
PER_IMAGE = "per_image.csv"
PER_VOLUME = "per_volume.csv"
OVERLAYS = "overlays"
OVERVIEW = "overview.png"
CALIBRATION = "calibration"  # .csv and .png
THRESHOLDS = "thresholds"  # .csv and .png
READERS = "readers.csv"

# In a folder of imported weights
NETWORK = "network.json"
VARIABLES = "variables"


def new_name(path: pathlib.Path) -> pathlib.Path:
    """Where `path` is written before it is renamed; a kill may leave this file behind."""
    return path.with_name(path.name + ".new")


def write_whole(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file atomically: a reader sees the old content or the new, never a part.

    Args:
        path: replaced where it is a file. A device such as /dev/null is written to.
        content: text is written as UTF-8.
    """
    content = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    fresh = new_name(path)
    with open(fresh, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes JSON atomically.

    Raises:
        ValueError: a NaN or an infinity, which JSON does not have.
    """
    write_whole(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as CSV with a header line. NaN becomes an empty cell, as does a missing value.

    Args:
        rows: keys outside `columns` are ignored.
        columns: those of the first row if None.
    """
    text = io.StringIO()
    table = csv.DictWriter(
        text, columns or list(rows[0]), lineterminator="\n", extrasaction="ignore"
    )
    table.writeheader()
    for row in rows:
        blank = {k: "" for k, v in row.items() if isinstance(v, float) and math.isnan(v)}
        table.writerow({**row, **blank})
    return text.getvalue()


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    fields = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            fields |= flat(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields
