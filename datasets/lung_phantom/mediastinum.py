"""Between the lungs: spine, heart, great vessels, windpipe, and the organs under the diaphragm."""

import numpy as np
from scipy import ndimage

from .anatomy import CORTEX, FAT, MUSCLE, Measures, ramp
from .canvas import Canvas, capsule, ellipse, smooth_field, union


def draw_spine(rng: np.random.Generator, canvas: Canvas, m: Measures) -> None:
    """A thoracic vertebra: body, canal with the cord, arch and processes."""
    x, y = m.spine
    part = canvas.window(x, y + 25, 75)
    a, b = rng.uniform(15.5, 19), rng.uniform(13.5, 16.5)
    body = ellipse(part, x, y, a, b)
    canal = y + b + 6.5
    arch = 99.0
    for side in (-1, 1):
        joint = (x + side * 12, canal + 1)
        tip = (x + side * rng.uniform(24, 33), canal + rng.uniform(4, 10))
        arch = union(arch, capsule(part, (x + side * 10, y + b - 4), joint, 4, 4), 2)
        arch = union(arch, capsule(part, joint, tip, 4.5, 3.5), 2)
        arch = union(arch, capsule(part, joint, (x, canal + 12), 3, 3), 2)
    tail = capsule(part, (x, canal + 12), (x + rng.normal(0, 1), canal + rng.uniform(20, 32)), 3, 2)
    spongy = 210 + 40 * np.abs(np.sin(part.x * 1.3) * np.sin(part.y * 1.1))
    for distance in (union(arch, tail, 3), body):
        part.paint(distance, CORTEX * 0.75)
        part.paint(distance + 1.5, spongy)
    hollow = ellipse(part, x, canal, 9, 7.5)
    part.paint(hollow, FAT / 2)
    part.paint(hollow + 1.8, 30.0)


