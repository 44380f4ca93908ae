"""How much a network marks on slices of volumes that show no lung.

    python -m prnet_jax.predict VOLUMES/images --out PREDICTIONS --weights lungs
    python docs/results/false_alarms.py VOLUMES/masks PREDICTIONS

A line for every volume: the 3-D Dice, the slices that the mask leaves empty, and on how many of
these more than 1 cm2 is marked. Needs the extra `nifti`.
"""

import argparse
import pathlib

import nibabel
import numpy as np

LIMIT_MM2 = 100.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("masks", type=pathlib.Path, help="a folder of NIfTI masks")
    parser.add_argument("predictions", type=pathlib.Path, help="those that predict wrote for them")
    arguments = parser.parse_args()
    empty, alarms = 0, 0
    paths = sorted(arguments.masks.glob("*.nii*"))
    if not paths:
        raise SystemExit(f"error: {arguments.masks} holds no NIfTI masks")
    for path in paths:
        name = path.name.partition(".")[0]
        predicted = find_prediction(arguments.predictions, name)
        dice, areas = compare(path, predicted)
        empty, alarms = empty + len(areas), alarms + int((areas > LIMIT_MM2).sum())
        largest = f", the largest {areas.max() / 100:.2f} cm2" if len(areas) else ""
        print(
            f"{name}: 3-D Dice {100 * dice:.2f} %; of {len(areas)} slices without lung "
            f"{(areas > LIMIT_MM2).sum()} marked{largest}"
        )
    print(f"all: {alarms} of {empty} slices without lung have more than 1 cm2 marked")


def find_prediction(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The mask of one volume; pictures and probabilities beside it have longer names."""
    for path in folder.glob("*.nii*"):
        if path.name.partition(".")[0] == name:
            return path
    raise SystemExit(f"error: {folder} holds no {name}.nii or {name}.nii.gz")


def compare(mask: pathlib.Path, predicted: pathlib.Path) -> tuple[float, np.ndarray]:
    """The 3-D Dice, and the area in mm2 that is marked on each axial slice without lung."""
    pictures = [nibabel.as_closest_canonical(nibabel.load(path)) for path in (mask, predicted)]
    truth, found = (np.asarray(picture.dataobj) > 0 for picture in pictures)
    dice = 2 * (truth & found).sum() / (truth.sum() + found.sum())
    if truth.shape != found.shape:
        raise SystemExit(f"error: {predicted} is {found.shape}, its mask {truth.shape}")
    pixel_mm2 = np.prod(pictures[0].header.get_zooms()[:2])
    return float(dice), found.sum((0, 1))[~truth.any((0, 1))] * pixel_mm2


if __name__ == "__main__":
    main()
