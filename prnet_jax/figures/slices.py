"""Pictures of slices with the mask and the prediction on them."""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from scipy import ndimage

from prnet_jax.errors import InputError

# Told apart in every common form of colour blindness, and from grey.
TARGET_COLOUR = (0, 214, 90)


PRED_COLOUR = (255, 64, 230)


_TINT = 0.45  # share of the colour where only one of the two masks is
_PANEL_KEY = "marked_panel"  # in the PNG's text: left, top, right, bottom
_PANEL_PX = 512  # an overlay's panel is magnified to at least this


def overlay(
    image: np.ndarray,
    target: np.ndarray,
    pred: np.ndarray,
    title: str,
    path: str | os.PathLike,
    threshold: float = 0.5,
) -> None:
    """Writes a PNG: left the slice, right the slice with both contours, above the title.

    The target's contour runs just outside its mask, the prediction's just inside, so that both
    are seen where they agree. What only one of them holds is tinted with its colour. The PNG says
    in its text where the right panel lies, for `marked_panel`.

    Args:
        image: float [H, W] in [0, 1]; small ones are magnified by a whole number.
        target: bool [H, W].
        pred: bool [H, W], or a probability, float [H, W], of which `>= threshold` is taken.
        title: one line.
        path: the PNG to write.
    """
    zoom = _zoom(image.shape, _PANEL_PX)
    plain = _grey(image, zoom)
    marked = _mark(plain, target, pred, threshold, zoom)
    gap = np.zeros((plain.shape[0], 8, 3), np.uint8)
    panels = Image.fromarray(np.concatenate([plain, gap, marked], axis=1))

    width = max(panels.width, 2 * _PANEL_PX)  # room for the words
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
    """The right panel of a PNG of `overlay`: the slice with both contours, RGB.

    Raises:
        InputError: no such file, or not one that `overlay` wrote.
    """
    try:
        with Image.open(path, formats=["PNG"]) as sheet:
            left, top, right, bottom = (int(n) for n in sheet.text[_PANEL_KEY].split())
            if not (0 <= left < right <= sheet.width and 0 <= top < bottom <= sheet.height):
                raise ValueError
            return sheet.convert("RGB").crop((left, top, right, bottom))
    except (OSError, KeyError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} is no overlay picture that this program wrote ({type(error).__name__}): "
            "evaluate again"
        ) from None


def draw_legend(draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, x: int, y: int) -> None:
    """Draws what the colours of an overlay mean, from (x, y) to the right."""
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


def caption(row: Mapping) -> str:
    """One line about a test image: id, DSC, IoU, HD in px and, where known, in mm.

    Args:
        row: `id`, and `dsc`, `iou`, `hd_px`, `hd_mm`, None or NaN where not scored; and, where
            given, `empty`, which is added in words.
    """
    name = str(row["id"])
    parts = [name if len(name) <= 40 else f"{name[:18]}...{name[-18:]}"]
    for name, label in (("dsc", "DSC"), ("iou", "IoU")):
        parts.append(f"{label} {100 * row[name]:.2f} %" if _scored(row[name]) else f"{label} -")
    if _scored(row["hd_px"]):
        mm = f", {row['hd_mm']:.1f} mm" if _scored(row["hd_mm"]) else ""
        parts.append(f"HD {row['hd_px']:.1f} px{mm}")
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
    """A few slices with contours in one picture, for TensorBoard.

    Args:
        image: float [N, H, W] in [0, 1].
        target: bool [N, H, W].
        pred: bool, or a probability, float, [N, H, W].
        columns: slices side by side.

    Returns:
        uint8 [rows * H * zoom, columns * W * zoom, 3] with a whole zoom that makes a slice at
        least 256 pixels long; black where the last row is not full.
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
    """The whole number that makes the longer side at least `least_px`."""
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
    """A copy of a picture of `_grey` with the contours and the tints of `overlay`."""
    pred = pred if pred.dtype == bool else pred >= threshold
    target, pred = (np.kron(m, np.ones((zoom, zoom), bool)) for m in (target.astype(bool), pred))
    marked = picture.copy()
    for only, colour in ((target & ~pred, TARGET_COLOUR), (pred & ~target, PRED_COLOUR)):
        marked[only] = np.round(_TINT * np.array(colour) + (1 - _TINT) * marked[only])
    width = 1 if zoom == 1 else 2
    block = np.ones((2 * width + 1, 2 * width + 1), bool)
    marked[ndimage.binary_dilation(target, block) & ~target] = TARGET_COLOUR
    marked[pred & ~ndimage.binary_erosion(pred, block)] = PRED_COLOUR
    return marked


def _scored(value: float | None) -> bool:
    return value is not None and not math.isnan(value)
