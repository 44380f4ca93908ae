"""The overlays of a split: their names, their order, the overview, and what a failure leaves."""

import math

import numpy as np
import pytest
from PIL import Image

from prnet_jax.figures.gallery import Gallery, contact_sheet, ranked_paths
from prnet_jax.figures.slices import overlay

GREY = (128, 128, 128)


def sample(brightness=0.5):
    """A slice with two squares that overlap, the target and the prediction."""
    target, pred = np.zeros((2, 64, 64), bool)
    target[16:32, 16:32] = True
    pred[16:32, 24:40] = True
    return np.full((64, 64), brightness, np.float32), target, pred


def rows_of(ids, scores):
    row = {"iou": 0.5, "hd_px": 1.0, "hd_mm": math.nan}
    return [row | {"id": id, "dsc": dsc} for id, dsc in zip(ids, scores, strict=True)]


def test_overlays_are_named_worst_first_and_safely(tmp_path):
    folder = tmp_path / "test" / "overlays"
    ids = ["fine", "../../etc/pass wd", "x" * 300, "肺 \0"]
    rows = rows_of(ids, [0.98, 0.5, math.nan, 0.75])
    names = [
        "000_dsc0.5000_.._.._etc_pass_wd.png",
        "001_dsc0.7500_肺__.png",
        "002_dsc0.9800_fine.png",
        "003_dscnone_" + "x" * 100 + ".png",
    ]
    folder.mkdir(parents=True)
    (folder / "004_dsc0.1000_of_an_earlier_run.png").touch()
    (folder / "mine.png").touch()
    with Gallery(tmp_path / "test", 0.5) as gallery:
        for row in rows:
            gallery.add(row, *sample())
        paths = gallery.finish(rows)
    assert [path.name for path in paths] == [names[rank] for rank in (2, 0, 3, 1)]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "mine.png"]
    assert sorted(path.name for path in (tmp_path / "test").iterdir()) == [
        "overlays",
        "overview.png",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["test"]


def test_a_failure_leaves_the_overlays_of_before(tmp_path):
    rows = rows_of("ab", [0.5, 0.6])
    with Gallery(tmp_path, 0.5) as gallery:
        for row in rows:
            gallery.add(row, *sample())
        before = gallery.finish(rows)
    with pytest.raises(OSError), Gallery(tmp_path, 0.5) as gallery:
        gallery.add(rows[0], *sample())
        raise OSError
    assert sorted((tmp_path / "overlays").iterdir()) == before


def test_ranks_sort_as_text_however_many(tmp_path):
    rows = rows_of([str(i) for i in range(1001)], np.linspace(0, 1, 1001))
    names = [path.name for path in ranked_paths(tmp_path, rows)]
    assert names == sorted(names) and names[0] == "0000_dsc0.0000_0.png"


def test_contact_sheet_of_many_and_of_few(tmp_path):
    rows = rows_of("abcdefg", [0.9, 0.8, math.nan, 0.7, 0.6, 0.5, 0.4])
    # The worst image and the best get a brightness of their own.
    paths = [tmp_path / f"{row['id']}.png" for row in rows]
    for path, brightness in zip(paths, (1, *[0.5] * 5, 0), strict=True):
        overlay(*sample(brightness), "title", path)
    contact_sheet(tmp_path / "all.png", rows, paths, count=2)
    sheet = np.asarray(Image.open(tmp_path / "all.png"))
    assert sheet.shape == (2 * 328 + 28, 606, 3)
    corners = [tuple(sheet[y + 30, x + 2]) for y in (0, 328) for x in (0, 306)]
    assert corners == [(0, 0, 0), GREY, (255, 255, 255), GREY]

    contact_sheet(tmp_path / "one.png", rows[:1], paths[:1])
    assert Image.open(tmp_path / "one.png").size == (4 * 306 - 6, 328 + 28)
