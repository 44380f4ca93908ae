"""Draws the picture of the README: a slice, its mask, a network's prediction; prints its DSC.

    python docs/pictures/overview.py [RUN_OR_WEIGHTS [INDEX]]

By default with the weights `lungs` of the package. INDEX is that of a generated slice; those from
6600 on show persons that these weights were not trained on.
"""

import pathlib
import sys

import numpy as np
from sheet import side_by_side

import prnet_jax
from prnet_jax.data.preprocess import window
from prnet_jax.datasets.lung_phantom.phantom import make_slice
from prnet_jax.figures.slices import PRED_COLOUR, TARGET_COLOUR, inner_contour
from prnet_jax.metrics import overlap

SIZE = 256  # pixels of a panel, and of the slice
TINT = 0.25


def tinted(grey: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """A slice, uint8 [H, W], with the mask tinted and outlined; uint8 [H, W, 3]."""
    picture = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    picture[mask] = (1 - TINT) * picture[mask] + TINT * np.array(colour)
    picture[inner_contour(mask, 1)] = colour
    return picture.astype(np.uint8)


def draw(network: str, index: int, path: pathlib.Path) -> None:
    made = make_slice(index, size=SIZE)
    pred = prnet_jax.load(network).predict(made.hu).mask
    grey = (255 * window(made.hu.astype(np.float32), -1000, 400)).astype(np.uint8)
    panels = [
        ("CT", np.repeat(grey[..., None], 3, axis=2)),
        ("mask", tinted(grey, made.lung, TARGET_COLOUR)),
        ("prediction", tinted(grey, pred, PRED_COLOUR)),
    ]
    side_by_side(panels, path, line=24, font_size=15)
    print(f"{path}: DSC {100 * overlap(pred, made.lung)['dsc']:.1f} %")


if __name__ == "__main__":
    network, index = (*sys.argv[1:], *("lungs", "6622")[len(sys.argv) - 1 :])
    draw(network, int(index), pathlib.Path(__file__).with_name("overview.png"))
