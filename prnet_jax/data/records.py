"""The record of a CT slice, the same for every builder in `datasets/`.

Hounsfield units are stored in a 16-bit PNG as HU + 32768, which holds every int16 value. Grey
values of pictures that are no longer HU are stored the same way, and each record says which it
holds. A mask is an 8-bit PNG of zeros and ones. TFDS stores these bytes as they are and returns
them through `SkipDecoding`, so neither TensorFlow nor OpenCV is needed.
"""

import io
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

HU_OFFSET = 32768
UNITS = ("HU", "grey")  # grey: 0 to 255, of a picture already windowed


def features(masks: tuple[str, ...] = ("mask",)) -> tfds.features.FeaturesDict:
    """The TFDS features of a record with the given mask names.

    `image` is HU (or grey values) + 32768 as uint16 [H, W, 1], `unit` is one of `UNITS`, each mask
    is uint8 {0, 1} [H, W, 1], `id` and `patient_id` are text, `spacing_mm` is float32 [2] (row,
    column), NaN where not known.
    """
    png = {"shape": (None, None, 1), "encoding_format": "png"}
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(dtype=np.uint16, **png),
            "unit": tfds.features.Text(),
            **{name: tfds.features.Image(dtype=np.uint8, **png) for name in masks},
            "id": tfds.features.Text(),
            "patient_id": tfds.features.Text(),
            "spacing_mm": tfds.features.Tensor(shape=(2,), dtype=np.float32),
        }
    )


def undecoded(features: tfds.features.FeaturesDict) -> dict[str, tfds.decode.SkipDecoding]:
    """Decoders for `as_data_source` that leave the image and every mask as PNG bytes."""
    return {
        name: tfds.decode.SkipDecoding()
        for name, feature in features.items()
        if isinstance(feature, tfds.features.Image)
    }


def example(
    id: str,
    patient_id: str,
    pixels: np.ndarray,
    spacing_mm: tuple[float, float] | None,
    unit: str = "HU",
    **masks: np.ndarray,
) -> dict[str, Any]:
    """One record, ready for `_generate_examples`.

    Args:
        id: unique within the data set.
        patient_id: the same for all slices of a person, which stay in one split.
        pixels: integer Hounsfield units [H, W] within int16, or grey values from 0 to 255.
        spacing_mm: (row, column) distance of pixel centres in mm, or None where not known.
        unit: of the pixels, one of `UNITS`.
        **masks: bool [H, W] under the names given to `features`.

    Raises:
        ValueError: an unknown unit, or pixels outside its range.
    """
    if unit not in UNITS or (unit == "grey" and not 0 <= np.min(pixels) <= np.max(pixels) <= 255):
        raise ValueError(f"{id}: unit {unit!r} does not fit {np.min(pixels)} to {np.max(pixels)}")
    spacing = (np.nan, np.nan) if spacing_mm is None else spacing_mm
    return {
        "image": encode_hu(pixels),
        "unit": unit,
        **{name: encode_mask(mask) for name, mask in masks.items()},
        "id": id,
        "patient_id": patient_id,
        "spacing_mm": np.asarray(spacing, np.float32),
    }


def encode_hu(hu: np.ndarray) -> io.BytesIO:
    """Integer HU [H, W] as a 16-bit PNG.

    Raises:
        ValueError: values outside int16.
    """
    stored = np.asarray(hu, np.int32) + HU_OFFSET
    if stored.min() < 0 or stored.max() > 65535:
        raise ValueError(f"HU outside int16: {np.min(hu)} to {np.max(hu)}")
    return _png(stored.astype(np.uint16))


def decode_hu(png: bytes) -> np.ndarray:
    """A 16-bit PNG of `encode_hu` as int16 HU [H, W]."""
    return (_pixels(png).astype(np.int32) - HU_OFFSET).astype(np.int16)


def encode_mask(mask: np.ndarray) -> io.BytesIO:
    """A bool mask [H, W] as an 8-bit PNG of 0 and 1."""
    return _png(np.asarray(mask, bool).astype(np.uint8))


def shape_of(png: bytes) -> tuple[int, int]:
    """(H, W) of a PNG, from its header alone."""
    with Image.open(io.BytesIO(png)) as image:
        return image.height, image.width


def decode_mask(png: bytes) -> np.ndarray:
    """An 8-bit PNG of `encode_mask` as bool [H, W]."""
    return _pixels(png) > 0


def _png(pixels: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    file.seek(0)
    return file


def _pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)
