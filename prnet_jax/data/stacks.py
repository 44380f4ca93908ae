"""How the slices of volumes lie: facts of each scan, kept beside the records.

They are metadata of the TFDS records (`metadata.json`). Records without them, of earlier versions,
are read like any other; their volumes have no distances in 3-D.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow_datasets as tfds

from prnet_jax.data.scan import SPACING_MM, TILTED_DEGREES, Scan, tilt_degrees
from prnet_jax.metrics.volumes import UNKNOWN, Stack

_KEY = "volumes"
_OLD_RECORDS = (
    "the records are of an earlier version, which did not keep how far apart slices lie; remove "
    "them to have them made again"
)


@dataclasses.dataclass(frozen=True)
class Placed:
    """Where the slices of a volume are.

    Attributes:
        slices: how many it has, also those that are left out of the records.
        affine: as of `Scan`, [4, 4]; None where the file does not state its place.
        evenly_spaced: as of `Scan`.
    """

    slices: int
    affine: list[list[float]] | None
    evenly_spaced: bool

    @classmethod
    def of(cls, scan: Scan) -> "Placed":
        """Of a volume."""
        affine = None if scan.affine is None else scan.affine.tolist()
        return cls(scan.pixels.shape[2], affine, scan.evenly_spaced)

    def stack(self) -> Stack:
        """How far apart the slices lie.

        Three spacings describe a volume whose slices are equally far apart and right above one
        another. Others have none here, since distances measured with it would be wrong.
        """
        if self.affine is None:
            return Stack(self.slices, None, "the file does not state how far apart slices lie")
        if not self.evenly_spaced:
            return Stack(self.slices, None, "slices lie at unequal distances")
        affine = np.array(self.affine)
        if tilt_degrees(affine) > TILTED_DEGREES:
            return Stack(self.slices, None, "slices are shifted sideways (a tilted gantry)")
        spacing = float(np.linalg.norm(affine[:3, 2]))
        if not SPACING_MM[0] <= spacing <= SPACING_MM[1]:
            return Stack(self.slices, None, "the file states an impossible distance of slices")
        return Stack(self.slices, spacing)


def keep(info: tfds.core.DatasetInfo, volumes: Mapping[str, Placed]) -> None:
    """Has records keep where slices are, by the name of the volume; before they are written.

    Args:
        info: of the builder.
        volumes: all of them.
    """
    info.metadata[_KEY] = {name: dataclasses.asdict(placed) for name, placed in volumes.items()}


class KeptVolumes:
    """What records keep of where the slices of their volumes are.

    Args:
        info: of a builder whose records exist.
    """

    def __init__(self, info: tfds.core.DatasetInfo):
        kept = (info.metadata or {}).get(_KEY)
        self._are_old = kept is None
        self._placed = {name: Placed(**facts) for name, facts in (kept or {}).items()}

    def placed(self, volume: str) -> Placed | None:
        """Where its slices are; None where that was not kept."""
        return self._placed.get(volume)

    def stack(self, volume: str) -> Stack:
        """How its slices lie on one another, as far as the records say."""
        if self._are_old:
            return Stack(0, None, _OLD_RECORDS)
        placed = self.placed(volume)
        return UNKNOWN if placed is None else placed.stack()
