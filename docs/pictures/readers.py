"""Draws crops of LIDC-IDRI with the outlines of its four readers.

    python docs/pictures/readers.py LIDC-IDRI-slices

LIDC-IDRI is licensed under CC BY 3.0 (Armato et al., Medical Physics 38(2), 2011,
doi:10.1118/1.3528204); whoever shows the picture gives that credit.
"""

import pathlib
import sys

import numpy as np
from PIL import Image
from sheet import side_by_side

from prnet_jax.figures.slices import inner_contour

# Patient, nodule and slice, from agreement to disagreement.
CROPS = (
    ("LIDC-IDRI-0001", 0, 4),
    ("LIDC-IDRI-0595", 0, 3),
    ("LIDC-IDRI-0507", 0, 6),
    ("LIDC-IDRI-0698", 1, 15),
)
COLOURS = ((255, 196, 0), (0, 214, 90), (255, 64, 230), (64, 170, 255))
ZOOM = 2


def read(path: pathlib.Path) -> np.ndarray:
    """uint8 [H, W], each pixel magnified."""
    return np.asarray(Image.open(path).convert("L")).repeat(ZOOM, 0).repeat(ZOOM, 1)


def draw(folder: pathlib.Path, path: pathlib.Path) -> None:
    panels = []
    for patient, nodule, number in CROPS:
        home = folder / patient / f"nodule-{nodule}"
        panel = read(home / "images" / f"slice-{number}.png")[..., None].repeat(3, 2)
        for reader, colour in enumerate(COLOURS):
            mask = read(home / f"mask-{reader}" / f"slice-{number}.png") > 0
            panel[inner_contour(mask, 1)] = colour
        panels.append((patient, panel))
    side_by_side(panels, path, line=22, font_size=14)


if __name__ == "__main__":
    draw(pathlib.Path(sys.argv[1]), pathlib.Path(__file__).with_name("readers.png"))
