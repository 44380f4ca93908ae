"""The outside of a person: skin, fat, breasts and muscle of trunk, arms, neck and head."""

import dataclasses
import functools

import numpy as np

from .canvas import (
    BACK,
    BEARING,
    FAR,
    FRONT,
    Canvas,
    Ring,
    bump,
    ellipse,
    ellipsoid,
    meets,
    oval,
    ramp,
    rod,
    union,
)
from .person import Person

FAT, MUSCLE = -105.0, 45.0


@functools.lru_cache(maxsize=16)
def cavity(p: Person, z: float) -> np.ndarray:
    """Radius over BEARING of the cavity of chest and belly, pushed in by the spine."""
    rng = p.rng("cavity")
    front_power, back_power = rng.uniform(1.9, 2.2), rng.uniform(2.3, 2.7)
    notch, dent, gutters = rng.uniform(0.22, 0.34), rng.uniform(0, 0.07), rng.uniform(0.01, 0.06, 2)
    tilt, ring = rng.normal(0, 0.025), Ring(rng, 9)
    level = p.level(z)
    levels = (-0.4, -0.1, 0, 0.15, 0.35, 0.6, 1, 1.3, 2)
    scale = np.interp(level, levels, (0.2, 0.42, 0.52, 0.74, 0.92, 1, 1, 0.97, 0.93))
    width, depth = p.width * scale, p.depth * (0.35 + 0.65 * scale)
    belly = np.interp(level, (0.8, 1.3, 1.8, 2.2), (1, p.belly, p.belly, 0.9))
    back = 0.5 + 0.5 * np.tanh(4 * np.sin(BEARING))  # 1 in the back half, fuller than the front
    cage = (1 - back) * oval(width, depth * belly, front_power)
    cage += back * oval(width, depth * 1.06, back_power)
    cage *= 1 - notch * bump(BACK, 0.36) - dent * bump(FRONT, 0.3)
    for side, gutter in zip((-1, 1), gutters, strict=True):  # beside the spine
        cage *= 1 + gutter * bump(BACK + side * 0.75, 0.3)
    return cage * (1 + tilt * np.cos(BEARING)) * (1 + 0.012 * ring.at(z))


@functools.lru_cache(maxsize=16)
def trunk(p: Person, z: float) -> tuple[np.ndarray, np.ndarray]:
    """Radii over BEARING of the trunk's skin, without breasts, and of the muscle under its fat."""
    rng = p.rng("trunk")
    power, wings = rng.uniform(2.1, 2.5), rng.uniform(0, 1, 2)
    coarse, fine = Ring(rng, 7, 90), Ring(rng, 5, 90)
    level, cage = p.level(z), cavity(p, z)
    high, waist = 1 - ramp(level, 0.15, 0.6), ramp(level, 0.8, 1.6)
    fat = p.fat * (1 + 0.35 * waist)
    belly = np.interp(level, (0.8, 1.3, 1.8, 2.2), (1, p.belly, p.belly, 0.95))
    below = 0.5 - 0.5 * np.tanh(4 * np.sin(BEARING))  # 1 in the front half
    depth = (p.depth + 16) * (1 + (belly - 1) * below) + fat
    skin = oval(p.width + 17 + fat + 42 * high, depth, power)
    for at, wing in zip((0.12, np.pi - 0.12), wings, strict=True):  # pulled out by raised arms
        skin += wing * (10 * (1 - waist) + 14 * high) * bump(at, 0.3)
    skin += 2.5 * coarse.at(z) - 5 * bump(FRONT, 0.2) - 5 * bump(BACK, 0.1)
    skin -= (3 + 0.4 * fat) * bump(FRONT, 0.8) * (1 - waist)
    skin *= np.interp(z, (-25, 15, 60, 90), (1, 0.86, 0.4, 0.2))  # shoulders, then neck
    muscle = skin - fat * np.clip(0.9 + 0.25 * fine.at(z), 0.4, None)
    if z < 15:
        plate = 5 * bump(FRONT, 0.35)  # room for the sternum
        muscle = np.maximum(muscle, cage + 11 + plate)
        skin = np.maximum(skin, cage + 15 + plate)
        lying = (p.depth + 20 + 0.7 * p.fat) / np.maximum(np.sin(BEARING + p.turn), 1e-3)
        soft = -np.logaddexp(-skin / 4, -lying / 4) * 4  # flat where it lies
        skin = np.maximum(soft, cage + 15 + plate)
    return skin, np.minimum(muscle, skin - 3)


