"""What disease changes: emphysema, fibrosis, consolidation, fluid, nodules and masses."""

import numpy as np

from .body import cavity
from .canvas import BACK, BEARING, Canvas, Ring, bump, ellipsoid, ramp
from .person import Person


def draw_fluid(p: Person, canvas: Canvas, wall: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """An effusion where the person lies, and the collapsed lung on it; neither counts as lung.

    Returns `outside`, the distance to the lungs, without them.
    """
    if not p.has("effusion"):
        return outside
    rng = p.rng("effusion")
    both = rng.random() < 0.35
    first = int(rng.choice((-1, 1)))
    for side in (first, -first) if both else (first,):
        depth, spread, reach = rng.uniform(8, 55), rng.uniform(0.4, 0.8), rng.uniform(0.35, 1.0)
        share = 1 - ramp(canvas.z, -p.height * (1 - reach), -p.height * (0.55 - reach / 2))
        thick = depth * share * bump(BACK - p.turn - side * 0.65, spread)
        fluid = -wall - canvas.polar(thick * (1 + 0.1 * Ring(rng, 5).at(canvas.z)))
        collapsed, hu = rng.uniform(0, 0.25) * depth * share, rng.uniform(0, 25)
        if thick.max() < 1.5:
            continue
        fluid = np.maximum(fluid, 4 - canvas.x * side)
        canvas.paint(np.maximum(fluid - collapsed, wall), 55.0)
        canvas.paint(np.maximum(fluid, wall), hu)
        outside = np.maximum(outside, collapsed - fluid)
    return outside


def change_tissue(p: Person, canvas: Canvas, tissue: np.ndarray, outside: np.ndarray) -> None:
    """Diffuse disease of the lung tissue [H, W], in place."""
    level = min(max(p.level(canvas.z), 0.0), 1.0)
    if p.has("emphysema"):
        rng = p.rng("emphysema")
        bad, upper = rng.uniform(0.3, 1.3), rng.uniform(0, 1)
        bad *= 1 - upper * level
        tissue -= 70 * bad * np.clip(p.field("holes", canvas, 9) - 0.4, 0, 1.6)
        for _ in range(rng.integers(0, 7)):
            _bulla(p, canvas, tissue, rng)
    if p.has("fibrosis"):
        rng = p.rng("fibrosis")
        bad, deep, top = rng.uniform(0.4, 1.2), rng.uniform(6, 22), rng.uniform(0, 0.6)
        rim = np.exp(np.minimum(outside, 0) / deep) * (top + (1 - top) * level) * bad
        net = np.abs(p.field("net", canvas, 4)) + 0.4 * p.field("net's share", canvas, 20)
        tissue += 420 * rim * np.clip(net - 0.2, 0, 1.6)
        tissue -= 260 * rim * (p.field("honeycomb", canvas, 4.5) > 1.1)
    if p.has("consolidation"):
        rng = p.rng("consolidation")
        limit, hu = rng.uniform(0.5, 1.5), rng.choice((-620, -450, -150, 20)) + rng.normal(0, 40)
        edge, rests = rng.uniform(1.5, 6), rng.uniform(0, 0.8)
        size = rng.uniform(30, 70)
        where = p.field("consolidation", canvas, size) + rests * canvas.down[:, None] / p.depth
        share = np.clip(0.5 + edge * (where - limit), 0, 1) * (
            0.8 + 0.1 * p.field("crumbs", canvas, 5)
        )
        tissue += np.clip(share, 0, 1) * np.maximum(hu - tissue, 0)


def _bulla(p: Person, canvas: Canvas, tissue: np.ndarray, rng: np.random.Generator) -> None:
    side, away = rng.choice((-1, 1)), rng.uniform(0.5, 0.95)
    at = (
        side * away * p.width * 0.8,
        rng.uniform(-0.6, 0.6) * p.depth,
        -rng.uniform(0.02, 0.7) * p.height,
    )
    bubble = ellipsoid(canvas, at, rng.uniform(7, 30, 3))
    layer = canvas.over(tissue)
    layer.paint(bubble - 1.0 if np.ndim(bubble) else bubble, np.maximum(tissue, -780.0))
    layer.paint(bubble, -975.0)


def draw_nodules(p: Person, canvas: Canvas, tissue: np.ndarray) -> np.ndarray:
    """Nodules of 4 to 25 mm, and a mass; solid, part solid or ground glass. Returns their mask."""
    mask = np.zeros(tissue.shape, bool)
    layer = canvas.over(tissue)
    for at, radius, axes, kind, hu, core in _nodules(p):
        blob = ellipsoid(canvas, at, axes)
        if not np.ndim(blob):
            continue
        where = canvas.slices(*at[:2], 1.7 * radius + 3)
        part = layer.window(*at[:2], 1.7 * radius + 3)
        blob = (
            blob[where]
            + 0.16 * radius * p.field(f"lumps {at[0]:.1f}", canvas, max(4, 0.7 * radius))[where]
        )
        part.paint(blob, np.maximum(hu, part.hu))
        if kind == 1:
            part.paint(blob + radius * core, 30.0)
        mask[where] |= blob < 0
    return mask


def _nodules(p: Person) -> list[tuple]:
    """All nodules in space: (centre, radius, half axes, kind, HU, core)."""
    rng = p.rng("nodules")
    count = rng.integers(10, 60) if p.has("nodules") else 0
    found = []
    for _ in range(count):
        found.append(_nodule(p, rng, 2 + 10.5 * rng.beta(1.0, 2.6)))
    if p.has("mass"):
        found.append(_nodule(p, p.rng("mass"), p.rng("mass's size").uniform(14, 38)))
    return found


def _nodule(p: Person, rng: np.random.Generator, radius: float) -> tuple:
    z = -rng.uniform(0.06, 0.95) * p.height
    angle, share = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0.05, 1.0))
    edge = np.interp(angle, BEARING, cavity(p, z), period=2 * np.pi)
    away = share * edge - (1 - rng.uniform(0.0, 1.6)) * radius * (rng.random() < 0.5)
    kind = 0 if radius > 13 else int(rng.choice(3, p=(0.6, 0.2, 0.2)))
    hu = rng.uniform(10, 70) if kind == 0 else rng.uniform(-680, -480)
    axes = radius * rng.uniform(0.8, 1.25, 3)
    at = (away * np.cos(angle), away * np.sin(angle), z)
    return at, radius, axes, kind, hu, rng.uniform(0.4, 0.65)
