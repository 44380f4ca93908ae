"""A prediction as its preview and its page show it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from prnet_jax.data.scan import NOT_ORIENTED, Scan
from prnet_jax.predict.inputs import Input


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """What was predicted, the result and what the report says of it.

    Attributes:
        source: the input.
        scan: the same, as read.
        mask: bool, of the shape of `scan.pixels`.
        row: of the report.
        window: the network's, in the unit of the pixels.
        unit: "HU" or "grey", what the network was trained on.
    """

    source: Input
    scan: Scan
    mask: np.ndarray
    row: Mapping[str, Any]
    window: tuple[float, float]
    unit: str

    @property
    def size(self) -> str:
        """How much is marked: a volume, an area, or where the file states no spacing, pixels."""
        if (volume := self.row["volume_ml"]) is not None:
            return f"{volume:,.0f} ml" if volume >= 100 else f"{volume:.3g} ml"
        if (area := self.row["area_mm2"]) is not None:
            return f"{area / 100:,.1f} cm²" if area >= 1000 else f"{area:.3g} mm²"
        return f"{self.row['pixels_marked']:,} pixels"

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """(row, column); square pixels of 1 mm where the file states no spacing."""
        return self.scan.spacing_mm or (1.0, 1.0)

    @property
    def oriented(self) -> bool:
        """Whether the file says which side is the patient's right."""
        return self.scan.affine is not None and NOT_ORIENTED not in self.scan.notes

    def slice(self, z: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and mask [H, W]; a picture is slice 0."""
        return np.atleast_3d(self.scan.pixels)[..., z], np.atleast_3d(self.mask)[..., z]
