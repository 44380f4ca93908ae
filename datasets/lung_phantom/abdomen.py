"""Under the diaphragm: liver, spleen, stomach, kidneys, bowel with its gas, muscles and bladder."""

import numpy as np

from .airways import AIR
from .body import FAT, MUSCLE
from .canvas import Canvas, ellipse, ellipsoid, ramp, union
from .diaphragm import dome_at
from .person import Person


def draw_under_domes(p: Person, canvas: Canvas, inside: np.ndarray) -> None:
    """The organs within `inside`, the distance [H, W] to what lies under the domes."""
    z, low = canvas.z, -p.height
    canvas.paint(inside, MUSCLE)
    hollow = inside + 2.5
    canvas.paint(hollow, FAT + 18 * np.clip(p.field("mesentery", canvas, 11), -0.5, 2))
    _liver(p, canvas, hollow)
    _spleen_and_kidneys(p, canvas, hollow)
    if z < low + 20:
        _back_muscles(p, canvas)
    if z < low + 60:
        _bowel(p, canvas, hollow)
    _stomach(p, canvas, hollow)
    if z < low - 250:
        bladder = ellipsoid(canvas, (0, -0.2 * p.depth, low - 300), (46, 38, 42))
        canvas.paint(np.maximum(bladder, hollow), 6.0)


def _liver(p: Person, canvas: Canvas, hollow: np.ndarray) -> None:
    rng = p.rng("liver")
    (x, y), top, _ = dome_at(p, -1)
    tip, fatty = rng.uniform(60, 130), rng.uniform(0, 60) * (rng.random() < 0.3)
    left_lobe, end = rng.uniform(25, 60), rng.uniform(20, 90)
    hu = rng.uniform(50, 66) - fatty + 0.2 * max(0.0, p.blood - 45)
    bottom = -p.height - end
    if canvas.z < bottom:
        return
    down = ramp(canvas.z, top - tip, bottom)  # 1 at the lower tip
    reach = left_lobe * (1 - down) - 95 * down
    edge = (
        canvas.x - reach - 0.55 * (-0.1 * p.depth - canvas.y) + 0.006 * (canvas.y - y) ** 2 * down
    )
    edge = edge + 6 * p.field("liver's edge", canvas, 40)
    liver = np.maximum(hollow, edge)
    canvas.paint(liver, hu + 3 * p.field("liver", canvas, 15))
    for k in range(5):  # its vessels
        at = (x + rng.uniform(-30, 45), y + rng.uniform(-35, 40))
        a, b, turn = rng.uniform(3, 14), rng.uniform(2.5, 5), rng.uniform(0, 3)
        part = canvas.window(*at, 18)
        where = canvas.slices(*at, 18)
        run = at[0] + 6 * np.sin(canvas.z / 25 + k), at[1] + 6 * np.cos(canvas.z / 31 + 2 * k)
        vessel = ellipse(part, *run, a, b, turn)
        part.paint(np.maximum(vessel, liver[where] + 4), hu + (20 if p.blood > 60 else -15))


def _spleen_and_kidneys(p: Person, canvas: Canvas, hollow: np.ndarray) -> None:
    rng = p.rng("spleen")
    grown = rng.uniform(0.8, 1.3)
    at = (0.74 * p.width, 0.34 * p.depth, dome_at(p, 1)[1] - 62)
    spleen = ellipsoid(canvas, at, (34 * grown, 48 * grown, 58 * grown), 0.5)
    canvas.paint(np.maximum(spleen, hollow + 1), 50 + 0.3 * max(0.0, p.blood - 45))
    for side in (-1, 1):
        at = (side * rng.uniform(58, 68), 0.42 * p.depth, -p.height - rng.uniform(25, 60))
        kidney = ellipsoid(canvas, at, (29, 27, 56), side * 0.5)
        canvas.paint(kidney, 35 + 0.55 * max(0.0, p.blood - 45))
        canvas.paint(ellipsoid(canvas, (at[0] - side * 8, at[1] - 2, at[2]), (15, 10, 32)), FAT)


