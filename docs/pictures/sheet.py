"""Pictures side by side, each below its title: what overview.py and readers.py draw."""

import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 8  # pixels between two pictures


def side_by_side(
    panels: Sequence[tuple[str, np.ndarray]], path: pathlib.Path, line: int, font_size: int
) -> None:
    """Writes a PNG file.

    Args:
        panels: title and picture, uint8 [S, S, 3] of one size S.
        path: of the file.
        line: the height of the titles' line, in pixels.
        font_size: of the titles, in pixels.
    """
    size = len(panels[0][1])
    sheet = Image.new("RGB", (len(panels) * (size + GAP) - GAP, size + line), "white")
    write, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=font_size)
    for place, (title, panel) in enumerate(panels):
        left = place * (size + GAP)
        write.text((left + size // 2, line // 2), title, "black", font, anchor="mm")
        sheet.paste(Image.fromarray(panel), (left, line))
    sheet.save(path, optimize=True)
