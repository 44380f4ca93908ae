"""The lungs: their tissue, fissures, vessels and the airways within them."""

import functools

import numpy as np

from .canvas import Canvas, rod
from .mediastinum import hila
from .person import Person

BLOOD_MAX = 180.0  # HU of a lung vessel; thin ones lose the rest to their surroundings


def tissue_of(p: Person, canvas: Canvas, outside: np.ndarray) -> np.ndarray:
    """HU [H, W] of aerated lung: denser where it lies, mottled, with fissures and vessels."""
    rng = p.rng("tissue")
    level, slope, resting = rng.normal(-868, 34), rng.uniform(10, 60), rng.uniform(0, 160)
    below = np.broadcast_to(canvas.down[:, None] / p.depth, outside.shape)
    tissue = np.clip(level, -925, -750) + slope * below
    tissue = tissue + 9 * p.field("mottling", canvas, 30) + 10 * p.field("grain", canvas, 5)
    tissue += resting * np.clip(below, 0, 1) ** 2 * np.exp(np.minimum(outside, 0) / 7)
    _fissures(p, canvas, tissue)
    _vessels(p, canvas, tissue, outside)
    return tissue


def _fissures(p: Person, canvas: Canvas, tissue: np.ndarray) -> None:
    """The slanting plane of each lung as a thin line."""
    rng = p.rng("fissures")
    for side in (-1, 1):
        slope, at, lean = rng.uniform(0.6, 1.1), rng.uniform(0.42, 0.58), rng.uniform(-0.4, 0.4)
        bow, hu = rng.uniform(-0.006, 0.006), rng.uniform(0, 130)
        x = canvas.x - side * p.width * 0.5
        line = canvas.y - slope * (canvas.z + at * p.height) - lean * x - bow * x**2
        fissure = hu * np.clip(1 - (np.abs(line) - 0.3) / 1.2, 0, 1)
        tissue += np.where(canvas.x * side > 0, fissure, 0)


@functools.lru_cache(maxsize=4)
def vessel_tree(p: Person) -> np.ndarray:
    """Vessels as rods [N, 8]: start (x, y, z), end, two radii; first the trees, then small ones."""
    rng = p.rng("vessels")
    parts = []
    for at, side in zip(hila(p), (-1, 1), strict=True):
        low, wide = at + (5 * side, 12, -38), rng.uniform(5.5, 8)  # the artery of the lower lobe
        parts.append(np.array([[*(at + (0, 2, 0)), *low, wide, 0.65 * wide]]))
        start = at + rng.normal(0, 6, (12, 3)) * (0.6, 1, 1.5)
        heading = rng.normal(0, 1, (12, 3)) + (1.1 * side, 0, 0)
        radius = rng.uniform(2.8, 5.4, 12)
        for generation in range(8):
            heading /= np.linalg.norm(heading, axis=1, keepdims=True)
            length = rng.uniform(9, 21, (len(start), 1)) * (1 if generation else 1.3)
            end = start + length * heading
            parts.append(np.column_stack((start, end, radius, radius * 0.86)))
            twice = np.repeat(np.arange(len(start)), 2)
            stays = (rng.random(len(twice)) < 0.82) & (radius[twice] > 0.55)
            shrink = rng.uniform(0.58, 0.9, len(twice))
            start, radius = end[twice][stays], (radius[twice] * shrink)[stays]
            heading = (heading[twice] + rng.normal(0, 0.38, (len(twice), 3)))[stays]
            if len(start) > 700:
                start, radius, heading = start[:700], radius[:700], heading[:700]
        count = int(5000 * rng.uniform(0.8, 1.3))
        corner = (min(side * 15, side * p.width), -p.depth, -p.height)
        other = (max(side * 15, side * p.width), p.depth, 0)
        start = rng.uniform(corner, other, (count, 3))
        away = start - at
        far = np.linalg.norm(away, axis=1, keepdims=True)
        run = away / (far + 1e-9) + rng.normal(0, 0.4, (count, 3))
        near = np.exp(-far[:, 0] / 38)
        radius = 0.3 + rng.gamma(2.0, 0.25, count) + 2.2 * near * rng.random(count)
        end = start + run * rng.uniform(8, 22, (count, 1))
        parts.append(np.column_stack((start, end, radius, radius * 0.7)))
    return np.concatenate(parts)


def _vessels(p: Person, canvas: Canvas, tissue: np.ndarray, outside: np.ndarray) -> None:
    tree = vessel_tree(p)
    widest = tree[:, 6]
    low, high = np.minimum(tree[:, 2], tree[:, 5]), np.maximum(tree[:, 2], tree[:, 5])
    met = tree[(low - widest < canvas.z) & (canvas.z < high + widest)]
    share = (canvas.z - met[:, 2]) / np.where(
        np.abs(met[:, 5] - met[:, 2]) < 1e-6, 1, met[:, 5] - met[:, 2]
    )
    at = met[:, :3] + np.clip(share, 0, 1)[:, None] * (met[:, 3:6] - met[:, :3])
    layer = canvas.over(tissue)
    blood = min(p.blood, BLOOD_MAX)
    airways = p.rng("airways in the lung").random(len(tree))
    chance = airways[: len(met)]
    for vessel, (x, y, _), lucky in zip(met, at, chance, strict=True):
        rows, columns = canvas.slices(x, y, 0.75 * canvas.pixel_mm)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        if outside[rows.start, columns.start] > 3:
            continue
        r0, steep = vessel[6], abs(vessel[5] - vessel[2]) / np.linalg.norm(vessel[3:6] - vessel[:3])
        reach = min(26.0, (r0 + 1) / max(steep, 0.1)) + 2 * canvas.pixel_mm
        part = layer.window(x, y, reach)
        shown = min(
            1.0, 0.22 + 0.45 * r0
        )  # one thinner than a pixel or the slice is only partly seen
        cover = shown * part.cover(rod(part, vessel[:3], vessel[3:6], r0, vessel[7]))
        np.maximum(part.hu, part.hu + cover * (blood - part.hu), out=part.hu)
        if r0 > 1.9 and lucky < 0.35:
            beside = vessel[:6] + np.tile((1.7 * r0, 0.9 * r0, 0), 2)
            part = layer.window(x + 1.7 * r0, y + 0.9 * r0, reach + 2)
            tube = rod(part, beside[:3], beside[3:6], 0.8 * r0, 0.65 * r0)
            part.paint(tube - 1.0, np.maximum(part.hu, -250.0))
            part.paint(tube, -960.0)