@functools.lru_cache(maxsize=16)
def limbs(p: Person) -> list[tuple[tuple, tuple, float, float, float]]:
    """The arms as rods (start, end, radii, radius of the bone inside; 0 for none)."""
    rng = p.rng("limbs")
    found, big = [], 0.9 + 0.006 * p.fat
    for side in (-1, 1):
        out, swing, up = rng.uniform(-25, 45), rng.uniform(-50, 15), rng.uniform(190, 260)
        fore, apart, down = rng.uniform(-0.9, 0.4), rng.uniform(5, 25), rng.random()
        other = rng.random() < 0.06  # one arm down, one up
        x = side * (0.78 * p.width + 46)
        raised = p.has("arms_down") == other
        joint = (x, 5.0, 2.0 if raised else -18.0)
        chest = (side * 0.68 * p.width, 12.0, -75.0 if raised else -35.0)
        found.append((chest, joint, 40 * big, 47 * big, 0))
        if raised:
            elbow = (x + side * out, swing, up)
            found.append((joint, elbow, 47 * big, 36 * big, 11))
            hand = (side * 0.35 * p.width, swing - 40, up + 90)
            found.append((elbow, hand, 36 * big, 28 * big, 8))
        else:
            wide = p.width + 62 + p.fat + apart
            elbow = (side * wide, 25.0, -300.0)
            found.append((joint, elbow, 47 * big, 40 * big, 11))
            on_belly = (side * 0.5 * p.width, -p.depth * p.belly - 45 - p.fat, -350.0)
            beside = (side * (wide - 5), -20.0 + 60 * fore, -540.0)
            found.append((elbow, on_belly if down < 0.3 else beside, 38 * big, 29 * big, 8))
    return found


def neck_and_head(p: Person, canvas: Canvas):
    """Distance to neck and head together, or FAR."""
    rng = p.rng("neck")
    wide, deep = rng.uniform(0.88, 1.12, 2)
    z = canvas.z
    shape = FAR
    if -40 < z < 150:
        zs = (-40, 10, 50, 110, 150)
        a, b = np.interp(z, zs, (95, 82, 63, 60, 60)), np.interp(z, zs, (62, 62, 58, 60, 70))
        y = np.interp(z, zs, (0.2 * p.depth, 0.18 * p.depth, 4, 8, 12))
        shape = ellipse(canvas, 0, y, a * wide, b * deep)
    shape = union(shape, ellipsoid(canvas, (0, 0, 190), (77 * wide, 98, 105)), 10)
    return union(shape, ellipsoid(canvas, (0, -50, 115), (48 * wide, 46, 44)), 14)


@dataclasses.dataclass(frozen=True)
class Outline:
    """Distances [H, W] to the outside of a person; `breasts` may be FAR."""

    skin: np.ndarray
    muscle: np.ndarray
    trunk: np.ndarray  # the trunk's skin without breasts, arms and neck
    breasts: np.ndarray | float


