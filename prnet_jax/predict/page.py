"""A prediction as one HTML page that needs no network and no other file.

page.js shows the slices, which the page holds as compressed pictures. Names and warnings are not
trusted: they are escaped here.
"""

import html
import math
import pathlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from prnet_jax.figures.pages import facts_table, fill_page, photo_uri, png_uri
from prnet_jax.figures.slices import PRED_COLOUR
from prnet_jax.predict.shown import Shown
from prnet_jax.run.files import write_whole

_PAGE_BYTES = 14_000_000  # about the most that a page has
# Side of a slice in pixels and quality, the best first: the first that fits is taken.
_CHOICES = (
    *((1024, 85), (512, 85), (512, 80), (512, 70), (384, 85), (384, 75)),
    *((320, 70), (256, 65), (192, 55), (128, 50)),
)
_TRIED = 8  # slices by which that is judged
_MASK_PX, _PROB_PX = 1024, 192  # most that a mask's and a probability's longest side has
_PROB_LEVELS = 32
# HU and their grey levels, joined by lines. One picture serves all windows: most levels are where
# the narrow window of soft tissue is.
_LEVELS_OF_HU = ((-1024, 0), (-200, 100), (300, 225), (1500, 255))
_WINDOWS = (("lung", -1350, 150), ("soft tissue", -160, 240))  # HU


def write_page(
    path: pathlib.Path, shown: Shown, probs: Sequence[str | None], about: Mapping[str, Any]
) -> None:
    """Writes the page.

    Args:
        path: the HTML file to write; replaced where it exists.
        shown: the prediction.
        probs: of `embedded_prob`, one for each slice.
        about: `weights`, `settings` with the threshold, and `software`, of the report.
    """
    depth = len(probs)
    masks = [_embedded_mask(shown.slice(z)[1]) for z in range(depth)]
    room = _PAGE_BYTES - sum(len(uri) for uri in [*masks, *probs] if uri)
    marked = [int(np.count_nonzero(shown.slice(z)[1])) for z in range(depth)]
    areas, area_unit = _areas(shown, marked)
    height, width = np.array(shown.mask.shape[:2]) * shown.pixel_mm
    windows = [*_WINDOWS, ("network", *shown.window)] if shown.unit == "HU" else []
    data = {
        "slices": _embedded_slices(shown, room),
        "masks": masks,
        "probs": probs,
        "areas": areas,
        "area_unit": area_unit,
        "aspect": width / height,
        "windows": [{"name": name, "low": low, "high": high} for name, low, high in windows],
        "levels": _levels(shown),
        "threshold": about["settings"]["threshold"],
        "colour": PRED_COLOUR,
        "start": int(np.argmax(marked)) if any(marked) else depth // 2,
        "oriented": shown.oriented,
    }
    name = html.escape(shown.source.stem)
    text = fill_page(
        pathlib.Path(__file__).parent,
        data,
        title=f"Prediction: {name}",
        name=name,
        size=html.escape(shown.size),
        warnings=_warnings(shown.row["warnings"]),
        facts=facts_table(_facts(shown)),
        settings=facts_table(_settings(about)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def embedded_prob(prob: np.ndarray) -> str | None:
    """A probability, float32 [H, W], coarse and as a data URI; None where it is 0 everywhere."""
    small = np.asarray(_reduced(Image.fromarray(prob), _PROB_PX))
    levels = np.round(np.clip(small, 0, 1) * (_PROB_LEVELS - 1))
    if not levels.any():
        return None
    return png_uri(Image.fromarray(np.round(levels * 255 / (_PROB_LEVELS - 1)).astype(np.uint8)))


def _areas(shown: Shown, marked: Sequence[int]) -> tuple[list[float], str]:
    """The marked areas of the slices and their unit, which suits the largest."""
    if shown.scan.spacing_mm is None:
        return list(marked), "px"
    areas = [n * math.prod(shown.scan.spacing_mm) for n in marked]
    return ([area / 100 for area in areas], "cm²") if max(areas) >= 1000 else (areas, "mm²")


def _embedded_mask(mask: np.ndarray) -> str | None:
    if not mask.any():
        return None
    grey = _reduced(Image.fromarray(np.uint8(255) * mask), _MASK_PX)
    return png_uri(grey.point(lambda level: 255 * (level > 127), "1"))


def _embedded_slices(shown: Shown, room: int) -> list[str]:
    """All slices, each about as good as `room` characters allow."""
    depth = shown.row["slices"]
    tried = np.linspace(0, depth - 1, min(depth, _TRIED)).round().astype(int).tolist()
    for choice in _CHOICES:
        mean = np.mean([len(_embedded_slice(shown, z, *choice)) for z in tried])
        if 1.05 * mean * depth <= room:
            break
    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda z: _embedded_slice(shown, z, *choice), range(depth)))


def _embedded_slice(shown: Shown, z: int, side: int, quality: int) -> str:
    levels = np.interp(shown.slice(z)[0], *np.transpose(_levels(shown)))
    picture = _reduced(Image.fromarray(np.round(levels).astype(np.uint8)), side)
    return photo_uri(picture, quality, effort=2)


def _levels(shown: Shown) -> Sequence[tuple[float, float]]:
    """(value, grey level) where the lines between them change their slope."""
    low, high = shown.window
    return _LEVELS_OF_HU if shown.unit == "HU" else ((low, 0), (high, 255))


def _reduced(picture: Image.Image, most: int) -> Image.Image:
    """The picture with at most that many pixels along its longest side."""
    zoom = most / max(picture.size)
    if zoom >= 1:
        return picture
    size = [max(1, round(n * zoom)) for n in picture.size]
    return picture.resize(size, Image.Resampling.BILINEAR)


def _warnings(warnings: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(text)}</li>" for text in warnings)
    return f'<div id="warnings"><h2>Warnings</h2><ul>{items}</ul></div>' if items else ""


def _facts(shown: Shown) -> dict[str, str]:
    row, scan = shown.row, shown.scan
    facts = {"input": shown.source.name, "mask": row["mask"], "marked": shown.size}
    if scan.pixels.ndim == 3:
        facts["slices marked"] = f"{row['slices_marked']} of {row['slices']}"
    share = 100 * row["pixels_marked"] / shown.mask.size
    facts["pixels marked"] = f"{row['pixels_marked']:,} ({share:.3g} %)"
    facts["components"] = f"{row['components']:,}"
    if row["mean_inside"] is not None:
        facts["mean inside"] = f"{row['mean_inside']:.1f} {'HU' * (shown.unit == 'HU')}".strip()
    facts["pixels"] = " x ".join(map(str, scan.pixels.shape))
    if scan.spacing_mm is not None:
        facts["pixel size"] = " x ".join(f"{mm:.3g}" for mm in scan.spacing_mm) + " mm"
    if scan.affine is not None and scan.pixels.ndim == 3:
        mean = "" if scan.evenly_spaced else " on average"
        facts["slice distance"] = f"{np.linalg.norm(scan.affine[:3, 2]):.3g} mm{mean}"
    return facts


def _settings(about: Mapping[str, Any]) -> dict[str, Any]:
    settings = {k: v for k, v in about["settings"].items() if v not in (None, False)}
    weights = about["weights"]
    names = [f"weights {i + 1}" if len(weights) > 1 else "weights" for i in range(len(weights))]
    named = dict(zip(names, weights, strict=True))
    return {**named, "settings": settings, "software": about["software"]}
