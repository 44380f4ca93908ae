"""Drawing with signed distances: shapes in mm, soft edges one pixel wide, smooth random fields.

A `Canvas` is one axial slice. Everything is float64 NumPy: what differs between machines (the last
bit of a sine) then disappears when HU are rounded to whole numbers.
"""

from collections.abc import Sequence

import numpy as np

BEARINGS = 2048  # entries of a table over the direction from the chest's centre
BEARING = np.arange(BEARINGS) * (2 * np.pi / BEARINGS)  # 0 to the left, pi/2 to the back
FRONT, BACK = 1.5 * np.pi, 0.5 * np.pi
FAR = 99.0  # the distance to a shape that this slice does not meet, mm
FIELD_MM = 300.0  # from the middle to the end of a random field; beyond it does not change
CLOSE = 40.0  # mm around a shape within which its distance is worked out


class Canvas:
    """A square picture in HU whose pixels know where they lie in the person.

    `x` and `y` [H, W] are mm to the person's left and to the back of the chest's centre, `z` is the
    slice's height in mm above the top of the lungs. `across` [W] and `down` [H] are mm in the
    picture from the same centre; the person may be turned in it. Distances are negative inside.
    """

    def __init__(
        self, size: int, fov_mm: float, centre_mm: Sequence[float], z: float, turn: float = 0.0
    ):
        self.pixel_mm, self.z, self.whole = fov_mm / size, z, True
        axis = (np.arange(size) + 0.5) * self.pixel_mm - fov_mm / 2
        self.across, self.down = axis - centre_mm[0], axis - centre_mm[1]
        self._cos, self._sin = float(np.cos(turn)), float(np.sin(turn))
        self.x = self._cos * self.across + self._sin * self.down[:, None]
        self.y = self._cos * self.down[:, None] - self._sin * self.across
        self.hu = np.full((size, size), -1000.0)
        self.radius = np.hypot(self.x, self.y)
        self._bearing = bearing_index(self.x, self.y)

    def polar(self, table: np.ndarray) -> np.ndarray:
        """A table over BEARING [BEARINGS] looked up at every pixel [H, W]."""
        return table[self._bearing]

    def within(self, table: np.ndarray) -> np.ndarray:
        """The distance [H, W] to the shape whose radius over BEARING is `table`."""
        return self.radius - self.polar(table)

    def cover(self, distance: np.ndarray) -> np.ndarray:
        """The share of each pixel that a shape covers, 0 to 1."""
        share = distance * (-1 / self.pixel_mm)
        share += 0.5
        return np.clip(share, 0.0, 1.0, out=share)

    def paint(self, distance: np.ndarray, hu: np.ndarray | float, opacity: float = 1.0) -> None:
        """Lay a shape of `hu` over what is there."""
        if np.ndim(distance):
            share = self.cover(distance)
            if opacity != 1:
                share *= opacity
            share *= hu - self.hu
            self.hu += share

    def slices(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Rows and columns within `reach` mm of a point of the person; may be empty."""
        limits = []
        down, across = self._sin * x + self._cos * y, self._cos * x - self._sin * y
        for axis, at in ((self.down, down), (self.across, across)):
            first, last = np.searchsorted(axis, (at - reach, at + reach))
            limits.append(slice(int(first), int(last)))
        return limits[0], limits[1]

    def window(self, x: float, y: float, reach: float) -> "Canvas":
        """The part within `reach` mm of a point, sharing pixels with this canvas; may be empty."""
        part = object.__new__(Canvas)
        where = self.slices(x, y, reach)
        part.pixel_mm, part.z, part.whole = self.pixel_mm, self.z, False
        part._cos, part._sin = self._cos, self._sin
        part.across, part.down = self.across[where[1]], self.down[where[0]]
        part.x, part.y, part.hu = self.x[where], self.y[where], self.hu[where]
        return part

    def over(self, hu: np.ndarray) -> "Canvas":
        """The same coordinates over another array of HU."""
        layer = object.__new__(Canvas)
        layer.__dict__.update(self.__dict__, hu=hu)
        return layer


def bearing_index(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where in a table over BEARING each direction stands."""
    return ((np.arctan2(y, x) / (2 * np.pi) % 1.0) * BEARINGS).astype(np.intp) % BEARINGS


def ellipse(canvas: Canvas, x: float, y: float, a: float, b: float, turn: float = 0.0):
    """Distance to an ellipse at (x, y) with half axes a, b (mm), turned by `turn` (rad)."""

    def distance(part: Canvas) -> np.ndarray:
        dx, dy = part.x - x, part.y - y
        cos, sin = np.cos(turn), np.sin(turn)
        u, v = (dx * cos + dy * sin) / a, (dy * cos - dx * sin) / b
        level = np.sqrt(u * u + v * v) + 1e-9
        slope = np.sqrt((u / a) ** 2 + (v / b) ** 2) + 1e-9
        return (level - 1) * level / slope

    return _near(canvas, x, y, max(a, b), distance)


def _near(canvas: Canvas, x: float, y: float, reach: float, distance) -> np.ndarray:
    """`distance` of the part of a whole slice that is close, and FAR elsewhere: it is quicker."""
    if not canvas.whole:
        return distance(canvas)
    found = np.full(canvas.x.shape, FAR)
    where = canvas.slices(x, y, reach + CLOSE)
    found[where] = distance(canvas.window(x, y, reach + CLOSE))
    return found


def ellipsoid(canvas: Canvas, at: Sequence[float], axes: Sequence[float], turn: float = 0.0):
    """Distance in this slice to an ellipsoid at (x, y, z) with half axes (a, b, c), or FAR."""
    share = 1 - ((canvas.z - at[2]) / axes[2]) ** 2
    if share <= 1e-3:
        return FAR
    return ellipse(canvas, *at[:2], axes[0] * np.sqrt(share), axes[1] * np.sqrt(share), turn)


def rod(canvas: Canvas, start: Sequence[float], end: Sequence[float], r0: float, r1: float):
    """Distance to a tapering rod in space from `start` (radius r0) to `end` (radius r1), in mm."""
    dx, dy, dz = (end[k] - start[k] for k in range(3))
    length = dx * dx + dy * dy + dz * dz + 1e-9

    def distance(part: Canvas) -> np.ndarray:
        px, py, pz = part.x - start[0], part.y - start[1], part.z - start[2]
        along = px * (dx / length)
        along += py * (dy / length) + pz * (dz / length)
        np.clip(along, 0.0, 1.0, out=along)
        away = (px - along * dx) ** 2 + (py - along * dy) ** 2 + (pz - along * dz) ** 2
        return np.sqrt(away) - (r0 + along * (r1 - r0))

    reach = np.hypot(dx, dy) / 2 + max(r0, r1)
    return _near(canvas, (start[0] + end[0]) / 2, (start[1] + end[1]) / 2, reach, distance)


def meets(canvas: Canvas, start: Sequence[float], end: Sequence[float], reach: float) -> bool:
    """Whether a rod of radius up to `reach` comes into this slice."""
    low, high = sorted((start[2], end[2]))
    return low - reach < canvas.z < high + reach


def union(first, second, blend_mm: float):
    """Distance to both shapes together, the corner between them rounded over `blend_mm`."""
    if not np.ndim(second) and second >= FAR:
        return first
    if not np.ndim(first) and first >= FAR:
        return second
    gap = first - second
    share = gap * (-0.5 / blend_mm)
    share += 0.5
    np.clip(share, 0.0, 1.0, out=share)
    gap += blend_mm * share - blend_mm
    gap *= share
    gap += second
    return gap


def common(first, second, blend_mm: float):
    """Distance to what both shapes share, its corners rounded."""
    return -union(-first, -second, blend_mm)


class Ring:
    """A random periodic table over BEARING of about mean 0 and variance 1 that drifts with z."""

    def __init__(self, rng: np.random.Generator, waves: int, drift_mm: float = 120.0):
        self._k = np.arange(1, waves + 1)
        self._phase = rng.uniform(0, 2 * np.pi, waves)
        self._rate = rng.normal(0, 1, waves) / drift_mm

    def at(self, z: float) -> np.ndarray:
        weight = 1.0 / self._k
        phase = self._phase + self._rate * z
        ring = (weight[:, None] * np.cos(self._k[:, None] * BEARING + phase[:, None])).sum(axis=0)
        return ring / np.sqrt((weight**2).sum() / 2)


def bump(at: float, width: float) -> np.ndarray:
    """A Gaussian of height 1 over BEARING, centred on `at` with `width` (rad)."""
    away = (BEARING - at + np.pi) % (2 * np.pi) - np.pi
    return np.exp(-0.5 * (away / width) ** 2)


def oval(half_width: float, half_depth: float, power: float) -> np.ndarray:
    """Radius of a superellipse over BEARING."""
    x, y = np.abs(np.cos(BEARING)) / half_width, np.abs(np.sin(BEARING)) / half_depth
    return (x**power + y**power) ** (-1 / power)


def ramp(value: float, start: float, end: float) -> float:
    """0 before `start`, 1 past `end`, smooth between."""
    share = min(max((value - start) / (end - start), 0.0), 1.0)
    return share * share * (3 - 2 * share)


def cubic_weights(t: np.ndarray) -> np.ndarray:
    """The four weights [4, ...] of a cubic B-spline at `t` between two knots, of unit variance."""
    t = np.asarray(t, float)
    w = np.stack(((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3))
    return w / np.sqrt((w**2).sum(axis=0))


def smooth_field(seed: Sequence[int], canvas: Canvas, cell_mm: float) -> np.ndarray:
    """A random field [H, W] over space, mean 0 and variance 1, smooth over about `cell_mm`.

    It is fixed to the scanner: another size, field of view or z cuts the same field.
    """
    half = int(FIELD_MM / cell_mm) + 2
    plane = canvas.z / cell_mm + 1000
    field = 0.0
    for k, weight in enumerate(cubic_weights(plane - int(plane))):
        knots = np.random.default_rng((*seed, int(plane) + k)).standard_normal((2 * half + 3,) * 2)
        knots *= weight
        field = field + knots
    for axis in (canvas.down, canvas.across):  # down the rows, then across the columns
        at = np.clip(axis / cell_mm, 1 - half, half - 1) + half
        first = at.astype(np.intp)
        field = _weighted(field, first, cubic_weights(at - first)).T
    return field


def _weighted(knots: np.ndarray, first: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rows [N, K] between the rows of `knots`: the sum of four from `first` [N] on."""
    total = knots[first]
    total *= weights[0][:, None]
    for k in range(1, 4):
        row = knots[first + k]
        row *= weights[k][:, None]
        total += row
    return total
