"""The pictures of a scored split: an overlay of every image, named by rank, and an overview."""

import contextlib
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from prnet_jax.figures.slices import caption, draw_legend, marked_panel, overlay
from prnet_jax.run import files

_UNRANKED = ".unranked"  # the overlays of an evaluation that is under way
_TILE, _LABEL, _GAP = 300, 28, 6  # of the overview, in pixels


class Gallery:
    """Draws each image as it is scored; ranks are known once all are. A context manager.

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
        """Gives the overlays their names and draws the overview.

        The overlays of an earlier evaluation are removed: their ranks are stale.

        Args:
            rows: of all images, in the order in which they were added.

        Returns:
            The file of each row, in the rows' order. By name the worst DSC comes first, and images
            without a DSC last.
        """
        for stale in self._folder.glob("[0-9]*_dsc*.png"):
            stale.unlink()
        paths = ranked_paths(self._folder, rows)
        for number, path in enumerate(paths):
            (self._unranked / f"{number}.png").rename(path)
        contact_sheet(self._overview, rows, paths)
        return paths


def ranked_paths(folder: Path, rows: Sequence[Mapping]) -> list[Path]:
    """The overlay's path of each row: rank by DSC from the worst, DSC, id.

    Args:
        folder: for the overlays.
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
    """Writes one PNG of `count` images with the worst DSC above `count` with the best.

    Args:
        path: the PNG.
        rows: with `dsc`; images without a DSC are left out.
        overlays: the overlay of each row.
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
            text = f"{rank} {column + 1}: DSC {100 * rows[index]['dsc']:.2f} %"
            draw.text((x + 4, y + 3), text, "white", font)
    draw_legend(draw, font, 4, height - _LABEL + 4)
    sheet.save(path, compress_level=4)


def _worst_first(rows: Sequence[Mapping]) -> list[int]:
    """Indices of rows by DSC; those without one at the end."""

    def place(i: int) -> float:
        return math.inf if math.isnan(rows[i]["dsc"]) else rows[i]["dsc"]

    return sorted(range(len(rows)), key=place)


def _file_name(id: str) -> str:
    """Any id as part of a file name: letters, digits and ._- only, at most 100 bytes."""
    safe = re.sub(r"[^\w.-]", "_", str(id))
    return safe.encode()[:100].decode(errors="ignore")
