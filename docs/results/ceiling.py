"""How well a network of a given size can score at the slices' own size, whatever it has learnt.

    python docs/results/ceiling.py FOLDER

FOLDER holds the masks of finding_lungs, `2d_masks`. Each mask is resized to the network's size and
back: as the probabilities of a network that is right about how much of each pixel is lung, and as
a mask of zeros and ones.
"""

import argparse
import pathlib

import numpy as np
from PIL import Image

from prnet_jax.data.preprocess import resize_image, resize_prob

SIZES = (96, 128, 192, 256)
LEFT_OUT = ("ID_0052_Z_0108", "ID_0134_Z_0137", "ID_0254_Z_0075")  # the data set leaves them out


def overlap(found: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """DSC and IoU in per cent."""
    both, total = (found & mask).sum(), found.sum() + mask.sum()
    return 200 * both / total, 100 * both / (total - both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    paths = sorted(parser.parse_args().folder.glob("*.tif"))
    masks = [np.array(Image.open(path)) > 0 for path in paths if path.stem not in LEFT_OUT]
    for size in SIZES:
        scores = {"right probabilities": [], "zeros and ones": []}
        for mask in masks:
            share = resize_image(mask.astype(np.float32), size, "pad")
            hard = (share > 0.5).astype(np.float32)
            for name, prob in zip(scores, (share, hard), strict=True):
                scores[name].append(overlap(resize_prob(prob, mask.shape, "pad") >= 0.5, mask))
        for name, values in scores.items():
            dsc, iou = np.mean(values, axis=0)
            print(f"{size}x{size}, {name}: DSC {dsc:.2f} %, IoU {iou:.2f} % of {len(masks)}")


if __name__ == "__main__":
    main()
