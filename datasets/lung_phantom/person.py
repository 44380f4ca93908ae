"""A person: what is drawn once from a seed, so that all slices of one person agree.

Heights `z` are mm above the top of the lungs; the lungs end at `-height`. The measures are
plausible, not those of any person.
"""

import dataclasses
import functools
import zlib
from collections.abc import Mapping

import numpy as np

from prnet_jax.errors import InputError

from .canvas import Canvas, smooth_field

# What a person or a scan may have, and the share of persons that has it.
FEATURES = {
    "arms_down": 0.25,
    "breasts": 0.4,
    "implants": 0.04,
    "contrast": 0.45,
    "emphysema": 0.2,
    "fibrosis": 0.08,
    "consolidation": 0.1,
    "effusion": 0.1,
    "one_lung": 0.03,
    "nodules": 0.6,
    "mass": 0.07,
    "stomach_gas": 0.8,
    "bowel_gas": 0.85,
    "gullet_air": 0.4,
    "metal": 0.05,
    "table": 0.95,
    "blanket": 0.6,
    "clothes": 0.35,
    "cushion": 0.3,
    "electrodes": 0.15,
    "prone": 0.05,
    "on_side": 0.01,
    "thick": 0.12,
    "rotated_picture": 0.06,
    "scaled_hu": 0.6,
    "padding": 0.7,
}


@dataclasses.dataclass(frozen=True)
class Person:
    """The measures that more than one organ needs, in mm and HU."""

    seed: tuple[int, int]
    features: frozenset[str]
    height: float  # of the lungs, apex to the deepest recess
    width: float  # half width of the rib cage at its widest
    depth: float  # half depth of the rib cage
    fat: float  # thickness of the subcutaneous fat
    belly: float  # depth of the belly's front over that of the chest
    blood: float  # HU of blood, raised by contrast medium
    shift: float  # of the mediastinum to the left
    turn: float  # of the person in the scanner, rad
    lost: int  # side of a missing lung: -1 right, 1 left, 0 none

    @classmethod
    def draw(cls, seed: int, number: int, features: Mapping[str, bool] | None = None) -> "Person":
        """Person `number` of a seed; `features` forces some of FEATURES on or off.

        Raises:
            InputError: a feature that does not exist.
        """
        forced = dict(features or {})
        if unknown := sorted(set(forced) - set(FEATURES)):
            raise InputError(
                f"no feature of the phantom is called {', '.join(unknown)}; "
                f"it has {', '.join(FEATURES)}"
            )
        rng = np.random.default_rng((seed, number, 1))
        chance = dict(zip(FEATURES, rng.random(len(FEATURES)), strict=True))
        has = {k for k in FEATURES if forced.get(k, chance[k] < FEATURES[k])}
        stature = rng.normal(1, 0.06)
        width = stature * rng.normal(132, 8)
        depth = width * rng.uniform(0.66, 0.88)
        tilt = rng.normal(0, 0.06)
        quarter = rng.choice((-1, 1)) * np.pi / 2
        turn = np.pi if "prone" in has else quarter if "on_side" in has else 0.0
        side = int(rng.choice((-1, 1)))
        shift = rng.normal(0, 4)
        high, low = rng.uniform(110, 330), rng.uniform(32, 52)
        return cls(
            seed=(seed, number),
            features=frozenset(has),
            height=float(np.clip(stature * rng.normal(262, 28), 180, 340)),
            width=width,
            depth=depth,
            fat=3 + rng.gamma(2.0, 6.0),
            belly=rng.uniform(0.85, 1.3),
            blood=high if "contrast" in has else low,
            shift=shift + (side * rng.uniform(8, 30) if "one_lung" in has else 0.0),
            turn=tilt + turn,
            lost=side if "one_lung" in has else 0,
        )

    def rng(self, part: str) -> np.random.Generator:
        """The generator of a part; the same for every slice, so what it draws is in space."""
        return np.random.default_rng((*self.seed, _number(part)))

    def field(self, part: str, canvas: Canvas, cell_mm: float) -> np.ndarray:
        """The smooth random field of a part, cut by a slice (`smooth_field`)."""
        return smooth_field((*self.seed, _number(part)), canvas, cell_mm)

    def has(self, feature: str) -> bool:
        return feature in self.features

    def level(self, z: float) -> float:
        """0 at the top of the lungs, 1 at their base."""
        return -z / self.height

    @functools.cached_property
    def carina(self) -> float:
        """Height at which the windpipe forks."""
        return -self.height * self.rng("carina").uniform(0.25, 0.34)

    def spine(self, z: float) -> tuple[float, float]:
        """Centre (x, y) of the vertebral body at a height."""
        rng = self.rng("spine's course")
        bend, sway = rng.uniform(0.46, 0.54), rng.normal(0, 3) * np.sin(z / 110 + rng.uniform(0, 6))
        low = -self.height
        heights = (low - 330, low - 230, low - 130, low, low / 2, -50, 0, 60, 110, 200)
        backs = (0.75, 0.5, 0.25, 0.4, bend, bend - 0.05, 0.36, 0.14, 0.1, 0.12)
        return sway, self.depth * float(np.interp(z, heights, backs))


@functools.lru_cache(maxsize=256)
def _number(part: str) -> int:
    return zlib.crc32(part.encode())
