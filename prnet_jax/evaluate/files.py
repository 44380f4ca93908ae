"""The files of an evaluation: tables, summary, pictures."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from prnet_jax import processes
from prnet_jax.evaluate.scores import SPACING, SplitScores, ThresholdTable
from prnet_jax.figures.evaluation import draw_calibration, draw_thresholds
from prnet_jax.figures.gallery import Gallery
from prnet_jax.metrics import METRICS
from prnet_jax.run import files


def write_evaluation(
    scores: SplitScores,
    gallery: Gallery,
    directory: pathlib.Path,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes everything that is known of a scored split. Files of the same names are replaced.

    summary.json, per_image.csv, overlays/ (the worst first), overview.png; calibration.csv and
    .png, thresholds.csv and .png unless another program's masks are scored; per_volume.csv where
    slices belong to volumes; and readers.csv where the records hold several readers' masks.

    Args:
        scores: of the split.
        gallery: its pictures.
        directory: an existing folder.
        about: entries for the summary to begin with: which network, split, checkpoint, data.

    Returns:
        What summary.json holds.
    """
    summary = {**about, **scores.summary()}
    overlays = gallery.finish(scores.rows)
    rows = [row | {"overlay": path.name} for row, path in zip(scores.rows, overlays, strict=True)]
    columns = ("id", "patient_id", *METRICS, "empty", "overlay", *SPACING)
    files.write_whole(directory / files.PER_IMAGE, files.csv_text(rows, columns))
    if not scores.of_masks:
        reliability = scores.reliability.table()
        stem = directory / files.CALIBRATION
        files.write_whole(stem.with_suffix(".csv"), columns_as_csv(reliability))
        draw_calibration(reliability, summary["calibration_error"], stem.with_suffix(".png"))
        write_thresholds(
            scores.thresholds, about["split"], summary["threshold"], directory / files.THRESHOLDS
        )
    if volumes := scores.volumes():
        files.write_whole(directory / files.PER_VOLUME, files.csv_text(volumes))
    if scores.readers:
        files.write_whole(directory / files.READERS, files.csv_text(scores.readers.rows()))
    files.write_json(directory / files.SUMMARY, summary)  # last: it says that all is there
    return summary


def open_folder(directory: pathlib.Path) -> None:
    """Makes the folder of an evaluation, or takes the summary away from one that exists."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / files.SUMMARY).unlink(missing_ok=True)


@contextlib.contextmanager
def emptied_on_failure(directory: pathlib.Path) -> Iterator[None]:
    """Removes what a block that fails leaves in a folder that was absent or empty before it.

    The same command can then be given again. With several processes the first one removes.
    """
    existed = directory.exists()
    held = existed and any(directory.iterdir())
    try:
        yield
    except BaseException:
        if processes.is_first() and not held and directory.exists():
            for path in directory.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if not existed:
                directory.rmdir()
        raise


def write_thresholds(table: ThresholdTable, split: str, used: float, stem: pathlib.Path) -> None:
    """Writes a table as `stem`.csv and, with the threshold in use marked, as `stem`.png."""
    columns = table.columns()
    files.write_whole(stem.with_suffix(".csv"), columns_as_csv(columns))
    draw_thresholds(columns | {"best": table.best()}, used, split, stem.with_suffix(".png"))


def columns_as_csv(columns: Mapping[str, np.ndarray]) -> str:
    """A table given by its columns, [N] each, as CSV."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return files.csv_text(rows)
