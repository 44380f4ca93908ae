"""The scan: field of view, kernel, noise, streaks, metal, HU, the circle's padding, rotation."""

import dataclasses

import numpy as np
from scipy import ndimage

from .canvas import BEARINGS, Canvas, bearing_index
from .person import Person

# HU outside the scanner's circle as readers give it, and how often.
PADDING = {-1024: 0.25, -2000: 0.2, -3024: 0.3, -2048: 0.1, -1500: 0.05, -992: 0.06, 0: 0.04}


@dataclasses.dataclass(frozen=True)
class Scan:
    """The settings of one scan, the same for all slices of a person."""

    fov_mm: float
    centre_mm: tuple[float, float]
    thickness_mm: float  # of a thick slice, 0 of a thin one
    blur: float  # sigma of the kernel, mm
    sharp: float  # strength of its overshoot
    noise: float  # HU at 512 x 512
    smooth: float  # share of the noise that neighbours have in common
    gain: float
    offset: float
    padding: int | None
    circle: tuple[float, float, float]  # centre and radius, in halves of the picture
    floor: bool  # whether HU below -1024 are cut off
    quarters: int  # quarter turns of the picture
    flipped: bool

    @classmethod
    def draw(cls, p: Person) -> "Scan":
        rng = p.rng("scan")
        kind, share = rng.random(), rng.random()
        if kind < 0.76:
            fov, spread = 2 * p.width * (1.12 + 0.42 * share), 7
        elif kind < 0.86:
            fov, spread = 2 * p.width * (0.98 + 0.16 * share), 5
        else:
            fov, spread = 2 * p.width * (1.45 + 0.75 * share), 18
        centre = tuple(rng.normal(0, spread, 2))
        noise = np.exp(rng.uniform(np.log(8), np.log(100)))
        noise = noise if rng.random() < 0.5 else rng.uniform(40, 100)
        gain = rng.uniform(0.74, 0.92) if rng.random() < 0.4 else rng.normal(1, 0.03)
        offset = rng.normal(0, 18)
        padding = rng.choice(list(PADDING), p=list(PADDING.values()))
        off, size = rng.normal(0, 0.015, 2), rng.uniform(0.93, 1.06)
        circle = (*off, size) if rng.random() < 0.3 else (0.0, 0.0, 1.0)
        thick = rng.uniform(2.5, 8)
        scaled, turned = p.has("scaled_hu"), p.has("rotated_picture")
        quarters, flipped = int(rng.integers(4)), bool(rng.random() < 0.5)
        return cls(
            fov_mm=float(np.clip(fov, 240, 720)),
            centre_mm=centre,
            thickness_mm=thick if p.has("thick") else 0.0,
            blur=rng.uniform(0.35, 0.9),
            sharp=rng.uniform(0.2, 0.9) if rng.random() < 0.4 else 0.0,
            noise=noise,
            smooth=rng.uniform(0.05, 0.8),
            gain=gain if scaled else 1.0,
            offset=offset if scaled else 0.0,
            padding=int(padding) if p.has("padding") else None,
            circle=circle,
            floor=bool(rng.random() < 0.7),
            quarters=quarters if turned else 0,
            flipped=flipped and turned,
        )

    def run(self, p: Person, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
        """HU int16 [H, W] of a drawn slice, and bool [H, W]: inside the scanner's circle."""
        rng = np.random.default_rng((*p.seed, 3, round(canvas.z * 64) + 2**20))
        size, pixel = len(canvas.hu), canvas.pixel_mm
        hu = canvas.hu
        if p.has("metal"):
            hu = hu + _streaks(p, canvas, rng)
        hu = ndimage.gaussian_filter(hu, self.blur / pixel, mode="nearest", truncate=3)
        if self.sharp:
            wide = ndimage.gaussian_filter(hu, 1.1 * self.blur / pixel, mode="nearest", truncate=3)
            hu += self.sharp * (hu - wide)
        hu += self.noise * size / 512 * _noise(rng, canvas, self.smooth, p)
        if self.floor:
            np.maximum(hu, -1024, out=hu)
        hu = np.clip(np.rint(hu * self.gain + self.offset), -2000, 3071).astype(np.int16)
        inside = np.ones(hu.shape, bool)
        if self.padding is not None:
            axis = (np.arange(size) + 0.5) / size * 2 - 1
            x, y, radius = self.circle
            inside = (axis[:, None] - y) ** 2 + (axis - x) ** 2 <= radius**2
            hu[~inside] = self.padding
        return hu, inside

    def orient(self, picture: np.ndarray) -> np.ndarray:
        """A picture [H, W] as the file holds it."""
        picture = np.rot90(picture, self.quarters)
        return np.ascontiguousarray(picture[:, ::-1] if self.flipped else picture)


def _noise(rng: np.random.Generator, canvas: Canvas, smooth: float, p: Person) -> np.ndarray:
    """Noise of standard deviation about 1, with stripes from side to side between the shoulders."""
    size = len(canvas.hu)
    grain = rng.standard_normal(canvas.hu.shape)
    soft = ndimage.gaussian_filter(rng.standard_normal(canvas.hu.shape), 0.9, truncate=2.5)
    noise = np.sqrt(1 - smooth) * grain + np.sqrt(smooth) / soft.std() * soft
    streak = ndimage.gaussian_filter1d(soft, max(7 * size / 512, 0.8), axis=1)
    shoulders = 0.03 + 0.5 * np.exp(-0.5 * ((canvas.z + 15) / 40) ** 2)
    if p.has("arms_down"):
        shoulders += 0.12
    return noise + shoulders / streak.std() * streak


def _streaks(p: Person, canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """A piece of metal and the rays it throws: a port or pacemaker, a clip, a rod at the spine."""
    place = p.rng("metal")
    spots = (
        (place.choice((-1, 1)) * 0.5 * p.width, -p.depth - 12.0, -0.12 * p.height, 16.0, 6.0, 22.0),
        (p.shift, -0.8 * p.depth, -0.4 * p.height, 3.0, 3.0, 0.3 * p.height),
        (14.0, p.spine(-0.7 * p.height)[1] + 18, -0.7 * p.height, 4.0, 8.0, 0.3 * p.height),
        (30.0, -40.0, 128.0, 4.0, 5.0, 14.0),
    )
    x, y, z, a, b, c = spots[place.integers(len(spots))]
    strength = place.uniform(80, 700)
    share = 1 - ((canvas.z - z) / c) ** 2
    if share <= 0:
        return np.zeros(canvas.hu.shape)
    dx, dy = canvas.x - x, canvas.y - y
    away = np.hypot(dx, dy)
    rays = ndimage.gaussian_filter1d(rng.standard_normal(BEARINGS), 9, mode="wrap")
    rays = rays / rays.std() * strength * np.sqrt(share)
    metal = (dx / a) ** 2 + (dy / b) ** 2 < 1
    return rays[bearing_index(dx, dy)] / (1 + away / 18) + 4000.0 * metal
