"""A picture of a run's first training batch, as read and as the network sees it."""

import io
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from prnet_jax.figures.slices import TARGET_COLOUR, inner_contour
from prnet_jax.run.files import write_whole

_MOST, _COLUMNS = 8, 4  # images; of the picture
_TILE_PX, _GAP_PX, _FONT_PX = 256, 6, 15
_PADDING_COLOUR = (40, 60, 120)
_TEXT = (
    "The first training batch: above as read, below augmented, as the network sees it.",
    "Green: the mask. Blue: padding, which the loss leaves out.",
)


def first_of(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The images of a batch that the picture shows."""
    return {name: array[:_MOST] for name, array in batch.items()}


def draw_first_batch(
    read: Mapping[str, np.ndarray], seen: Sequence[np.ndarray], path: pathlib.Path
) -> None:
    """Writes the picture as a PNG, four images in a line.

    Args:
        read: `image` float [N, S, S, 1] in 0..1, `mask` in 0..1, `id` [N] and perhaps `valid`,
            as `first_of` leaves them.
        seen: image, mask and perhaps valid after augmentation.
        path: the PNG to write; replaced where it exists.
    """
    before = [read[name] for name in ("image", "mask", "valid") if name in read]
    columns = [
        [_tile(*(part[i] for part in part_of)) for part_of in (before, seen)]
        for i in range(len(read["image"]))
    ]
    lines = [columns[i : i + _COLUMNS] for i in range(0, len(columns), _COLUMNS)]
    step = _TILE_PX + _GAP_PX
    pair = 2 * _TILE_PX + _GAP_PX  # of tiles, one above the other
    font = ImageFont.load_default(size=_FONT_PX)
    line_px = _FONT_PX + 7
    top = len(_TEXT) * line_px
    size = _COLUMNS * step - _GAP_PX, top + len(lines) * (line_px + pair)
    sheet = Image.new("RGB", size)
    draw = ImageDraw.Draw(sheet)
    for i, text in enumerate(_TEXT):
        draw.text((4, 3 + i * line_px), text, "white", font)
    for row, line in enumerate(lines):
        y = top + row * (line_px + pair)
        for column, tiles in enumerate(line):
            x = column * step
            id = str(read["id"][row * _COLUMNS + column])
            draw.text((x + 4, y + 3), id if len(id) <= 30 else f"...{id[-27:]}", "white", font)
            for below, tile in enumerate(tiles):
                sheet.paste(tile, (x, y + line_px + below * step))
    content = io.BytesIO()
    sheet.save(content, "png", compress_level=4)
    write_whole(path, content.getvalue())


def _tile(image: np.ndarray, mask: np.ndarray, valid: np.ndarray | None = None) -> Image.Image:
    """A slice [S, S, 1] with its mask's contour and its padding, RGB."""

    def enlarged(pixels: np.ndarray, how: Image.Resampling) -> Image.Image:
        values = np.round(255 * np.clip(pixels[..., 0].astype(np.float32), 0, 1))
        return Image.fromarray(values.astype(np.uint8)).resize((_TILE_PX, _TILE_PX), how)

    tile = enlarged(image, Image.Resampling.BICUBIC).convert("RGB")
    if valid is not None:
        tile.paste(_PADDING_COLOUR, mask=enlarged(1 - valid, Image.Resampling.NEAREST))
    large = np.asarray(enlarged(mask, Image.Resampling.BILINEAR)) > 127
    tile.paste(TARGET_COLOUR, mask=Image.fromarray(inner_contour(large, 1)))
    return tile
