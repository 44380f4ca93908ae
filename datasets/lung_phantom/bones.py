"""Bones: spine, ribs, sternum, collar bones, shoulder blades, arms, jaw and skull, pelvis."""

import numpy as np

from .body import FAT, cavity, limbs
from .canvas import (
    BACK,
    BEARING,
    FAR,
    FRONT,
    Canvas,
    ellipse,
    ellipsoid,
    meets,
    rod,
    union,
)
from .person import Person

MARROW, CORTEX = 230.0, 900.0


def draw_bones(p: Person, canvas: Canvas, muscle: np.ndarray) -> None:
    """All bones but the spine, which `draw_spine` lays over the organs."""
    z, cage = canvas.z, cavity(p, canvas.z)
    wall = canvas.within(cage)
    if -1.35 * p.height < z < 25:
        _ribs(p, canvas, cage, wall, muscle)
    for side in (-1, 1):
        _shoulder(p, canvas, side)
    for start, end, _, _, bone in limbs(p):
        if bone and meets(canvas, start, end, bone):
            _bone(canvas, rod(canvas, start, end, bone, bone * 0.8), 3.5)
    if z > 70:
        _skull(p, canvas)
    if z < -p.height - 120:
        _pelvis(p, canvas)


def _ribs(p: Person, canvas: Canvas, cage, wall, muscle) -> None:
    """Twelve pairs of sloping hoops, of which a slice meets a piece each; the sternum."""
    rng = p.rng("ribs")
    z, low = canvas.z, p.height
    thin, high, gap = rng.uniform(2.8, 4.2), rng.uniform(5, 6.5), rng.uniform(1.8, 3.5)
    drop, first = rng.uniform(0.42, 0.58) * low, rng.uniform(0, 15)
    shell, breast_bone = rng.uniform(1.0, 1.8), (rng.uniform(13, 22), rng.uniform(4, 6))
    middle, half = np.zeros_like(cage), np.full_like(cage, -40.0)
    away = np.abs((BEARING - BACK + np.pi) % (2 * np.pi) - np.pi) / np.pi  # 0 back, 1 front
    for number in range(12):
        start = first - number * 0.093 * low
        reach = (0.75, 0.86, 0.9)[min(number, 2)] if number < 8 else 0.9 - 0.13 * (number - 7)
        for side in (-1, 1):
            height = start - drop * np.clip((away - 0.1) / 0.8, 0, 1) + rng.normal(0, 3)
            share = 1 - ((z - height) / high) ** 2
            on = (share > 0) & (away < reach) & (away > 0.11) & (np.sign(np.cos(BEARING)) == side)
            half[on] = thin * np.sqrt(share[on])
            middle[on] = thin + gap
    long, thick = breast_bone
    if -0.68 * low < z < -0.02 * low:
        long *= 1 + 0.7 * (z > -0.2 * low)  # the handle is wider than the blade
        along = np.abs((BEARING - FRONT + np.pi) % (2 * np.pi) - np.pi) * (cage + 8)
        on = along < long
        half[on], middle[on] = thick * np.sqrt(1 - (along[on] / long) ** 4), 8.0
    ring = np.abs(wall - canvas.polar(middle)) - canvas.polar(half)
    ring = np.maximum(ring, muscle + 1)
    if p.level(z) > 0.3:  # cartilage between the ribs' ends and the sternum
        soft = (canvas.y < -0.72 * p.depth) & (np.abs(canvas.x) > 26)
        canvas.paint(np.where(soft, ring, FAR), 110.0)
        ring = np.where(soft, FAR, ring)
    _bone(canvas, ring, shell)