def outline(p: Person, canvas: Canvas) -> Outline:
    """Where the person is in this slice."""
    skin, muscle = (canvas.within(table) for table in trunk(p, canvas.z))
    alone = skin
    thin = 0.35 * p.fat + 3
    for start, end, r0, r1, _ in limbs(p):
        if meets(canvas, start, end, max(r0, r1)):
            arm = rod(canvas, start, end, r0, r1)
            skin = union(skin, arm, 12 if r0 > 45 else 5)
            muscle = union(muscle, arm + thin, 5)
    head = neck_and_head(p, canvas)
    muscle = union(muscle, head + thin, 15)
    breasts = _breasts(p, canvas)
    return Outline(union(union(skin, head, 22), breasts, 9), muscle, alone, breasts)


def draw_body(p: Person, canvas: Canvas, shape: Outline) -> None:
    """Skin, fat, breasts and muscle."""
    rng = p.rng("skin")
    marbling, gland_share = rng.uniform(3, 9), rng.uniform(0.1, 0.9)
    z, outside, muscle, breasts = canvas.z, shape.skin, shape.muscle, shape.breasts
    canvas.paint(outside, -25.0)
    strands = p.field("strands", canvas, 8)
    canvas.paint(outside + 1.8, FAT + 14 * np.maximum(strands - 0.8, 0))
    if np.ndim(breasts):
        gland = p.field("gland", canvas, 17) + 0.6 * strands
        glandular = np.maximum(2.5 * (1.3 - 1.6 * gland_share - gland), breasts + 9)
        canvas.paint(np.maximum(glandular, 2 - shape.trunk), 20.0, opacity=0.6)
        if p.has("implants"):
            for side in (-1, 1):
                (x, y, zc), (a, b, c) = _breast(p, side)
                bag = ellipsoid(canvas, (x, y + 6, zc), (0.72 * a, 0.75 * b, 0.75 * c))
                canvas.paint(bag, 160.0)
                canvas.paint(bag + 1.5, 25.0)
    canvas.paint(muscle, MUSCLE + marbling * strands)
    if ramp(z, -p.height * 1.6, -p.height * 0.9) * (1 - ramp(z, 0, 60)):
        _layers(p, canvas, muscle)


def _layers(p: Person, canvas: Canvas, muscle: np.ndarray) -> None:
    """Fat between the layers of the chest's muscles, and in the arm pit."""
    rng = p.rng("layers")
    wall = canvas.within(cavity(p, canvas.z))
    for depth in (rng.uniform(12, 17), rng.uniform(24, 32)):
        plane, half = Ring(rng, 12, 60), Ring(rng, 14, 60)
        thick = np.clip(0.2 + 1.5 * half.at(canvas.z), -3, 2.5)
        layer = np.abs(wall - canvas.polar(depth + 2.5 * plane.at(canvas.z))) - canvas.polar(thick)
        canvas.paint(np.maximum(layer, muscle + 2), FAT)
    high = 1 - ramp(p.level(canvas.z), 0.15, 0.6)
    if high > 0.05:
        pit = 6 * (0.9 - p.field("pit", canvas, 34)) - 3 * p.field("pit's edge", canvas, 12)
        pit = np.maximum(np.maximum(pit, 18 - wall), muscle + 4)
        canvas.paint(pit, FAT, opacity=min(1.0, 2 * high))


def _breast(p: Person, side: int) -> tuple[tuple, tuple]:
    rng = p.rng("breasts")
    big, apart, low = rng.uniform(0.5, 1.25), rng.uniform(0.5, 0.7), rng.uniform(0.4, 0.55)
    grown = big * rng.uniform(0.9, 1.1, 2)[(side + 1) // 2]
    if p.has("implants"):
        grown = max(grown, 0.9)
    at = (side * apart * p.width, -(0.72 * p.depth + 0.6 * p.fat), -low * p.height)
    return at, (58 * grown, 46 * grown + 18, 62 * grown)


def _breasts(p: Person, canvas: Canvas):
    if not (p.has("breasts") or p.has("implants")):
        return FAR
    left, right = (ellipsoid(canvas, *_breast(p, side)) for side in (-1, 1))
    return union(left, right, 4)
