"""Between the lungs: heart, great vessels, gullet, and the outline that bounds the lungs."""

import numpy as np
from scipy import ndimage

from .body import FAT, MUSCLE
from .canvas import FAR, Canvas, ellipse, ellipsoid, meets, ramp, rod, union
from .person import Person


def hila(p: Person) -> list[np.ndarray]:
    """Where vessels and airways enter the lungs (x, y, z): right, left."""
    rng = p.rng("hila")
    back = rng.normal(0.06, 0.05) * p.depth
    right = (p.shift - rng.uniform(40, 48), back, p.carina - rng.uniform(22, 34))
    left = (p.shift + rng.uniform(42, 50), back + 4, p.carina - rng.uniform(14, 28))
    return [np.array(right), np.array(left)]


def draw_mediastinum(p: Person, canvas: Canvas, wall: np.ndarray):
    """Everything between the lungs; returns the distance [H, W] to it, which bounds the lungs."""
    fat = FAT + 15 + 20 * np.clip(p.field("septa", canvas, 14), 0, 1)
    canvas.paint(wall, MUSCLE + ramp(p.level(canvas.z), 0, 0.2) * (fat - MUSCLE))
    if p.lost:
        canvas.paint(np.maximum(wall, -lost_side(p, canvas)), p.rng("lost").uniform(0, 40))
    silhouette = _column(p, canvas)
    tissue = []  # (distance, HU), painted once the silhouette is known
    organ = _heart(p, canvas, tissue)
    silhouette = union(silhouette, organ, 10)
    for distance, edge in _great_vessels(p, canvas, tissue):
        silhouette = union(silhouette, distance + edge, 5)
    for distance, hu in tissue:
        canvas.paint(np.maximum(distance, wall), hu)
    _gullet(p, canvas)
    return silhouette + 1.3 * p.field("outline", canvas, 28)


def lost_side(p: Person, canvas: Canvas) -> np.ndarray:
    """How far [H, W] each pixel is into the half of the chest that has lost its lung."""
    return p.lost * (canvas.x - p.shift) + 7 * p.field("lost", canvas, 45)


def gullet_at(p: Person, z: float) -> tuple[float, float]:
    x, y = p.spine(z)
    aside = p.rng("gullet").uniform(-3, 5)
    return x + aside + 0.2 * p.shift, y - float(np.interp(z, (-p.height, 0, 60), (27, 22, 18)))


def _column(p: Person, canvas: Canvas) -> np.ndarray:
    """The mediastinum's two borders as half widths down the picture, with the spine in it."""
    rng = p.rng("column")
    heights = np.array([-1.1, -0.85, -0.6, -0.25, 0.03, 0.25, 0.6, 1.1]) * p.depth
    levels = (0.0, 0.12, 0.4, 0.65, 0.95)
    widths = np.array(
        [
            (36, 36, 38, 38, 26, 20, 14, 30),
            (30, 26, 30, 32, 28, 19, 14, 30),
            (14, 7, 22, 34, 30, 12, 14, 30),
            (16, 12, 20, 30, 22, 9, 14, 30),
            (26, 34, 40, 38, 24, 10, 14, 30),
        ]
    )
    width = np.array([np.interp(p.level(canvas.z), levels, column) for column in widths.T])
    fine = np.linspace(heights[0], heights[-1], 200)
    spine = p.spine(canvas.z)
    lean, half = rng.normal(0, 6), []
    for _ in range(2):
        jitter = width * rng.uniform(0.8, 1.15, len(width))
        jitter[1] *= rng.uniform(0.35, 1.0)
        half.append(ndimage.gaussian_filter1d(np.interp(fine, heights, jitter), 7))
    y = canvas.y.ravel()
    sway = np.clip(0.5 - canvas.y / p.depth, 0, 1)  # the spine does not move, the front does
    middle = spine[0] + (lean + p.shift) * sway
    right, left = (np.interp(y, fine, side).reshape(canvas.y.shape) for side in half)
    column = np.maximum(canvas.x - middle - left, middle - right - canvas.x)
    return union(column, ellipse(canvas, *spine, 21, 19), 8)


def heart_at(p: Person) -> tuple[tuple, tuple, float]:
    """Centre (x, y, z), half axes and turn of the heart with its fat."""
    rng = p.rng("heart")
    grown = rng.uniform(0.88, 1.15)
    axes = (grown * rng.uniform(54, 64), grown * rng.uniform(44, 52), grown * rng.uniform(55, 66))
    x, y = rng.uniform(14, 28) + p.shift, -p.depth * rng.uniform(0.2, 0.32)
    return (x, y, p.carina - 48 - 0.75 * axes[2]), axes, rng.uniform(0.3, 0.8)


def _heart(p: Person, canvas: Canvas, tissue: list):
    """Distance to the heart with its fat; its muscle and chambers are added to `tissue`."""
    at, axes, turn = heart_at(p)
    heart = ellipsoid(canvas, at, axes, turn)
    rng = p.rng("chambers")
    fat = rng.uniform(1.5, 6)
    if not np.ndim(heart):
        return FAR
    heart = heart + 2.0 * p.field("heart", canvas, 45)
    tissue.append((heart + fat, MUSCLE))
    if p.blood > 60:  # contrast medium separates chambers from muscle
        for _ in range(4):
            off = rng.uniform(-0.42, 0.42, 3) * axes
            spot = tuple(a + o for a, o in zip(at, off, strict=True))
            chamber = ellipsoid(canvas, spot, [0.46 * a for a in axes])
            tissue.append((np.maximum(chamber, heart + 9), p.blood * rng.uniform(0.7, 1.0)))
    return heart


