"""The diaphragm's two domes, and the lungs' narrow tops: where the cavity of the chest ends."""

import functools

import numpy as np
from scipy import ndimage

from .body import cavity
from .canvas import BEARING, FAR, Canvas, bearing_index, ellipse, union
from .person import Person


@functools.lru_cache(maxsize=16)
def dome_at(p: Person, side: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Centre (x, y), height of the top, and over BEARING the depth of the recess below."""
    rng = p.rng("domes")
    rise = rng.uniform(0.22, 0.38) * p.height
    lower, raised = rng.uniform(-4, 22), rng.uniform(0, 50) * (rng.random() < 0.08)
    front, back = rng.uniform(-0.15, 0.05), rng.uniform(0.18, 0.32)
    top = -p.height + rise - (lower if side > 0 else -raised)
    lateral = np.clip(side * np.cos(BEARING), -1, 1)
    recess = 0.72 + back * np.sin(BEARING) + 0.22 * lateral
    recess = np.clip(recess / recess.max(), 0.3, 1) * (top + p.height)
    return np.array((side * 0.52 * p.width, front * p.depth)), top, recess


def dome(p: Person, canvas: Canvas, side: int):
    """Distance [H, W] to what lies under one dome (-1 right, 1 left), or FAR above it."""
    centre, top, recess = dome_at(p, side)
    if canvas.z >= top:
        return FAR
    sunk = np.clip((top - canvas.z) / recess, 0, 1)
    radius = _to_wall(p, canvas.z, centre) * sunk**0.65
    radius = np.where(sunk >= 1, radius * 1.3 + 20, radius)
    radius = ndimage.gaussian_filter1d(radius, len(BEARING) / 40, mode="wrap")
    dx, dy = canvas.x - centre[0], canvas.y - centre[1]
    return np.hypot(dx, dy) - radius[bearing_index(dx, dy)] + 1.5 * p.field("dome", canvas, 40)


def _to_wall(p: Person, z: float, centre: np.ndarray) -> np.ndarray:
    """How far the wall, or the middle of the chest, is from a dome's centre, over BEARING."""
    cage = cavity(p, z)
    points = np.stack((np.cos(BEARING), np.sin(BEARING))) * cage - centre[:, None]
    angle = np.arctan2(points[1], points[0]) % (2 * np.pi)
    order = np.argsort(angle)
    reach = np.hypot(*points)[order]
    radius = np.interp(BEARING, angle[order], reach, period=2 * np.pi)
    inwards = -np.sign(centre[0]) * np.cos(BEARING)
    return np.minimum(radius, (abs(centre[0]) + 22) / np.maximum(inwards, 1e-3))


def tops(p: Person, canvas: Canvas):
    """Distance to the two ovals that the lungs' tops fill, or None below them."""
    length = 0.3 * p.height
    depth = -canvas.z / length
    if depth >= 1:
        return None
    if depth <= 0:
        return FAR
    grown = depth**0.7
    y = float(np.interp(depth, (0, 1), (p.spine(0)[1] - 14, 0)))
    x = float(np.interp(depth, (0, 1), (36, 0.5 * p.width)))
    a, b = grown * 0.62 * p.width, grown * 1.15 * p.depth
    return union(ellipse(canvas, -x, y, a, b), ellipse(canvas, x, y, a, b), 1e-3)
