"""Records of made-up slices, in place of a prepared data set."""

import types

import numpy as np

from prnet_jax.data import records
from prnet_jax.data.splits import SPLITS
from prnet_jax.data.stacks import Placed, keep


class MadeUp:
    """A builder with one split.

    Args:
        slices: (pixels [H, W] in HU, {name: bool [H, W]} with equal names for all).
        spacing_mm: (row, column) of every slice.
        slice_mm: where given, the slices are those of one volume `v`, so far apart.
    """

    name = "made_up"

    def __init__(self, slices, spacing_mm=(0.75, 0.75), slice_mm=None):
        self._records = []
        for number, (pixels, masks) in enumerate(slices):
            id = f"s{number}" if slice_mm is None else f"v_z{number:04d}"
            record = records.example(id, f"p{number}", pixels, spacing_mm, **masks)
            self._records.append({name: _stored(value) for name, value in record.items()})
        features = records.features(tuple(slices[0][1]))
        self.info = types.SimpleNamespace(features=features, splits=SPLITS, metadata={})
        if slice_mm is not None:
            affine = np.diag([*spacing_mm, slice_mm, 1.0]).tolist()
            keep(self.info, {"v": Placed(len(slices), affine, evenly_spaced=True)})

    def as_data_source(self, split, decoders):
        return self._records


def _stored(value):
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, np.ndarray) else value.read()


def disc(shape, centre, radius) -> np.ndarray:
    """Bool [H, W]; the centre in pixels from the upper left corner."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