def _back_muscles(p: Person, canvas: Canvas) -> None:
    x, y = p.spine(canvas.z)
    down = ramp(canvas.z, -p.height + 20, -p.height - 170)
    for side in (-1, 1):
        at = (x + side * (24 + 18 * down), y - 4 - 14 * down)
        canvas.paint(ellipse(canvas, *at, 8 + 18 * down, 12 + 12 * down), 52.0)
        canvas.paint(ellipse(canvas, x + side * 36, y + 38, 26, 20), 48.0)


def _stomach(p: Person, canvas: Canvas, hollow: np.ndarray) -> None:
    """A bag under the left dome, with gas above its contents where the person lies on the back."""
    rng = p.rng("stomach")
    grown, level = rng.uniform(0.5, 1.25), rng.uniform(-0.8, 0.5)
    lumps, contents = rng.random() < 0.5, rng.uniform(0, 70)
    at = (rng.uniform(0.38, 0.55) * p.width, -0.15 * p.depth, dome_at(p, 1)[1] - 12 - 50 * grown)
    axes = (46 * grown, 40 * grown, 56 * grown)
    bag = ellipsoid(canvas, at, axes, 0.6)
    low = (at[0] - 35, at[1] - 22, at[2] - 45 * grown)
    bag = union(bag, ellipsoid(canvas, low, (52 * grown, 28 * grown, 40 * grown)), 14)
    if not np.ndim(bag):
        return
    bag = np.maximum(bag, hollow + 1)
    canvas.paint(bag, 45.0)
    food = contents + (60 * p.field("food", canvas, 8) if lumps else 0)
    canvas.paint(bag + 3.5, food)
    if p.has("stomach_gas"):
        middle = at[0] * np.sin(p.turn) + at[1] * np.cos(p.turn)  # down the picture
        below = canvas.down[:, None] - middle - level * axes[1]
        canvas.paint(np.maximum(bag + 3.5, below), AIR)


def _bowel(p: Person, canvas: Canvas, hollow: np.ndarray) -> None:
    """Loops as ellipsoids; the large bowel frames the small one and holds most of the gas."""
    rng = p.rng("bowel")
    gassy = rng.uniform(0.1, 0.8)
    low, belly = -p.height, p.depth * p.belly
    loops = []
    flexure = min(dome_at(p, 1)[1] - rng.uniform(8, 70), low + 55)
    for k in range(9):  # left colon, and right
        loops.append((0.78, rng.uniform(-0.2, 0.3), flexure - 34 * k, rng.uniform(15, 27)))
        loops.append((-0.78, rng.uniform(-0.2, 0.3), low - 50 - 30 * k, rng.uniform(17, 30)))
    sag = rng.uniform(20, 110)
    for k in range(9):  # across
        across = -0.75 + 1.5 * k / 8
        height = low - 20 - sag * (1 - across * across)
        loops.append((across, -rng.uniform(0.5, 0.75), height, rng.uniform(15, 27)))
    for _ in range(44):
        loops.append(
            (
                *rng.uniform((-0.62, -0.6), (0.62, 0.25)),
                low - rng.uniform(40, 300),
                rng.uniform(10, 17),
            )
        )
    for number, (x, y, height, r) in enumerate(loops):
        stretch, turn, gas = rng.uniform(0.75, 1.6, 3), rng.uniform(0, 3), rng.random()
        wet, hu = rng.uniform(-0.7, 1.0), rng.uniform(0, 60)
        at = (x * p.width, y * belly, height)
        reach = r * 1.7 + 3
        if abs(canvas.z - height) > reach:
            continue
        part, where = canvas.window(*at[:2], reach), canvas.slices(*at[:2], reach)
        loop = ellipsoid(part, at, r * stretch, turn)
        if not np.ndim(loop) or not loop.size:
            continue
        loop = np.maximum(loop, hollow[where] + 2)
        large = number < 27
        part.paint(loop, 45.0)
        part.paint(loop + 2.2, hu)
        if large and gas > 0.45:  # faeces hold bubbles
            part.paint(loop + 2.2, np.where(p.field("bubbles", canvas, 5)[where] > 0.9, -600.0, hu))
        if p.has("bowel_gas") and gas < gassy * (1.0 if large else 0.3):
            surface = canvas.down[where[0]][:, None] - float(np.mean(canvas.down[where[0]]))
            part.paint(np.maximum(loop + 2.2, surface - wet * r), AIR)
