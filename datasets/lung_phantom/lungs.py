"""The lungs of the phantom: their outline, tissue, vessels, airways and nodules."""

import numpy as np
from scipy import ndimage

from .anatomy import Measures
from .canvas import BEARING, Canvas, capsule, ellipse, smooth_field, smooth_ring, union

SMALLEST_MM2 = 250.0  # a smaller island of lung is closed


def draw_lungs(
    rng: np.random.Generator,
    canvas: Canvas,
    m: Measures,
    cage: np.ndarray,
    mediastinum: np.ndarray,
    hila: list[tuple[float, float]],
) -> tuple[np.ndarray, np.ndarray]:
    """Fill the cavity around the mediastinum; returns the masks of lungs and nodules [H, W]."""
    outside = -union(-(canvas.radius - canvas.polar(cage)), mediastinum, 12.0)
    outside = _without_islands(outside, canvas.pixel_mm)
    lung = outside < 0
    vessel_rng, nodule_rng = rng.spawn(2)
    tissue = _tissue(rng, canvas, m, outside)
    _draw_vessels(vessel_rng, canvas, m, tissue, outside, hila)
    nodule = _draw_nodules(nodule_rng, canvas, tissue, outside)
    canvas.paint(outside, tissue)
    return lung, nodule & lung


def _without_islands(outside: np.ndarray, pixel_mm: float) -> np.ndarray:
    labels, count = ndimage.label(outside < 0)
    areas = np.bincount(labels.ravel(), minlength=count + 1) * pixel_mm**2
    small = areas < SMALLEST_MM2
    small[0] = False
    near = ndimage.maximum_filter(small[labels], 3)
    return np.where(near, np.maximum(outside, pixel_mm), outside)


def _tissue(rng, canvas: Canvas, m: Measures, outside: np.ndarray) -> np.ndarray:
    """HU of aerated lung: denser towards the back, mottled, a fissure in some."""
    size = len(outside)
    tissue = np.clip(rng.normal(-862, 32), -910, -790) + rng.uniform(15, 55) * canvas.y / m.depth
    tissue = tissue + 9 * smooth_field(rng, size, 12) + 11 * smooth_field(rng, size, 90)
    resting = rng.uniform(0, 160) * np.clip(canvas.y / m.depth, 0, 1) ** 2
    tissue += resting * np.exp(np.minimum(outside, 0) / 7)
    if rng.random() < 0.25:  # emphysema
        tissue -= 45 * np.clip(smooth_field(rng, size, 35) - 0.9, 0, 1.5)
    for side in (-1, 1):
        if rng.random() < 0.5:
            bow = rng.uniform(-0.006, 0.006)
            x = canvas.x - side * m.width * 0.5
            line = canvas.y - m.depth * rng.uniform(-0.3, 0.5) - rng.uniform(-0.5, 0.5) * x
            line = np.abs(line - bow * x**2) - 0.3
            fissure = rng.uniform(30, 130) * np.clip(1 - line / 1.2, 0, 1)
            tissue += np.where(canvas.x * side > 0, fissure, 0)
    return tissue


def _draw_vessels(rng, canvas: Canvas, m: Measures, tissue, outside, hila) -> None:
    """Branches that run in the slice from the hilum, and many that cross it; airways beside."""
    layer = _layer(canvas, tissue)
    blood = min(m.blood, 180.0)
    for side, hilum in zip((-1, 1), hila, strict=True):
        for _ in range(rng.integers(3, 7)):
            heading = rng.uniform(-1.5, 1.5) + (0 if side > 0 else np.pi)
            start = np.array(hilum) + rng.uniform(-7, 7, 2)
            _grow(rng, layer, start, heading, rng.uniform(1.8, 4.2), blood)
        rows, columns = np.nonzero((outside < -4) & (canvas.x * side > 0))
        if not len(rows):
            continue
        count = int(len(rows) * canvas.pixel_mm**2 / rng.uniform(80, 150))
        for pick in (rng.random(count) * len(rows)).astype(int):
            at = np.array((canvas.x[0, columns[pick]], canvas.y[rows[pick], 0]))
            away = at - hilum
            far = np.hypot(*away)
            near = np.exp(-far / 38)
            radius = 0.28 + rng.gamma(2.0, 0.22) + 2.4 * near * rng.random()
            run = rng.exponential(2.0) * away / (far + 1e-9)
            turn = rng.normal(0, 0.5)
            run = run[0] * np.cos(turn) - run[1] * np.sin(turn), run[0] * np.sin(turn) + run[1]
            _rod(layer, at, at + run, radius, radius * 0.6, blood)
            if near > 0.35 and rng.random() < 0.3:
                _airway(rng, layer, at + rng.normal(0, 1, 2) + 2.2 * radius, radius)


