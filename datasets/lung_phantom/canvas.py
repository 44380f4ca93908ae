"""Drawing with signed distances: shapes in mm, soft edges one pixel wide, smooth random fields.

Everything is float64 NumPy: what differs between machines (the last bit of a sine) then disappears
when HU are rounded to whole numbers.
"""

import functools
from collections.abc import Sequence

import numpy as np

BEARINGS = 4096  # entries of a table over the direction from the chest's centre
BEARING = np.arange(BEARINGS) * (2 * np.pi / BEARINGS)  # 0 to the right, pi/2 down


class Canvas:
    """A square picture in HU with coordinates in mm around the chest's centre.

    `x` [1, W] grows to the right and `y` [H, 1] downwards (the patient's left and back).
    `distance` arguments are in mm, negative inside a shape, and broadcast against [H, W].
    """

    def __init__(self, size: int, fov_mm: float, centre_mm: Sequence[float]):
        self.pixel_mm = fov_mm / size
        axis = (np.arange(size) + 0.5) * self.pixel_mm - fov_mm / 2
        self.x = axis[None, :] - centre_mm[0]
        self.y = axis[:, None] - centre_mm[1]
        self.hu = np.full((size, size), -1000.0)
        self.radius = np.hypot(self.x, self.y)
        turn = np.arctan2(self.y, self.x) / (2 * np.pi) % 1.0
        self._bearing = (turn * BEARINGS).astype(np.intp) % BEARINGS

    def polar(self, table: np.ndarray) -> np.ndarray:
        """A table over BEARING [BEARINGS] looked up at every pixel [H, W]."""
        return table[self._bearing]

    def cover(self, distance: np.ndarray) -> np.ndarray:
        """The share of each pixel that a shape covers, 0 to 1."""
        return np.clip(0.5 - distance / self.pixel_mm, 0.0, 1.0)

    def paint(self, distance: np.ndarray, hu: np.ndarray | float, opacity: float = 1.0) -> None:
        """Lay a shape of `hu` over what is there."""
        self.hu += opacity * self.cover(distance) * (hu - self.hu)

    def window(self, x: float, y: float, reach: float) -> "Canvas":
        """The part within `reach` mm of a point, sharing pixels with this canvas; may be empty."""
        part = object.__new__(Canvas)
        rows, columns = self.slices(x, y, reach)
        part.pixel_mm = self.pixel_mm
        part.x, part.y = self.x[:, columns], self.y[rows]
        part.hu = self.hu[rows, columns]
        return part

    def slices(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Rows and columns of `window`."""
        limits = []
        for axis, at in ((self.y[:, 0], y), (self.x[0], x)):
            first, last = np.searchsorted(axis, (at - reach, at + reach))
            limits.append(slice(int(first), int(last)))
        return limits[0], limits[1]


def ellipse(canvas: Canvas, x: float, y: float, a: float, b: float, turn: float = 0.0):
    """Distance to an ellipse at (x, y) with half axes a, b (mm), turned by `turn` (rad)."""
    dx, dy = canvas.x - x, canvas.y - y
    u = (dx * np.cos(turn) + dy * np.sin(turn)) / a
    v = (dy * np.cos(turn) - dx * np.sin(turn)) / b
    level = np.sqrt(u * u + v * v) + 1e-9
    slope = np.sqrt((u / a) ** 2 + (v / b) ** 2) + 1e-9
    return (level - 1) * level / slope


def capsule(canvas: Canvas, start: Sequence[float], end: Sequence[float], r0: float, r1: float):
    """Distance to a tapering rod from `start` (radius r0) to `end` (radius r1), all in mm."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    px, py = canvas.x - start[0], canvas.y - start[1]
    along = np.clip((px * dx + py * dy) / (dx * dx + dy * dy + 1e-9), 0.0, 1.0)
    qx, qy = px - along * dx, py - along * dy
    return np.sqrt(qx * qx + qy * qy) - (r0 + along * (r1 - r0))


def union(first: np.ndarray, second: np.ndarray, blend_mm: float) -> np.ndarray:
    """Distance to both shapes together, the corner between them rounded over `blend_mm`."""
    share = np.clip(0.5 + 0.5 * (second - first) / blend_mm, 0.0, 1.0)
    return second + (first - second) * share - blend_mm * share * (1 - share)


def smooth_field(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """A random field [size, size] of mean 0 and variance 1, smooth, `cells` blobs across."""
    knots, weights = _spline(size, cells)
    field = rng.standard_normal((cells + 3, cells + 3))
    for _ in range(2):  # down the rows, then across the columns
        field = sum(w[:, None] * field[knots + k] for k, w in enumerate(weights)).T
    return field


@functools.lru_cache(maxsize=64)
def _spline(size: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """First knot [size] and the four weights [4, size] of a cubic B-spline of unit variance."""
    at = (np.arange(size) + 0.5) / size * cells
    knots = at.astype(np.intp)
    t = at - knots
    weights = np.stack(
        ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    )
    return knots, weights / np.sqrt((weights**2).sum(axis=0))


def smooth_ring(rng: np.random.Generator, waves: int) -> np.ndarray:
    """A random periodic table over BEARING of about mean 0 and variance 1, low waves strongest."""
    k = np.arange(1, waves + 1)
    weight = 1.0 / k
    phase = rng.uniform(0, 2 * np.pi, waves)
    ring = (weight[:, None] * np.cos(k[:, None] * BEARING + phase[:, None])).sum(axis=0)
    return ring / np.sqrt((weight**2).sum() / 2)


def bump(at: float, width: float) -> np.ndarray:
    """A Gaussian of height 1 over BEARING, centred on `at` with `width` (rad)."""
    away = (BEARING - at + np.pi) % (2 * np.pi) - np.pi
    return np.exp(-0.5 * (away / width) ** 2)
