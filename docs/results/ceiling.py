"""What working at a smaller size costs in scores at the slices' own size, without any network.

    python docs/results/ceiling.py FOLDER

FOLDER holds `2d_images` and `2d_masks` of finding_lungs. Each mask is resized to a network's size
and back: as the share of each pixel that is lung, which probabilities can state, and as a mask of
zeros and ones. And each image is resized and given to `launch/threshold.py`.
"""

import argparse
import pathlib
import runpy

import numpy as np
from PIL import Image

from prnet_jax.data.preprocess import resize_image, resize_prob
from prnet_jax.datasets.finding_lungs.finding_lungs_dataset_builder import LEAKING
from prnet_jax.metrics import overlap

SIZES = (96, 128, 192, 256, 512)
THRESHOLD = pathlib.Path(__file__).resolve().parents[2] / "launch" / "threshold.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    paths = [p for p in sorted((folder / "2d_masks").glob("*.tif")) if p.stem not in LEAKING]
    lungs_of = runpy.run_path(str(THRESHOLD))["lungs_of"]
    for size in SIZES:
        scores: dict[str, list] = {"share of lung": [], "zeros and ones": [], "HU threshold": []}
        for path in paths:
            mask = np.array(Image.open(path)) > 0
            hu = np.array(Image.open(folder / "2d_images" / path.name), np.float32)
            share = resize_image(mask.astype(np.float32), size, "pad")
            lungs = lungs_of(resize_image(hu, size, "pad"))
            for name, prob in zip(scores, (share, share > 0.5, lungs), strict=True):
                there = resize_prob(prob.astype(np.float32), mask.shape, "pad") >= 0.5
                found = overlap(there, mask)
                scores[name].append((100 * found["dsc"], 100 * found["iou"]))
        for name, values in scores.items():
            dsc, iou = np.mean(values, axis=0)
            print(f"{size}x{size}, {name}: DSC {dsc:.2f} %, IoU {iou:.2f} % of {len(paths)}")


if __name__ == "__main__":
    main()
