"""A prediction made by hand, for its pictures."""

import pathlib

import numpy as np

from prnet_jax.data.scan import Scan
from prnet_jax.predict.inputs import Input
from prnet_jax.predict.masks import measure
from prnet_jax.predict.shown import Shown

ABOUT = {
    "weights": [{"from": "runs/a", "network": "prnet", "sha256": "ab"}],
    "settings": {"threshold": 0.5, "flips": False, "keep_largest": None},
    "software": {"jax": "1"},
}


def shown(
    pixels, mask, mm=None, stem="chest", warnings=(), unit="HU", window=(-1000, 400), notes=()
):
    """`mm` (row, column, slice) also gives the scan its place."""
    affine = None if mm is None else np.diag([*mm, 1.0])
    scan = Scan(pixels, None if mm is None else tuple(mm[:2]), affine, notes=notes)
    row = {"mask": f"{stem}.nii.gz", "warnings": list(warnings), **measure(scan, mask)}
    source = Input(f"{stem}.nii.gz", stem, (pathlib.Path("chest.nii.gz"),), "NIfTI")
    return Shown(source, scan, mask, row, window, unit)


def box(shape, rows, columns, slices=None):
    """A mask of an upright box; each argument is (start, end)."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*ends) for ends in (rows, columns, slices) if ends)] = True
    return mask