def _great_vessels(p: Person, canvas: Canvas, tissue: list) -> list[tuple[np.ndarray, float]]:
    """Aorta, its branches, caval and lung vessels; returns what bounds the lungs, with a margin."""
    rng = p.rng("great vessels")
    (hx, hy, hz), axes, _ = heart_at(p)
    right, left = hila(p)
    wide = rng.uniform(10, 14.5)
    arch = p.carina + rng.uniform(14, 30)
    s = p.shift
    root = (hx - 18, hy + 2, hz + 0.5 * axes[2])
    front, side = (s - 14, -0.34 * p.depth, arch), (s + 13, -0.05 * p.depth, arch + 7)
    down = (p.spine(arch)[0] + 20, p.spine(arch)[1] - 17, arch - 4)
    vessels = [(root, front, wide * 1.15, wide * 1.1), (front, side, wide, wide)]
    vessels.append((side, down, wide, wide))
    heights = np.linspace(arch - 4, -p.height - 200, 7)
    run = [
        (p.spine(h)[0] + 20 * (1 - k / 7), p.spine(h)[1] - 18 - k, h) for k, h in enumerate(heights)
    ]
    vessels += [(a, b, wide * 0.9, wide * 0.82) for a, b in zip(run[:-1], run[1:], strict=True)]
    for x, y, r in ((-22, -0.3, 8), (-6, -0.3, 6), (10, -0.2, 4.5), (19, -0.05, 5)):
        top = (2.4 * x, y * p.depth * 0.3, 30.0)
        foot = (s + x + rng.normal(0, 2), y * p.depth, arch + 4)
        vessels.append((foot, top, r, r * 0.9))
    atrium = (s - 26, hy - 4, hz + 0.4 * axes[2])
    vessels.append(((s - 24, -0.28 * p.depth, arch + 8), atrium, 9, 10))  # upper caval vein
    vessels.append(((-24, -0.02 * p.depth, -p.height - 60), (s - 24, hy + 20, hz - 20), 11, 12))
    trunk = (s + 16, -0.38 * p.depth, p.carina - 24)
    big = rng.uniform(6.5, 9)
    lung = [((hx + 4, hy - 10, hz + 0.6 * axes[2]), trunk, 13, 13)]
    lung.append((trunk, (s - 8, -0.12 * p.depth, p.carina - 22), big + 3, big + 2))
    lung.append(((s - 8, -0.12 * p.depth, p.carina - 22), tuple(right + (2, -4, 2)), big + 2, big))
    lung.append((trunk, tuple(left + (-2, -2, 6)), big + 3, big))
    for side_at, sign in ((right, -1), (left, 1)):
        vein = tuple(side_at + (sign * 2, -2, -32))
        lung.append(((s + sign * 20, 0.05 * p.depth, hz + 0.45 * axes[2]), vein, 8, 6))
    lung.append(((s - 20, 0.06 * p.depth, hz + 15), (s + 22, 0.06 * p.depth, hz + 15), 19, 18))
    bounds = []
    for vessel in vessels + lung:
        if meets(canvas, *vessel[:2], max(vessel[2:])):
            distance = rod(canvas, *vessel)
            tissue.append((distance, p.blood))
            bounds.append((distance, -1.0 if len(bounds) < 4 else -0.5))
    return bounds


def _gullet(p: Person, canvas: Canvas) -> None:
    rng = p.rng("gullet's air")
    width, height, phase = rng.uniform(2, 8), rng.uniform(1.2, 6), rng.uniform(0, 6)
    x, y = gullet_at(p, canvas.z)
    if not -p.height < canvas.z < 55:
        return
    part = canvas.window(x, y, 14)
    part.paint(ellipse(part, x, y, max(8, width + 4), max(5.5, height + 3)), 40.0)
    if p.has("gullet_air") and np.sin(canvas.z / 21 + phase) > -0.2:
        part.paint(ellipse(part, x, y, width, height), -900.0)


def draw_neck(p: Person, canvas: Canvas) -> None:
    """Thyroid, vessels and muscles of the neck."""
    z = canvas.z
    if not 0 < z < 140:
        return
    rng = p.rng("neck's organs")
    goitre = rng.uniform(0.8, 1.5)
    front = p.spine(z)[1] - 28
    for side in (-1, 1):
        canvas.paint(ellipsoid(canvas, (side * 17, front + 4, 28), (10 * goitre, 12, 26)), 105.0)
        x = side * float(np.interp(z, (0, 60, 140), (26, 29, 34)))
        part = canvas.window(x, front + 10, 30)
        part.paint(ellipse(part, x, front + 12, 16, 11), FAT + 10)
        part.paint(ellipse(part, x, front + 10, 4, 4), p.blood)
        part.paint(ellipse(part, x + side * 8, front + 12, 7, 5), p.blood)
        muscle = canvas.window(x + side * 12, front + 20, 30)
        fat = np.abs(ellipse(muscle, x + side * 13, front + 14, 12, 22, side * 0.3)) - 0.9
        muscle.paint(fat, FAT)
