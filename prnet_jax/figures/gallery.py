"""The pictures of a scored split: an overlay of each image, named by its rank, and an overview."""

import contextlib
import io
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from prnet_jax.figures.slices import caption, draw_legend, marked_panel, overlay
from prnet_jax.metrics.names import METRIC_NAMED
from prnet_jax.run import files

_UNRANKED = ".unranked"  # the overlays of an evaluation in progress
_TILE, _LABEL, _GAP = 300, 28, 6  # of the overview, in pixels


class Gallery:
    """Draws each image when it is scored, and names the overlays when all are.

    A context manager: what was drawn is removed unless `finish` was called.

    Args:
        directory: of the evaluation.
        threshold: of the probability, for the predicted mask.
    """

    def __init__(self, directory: Path, threshold: float):
        self._overview = directory / files.OVERVIEW
        self._folder = directory / files.OVERLAYS
        self._unranked = self._folder / _UNRANKED
        self._threshold = threshold
        self._number = 0

    def __enter__(self) -> Self:
        shutil.rmtree(self._unranked, ignore_errors=True)  # of an evaluation that was killed
        self._unranked.mkdir(parents=True)
        return self

    def __exit__(self, *exception) -> None:
        shutil.rmtree(self._unranked, ignore_errors=True)
        with contextlib.suppress(OSError):  # there are overlays in it
            self._folder.rmdir()

    def add(self, row: Mapping, image: np.ndarray, target: np.ndarray, pred: np.ndarray) -> None:
        """Draws one image; `row` as for `caption`, the arrays as for `overlay`."""
        path = self._unranked / f"{self._number}.png"
        overlay(image, target, pred, caption(row), path, self._threshold)
        self._number += 1

    def finish(self, rows: Sequence[Mapping]) -> list[Path]:
        """Names the overlays by rank and draws the overview.

        The overlays of an earlier evaluation are removed, because their ranks are out of date.

        Args:
            rows: of all images, in the order in which they were added.

        Returns:
            The overlay of each row. Sorted by name, the worst DSC comes first and images without a
            DSC last.
        """
        for stale in self._folder.glob("[0-9]*_dsc*.png"):
            stale.unlink()
        paths = ranked_paths(self._folder, rows)
        for number, path in enumerate(paths):
            (self._unranked / f"{number}.png").rename(path)
        contact_sheet(self._overview, rows, paths)
        return paths


def ranked_paths(folder: Path, rows: Sequence[Mapping]) -> list[Path]:
    """The path of each row's overlay, named by rank, DSC and id; rank 0 is the worst DSC.

    Args:
        folder: of the overlays.
        rows: with `id` and `dsc`, NaN where not scored.
    """
    digits = max(3, len(str(len(rows) - 1)))
    paths = {}
    for rank, index in enumerate(_worst_first(rows)):
        dsc = rows[index]["dsc"]
        score = "none" if math.isnan(dsc) else f"{dsc:.4f}"
        name = f"{rank:0{digits}d}_dsc{score}_{_file_name(rows[index]['id'])}.png"
        paths[index] = folder / name
    return [paths[index] for index in range(len(rows))]


def contact_sheet(
    path: Path, rows: Sequence[Mapping], overlays: Sequence[Path], count: int = 4
) -> None:
    """Writes a PNG of the `count` images with the worst DSC above the `count` with the best.

    Args:
        path: the PNG to write.
        rows: with `dsc`; images without a DSC are left out.
        overlays: the overlay of each row.
        count: images in a row of the picture.
    """
    order = [index for index in _worst_first(rows) if not math.isnan(rows[index]["dsc"])]
    lines = [order[:count], order[count:][-count:][::-1]]
    width = count * (_TILE + _GAP) - _GAP
    height = (2 if lines[1] else 1) * (_TILE + _LABEL) + _LABEL
    sheet = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=17)
    for line, (rank, indices) in enumerate(zip(("worst", "best"), lines, strict=True)):
        for column, index in enumerate(indices):
            x, y = column * (_TILE + _GAP), line * (_TILE + _LABEL)
            panel = marked_panel(overlays[index])
            panel.thumbnail((_TILE, _TILE), Image.Resampling.LANCZOS)
            sheet.paste(panel, (x, y + _LABEL))
            dsc = METRIC_NAMED["dsc"]
            score = dsc.text_with_unit(rows[index]["dsc"])
            text = f"{rank} {column + 1}: {dsc.title} {score}"
            draw.text((x + 4, y + 3), text, "white", font)
    draw_legend(draw, font, 4, height - _LABEL + 4)
    content = io.BytesIO()
    sheet.save(content, "png", compress_level=4)
    files.write_whole(path, content.getvalue())


def _worst_first(rows: Sequence[Mapping]) -> list[int]:
    """Indices of the rows by DSC; those without one come last."""

    def place(i: int) -> float:
        return math.inf if math.isnan(rows[i]["dsc"]) else rows[i]["dsc"]

    return sorted(range(len(rows)), key=place)


def _file_name(id: str) -> str:
    """Any id as part of a file name: letters, digits and ._- only, at most 100 bytes."""
    safe = re.sub(r"[^\w.-]", "_", str(id))
    return safe.encode()[:100].decode(errors="ignore")