def draw_mediastinum(
    rng: np.random.Generator, canvas: Canvas, m: Measures, cage: np.ndarray
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Everything between the lungs.

    Returns the distance to it [H, W], which bounds the lungs, and the two places where vessels
    enter them (right lung first).
    """
    size = len(canvas.hu)
    cavity = canvas.radius - canvas.polar(cage)
    canvas.paint(cavity, FAT + 15 + 20 * np.clip(smooth_field(rng, size, 30), 0, 1))
    silhouette, half = _column(rng, canvas, m)
    tissue = []  # (distance, HU), painted once the silhouette is known
    hilum_y = m.depth * rng.uniform(-0.02, 0.16)
    hila = [(float(s * np.interp(hilum_y, *half[s])), hilum_y + rng.normal(0, 5)) for s in (-1, 1)]
    if (heart := ramp(m.level, 0.38, 0.62)) > 0.15:
        organ = _heart(rng, canvas, m, heart, tissue)
        silhouette = union(silhouette, organ, 10)
    else:  # the vessels above the heart
        for x, y, r in ((14, -0.3, 13), (-17, -0.28, 9), (22, 0.0, 11), (-2, -0.5, 9)):
            x, y = x + rng.normal(0, 3), y * m.depth + rng.normal(0, 4)
            tissue.append((ellipse(canvas, x, y, r * rng.uniform(0.8, 1.3), r), m.blood))
    at = (m.spine[0] + rng.uniform(17, 26), m.spine[1] - rng.uniform(12, 24))
    aorta = ellipse(canvas, *at, *rng.uniform(10, 14, 2))
    tissue.append((aorta, m.blood))
    silhouette = union(silhouette, aorta - 1, 6)
    if 0.3 < m.level < 0.8:  # pulmonary arteries and veins at the hila
        for side, (x, y) in zip((-1, 1), hila, strict=True):
            r = rng.uniform(6, 11)
            vessel = capsule(canvas, (x - side * 25, y - 6), (x + side * 3, y), r + 2, r)
            tissue.append((vessel, m.blood))
            silhouette = union(silhouette, vessel - 0.5, 4)
    for side, base, start in ((-1, 80, 0.74), (1, 62, 0.84)):  # liver and spleen in their domes
        grown = np.sqrt(ramp(m.level, start, 1.1))
        if grown > 0:
            at = (side * m.width * rng.uniform(0.5, 0.6), -m.depth * rng.uniform(0.0, 0.2))
            dome = ellipse(canvas, *at, base * grown * 1.05, base * grown)
            dome += 2 * smooth_field(rng, size, 7)
            tissue.append((dome + 1, rng.uniform(50, 65) + 0.15 * (m.blood - 40)))
            silhouette = union(silhouette, dome, 5)
    for distance, hu in tissue:
        canvas.paint(np.maximum(distance, cavity), hu)
    draw_spine(rng, canvas, m)
    gullet = (m.spine[0] + rng.uniform(-3, 6), m.spine[1] - rng.uniform(20, 24))
    part = canvas.window(*gullet, 12)
    part.paint(ellipse(part, *gullet, 8, 5.5), 40.0)
    if rng.random() < 0.4:
        part.paint(ellipse(part, *gullet, 2.5, 1.5), -900.0)
    _draw_windpipe(rng, canvas, m, gullet[1] - 14, hila, silhouette)
    return silhouette + 1.3 * smooth_field(rng, size, 14), hila


def _heart(rng, canvas: Canvas, m: Measures, grown: float, tissue: list) -> np.ndarray:
    """Distance to the heart with its fat; its muscle and chambers are added to `tissue`."""
    a, b = grown * rng.uniform(56, 67), grown * rng.uniform(44, 53)
    x, y = rng.uniform(14, 30) * grown, -m.depth * rng.uniform(0.2, 0.32)
    heart = ellipse(canvas, x, y, a, b, rng.uniform(0.3, 0.8))
    heart += 2 * smooth_field(rng, len(canvas.hu), 8)
    tissue.append((heart + rng.uniform(2, 5), MUSCLE))
    if m.blood > 60:  # contrast medium separates chambers from muscle
        for _ in range(3):
            dx, dy = rng.uniform(-0.42, 0.42, 2) * (a, b)
            chamber = ellipse(canvas, x + dx, y + dy, a * 0.42, b * 0.46)
            tissue.append((np.maximum(chamber, heart + 9), m.blood * rng.uniform(0.7, 1.0)))
    return heart


def _column(rng, canvas: Canvas, m: Measures):
    """The mediastinum's two borders as half widths down the picture."""
    heights = np.array([-1.1, -0.85, -0.6, -0.25, 0.03, 0.25, 0.6, 1.1]) * m.depth
    levels = (0.1, 0.4, 0.65, 0.95)
    widths = np.array(
        [
            (34, 34, 34, 34, 31, 19, 14, 30),
            (14, 7, 22, 34, 30, 12, 14, 30),
            (16, 12, 20, 30, 22, 9, 14, 30),
            (26, 34, 40, 38, 24, 10, 14, 30),
        ]
    )
    width = np.array([np.interp(m.level, levels, column) for column in widths.T])
    fine = np.linspace(heights[0], heights[-1], 200)
    half = {}
    for side in (-1, 1):
        jitter = width * rng.uniform(0.8, 1.15, len(width))
        jitter[1] *= rng.uniform(0.4, 1.0)
        smooth = ndimage.gaussian_filter1d(np.interp(fine, heights, jitter), 7)
        half[side] = (fine, smooth)
    sway = np.clip(0.5 - canvas.y / m.depth, 0, 1)  # the spine does not move, the front does
    middle = m.spine[0] + rng.normal(0, 6) * sway
    right = np.interp(canvas.y, *half[1])
    left = np.interp(canvas.y, *half[-1])
    column = np.maximum(canvas.x - middle - right, middle - left - canvas.x)
    return union(column, ellipse(canvas, *m.spine, 21, 19), 8), half


def _draw_windpipe(rng, canvas: Canvas, m: Measures, y: float, hila, silhouette) -> None:
    """Trachea, or the main bronchi below its fork: air, but no lung, so `silhouette` grows."""
    if m.level < 0.4:
        pipes = [(rng.normal(0, 2), y, rng.uniform(7.5, 10), rng.uniform(7.5, 10), 0.0)]
    elif m.level < 0.55:
        apart = 7 + 110 * (m.level - 0.4)
        pipes = [
            (s * apart, y + 2, rng.uniform(7, 9), rng.uniform(5, 6.5), s * 0.35) for s in (-1, 1)
        ]
    elif m.level < 0.75:
        pipes = [
            (x + s * rng.uniform(-8, 0), hy + rng.uniform(8, 12), *rng.uniform(2.5, 4.5, 2), 0)
            for s, (x, hy) in zip((-1, 1), hila, strict=True)
        ]
    else:
        pipes = []
    for pipe in pipes:
        where = canvas.slices(*pipe[:2], 32)
        part = canvas.window(*pipe[:2], 32)
        tube = ellipse(part, *pipe)
        silhouette[where] = union(silhouette[where], tube - 2.5, 3)
        part.paint(tube - 1.5, 30.0)
        part.paint(tube, -985.0)
