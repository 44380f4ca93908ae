"""What the masks of finding_lungs mark: how dense, in how many parts, and which air they leave out.

    python docs/results/masks.py FOLDER

FOLDER holds its `2d_images` and `2d_masks`.
"""

import argparse
import pathlib

import numpy as np
from PIL import Image
from scipy import ndimage

from prnet_jax.datasets.finding_lungs.finding_lungs_dataset_builder import LEAKING

AIR_HU, REGION_PX = -500, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    paths = [p for p in sorted((folder / "2d_masks").glob("*.tif")) if p.stem not in LEAKING]
    dense, tissue, parts, holes, air = [], [], [], [], []
    for path in paths:
        mask = np.array(Image.open(path)) > 0
        hu = np.array(Image.open(folder / "2d_images" / path.name), np.float32)
        dense.append(100 * np.mean(hu[mask] > AIR_HU))
        tissue.append(100 * np.mean(hu[mask] > -200))
        parts.append(ndimage.label(mask)[1])
        holes.append((ndimage.binary_fill_holes(mask) & ~mask).any())
        air.append(_enclosed((hu < AIR_HU) & ~mask))
    print(f"of {len(paths)} masks:")
    for name, shares in ((f"above {AIR_HU} HU", dense), ("above -200 HU", tissue)):
        print(f"{name}: {np.mean(shares):.1f} % of the pixels, {max(shares):.0f} % at most")
    counts = {n: parts.count(n) for n in (1, 2)}
    print(
        f"in one part {counts[1]}, in two {counts[2]}, in more {len(parts) - sum(counts.values())}"
    )
    print(f"with a hole: {sum(holes)}")
    print(
        f"regions of at least {REGION_PX} pixels of air that are not marked and do not reach the "
        f"edge of the picture: {np.mean(air):.2f} a slice"
    )


def _enclosed(air: np.ndarray) -> int:
    """How many large regions of air do not reach the edge of the picture."""
    regions, number = ndimage.label(air)
    edge = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    sizes = np.bincount(regions.ravel(), minlength=number + 1)
    sizes[[0, *np.unique(edge)]] = 0
    return int(np.count_nonzero(sizes >= REGION_PX))


if __name__ == "__main__":
    main()
