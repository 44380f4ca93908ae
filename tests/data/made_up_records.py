"""Records of made-up slices, in place of a prepared data set."""

import types

import numpy as np

from prnet_jax.data import records
from prnet_jax.data.splits import SPLITS


class MadeUp:
    """A builder with one split.

    Args:
        slices: (pixels [H, W] in HU, {name: bool [H, W]} with equal names for all).
        spacing_mm: (row, column) of every slice.
    """

    name = "made_up"

    def __init__(self, slices, spacing_mm=(0.75, 0.75)):
        self._records = []
        for number, (pixels, masks) in enumerate(slices):
            record = records.example(f"s{number}", f"p{number}", pixels, spacing_mm, **masks)
            self._records.append({name: _stored(value) for name, value in record.items()})
        features = records.features(tuple(slices[0][1]))
        self.info = types.SimpleNamespace(features=features, splits=SPLITS, metadata=None)

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