def _grow(rng, layer: Canvas, start, heading: float, radius: float, blood: float) -> None:
    """A branch and its twigs, thinner at every step, until it leaves the slice."""
    while radius > 0.45:
        step = rng.uniform(6, 12)
        end = start + step * np.array((np.cos(heading), np.sin(heading)))
        _rod(layer, start, end, radius, radius * 0.82, blood)
        if rng.random() < 0.35:
            fork = heading + rng.choice((-1, 1)) * rng.uniform(0.4, 0.9)
            _grow(rng, layer, end, fork, radius * 0.6, blood)
        if rng.random() < 0.22:
            return
        start, heading, radius = end, heading + rng.normal(0, 0.25), radius * 0.8


def _rod(layer: Canvas, start, end, r0: float, r1: float, blood: float) -> None:
    middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    reach = np.hypot(end[0] - start[0], end[1] - start[1]) / 2 + r0 + 2 * layer.pixel_mm
    part = layer.window(*middle, reach)
    # A vessel thinner than a pixel, or than the slice, is only partly seen.
    shown = min(1.0, 0.22 + 0.45 * r0)
    part.hu[...] = np.maximum(
        part.hu, part.hu + shown * part.cover(capsule(part, start, end, r0, r1)) * (blood - part.hu)
    )


def _airway(rng, layer: Canvas, at, radius: float) -> None:
    part = layer.window(*at, 3 * radius + 3)
    tube = ellipse(part, *at, radius * rng.uniform(0.8, 1.5), radius, rng.uniform(0, np.pi))
    part.paint(tube - 1.0, -250.0)
    part.paint(tube, -960.0)


def _draw_nodules(rng, canvas: Canvas, tissue, outside) -> np.ndarray:
    """None to three nodules of 4 to 25 mm; solid, part solid or ground glass, some at the wall."""
    mask = np.zeros(outside.shape, bool)
    layer = _layer(canvas, tissue)
    for _ in range(rng.choice(4, p=(0.35, 0.35, 0.2, 0.1))):
        radius = 2 + 10.5 * rng.beta(1.0, 2.6)
        depth = radius * rng.uniform(0.4, 0.9) if rng.random() < 0.3 else radius + 2
        kind = rng.choice(3, p=(0.6, 0.2, 0.2))
        hu = rng.uniform(10, 70) if kind == 0 else rng.uniform(-680, -480)
        core = rng.uniform(0.4, 0.65)
        ring = 1 + 0.13 * smooth_ring(rng, 6)
        place = rng.random()
        rows, columns = np.nonzero((outside < -depth) & (outside > -depth - 25))
        if not len(rows):
            continue
        pick = int(place * len(rows))
        at = canvas.x[0, columns[pick]], canvas.y[rows[pick], 0]
        part = layer.window(*at, 1.6 * radius + 2)
        dx, dy = part.x - at[0], part.y - at[1]
        turn = np.arctan2(dy, dx) / (2 * np.pi) % 1.0
        blob = np.hypot(dx, dy) - radius * ring[(turn * len(BEARING)).astype(int) % len(BEARING)]
        part.paint(blob, np.maximum(hu, part.hu))
        if kind == 1:
            part.paint(blob + radius * core, 30.0)
        mask[canvas.slices(*at, 1.6 * radius + 2)] |= blob < 0
    return mask


def _layer(canvas: Canvas, hu: np.ndarray) -> Canvas:
    """The same coordinates over another array of HU."""
    layer = canvas.window(0, 0, np.inf)
    layer.hu = hu
    return layer
