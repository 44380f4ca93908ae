"""From prepared records to batches: windowing, resizing, order, sharing among processes (Grain)."""

from collections.abc import Iterator
from typing import Any

import grain
import jax
import ml_collections
import numpy as np
import tensorflow_datasets as tfds

from prnet_jax.data import records
from prnet_jax.errors import InputError


class Slices:
    """A split as a sequence of slices ready for a network.

    Item i is a dict: `image` float32 [S, S, 1] in 0..1, `mask` float32 [S, S, 1] of 0 and 1, `id`
    and `patient_id` str, `spacing_mm` float64 [2] of the resized pixels (row, column; NaN where
    not known).

    Args:
        builder: a prepared TFDS builder of `datasets/`.
        split: "train", "validation" or "test".
        config: `config.dataset`.

    Raises:
        InputError: the data set has no such mask.
    """

    def __init__(
        self, builder: tfds.core.DatasetBuilder, split: str, config: ml_collections.ConfigDict
    ):
        pngs = [
            name
            for name, feature in builder.info.features.items()
            if isinstance(feature, tfds.features.Image)
        ]
        masks = [name for name in pngs if name != "image"]
        if config.mask not in masks:
            raise InputError(
                f"{builder.name} has no mask {config.mask!r}: "
                f"set config.dataset.mask to one of {', '.join(masks)}"
            )
        encoded = {name: tfds.decode.SkipDecoding() for name in pngs}
        self._source = builder.as_data_source(split, decoders=encoded)
        self._mask = config.mask
        self._size = config.image_size
        self._window = tuple(config.window_hu)
        self._kept: dict[int, Any] | None = {} if config.cache else None

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, i: int) -> dict[str, Any]:
        i = int(i)
        if self._kept is not None and i in self._kept:
            packed = self._kept[i]
        else:
            packed = self._read(i)
            if self._kept is not None:
                self._kept[i] = packed
        return {**packed, "mask": packed["mask"].astype(np.float32)}

    @property
    def ids(self) -> list[str]:
        """The id of every slice, in order."""
        return [record["id"].decode() for record in self._source]

    def _read(self, i: int) -> dict[str, Any]:
        record = self._source[i]
        image = window(records.decode_hu(record["image"]), *self._window)
        mask = records.decode_mask(record[self._mask])
        scale = np.divide(image.shape, self._size)
        return {
            "image": resize_image(image, self._size)[..., None],
            "mask": resize_mask(mask, self._size)[..., None],
            "id": record["id"].decode(),
            "patient_id": record["patient_id"].decode(),
            "spacing_mm": np.asarray(record["spacing_mm"], np.float64) * scale,
        }


def window(hu: np.ndarray, low: float, high: float) -> np.ndarray:
    """HU clipped to low..high and mapped to 0..1, float32."""
    return ((np.clip(hu, low, high) - low) / (high - low)).astype(np.float32)


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """[H, W] -> [size, size] float32: each pixel the mean over the area that it covers."""
    rows, columns = (_area_weights(n, size) for n in image.shape)
    return (rows @ image.astype(np.float64) @ columns.T).astype(np.float32)


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """Bool [H, W] -> [size, size]: set where more than half of the covered area is."""
    return resize_image(mask, size) > 0.5


def train_batches(
    slices: Slices, batch_size: int, seed: int, num_threads: int
) -> grain.DatasetIterator:
    """Endless batches in random order, each slice once a pass; passes cross batch borders.

    Batch b holds draws b * batch_size and following of a sequence that follows from the seed
    alone. Each process gets its part of every batch, batch_size / process_count slices, with
    `draw` [N] int32. The iterator's position can be saved (`grain.checkpoint`).
    """
    data = grain.MapDataset.source(slices).seed(seed).shuffle().repeat()
    data = data.map_with_index(lambda draw, item: {**item, "draw": np.int32(draw)})
    data = data[jax.process_index() :: jax.process_count()]
    data = data.batch(batch_size // jax.process_count())
    return iter(data.to_iter_dataset(_read_options(num_threads)))


def eval_batches(
    slices: Slices, batch_size: int, num_threads: int
) -> Iterator[dict[str, np.ndarray]]:
    """Every slice once, in order, with `index` [N] int32; the last batch is padded, index -1."""
    data = grain.MapDataset.source(_Padded(slices, batch_size))
    data = data[jax.process_index() :: jax.process_count()]
    data = data.batch(batch_size // jax.process_count())
    return iter(data.to_iter_dataset(_read_options(num_threads)))


class _Padded:
    """Slices with `index`, followed by blank ones up to whole batches."""

    def __init__(self, slices: Slices, batch_size: int):
        self._slices = slices
        self._len = -(-len(slices) // batch_size) * batch_size

    def __len__(self) -> int:
        return self._len

    def __getitem__(self, i: int) -> dict[str, Any]:
        if i < len(self._slices):
            return {**self._slices[i], "index": np.int32(i)}
        first = self._slices[0]
        blank = {name: np.zeros_like(first[name]) for name in ("image", "mask")}
        return {**first, **blank, "index": np.int32(-1)}


def _read_options(num_threads: int) -> grain.ReadOptions:
    return grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)


def _area_weights(old: int, new: int) -> np.ndarray:
    """[new, old] float64: the share of each old pixel in each new one; rows sum to 1."""
    edges = np.linspace(0.0, old, new + 1)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(old)
    overlap = np.minimum(right, pixel + 1) - np.maximum(left, pixel)
    return np.clip(overlap, 0.0, None) * (new / old)
