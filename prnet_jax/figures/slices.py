"""Pictures of slices with the contours of target and prediction."""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
import scipy
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from prnet_jax.errors import InputError
from prnet_jax.metrics.names import METRIC_NAMED

# Distinct from each other in every common form of colour blindness, and from grey
TARGET_COLOUR = (0, 214, 90)
PRED_COLOUR = (255, 64, 230)

_TINT = 0.45  # opacity of the colour where the two masks differ
_PANEL_KEY = "marked_panel"  # in the PNG's text: left, top, right, bottom
_PANEL_PX = 512  # smaller panels of an overlay are magnified to at least this


def overlay(
    image: np.ndarray,
    target: np.ndarray,
    pred: np.ndarray,
    title: str,
    path: str | os.PathLike,
    threshold: float = 0.5,
) -> None:
    """Writes a PNG of the slice on the left and the slice with both contours on the right.

    The target's contour runs just outside its mask, the prediction's just inside, so both are
    visible where they agree. Pixels of only one mask are tinted with its colour. The position of
    the right panel is stored in the PNG's text for `marked_panel`.

    Args:
        image: float [H, W] in [0, 1]; small ones are magnified by an integer.
        target: bool [H, W].
        pred: bool [H, W], or a probability, float [H, W], whose mask is `pred >= threshold`.
        title: one line, written above.
        path: the PNG to write.
        threshold: of the probability.
    """
    zoom = _zoom(image.shape, _PANEL_PX)
    plain = _grey(image, zoom)
    marked = _mark(plain, target, pred, threshold, zoom)
    gap = np.zeros((plain.shape[0], 8, 3), np.uint8)
    panels = Image.fromarray(np.concatenate([plain, gap, marked], axis=1))

    width = max(panels.width, 2 * _PANEL_PX)  # space for the text
    font_px = width // 56
    font = ImageFont.load_default(size=font_px)
    line_px = 2 * font_px
    sheet = Image.new("RGB", (width, panels.height + 2 * line_px))
    sheet.paste(panels, (0, line_px))
    draw = ImageDraw.Draw(sheet)
    draw.text((font_px // 2, font_px // 3), title, "white", font)
    draw_legend(draw, font, font_px // 2, line_px + panels.height + font_px // 3)
    left = marked.shape[1] + gap.shape[1]
    about = PngImagePlugin.PngInfo()
    box = (left, line_px, left + marked.shape[1], line_px + marked.shape[0])
    about.add_text(_PANEL_KEY, " ".join(map(str, box)))
    sheet.save(path, compress_level=4, pnginfo=about)


def marked_panel(path: str | os.PathLike) -> Image.Image:
    """The right panel of a PNG that `overlay` wrote: the slice with both contours, RGB.

    Raises:
        InputError: the file does not exist, or `overlay` did not write it.
    """
    try:
        with Image.open(path, formats=["PNG"]) as sheet:
            left, top, right, bottom = (int(n) for n in sheet.text[_PANEL_KEY].split())
            if not (0 <= left < right <= sheet.width and 0 <= top < bottom <= sheet.height):
                raise ValueError
            return sheet.convert("RGB").crop((left, top, right, bottom))
    except (OSError, KeyError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} is not an overlay that this program wrote ({type(error).__name__}): "
            "evaluate again"
        ) from None


def draw_legend(draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, x: int, y: int) -> None:
    """Draws the meaning of an overlay's colours in one line from (x, y), its top left corner."""
    size = round(font.size)
    for colour, filled, text in (
        (TARGET_COLOUR, False, "target"),
        (PRED_COLOUR, False, "prediction"),
        (TARGET_COLOUR, True, "missed"),
        (PRED_COLOUR, True, "false positive"),
    ):
        box = (x, y + 2, x + size - 4, y + size - 2)
        if filled:
            draw.rectangle(box, fill=tuple(round(_TINT * c + (1 - _TINT) * 110) for c in colour))
        else:
            draw.rectangle(box, outline=colour, width=max(2, size // 9))
        draw.text((x + size + 2, y), text, "white", font)
        x += 2 * size + 8 + round(draw.textlength(text, font))


def inner_contour(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a mask, bool [H, W], that lie within `width` pixels of its border."""
    block = np.ones((2 * width + 1, 2 * width + 1), bool)
    return mask & ~scipy.ndimage.binary_erosion(mask, block)


def caption(row: Mapping) -> str:
    """One line about a scored image: id, DSC, IoU, and HD in px and, if known, in mm.

    Args:
        row: `id`; `dsc`, `iou`, `hd_px`, `hd_mm`, None or NaN where not scored; and optionally
            `empty`, the state of its masks.
    """
    id = str(row["id"])
    parts = [id if len(id) <= 40 else f"{id[:18]}...{id[-18:]}"]
    dsc, iou, *hd = (METRIC_NAMED[name] for name in ("dsc", "iou", "hd_px", "hd_mm"))
    parts += [f"{metric.title} {metric.text_with_unit(row[metric.name])}" for metric in (dsc, iou)]
    distances = [metric.text_with_unit(row[metric.name]) for metric in hd]
    if known := [text for text in distances if text != "-"]:
        parts.append(f"{hd[0].title} {', '.join(known)}")
    if row.get("empty"):
        parts.append(row["empty"].replace("_", " "))
    return "   ".join(parts)


def sample_grid(
    image: np.ndarray,
    target: np.ndarray,
    pred: np.ndarray,
    columns: int = 4,
    threshold: float = 0.5,
) -> np.ndarray:
    """Several slices with contours in one picture, for TensorBoard.

    Args:
        image: float [N, H, W] in [0, 1].
        target: bool [N, H, W].
        pred: [N, H, W], bool or a probability, as for `overlay`.
        columns: the number of slices in a row.
        threshold: of the probability.

    Returns:
        uint8 [rows * H * zoom, columns * W * zoom, 3]. The integer zoom makes the longer side of a
        slice at least 256 pixels. The empty places of the last row are black.
    """
    zoom = _zoom(image.shape[1:], 256)
    tiles = [
        _mark(_grey(i, zoom), t, p, threshold, zoom)
        for i, t, p in zip(image, target, pred, strict=True)
    ]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    lines = [np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)]
    return np.concatenate(lines)


def _zoom(shape: Sequence[int], least_px: int) -> int:
    """The smallest integer that makes the longer side at least `least_px`."""
    return max(1, math.ceil(least_px / max(shape)))


def _grey(image: np.ndarray, zoom: int) -> np.ndarray:
    """A slice in [0, 1] as grey uint8 [H * zoom, W * zoom, 3], smoothly magnified."""
    grey = Image.fromarray(np.round(255 * np.clip(image, 0, 1)).astype(np.uint8))
    if zoom > 1:
        size = (grey.width * zoom, grey.height * zoom)
        grey = grey.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(grey.convert("RGB"))


def _mark(
    picture: np.ndarray, target: np.ndarray, pred: np.ndarray, threshold: float, zoom: int
) -> np.ndarray:
    """A copy of a picture from `_grey` with the contours and tints of `overlay`."""
    pred = pred if pred.dtype == bool else pred >= threshold
    target, pred = (np.kron(m, np.ones((zoom, zoom), bool)) for m in (target.astype(bool), pred))
    marked = picture.copy()
    for only, colour in ((target & ~pred, TARGET_COLOUR), (pred & ~target, PRED_COLOUR)):
        marked[only] = np.round(_TINT * np.array(colour) + (1 - _TINT) * marked[only])
    width = 1 if zoom == 1 else 2
    block = np.ones((2 * width + 1, 2 * width + 1), bool)
    marked[scipy.ndimage.binary_dilation(target, block) & ~target] = TARGET_COLOUR
    marked[inner_contour(pred, width)] = PRED_COLOUR
    return marked
