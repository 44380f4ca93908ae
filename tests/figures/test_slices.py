import math

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from prnet_jax.errors import InputError
from prnet_jax.figures.slices import (
    PRED_COLOUR,
    TARGET_COLOUR,
    caption,
    marked_panel,
    overlay,
    sample_grid,
)

GREY = (128, 128, 128)


def squares(size):
    """A grey slice; target and prediction two squares that overlap on half of each."""
    image = np.full((size, size), 0.5, np.float32)
    target, pred = np.zeros((2, size, size), bool)
    q = size // 8
    target[2 * q : 4 * q, 2 * q : 4 * q] = True
    pred[2 * q : 4 * q, 3 * q : 5 * q] = True
    return image, target, pred


def panels(path, size):
    """The left and the right panel of an overlay, found by the grey of its first column."""
    sheet = np.asarray(Image.open(path).convert("RGB"))
    rows = np.flatnonzero((sheet[:, 0] == GREY).all(-1))
    assert len(rows) == size and rows[-1] - rows[0] == size - 1
    part = sheet[rows[0] : rows[-1] + 1]
    return part[:, :size], part[:, -size:]


@pytest.mark.parametrize("size", [512, 128])  # 1:1, and magnified four times
def test_overlay_colours(tmp_path, size):
    image, target, pred = squares(size)
    overlay(image, target, pred, "a slice", tmp_path / "a.png")
    left, right = panels(tmp_path / "a.png", 512)
    assert (left == GREY).all()
    # 64 pixels an eighth: target 128..255 by 128..255, prediction 64 further right.
    assert tuple(right[20, 20]) == GREY  # neither
    assert tuple(right[200, 224]) == GREY  # both
    tint = [tuple(np.round(0.45 * np.array(c) + 0.55 * 128)) for c in (TARGET_COLOUR, PRED_COLOUR)]
    assert tuple(right[200, 150]) == tint[0]  # missed
    assert tuple(right[200, 290]) == tint[1]  # false positive
    for x in (127, 256):  # the target's contour, just outside
        assert tuple(right[200, x]) == TARGET_COLOUR
    for x in (192, 319):  # the prediction's, just inside
        assert tuple(right[200, x]) == PRED_COLOUR
    # Above each other where the masks agree.
    assert tuple(right[127, 224]) == TARGET_COLOUR and tuple(right[128, 224]) == PRED_COLOUR


def test_probability_is_cut_at_the_threshold(tmp_path):
    image, target, pred = squares(64)
    prob = np.where(pred, np.float32(0.5), np.float32(0.49))
    overlay(image, target, pred, "t", tmp_path / "bool.png")
    overlay(image, target, prob, "t", tmp_path / "half.png")
    overlay(image, target, prob, "t", tmp_path / "high.png", threshold=0.6)
    overlay(image, target, pred & False, "t", tmp_path / "none.png")
    by_name = {p.stem: p.read_bytes() for p in tmp_path.iterdir()}
    assert by_name["half"] == by_name["bool"] != by_name["none"] == by_name["high"]


def test_overlay_of_odd_shapes(tmp_path):
    for shape, zoom in (((600, 300), 1), ((40, 90), 6)):
        mask = np.ones(shape, bool)
        overlay(np.zeros(shape), mask, mask, "t", tmp_path / "a.png")
        assert Image.open(tmp_path / "a.png").width >= 1024  # space for the text
        panel = np.asarray(marked_panel(tmp_path / "a.png"))
        assert panel.shape == (zoom * shape[0], zoom * shape[1], 3)
        assert (panel[[0, 0, -1, -1], [0, -1, 0, -1]] == PRED_COLOUR).all()  # its four corners


def test_marked_panel_of_other_pictures(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    (tmp_path / "text.png").write_text("no picture")
    about = PngInfo()
    about.add_text("marked_panel", "0 0 100000 100000")
    Image.new("RGB", (8, 8)).save(tmp_path / "huge.png", pnginfo=about)
    for name in ("other.png", "text.png", "missing.png", "huge.png"):
        with pytest.raises(InputError, match=f"{name} is not an overlay that this program"):
            marked_panel(tmp_path / name)


def test_caption():
    row = {"id": "ID_1", "dsc": 0.93214, "iou": 0.8729, "hd_px": 7.25, "hd_mm": 5.08}
    assert caption(row) == "ID_1   DSC 93.21 %   IoU 87.29 %   HD 7.25 px, 5.08 mm"
    assert caption(row | {"hd_mm": math.nan, "empty": ""}).endswith("HD 7.25 px")
    empty = {"id": 7, "dsc": None, "iou": math.nan, "hd_px": None, "hd_mm": None}
    assert caption(empty | {"empty": "both_empty"}) == "7   DSC -   IoU -   both empty"
    long = caption(row | {"id": "a" * 30 + "b" * 30}).split()[0]
    assert long == "a" * 18 + "..." + "b" * 18


def test_sample_grid():
    image, target, pred = (np.stack([a] * 5) for a in squares(128))
    grid = sample_grid(image, target, pred.astype(np.float32))
    assert grid.dtype == np.uint8 and grid.shape == (2 * 256, 4 * 256, 3)
    np.testing.assert_array_equal(grid[:256, :256], grid[256:, :256])
    assert (grid[256:, 256:] == 0).all()
    assert tuple(grid[0, 0]) == GREY
    assert tuple(grid[100, 63]) == TARGET_COLOUR and tuple(grid[100, 96]) == PRED_COLOUR
