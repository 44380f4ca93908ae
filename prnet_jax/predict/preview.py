"""A PNG of a prediction: slices with the mask's contour, of a volume a coronal view too."""

import functools
import io
import pathlib
import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from prnet_jax.data import preprocess
from prnet_jax.figures.slices import PRED_COLOUR, inner_contour
from prnet_jax.predict.shown import Shown
from prnet_jax.run.files import write_whole

_MOST, _COLUMNS = 12, 4  # slices; of the grid
_TILE, _LARGE = 288, 576  # longest side of a slice, and of a picture, in pixels
_CORONAL = 720  # likewise
_GAP, _MARGIN = 6, 14
_TITLE_PX, _SMALL_PX = 20, 14


def write_preview(path: pathlib.Path, shown: Shown) -> None:
    """Writes the picture: as the network's window shows it, lengths as in the patient.

    A picture is shown twice, plain and with the contour. The coronal view cuts the volume in
    the middle of what is marked; without a place in the patient there is none.

    Args:
        path: the PNG to write; replaced where it exists.
        shown: the prediction.
    """
    if shown.mask.ndim == 2:
        pixels, mask = shown.slice(0)
        views = [(pixels, np.zeros_like(mask)), (pixels, mask)]
        tiles = [_view(shown, *view, shown.pixel_mm, _LARGE) for view in views]
    else:
        chosen = chosen_slices(shown.mask.any(axis=(0, 1)), _MOST)
        tiles = [_view(shown, *shown.slice(z), shown.pixel_mm, _TILE) for z in chosen]
        for z, tile in zip(chosen, tiles, strict=True):
            _label(tile, f"slice {z + 1}")
    picture = _grid(tiles)
    if shown.mask.ndim == 3 and shown.scan.affine is not None:
        picture = _beside(picture, _coronal(shown))
    sheet = _with_text(picture, shown)
    content = io.BytesIO()
    sheet.save(content, "png", compress_level=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())


def chosen_slices(marked: np.ndarray, count: int) -> list[int]:
    """Evenly spaced slices in their order: of the marked ones first, then of the others.

    Args:
        marked: bool [D].
        count: how many at most.
    """
    some = _spread(np.flatnonzero(marked), count)
    return sorted(some + _spread(np.flatnonzero(~marked), count - len(some)))


def _spread(values: np.ndarray, count: int) -> list[int]:
    if len(values) > count:
        values = values[np.linspace(0, len(values) - 1, count).round().astype(int)]
    return values.tolist()


def _coronal(shown: Shown) -> Image.Image:
    """Head up, the patient's right on the left, as far as the file says."""
    marked = np.cumsum(np.count_nonzero(shown.mask, axis=(1, 2)))
    row = int(np.searchsorted(marked, marked[-1] / 2)) if marked[-1] else len(marked) // 2
    if not shown.mask[row].any():
        row = len(shown.mask) // 2
    pixels, mask = (array[row].T[::-1] for array in (shown.scan.pixels, shown.mask))
    slice_mm = float(np.linalg.norm(shown.scan.affine[:3, 2]))
    view = _view(shown, pixels, mask, (slice_mm, shown.pixel_mm[1]), _CORONAL)
    _label(view, "coronal")
    return view


def _view(
    shown: Shown, pixels: np.ndarray, mask: np.ndarray, mm: tuple[float, float], longest: int
) -> Image.Image:
    """A cut [H, W] with its contour, RGB; `mm` (row, column) sets its proportions."""
    height, width = np.array(mask.shape) * mm
    zoom = longest / max(height, width)
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    grey = np.round(255 * preprocess.window(pixels, *shown.window)).astype(np.uint8)
    view = Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    large = Image.fromarray(np.uint8(255) * mask).resize(size, Image.Resampling.BILINEAR)
    contour = inner_contour(np.asarray(large) > 127, 1 if longest == _TILE else 2)
    view.paste(PRED_COLOUR, mask=Image.fromarray(contour))
    if shown.oriented:
        draw = ImageDraw.Draw(view)
        middle = (4, view.height // 2)
        draw.text(middle, "R", "white", _font(_SMALL_PX), "lm", stroke_width=1, stroke_fill="black")
    return view


def _label(view: Image.Image, text: str) -> None:
    draw = ImageDraw.Draw(view)
    draw.text((4, 2), text, "white", _font(_SMALL_PX), stroke_width=1, stroke_fill="black")


def _grid(tiles: Sequence[Image.Image]) -> Image.Image:
    """Tiles of one size in lines of `_COLUMNS`."""
    columns, (width, height) = min(_COLUMNS, len(tiles)), tiles[0].size
    lines = -(-len(tiles) // columns)
    grid = Image.new("RGB", (columns * (width + _GAP) - _GAP, lines * (height + _GAP) - _GAP))
    for i, tile in enumerate(tiles):
        grid.paste(tile, (i % columns * (width + _GAP), i // columns * (height + _GAP)))
    return grid


def _beside(left: Image.Image, right: Image.Image) -> Image.Image:
    size = left.width + 2 * _GAP + right.width, max(left.height, right.height)
    both = Image.new("RGB", size)
    both.paste(left)
    both.paste(right, (left.width + 2 * _GAP, 0))
    return both


def _with_text(picture: Image.Image, shown: Shown) -> Image.Image:
    """Name and size above, warnings below."""
    width = max(picture.width, _LARGE) + 2 * _MARGIN
    room = width - 2 * _MARGIN
    slices = shown.row["slices"]
    parts = [shown.size] + [f"marked in {shown.row['slices_marked']} of {slices} slices"] * (
        slices > 1
    )
    about = "   ".join(parts)
    name = _shortened(
        " ".join(shown.source.stem.split()), room - _font(_TITLE_PX).getlength("    " + about)
    )
    title = f"{name}    {about}" if name else about
    letters = int(room / _font(_SMALL_PX).getlength("n"))
    lines = [line for text in shown.row["warnings"] for line in textwrap.wrap(text, letters)]
    top, line_px = 2 * _TITLE_PX, round(1.5 * _SMALL_PX)
    height = top + picture.height + _MARGIN + (len(lines) * line_px + _MARGIN if lines else 0)
    sheet = Image.new("RGB", (width, height))
    sheet.paste(picture, (_MARGIN, top))
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, top // 2), title, "white", _font(_TITLE_PX), "lm")
    for i, line in enumerate(lines):
        y = top + picture.height + _MARGIN + i * line_px
        draw.text((_MARGIN, y), line, (255, 200, 60), _font(_SMALL_PX))
    return sheet


def _shortened(text: str, room: float) -> str:
    """The text without its middle where it is longer than `room` pixels."""
    kept = len(text)
    short = text
    while kept and _font(_TITLE_PX).getlength(short) > room:
        kept -= 1
        short = f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"
    return short


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font lacks ² and most alphabets."""
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
