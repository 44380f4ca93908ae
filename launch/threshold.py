"""Lung masks without a network, from a threshold in HU, for `python -m prnet_jax.evaluate`.

    python launch/threshold.py --manual-dir FOLDER --out runs/threshold_masks
    python -m prnet_jax.evaluate --predictions runs/threshold_masks --name "HU threshold" \\
      --dataset finding_lungs --manual-dir FOLDER --split all --out runs/threshold_scores
    python launch/threshold.py --dataset image_folder --manual-dir FOLDER --out masks

The lungs are what lies below -320 HU within the body, without airways and specks, with the vessels
in them filled. Nothing is learnt; the constants are those that one would begin with, and were not
tuned on any image.
"""

import argparse
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Any

from prnet_jax.commands import Help, name_and_value, run_command

if TYPE_CHECKING:
    import numpy as np

AIR_HU = -320.0  # below it a pixel is lung or air: the middle between lung and soft tissue
AIRWAY_HU = -900.0  # a region with a lower median is air without tissue: airways, gas in the bowel
AIRWAY_SHARE = 0.02  # of the body: a larger region is lung, however dark
SPECK_SHARE = 0.001  # of the body: a smaller region is no lung
HOLE_SHARE = 0.02  # of the body: a larger hole in a lung is no vessel
CLOSING_PX = 3  # radius in a slice of 512 rows: wider gaps in the lung stay open


def lungs_of(hu: "np.ndarray", air_hu: float = AIR_HU) -> "np.ndarray":
    """The mask of the lungs in an axial slice.

    Args:
        hu: real numbers [H, W], the slice in Hounsfield units.
        air_hu: below it a pixel is lung or air.

    Returns:
        bool [H, W]; all False where the slice shows no lung or no body.
    """
    import numpy as np
    from scipy import ndimage

    tissue, number = ndimage.label(hu >= air_hu)
    if number == 0:
        return np.zeros(hu.shape, bool)
    sizes = np.bincount(tissue.ravel())[1:]
    # The largest region of tissue is the wall of the body; couch and clothes are others.
    body = ndimage.binary_fill_holes(tissue == 1 + np.argmax(sizes))
    regions, number = ndimage.label(body & (hu < air_hu))
    lungs = np.zeros(hu.shape, bool)
    for label in range(1, number + 1):
        region = regions == label
        share = region.sum() / body.sum()
        airway = share < AIRWAY_SHARE and np.median(hu[region]) < AIRWAY_HU
        if share >= SPECK_SHARE and not airway:
            lungs |= region
    radius = max(1, round(CLOSING_PX * len(hu) / 512))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    padded = np.pad(lungs, radius)
    closed = ndimage.binary_closing(padded, y**2 + x**2 <= radius**2)
    inner = closed[radius : radius + len(hu), radius : radius + hu.shape[1]]
    # Each lung by itself: two lungs that touch would enclose the heart.
    filled = np.zeros(hu.shape, bool)
    regions, number = ndimage.label(inner & body)
    for label in range(1, number + 1):
        filled |= _filled(regions == label, body)
    return filled


def _filled(region: "np.ndarray", body: "np.ndarray") -> "np.ndarray":
    """A region with its holes, as far as they are small: vessels, not the mediastinum."""
    import numpy as np
    from scipy import ndimage

    holes, number = ndimage.label(ndimage.binary_fill_holes(region) & ~region)
    sizes = np.bincount(holes.ravel(), minlength=number + 1)
    small = np.flatnonzero(sizes < HOLE_SHARE * body.sum())
    return region | np.isin(holes, small[small > 0])


def write_masks(
    dataset: str,
    options: dict[str, Any],
    manual_dir: str | None,
    data_dir: str | None,
    out: pathlib.Path,
    air_hu: float = AIR_HU,
) -> int:
    """Writes a mask `ID.png`, 0 and 255, for every image of a data set; returns their number.

    What they cost stands beside them, see `prnet_jax.evaluate.cost`.

    Args:
        dataset: a folder of `datasets/`; its images must be in HU.
        options: of the data set.
        manual_dir: what was downloaded by hand.
        data_dir: where prepared records are kept.
        out: a new or an empty folder.
        air_hu: below it a pixel is lung or air.

    Raises:
        InputError: the data cannot be read or are not in HU, or `out` holds files.
    """
    import numpy as np
    from PIL import Image

    from prnet_jax.commands import check_new_folder
    from prnet_jax.config import default_config
    from prnet_jax.data.pipeline import open_splits
    from prnet_jax.data.prepare import prepare
    from prnet_jax.errors import InputError
    from prnet_jax.evaluate.cost import FILE
    from prnet_jax.progress import progress
    from prnet_jax.run.files import write_json

    check_new_folder("--out", out)
    if not np.isfinite(air_hu):
        raise InputError(f"--air-hu is {air_hu}; expected a number of HU, such as {AIR_HU:g}")
    builder = prepare(dataset, data_dir, manual_dir, **options)
    data = default_config("prnet").dataset
    data.cache, data.window_hu = False, (0.0, 255.0)  # neither matters to the stored pixels
    splits = open_splits(builder, data)
    found = [part for part in splits.values() if len(part)]
    if any(part.unit != "HU" for part in found):
        raise InputError(f"{dataset} holds grey values; a threshold in HU needs HU")
    number = sum(map(len, found))
    seconds = 0.0
    with progress(number, desc="threshold", unit="images") as bar:
        for part in found:
            for id, _, hu in part.stored():
                path = out / f"{id}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                begin = time.perf_counter()
                mask = lungs_of(hu, air_hu)
                seconds += time.perf_counter() - begin
                Image.fromarray(mask.astype(np.uint8) * 255).save(path)
                bar.update(1)
    cost = {"parameters": 0, "train_minutes": 0.0, "seconds_per_slice": seconds / number}
    write_json(out / FILE, cost)
    return number


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python launch/threshold.py",
        description="Writes lung masks made by a threshold in HU, as a row without a network.",
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=Help,
    )
    parser.add_argument(
        "--dataset", default="finding_lungs", metavar="NAME", help="default: %(default)s"
    )
    parser.add_argument(
        "--option",
        dest="options",
        type=name_and_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the data set; may be repeated",
    )
    parser.add_argument("--manual-dir", metavar="DIR", help="what was downloaded by hand")
    parser.add_argument("--data-dir", metavar="DIR", help="where prepared records lie")
    parser.add_argument(
        "--out", required=True, type=pathlib.Path, metavar="DIR", help="a new folder"
    )
    parser.add_argument(
        "--air-hu", type=float, default=AIR_HU, metavar="HU", help="default: %(default)g"
    )
    given = parser.parse_args(argv)

    def run() -> None:
        number = write_masks(
            given.dataset,
            dict(given.options),
            given.manual_dir,
            given.data_dir,
            given.out,
            given.air_hu,
        )
        print(f"masks      {given.out}: {number}, score them with python -m prnet_jax.evaluate")

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())