def _shoulder(p: Person, canvas: Canvas, side: int) -> None:
    """Collar bone, shoulder blade and the head of the arm's bone."""
    rng = p.rng(f"shoulder {side}")
    joint = limbs(p)[0 if side < 0 else len(limbs(p)) // 2][1]
    rise, tip = rng.uniform(5, 28), rng.uniform(0.48, 0.62)
    thin, slant = rng.uniform(2.4, 4.0), rng.uniform(-0.15, 0.25)
    front = -0.55 * p.depth
    bones = [((side * 20, front - 8, -14), (side * 75, front, -8 + rise / 2), 9, 6)]
    bones.append((bones[0][1], (joint[0] * 0.92, 2, joint[2] + rise), 6, 6))
    spine_of_blade = (side * 0.55 * p.width, 0.72 * p.depth, -30)
    bones.append((spine_of_blade, (joint[0] * 0.97, 20, joint[2] + 18), 5, 7))
    for start, end, r0, r1 in bones:
        if meets(canvas, start, end, 9):
            _bone(canvas, rod(canvas, start, end, r0, r1), 1.5)
    _bone(canvas, ellipsoid(canvas, (joint[0], joint[1] - 2, joint[2] - 4), (23, 23, 25)), 1.5)
    length = 0.62 * p.height
    share = (canvas.z + 5) / -length  # 0 at the blade's top, 1 at its tip
    if 0 < share < 1:
        at = BACK - side * np.interp(share, (0, 1), (1.05, tip + 0.25))
        long, deep = 46 * (1 - share) + 6, 21 - 4 * share
        cage = cavity(p, canvas.z)
        away = (BEARING - at + np.pi) % (2 * np.pi) - np.pi
        along = away * (cage + deep)
        on = np.abs(along) < long
        half = np.where(on, thin * np.sqrt(np.clip(1 - np.abs(along / long) ** 3.5, 0, 1)), -40.0)
        blade = np.abs(canvas.within(cage) - canvas.polar(deep + slant * along * on))
        _bone(canvas, blade - canvas.polar(half), 1.4)


def draw_spine(p: Person, canvas: Canvas) -> None:
    """A vertebra or a disc, with the canal and its cord, and the arch's processes."""
    rng = p.rng("spine")
    z = canvas.z
    pitch, phase = rng.uniform(22, 27), rng.random()
    size, shades = rng.uniform(0.92, 1.1), rng.uniform(150, 260)
    high = float(np.interp(z, (-p.height - 200, -p.height, 0, 60, 200), (25, 19, 15, 11, 10)))
    a, b = size * high, size * high * (0.75 if z < -p.height else 0.87)
    x, y = p.spine(z)
    part = canvas.window(x, y + 25, 75)
    share = (z / pitch + phase) % 1.0  # up the vertebra, the disc at the end
    canal = y + b + 6.5
    arch = FAR
    for side in (-1, 1):
        joint, tip = (x + side * 12, canal + 1, z), (x + side * (13 + high), canal + 6, z)
        if share < 0.45:
            arch = union(arch, rod(part, (x + side * 10, y + b - 4, z), joint, 4, 4), 2)
            arch = union(arch, rod(part, joint, tip, 4.5, 3.5), 2)
        else:
            arch = union(arch, ellipse(part, joint[0], joint[1] + 2, 6, 5), 2)
        arch = union(arch, rod(part, joint, (x, canal + 12, z), 3, 3), 2)
    arch = union(arch, rod(part, (x, canal + 12, z), (x, canal + 14 + high, z), 3, 2), 3)
    body = ellipse(part, x, y, a, b)
    spongy = shades + 30 * np.sin(part.x * 1.3) * np.sin(part.y * 1.1)
    _bone(part, arch, 1.5, spongy)
    if share < 0.78:
        _bone(part, body, 1.5 if share > 0.06 and share < 0.72 else 5.0, spongy)
    else:
        part.paint(body, 85.0)
    hollow = ellipse(part, x, canal, 9, 7.5)
    part.paint(hollow, FAT / 2)
    part.paint(hollow + 1.8, 30.0)


def _skull(p: Person, canvas: Canvas) -> None:
    """Lower jaw with teeth, upper jaw, skull and brain, still without the air in them."""
    rng = p.rng("skull")
    tall = rng.uniform(-6, 6)
    z = canvas.z
    if 92 + tall < z < 150 + tall:
        long = 72 - max(0.0, 0.35 * (z - 125))
        points = [(-46, 12), (-40, -25), (-20, -long + 8), (0, -long), (20, -long + 8)]
        points += [(40, -25), (46, 12)]
        if z > 128 + tall:
            points = [points[0], (-47, -10)] + [None] + [(47, -10), points[-1]]
        for start, end in zip(points[:-1], points[1:], strict=True):
            if start and end:
                part = canvas.window((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, 45)
                _bone(part, rod(part, (*start, z), (*end, z), 6, 6), 2.5)
    if 116 + tall < z < 142 + tall:
        for angle in np.linspace(-1.15, 1.15, 14):
            x, y = 27 * np.sin(angle) * 1.2, -25 - 38 * np.cos(angle)
            part = canvas.window(x, y, 8)
            part.paint(ellipse(part, x, y, 3.6, 4.0), 1800.0)
    head = ellipsoid(canvas, (0, 0, 190), (77, 98, 105))
    if z > 142:
        vault = np.maximum(head + 7, -60 - canvas.y)
        canvas.paint(vault, CORTEX)
        canvas.paint(vault + 6, 35.0)
        face = ellipse(canvas, 0, -52, 45, 30)
        canvas.paint(np.maximum(face, head + 6), 300.0)
        canvas.paint(np.maximum(face + 3, head + 9), 40.0)


def _pelvis(p: Person, canvas: Canvas) -> None:
    """The wings of the hip bones, the sacrum, the heads of the thigh bones."""
    rng = p.rng("pelvis")
    wide, top = p.width * rng.uniform(0.88, 1.0), -p.height - rng.uniform(150, 190)
    for side in (-1, 1):
        share = (top - canvas.z) / 110
        if 0 < share < 1.1:
            front = (side * wide * (1 - 0.12 * share), -20 + 35 * share, canvas.z)
            back = (side * (38 + 14 * share), 0.62 * p.depth + 6, canvas.z)
            long = min(1.0, 0.25 + 2 * share)
            start = tuple(b + long * (f - b) for f, b in zip(front, back, strict=True))
            _bone(canvas, rod(canvas, start, back, 5, 9), 2)
        hip = (side * 0.7 * wide, 0.1 * p.depth, top - 150)
        socket = ellipsoid(canvas, hip, (34, 34, 38))
        if np.ndim(socket):
            _bone(canvas, socket, 2)
            canvas.paint(np.abs(ellipsoid(canvas, hip, (26, 26, 28))) - 1.2, 60.0)
    _bone(canvas, ellipsoid(canvas, (0, 0.6 * p.depth, top - 50), (48, 26, 62)), 2)


def _bone(canvas: Canvas, distance, shell: float, marrow: np.ndarray | float = MARROW) -> None:
    if np.ndim(distance):
        canvas.paint(distance, CORTEX * (0.75 if shell > 2 else 1.0))
        canvas.paint(distance + shell, marrow)
