"""Slices and volumes of the lung phantom: a cut through a person, scanned."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from .abdomen import draw_under_domes
from .airways import draw_airways, draw_head_air
from .body import cavity, draw_body, outline
from .bones import draw_bones, draw_spine
from .canvas import Canvas, common, union
from .diaphragm import dome, tops
from .lungs import tissue_of
from .mediastinum import draw_mediastinum, draw_neck, lost_side
from .pathology import change_tissue, draw_fluid, draw_nodules
from .person import Person
from .scanner import Scan
from .surroundings import draw_surroundings

JAW, HIPS = 200.0, -300.0  # the scan's ends: mm above the lungs' top, and from their base
RIM_MM = 0.2  # of the wall's blurred edge that counts as lung, as in masks drawn by threshold
SMALLEST_MM2 = 25.0  # a smaller island of lung is closed


@dataclasses.dataclass(frozen=True)
class PhantomSlice:
    """A generated slice; all arrays [size, size], as a rule with the person's right on the left."""

    hu: np.ndarray  # int16, Hounsfield units
    lung: np.ndarray  # bool, the lungs with their vessels and nodules, without the main airways
    nodule: np.ndarray  # bool, within `lung`; often empty
    body: np.ndarray  # bool, the person
    spacing_mm: tuple[float, float]  # (row, column) distance of pixel centres


@functools.lru_cache(maxsize=8)
def _person(seed: int, number: int, features: tuple) -> Person:
    return Person.draw(seed, number, dict(features))


def make_slice(
    index: int,
    seed: int = 0,
    size: int = 512,
    per_person: int = 1,
    features: Mapping[str, bool] | None = None,
) -> PhantomSlice:
    """Draw slice `index` of the phantom with this seed; every slice can be made alone.

    Args:
        index: 0 or more; with `seed` and `per_person` it decides everything.
        seed: 0 or more.
        size: rows and columns; the person and the field of view in mm stay the same.
        per_person: slices of one person, who is number `index // per_person`.
        features: forces some of `person.FEATURES` on or off.

    Raises:
        InputError: a feature that does not exist.
    """
    number, turn = divmod(index, per_person)
    person = _person(seed, number, tuple(sorted((features or {}).items())))
    return cut(person, height_of(person, turn), size)


def height_of(person: Person, turn: int) -> float:
    """The height of a person's slice number `turn`: four of five within the lungs."""
    rng = np.random.default_rng((*person.seed, 2, turn))
    where, share = rng.random(), rng.random()
    middle = rng.beta(1.7, 1.6)
    if where < 0.11:
        return JAW * share
    if where < 0.24:
        return -person.height + 15 + (HIPS - 15) * share
    return -person.height * (middle if where < 0.8 else share)


def cut(person: Person, z: float, size: int, orient: bool = True) -> PhantomSlice:
    """The slice of a person around height `z`; without `orient` as it was scanned."""
    scan = Scan.draw(person)
    depths = (-0.32, 0.0, 0.32) if scan.thickness_mm else (0.0,)
    drawn = [_draw(person, scan, z + depth * scan.thickness_mm, size) for depth in depths]
    canvas = drawn[len(drawn) // 2][0]
    canvas.hu = sum(layer.hu for layer, _ in drawn) / len(drawn)
    masks = sum(masks.astype(np.uint8) for _, masks in drawn) * 2 > len(drawn)
    hu, inside = scan.run(person, canvas)
    found = (hu, *(masks & inside))
    found = [scan.orient(picture) for picture in found] if orient else found
    return PhantomSlice(*found, (canvas.pixel_mm, canvas.pixel_mm))


def _draw(person: Person, scan: Scan, z: float, size: int) -> tuple[Canvas, np.ndarray]:
    """A plane as it is in the person, and its masks of lungs, nodules and body, bool [3, H, W]."""
    canvas = Canvas(size, scan.fov_mm, scan.centre_mm, z, person.turn)
    shape = outline(person, canvas)
    draw_surroundings(person, canvas, shape)
    draw_body(person, canvas, shape)
    lung, nodule = _inside(person, canvas, shape.muscle)
    return canvas, np.stack((lung, nodule, shape.skin < 0))


def _inside(p: Person, canvas: Canvas, muscle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Everything within the muscles; returns the masks [H, W] of lungs and nodules."""
    draw_bones(p, canvas, muscle)
    draw_neck(p, canvas)
    none = np.zeros(canvas.hu.shape, bool)
    lung, nodule, bounds = none, none, None
    if canvas.z < 0:
        wall = canvas.within(cavity(p, canvas.z))
        bounds = draw_mediastinum(p, canvas, wall)
        under = union(dome(p, canvas, -1), dome(p, canvas, 1), 1e-3)
        if canvas.z < -p.height:
            under = wall
        if np.ndim(under):
            under = np.maximum(under, wall)
            draw_under_domes(p, canvas, under)
            bounds = union(bounds, under, 5)
    draw_spine(p, canvas)
    bounds = draw_airways(p, canvas, bounds)
    draw_head_air(p, canvas)
    if -p.height < canvas.z < 0:
        lung, nodule = _lungs(p, canvas, wall, bounds)
    return lung, nodule


def _lungs(
    p: Person, canvas: Canvas, wall: np.ndarray, bounds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fill what is left of the cavity with lung; returns the masks [H, W] of lungs and nodules."""
    top = tops(p, canvas)
    outside = common(wall if top is None else common(wall, top, 10), -bounds, 10)
    if p.lost:
        outside = np.maximum(outside, lost_side(p, canvas) + 6)
    outside = draw_fluid(p, canvas, wall, outside)
    outside = _without_islands(outside, canvas.pixel_mm)
    lung = outside < RIM_MM
    if not lung.any():
        return lung, lung
    tissue = tissue_of(p, canvas, outside)
    change_tissue(p, canvas, tissue, outside)
    nodule = draw_nodules(p, canvas, tissue)
    canvas.paint(outside, tissue)
    return lung, nodule & lung


def _without_islands(outside: np.ndarray, pixel_mm: float) -> np.ndarray:
    labels, count = ndimage.label(outside < 0)
    small = np.bincount(labels.ravel(), minlength=count + 1) * pixel_mm**2 < SMALLEST_MM2
    small[0] = False
    near = ndimage.maximum_filter(small[labels], 3)
    return np.where(near, np.maximum(outside, pixel_mm), outside)
