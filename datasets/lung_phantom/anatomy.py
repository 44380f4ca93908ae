"""The measures of a chest, and its wall: skin, fat, muscle and bones.

The picture is a radiologist's: the patient's right is on the left, the back is down. `level` runs
from 0 at the apex of the lungs to 1 at their base and decides which organs are met. Lengths are in
mm. The measures are plausible, not those of any person.
"""

import dataclasses

import numpy as np

from .canvas import BEARING, Canvas, bump, smooth_field, smooth_ring

FRONT, BACK = 1.5 * np.pi, 0.5 * np.pi
FAT, MUSCLE, MARROW, CORTEX = -105.0, 45.0, 230.0, 1100.0


@dataclasses.dataclass(frozen=True)
class Measures:
    """What is drawn once for a slice; every organ is placed by these."""

    level: float  # 0 apex to 1 base
    width: float  # half width of the rib cage at its widest
    depth: float  # half depth of the rib cage
    fat: float  # thickness of the subcutaneous fat
    breasts: float  # height of the breasts, 0 to 45
    blood: float  # HU of blood, raised by contrast medium
    spine: tuple[float, float]  # centre of the vertebral body

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Measures":
        width = rng.normal(131, 8)
        depth = width * rng.uniform(0.68, 0.86)
        contrast = rng.random() < 0.45
        return cls(
            level=0.1 + 0.85 * rng.beta(3.0, 2.2),
            width=width,
            depth=depth,
            fat=5 + rng.gamma(2.0, 5.0),
            breasts=rng.uniform(8, 42) if rng.random() < 0.4 else 0.0,
            blood=rng.uniform(110, 320) if contrast else rng.uniform(35, 50),
            spine=(rng.normal(0, 3), depth * rng.uniform(0.45, 0.55)),
        )


