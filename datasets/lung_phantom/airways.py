"""Airways outside the lungs: nose, mouth, throat, windpipe and main bronchi."""

import numpy as np

from .canvas import FAR, Canvas, ellipse, ellipsoid, meets, rod, union
from .mediastinum import gullet_at, hila
from .person import Person

AIR = -985.0


def main_airways(p: Person) -> list[tuple[tuple, tuple, float, float]]:
    """Windpipe and bronchi up to the hila as rods (start, end, radii of the lumen)."""
    rng = p.rng("windpipe")
    wide, lean = rng.uniform(6.5, 9.5), rng.normal(0, 3)
    heights = (58.0, 20.0, -20.0, p.carina + 30, p.carina)
    course = []
    for k, z in enumerate(heights):
        x, y = gullet_at(p, z)
        course.append((0.5 * x + lean * k / 4 + 0.2 * p.shift * k, y - 15.0 + 0.5 * k, z))
    rods = [(a, b, wide, wide) for a, b in zip(course[:-1], course[1:], strict=True)]
    fork = course[-1]
    for at, sign, thick in zip(hila(p), (-1, 1), (0.82, 0.72), strict=True):
        if p.lost != sign:
            entry = tuple(at + (-sign * 8, 4, -4))
            rods.append((fork, entry, wide * thick, wide * thick * 0.85))
            rods.append((entry, tuple(at + (sign * 4, 8, -16)), wide * 0.55, wide * 0.42))
            rods.append((entry, tuple(at + (sign * 8, 0, 14)), wide * 0.5, wide * 0.35))
    return rods


def draw_airways(p: Person, canvas: Canvas, silhouette: np.ndarray | None) -> np.ndarray | None:
    """Windpipe and bronchi: air, but no lung, so `silhouette` [H, W] grows around them."""
    for start, end, r0, r1 in main_airways(p):
        if not meets(canvas, start, end, r0 + 2):
            continue
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        reach = np.hypot(end[0] - start[0], end[1] - start[1]) / 2 + r0 + 12
        where, part = canvas.slices(*middle, reach), canvas.window(*middle, reach)
        tube = rod(part, start, end, r0, r1)
        if silhouette is not None:
            silhouette[where] = union(silhouette[where], tube - 1.5, 3)
        part.paint(tube - 1.5, np.maximum(30.0, np.where(tube > 0, 30.0, part.hu)))
    for start, end, r0, r1 in main_airways(p):  # after all walls, so that none crosses a lumen
        if meets(canvas, start, end, r0 + 2):
            canvas.paint(rod(canvas, start, end, r0, r1), AIR)
    return silhouette


def draw_head_air(p: Person, canvas: Canvas) -> None:
    """Voice box, throat, mouth, nose, and the air in the bones of the face."""
    z = canvas.z
    if z < 45:
        return
    rng = p.rng("throat")
    open_mouth, full, tall = rng.uniform(1, 9), rng.random(2) < 0.25, rng.uniform(-6, 6)
    throat = ((58, 0, 4), (64, 0, 3), (78, 0, 12), (96, 0, 14), (110, 0, 11), (150, 0, 13))
    zs, _, wide = np.array(throat, float).T
    if z < 172:
        y = p.spine(z)[1] - 24
        a, b = float(np.interp(z, zs, wide)), float(np.interp(z, zs, (8, 7, 4, 7, 6, 8)))
        canvas.paint(np.abs(ellipse(canvas, 0, y, a + 3, b + 3)) - 1.5, 60.0)
        canvas.paint(ellipse(canvas, 0, y, a, b), AIR)
    mouth = ellipsoid(canvas, (0, -48, 128 + tall), (22, 30, open_mouth))
    canvas.paint(mouth, AIR)
    if z > 146:
        for side, blocked in zip((-1, 1), full, strict=True):
            for at, axes in (
                ((side * 29, -46, 166 + tall), (14, 17, 19)),
                ((side * 6, -50, 162 + tall), (3.5, 30, 17)),
                ((side * 11, -58, 200), (6, 12, 14)),
            ):
                hollow = ellipsoid(canvas, at, axes)
                canvas.paint(hollow - 1.2 if np.ndim(hollow) else FAR, 500.0)
                canvas.paint(hollow, 25.0 if blocked and axes[0] > 10 else AIR)
            cells = ellipsoid(canvas, (side * 56, 22, 172), (14, 20, 22))
            if np.ndim(cells):
                canvas.paint(cells, np.where(p.field("cells", canvas, 4) > -0.2, -750.0, 550.0))
            canal = (side * 54, 0, 178), (side * 80, 0, 178), 4, 4
            if meets(canvas, *canal[:2], 4):
                canvas.paint(rod(canvas, *canal), AIR)
