"""One slice of the lung phantom: `make_slice` draws the anatomy, fills the lungs and scans it."""

import dataclasses

import numpy as np
from scipy import ndimage

from .anatomy import Measures, draw_bones, draw_wall, rib_cage
from .canvas import Canvas
from .lungs import draw_lungs
from .mediastinum import draw_mediastinum

PADDING = (None, -1024, -2000, -3024)  # HU outside the scanner's circle; None: no circle to see


@dataclasses.dataclass(frozen=True)
class PhantomSlice:
    """A generated slice; all arrays [size, size], the patient's right on the left, back down."""

    hu: np.ndarray  # int16, Hounsfield units
    lung: np.ndarray  # bool, both lungs with their vessels and nodules, without the main airways
    nodule: np.ndarray  # bool, within `lung`; often empty
    spacing_mm: tuple[float, float]  # (row, column) distance of pixel centres


def make_slice(index: int, seed: int = 0, size: int = 512) -> PhantomSlice:
    """Draw slice `index` of the phantom with this seed; every slice can be made alone.

    Args:
        index: 0 or more; with `seed` it decides everything.
        seed: 0 or more.
        size: rows and columns; chest, nodules and field of view in mm stay the same.
    """
    # Each stage has its own generator: a picture of another size draws other amounts from some.
    rng, lung_rng, scan_rng = np.random.default_rng((seed, index)).spawn(3)
    measures = Measures.draw(rng)
    fov_mm = float(np.clip(2 * measures.width * rng.uniform(1.12, 1.54), 284, 484))
    canvas = Canvas(size, fov_mm, (rng.normal(0, 5), rng.normal(0, 7)))
    cage = rib_cage(rng, measures)
    muscle = draw_wall(rng, canvas, measures, cage)
    draw_bones(rng, canvas, measures, cage, muscle)
    mediastinum, hila = draw_mediastinum(rng, canvas, measures, cage)
    lung, nodule = draw_lungs(lung_rng, canvas, measures, cage, mediastinum, hila)
    padding = PADDING[rng.choice(4, p=(0.25, 0.1, 0.25, 0.4))]
    hu = _scan(scan_rng, canvas.hu, measures.level)
    if padding is not None:
        axis = (np.arange(size) + 0.5) / size * 2 - 1
        circle = axis[:, None] ** 2 + axis**2 <= 1
        hu[~circle] = padding
        lung, nodule = lung & circle, nodule & circle
    return PhantomSlice(hu, lung, nodule, (fov_mm / size, fov_mm / size))


def _scan(rng: np.random.Generator, hu: np.ndarray, level: float) -> np.ndarray:
    """What the scanner makes of true HU: blur of its kernel, noise, streaks, whole numbers."""
    size = len(hu)
    hu = ndimage.gaussian_filter(hu, rng.uniform(0.55, 1.05) * size / 512, mode="nearest")
    grain = rng.standard_normal(hu.shape)
    soft = ndimage.gaussian_filter(rng.standard_normal(hu.shape), 0.9, truncate=2.5)
    share = rng.uniform(0.1, 0.7)  # of the noise that is correlated between neighbours
    noise = np.sqrt(1 - share) * grain + np.sqrt(share) / soft.std() * soft
    streak = ndimage.gaussian_filter1d(soft, 7 * size / 512, axis=1)
    shoulders = 0.04 + 0.6 * max(0.0, 0.45 - level)  # their bone leaves stripes from side to side
    noise += shoulders / streak.std() * streak
    hu = hu + rng.uniform(40, 85) * noise
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