def ramp(value: float, start: float, end: float) -> float:
    """0 below `start`, 1 above `end`, smooth between."""
    share = min(max((value - start) / (end - start), 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _oval(half_width: float, half_depth: float, power: float) -> np.ndarray:
    """Radius of a superellipse over BEARING."""
    x, y = np.abs(np.cos(BEARING)) / half_width, np.abs(np.sin(BEARING)) / half_depth
    return (x**power + y**power) ** (-1 / power)


def rib_cage(rng: np.random.Generator, m: Measures) -> np.ndarray:
    """Radius of the pleural cavity over BEARING: narrow at the apex, pushed in by the spine."""
    scale = np.interp(m.level, (0, 0.15, 0.35, 0.6, 1), (0.5, 0.74, 0.92, 1.0, 1.0))
    width, depth = m.width * scale, m.depth * (0.35 + 0.65 * scale)
    back = 0.5 + 0.5 * np.tanh(4 * np.sin(BEARING))  # 1 in the back half, fuller than the front
    cage = (1 - back) * _oval(width, depth, rng.uniform(1.9, 2.2))
    cage += back * _oval(width, depth * 1.06, rng.uniform(2.3, 2.7))
    cage *= 1 - rng.uniform(0.22, 0.34) * bump(BACK, 0.36) - rng.uniform(0, 0.07) * bump(FRONT, 0.3)
    for side in (-1, 1):  # the gutters beside the spine
        cage *= 1 + rng.uniform(0.01, 0.06) * bump(BACK + side * 0.75, 0.3)
    cage *= 1 + rng.normal(0, 0.025) * np.cos(BEARING)
    return cage * (1 + 0.012 * smooth_ring(rng, 9))


def draw_wall(
    rng: np.random.Generator, canvas: Canvas, m: Measures, cage: np.ndarray
) -> np.ndarray:
    """Skin, fat, breasts and muscle around the cavity, arms raised.

    Returns the distance to the muscles' outer surface [H, W], within which the bones lie.
    """
    high = 1 - ramp(m.level, 0.15, 0.6)
    skin = _oval(m.width + 17 + m.fat + 45 * high, m.depth + 16 + m.fat, rng.uniform(2.1, 2.5))
    for at in (0.12, np.pi - 0.12):  # the back muscles that raised arms pull outwards
        skin += rng.uniform(0, 10 + 14 * high) * bump(at, 0.3)
    skin += 2.5 * smooth_ring(rng, 7) - 5 * bump(FRONT, 0.2) - 5 * bump(BACK, 0.1)
    skin -= (3 + 0.4 * m.fat) * bump(FRONT, 0.8)
    under_fat = skin - m.fat * np.clip(0.9 + 0.25 * smooth_ring(rng, 5), 0.4, None)
    chest_plate = 5 * bump(FRONT, 0.35)  # room for the sternum
    under_fat = np.maximum(under_fat, cage + 11 + chest_plate)
    chest = m.breasts * (1 - abs(m.level - 0.6)) * rng.uniform(0.8, 1.2, 2)
    skin += chest[0] * bump(FRONT - 0.68, 0.27) + chest[1] * bump(FRONT + 0.68, 0.27)
    lying = (m.depth + 20 + 0.7 * m.fat) / np.maximum(np.sin(BEARING), 1e-3)
    skin = -np.logaddexp(-skin / 4, -lying / 4) * 4  # the back is flat where it lies
    skin = np.maximum(skin, cage + 15 + chest_plate)
    under_fat = np.minimum(under_fat, skin - 3)

    outside = canvas.radius - canvas.polar(skin)
    _draw_bed(rng, canvas, m, outside)
    size = len(canvas.hu)
    canvas.paint(outside, -25.0)
    strands = smooth_field(rng, size, 60)
    canvas.paint(outside + 1.6, FAT + 12 * np.maximum(strands - 0.8, 0))
    if m.breasts:
        gland = smooth_field(rng, size, 28) + 0.6 * strands
        glandular = np.maximum(2.5 * (0.5 - gland), outside + 9)
        glandular = np.maximum(glandular, canvas.y + 0.35 * m.depth)
        canvas.paint(glandular, 20.0, opacity=0.6)
    muscle = canvas.radius - canvas.polar(under_fat)
    canvas.paint(muscle, MUSCLE + 7 * strands)
    wall = canvas.radius - canvas.polar(cage)
    for depth in (rng.uniform(12, 17), rng.uniform(24, 32)):  # fat between the layers of muscle
        plane = depth + 2.5 * smooth_ring(rng, 12)
        half = np.clip(0.2 + 1.5 * smooth_ring(rng, 14), -3, 2.5)
        layer = np.abs(wall - canvas.polar(plane)) - canvas.polar(half)
        canvas.paint(np.maximum(layer, muscle + 2), FAT)
    if high > 0.05:  # the arm pit and the shoulder's muscles
        pit = 6 * (0.9 - smooth_field(rng, size, 14)) - 3 * smooth_field(rng, size, 40)
        pit = np.maximum(np.maximum(pit, 18 - wall), muscle + 4)
        canvas.paint(pit, FAT, opacity=min(1.0, 2 * high))
    return muscle


def _draw_bed(rng, canvas: Canvas, m: Measures, outside: np.ndarray) -> None:
    """The table under the patient and a blanket over the chest."""
    for _ in range(rng.integers(0, 3)):
        lift = rng.uniform(3, 16) + rng.uniform(1, 5) * smooth_ring(rng, 11)
        sheet = np.abs(outside - canvas.polar(lift)) - 0.35
        canvas.paint(sheet, -600.0, opacity=rng.uniform(0.3, 0.7))
    bend = rng.uniform(0, 1 / 900)
    top = m.depth + 22 + m.fat + rng.uniform(2, 14)
    below = canvas.y - top + bend * canvas.x**2
    thick = rng.uniform(8, 45)
    canvas.paint(np.maximum(-below, below - thick), -960.0)
    for depth, hu in ((0.0, rng.uniform(-650, -100)), (thick, rng.uniform(-300, 150))):
        canvas.paint(np.abs(below - depth) - rng.uniform(0.6, 1.5), hu)


def draw_bones(
    rng: np.random.Generator, canvas: Canvas, m: Measures, cage: np.ndarray, muscle: np.ndarray
) -> None:
    """Ribs as arcs in the wall, sternum, shoulder blades."""
    wall = canvas.radius - canvas.polar(cage)
    arcs = []
    for side in (-1, 1):  # about every second rib is met at some length
        angle = rng.uniform(0.42, 0.65)
        while angle < 2.75:
            long = rng.uniform(9, 30) * (1.3 if angle > 2.1 else 1.0)
            thin = rng.uniform(3.0, 4.6)
            depth, slant = thin + rng.uniform(2.5, 4), rng.uniform(-0.06, 0.06)
            arcs.append((FRONT + side * angle, long, depth, thin, slant))
            angle += long / 70 + rng.uniform(0.3, 0.55)
    arcs.append((FRONT, rng.uniform(13, 24), 8.0, rng.uniform(4, 6), 0.0))
    ring = np.maximum(_arcs(canvas, cage, wall, arcs), muscle + 1)
    if m.level > 0.5:  # cartilage between the ribs' ends and the sternum
        soft = (canvas.y < -0.75 * m.depth) & (np.abs(canvas.x) > 26)
        canvas.paint(np.where(soft, ring, 99.0), 110.0)
        ring = np.where(soft, 99.0, ring)
    _bone(canvas, ring, rng.uniform(1.0, 1.8))
    if m.level < 0.68:
        blades = []
        for side in (-1, 1):
            at, long = BACK + side * rng.uniform(0.72, 1.0), rng.uniform(14, 40)
            depth, slant = rng.uniform(24, 32), side * rng.uniform(-0.1, 0.3)
            blades.append((at, long, depth, rng.uniform(2.2, 3.8), slant))
        _bone(canvas, np.maximum(_arcs(canvas, cage, wall, blades), muscle + 5), 1.4)


def _arcs(canvas: Canvas, cage, wall, arcs) -> np.ndarray:
    """Distance to bones along the wall, each (bearing, half length, depth, half width, slant)."""
    middle, half = np.zeros_like(cage), np.full_like(cage, -40.0)
    for at, long, depth, thick, slant in arcs:
        along = ((BEARING - at + np.pi) % (2 * np.pi) - np.pi) * (cage + depth)
        inside = np.abs(along) < long
        middle[inside] = (depth + slant * along)[inside]
        half[inside] = thick * np.sqrt(1 - np.abs(along[inside] / long) ** 3.5)
    return np.abs(wall - canvas.polar(middle)) - canvas.polar(half)


def _bone(canvas: Canvas, distance: np.ndarray, shell: float) -> None:
    canvas.paint(distance, CORTEX)
    canvas.paint(distance + shell, MARROW)
