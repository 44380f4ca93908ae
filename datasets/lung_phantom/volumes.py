"""Whole phantom volumes with their masks, to try prediction on:

python -m prnet_jax.datasets.lung_phantom.volumes --out phantoms --seed 1 --persons 4
python -m prnet_jax.datasets.lung_phantom.volumes --out phantoms --size 512 --step-mm 1.25

Writes NIfTI files of one name to phantoms/images and phantoms/masks; needs nibabel.
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from prnet_jax.commands import run_command

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True)
class PhantomVolume:
    """A person; slices run from the hips to the jaw, rows to the back, columns to the left."""

    hu: "np.ndarray"  # int16 [D, H, W], Hounsfield units
    lung: "np.ndarray"  # bool [D, H, W]
    spacing_mm: tuple[float, float, float]  # of slices, rows, columns


def make_volume(
    number: int,
    seed: int = 0,
    size: int = 256,
    step_mm: float = 5.0,
    features: Mapping[str, bool] | None = None,
) -> PhantomVolume:
    """Person `number` of a seed as a volume.

    Args:
        number: 0 or more; the person of the data set's slices of that number.
        seed: 0 or more.
        size: rows and columns.
        step_mm: from slice to slice.
        features: as for `phantom.make_slice`.

    Raises:
        InputError: a feature that does not exist.
    """
    import numpy as np

    from .person import Person
    from .phantom import HIPS, JAW, cut

    person = Person.draw(seed, number, features)
    heights = np.arange(HIPS - person.height, JAW, step_mm)
    slices = [cut(person, float(z), size, orient=False) for z in heights]
    hu, lung = (np.stack([getattr(made, name) for made in slices]) for name in ("hu", "lung"))
    return PhantomVolume(hu, lung, (step_mm, *slices[0].spacing_mm))


def main(argv: list[str] | None = None) -> int:
    """The exit code: see `prnet_jax.commands`."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _write_all(arguments))


def _write_all(arguments: argparse.Namespace) -> None:
    import numpy as np

    from prnet_jax.data.scan import import_library

    nibabel = import_library("nibabel", "writing volumes")
    for number in range(arguments.persons):
        made = make_volume(number, arguments.seed, arguments.size, arguments.step_mm)
        step, row, column = made.spacing_mm
        affine = np.diag([-column, -row, step, 1.0])  # columns run left, rows back, slices up
        name = f"phantom{arguments.seed or ''}_{number:04d}.nii.gz"
        for folder, array in (("images", made.hu), ("masks", made.lung.astype(np.uint8))):
            image = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine)
            image.header.set_xyzt_units("mm")
            path = arguments.out / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(image, path)
    print(f"{arguments.persons} volumes in {arguments.out / 'images'}, their masks in masks/")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prnet_jax.datasets.lung_phantom.volumes",
        description="Writes phantom volumes from jaw to hips, and their lung masks, as NIfTI.",
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the files")
    parser.add_argument("--persons", type=int, default=1, help="how many, from number 0 on")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other persons")
    parser.add_argument("--size", type=int, default=256, help="rows and columns")
    parser.add_argument("--step-mm", type=float, default=5.0, help="from slice to slice")
    return parser


if __name__ == "__main__":
    sys.exit(main())
