"""What lies around a person in a scanner: table, mattress, cushions, blankets, clothes, wires."""

import numpy as np

from .body import Outline, trunk
from .canvas import BEARING, Canvas, Ring
from .person import Person


def draw_surroundings(p: Person, canvas: Canvas, shape: Outline) -> None:
    """Drawn before the body, which hides what it overlaps."""
    if p.has("table"):
        _table(p, canvas)
    if p.has("cushion"):
        _cushions(p, canvas)
    if p.has("blanket"):
        _sheets(p, canvas, shape.skin, "blanket", (3, 26), (1, 7))
    if p.has("clothes"):
        _sheets(p, canvas, shape.skin, "clothes", (0.5, 5), (0.2, 2.5))
    if p.has("electrodes"):
        _wires(p, canvas, shape.skin)


def back_mm(p: Person) -> float:
    """How far down the picture the trunk reaches, mm from the chest's centre."""
    lowest = 0.0
    for level in (0.25, 0.6, 0.95):
        skin, _ = trunk(p, -level * p.height)
        lowest = max(lowest, float((skin * np.sin(BEARING + p.turn)).max()))
    return lowest


def _frame(canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    return canvas.across[None, :], canvas.down[:, None]


def _table(p: Person, canvas: Canvas) -> None:
    """A board with a mattress: flat or hollow, thin or deep, with rails or a frame in some."""
    rng = p.rng("table")
    across, down = _frame(canvas)
    kind = rng.integers(4)
    bend = (rng.uniform(0, 1 / 4000), *rng.uniform((1 / 2500, 1 / 900), (1 / 900, 1 / 420)), 0.0)[
        kind
    ]
    half, thick = rng.uniform(190, 265), rng.uniform(8, 60)
    gap, pad = rng.uniform(-2, 14), rng.uniform(0, 24) * (rng.random() < 0.6)
    soft, sunk = p.rng("mattress"), 0.0
    if soft.random() < 0.4:  # thick and soft: foam reaches up around the back
        pad = soft.uniform(20, 70)
        sunk = pad * soft.uniform(0.4, 1)
    aside, tilt = rng.normal(0, 12), rng.normal(0, 0.01)
    x = across - aside
    top = back_mm(p) + gap + pad - sunk
    below = down - top + bend * x**2 + tilt * x
    side = np.abs(x) - half
    foam, filling = rng.uniform(-990, -830), rng.uniform(-1000, -900)
    if pad:
        mattress = np.maximum(np.maximum(-below - pad, below), side + rng.uniform(0, 60))
        canvas.paint(mattress, foam)
        cover = np.maximum(np.abs(below + pad) - 0.6, side + 30)
        canvas.paint(cover, rng.uniform(-850, -500))
    board = np.maximum(np.maximum(-below, below - thick), side)
    canvas.paint(board, filling)
    shells = (
        (rng.uniform(0.6, 2.2), rng.uniform(-650, 100)),
        (rng.uniform(0.6, 2.0), rng.uniform(-500, 250)),
    )
    for depth, (wall, hu) in zip((0.0, thick), shells, strict=True):
        canvas.paint(np.maximum(np.abs(below - depth) - wall, side), hu)
    canvas.paint(
        np.maximum(np.abs(side) - shells[0][0], np.maximum(-below, below - thick)), shells[0][1]
    )
    frame, deeper = rng.random(3), rng.uniform(10, 90)
    if frame[0] < 0.5:  # a second board
        canvas.paint(
            np.maximum(np.abs(below - thick - deeper) - 1.2, np.abs(x) - 0.55 * half), 150.0
        )
    if frame[1] < 0.35:  # slanting struts and rails
        for sign in (-1, 1):
            strut = np.abs(sign * x - 0.85 * half + 0.8 * (below - thick)) - 4
            strut = np.maximum(np.maximum(strut, thick - below), below - thick - 55)
            canvas.paint(strut, -200.0)
            canvas.paint(strut + 2, -850.0)
    if frame[2] < 0.3:
        for sign in (-1, 1):
            rail = np.maximum(
                np.abs(sign * x - half - 6) - 5, np.abs(below - 6) - rng.uniform(6, 20)
            )
            canvas.paint(rail, 300.0)
            canvas.paint(rail + 2, -700.0)
    if canvas.z > 20:
        _head_rest(p, canvas, rng)


def _head_rest(p: Person, canvas: Canvas, rng: np.random.Generator) -> None:
    """A shell of foam around the back of neck and head, or a block under it."""
    across, down = _frame(canvas)
    wide, deep, thick = rng.uniform(95, 135), rng.uniform(105, 140), rng.uniform(6, 18)
    ring = np.hypot(across / wide, down / deep) - 1
    shell = np.maximum(np.abs(ring * wide) - thick, rng.uniform(-20, 40) - down)
    canvas.paint(shell, -600.0)
    canvas.paint(shell + 2, rng.uniform(-970, -800))


def _cushions(p: Person, canvas: Canvas) -> None:
    """Foam wedges and pillows beside, under and over the person."""
    rng = p.rng("cushions")
    across, down = _frame(canvas)
    for _ in range(rng.integers(1, 5)):
        turn, spot = rng.uniform(-0.5, 1.0) * np.pi, rng.uniform(0.9, 1.4)
        at = spot * (p.width + 40 + p.fat) * np.cos(turn), spot * (p.depth + 40) * np.sin(turn)
        axes, height = rng.uniform(20, 110, 2), rng.uniform(-1.6, 0.9) * p.height
        long, power = rng.uniform(40, 220), rng.uniform(2, 6)
        foam, cover = rng.uniform(-985, -750), rng.uniform(-900, -300)
        share = 1 - ((canvas.z - height) / long) ** 2
        if share <= 0.05:
            continue
        size = axes * np.sqrt(share)
        u, v = np.abs((across - at[0]) / size[0]), np.abs((down - at[1]) / size[1])
        pillow = ((u**power + v**power) ** (1 / power) - 1) * size.min()
        canvas.paint(pillow - 1, cover)
        canvas.paint(pillow, foam + 12 * p.field("foam", canvas, 12))


def _sheets(p: Person, canvas: Canvas, skin: np.ndarray, name: str, lifts, folds) -> None:
    """Thin layers at some distance from the skin, in folds."""
    rng = p.rng(name)
    above = canvas.down[:, None] < back_mm(p) - rng.uniform(0, 80)
    for number in range(rng.integers(1, 4)):
        lift, fold = rng.uniform(*lifts), rng.uniform(*folds)
        ring, thick, solid = Ring(rng, 16, 60), rng.uniform(0.3, 1.4), rng.uniform(0.25, 0.8)
        course = lift + fold * ring.at(canvas.z)
        waves = 0.5 * fold * p.field(f"{name} {number}", canvas, 22)
        sheet = np.abs(skin - canvas.polar(np.maximum(course, 0.5)) - waves) - thick
        canvas.paint(np.where(above, sheet, 99.0), -550.0, opacity=solid)


def _wires(p: Person, canvas: Canvas, skin: np.ndarray) -> None:
    rng = p.rng("wires")
    for _ in range(rng.integers(2, 8)):
        x, y, drift = (
            rng.uniform(-1.1, 1.1) * p.width,
            rng.uniform(-1.6, -0.7) * p.depth,
            rng.normal(0, 0.3),
        )
        radius, hu, height = (
            rng.uniform(0.8, 2.2),
            rng.uniform(-300, 2500),
            rng.uniform(-1, 0) * p.height,
        )
        part = canvas.window(x + drift * (canvas.z - height), y, 6)
        part.paint(np.hypot(part.x - x - drift * (canvas.z - height), part.y - y) - radius, hu)
        if abs(canvas.z - height) < 12:
            stuck = np.maximum(
                np.abs(skin - 1) - 1.2, np.hypot(canvas.x - x, canvas.y + p.depth) - 14
            )
            canvas.paint(stuck, 400.0)
