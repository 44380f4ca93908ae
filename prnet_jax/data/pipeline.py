"""From prepared records to batches: windowing, resizing, order, shares of processes (Grain)."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grain
import jax
import ml_collections
import numpy as np
import tensorflow_datasets as tfds

from prnet_jax.data import records
from prnet_jax.data.preprocess import (
    extent,
    inside,
    pixel_scale,
    resize_image,
    resize_mask,
    resize_prob,
    window,
)
from prnet_jax.data.splits import SPLITS, manifest_hash
from prnet_jax.data.stacks import KeptVolumes
from prnet_jax.errors import InputError

_ENDLESS = 2**48  # draws of a training; Grain fails near the largest integer
_ARRAYS = ("image", "mask", "valid", "draw", "index")  # of a batch, those that a step takes


class Slices:
    """A split as a sequence of slices ready for a network.

    Item i is a dict: `image` float32 [S, S, 1] in 0..1, `mask` float32 [S, S, 1] of 0 and 1, or
    with `config.soft_mask` in 0..1 and above 0.5 where it else is 1, `id` and `patient_id` str,
    `spacing_mm` float64 [2] of the resized pixels (row, column; NaN where not known). If any slice
    of the split is padded to a square, each has `valid` bool [S, S, 1] too, False on padding. With
    `config.cache` every slice read is kept in memory; without it none is.

    Attributes:
        ids: the id of every slice, in order.
        mask_names: the masks that the data set has.
        mask_name: the one in use.
        unit: of the stored pixels, one of `records.UNITS`.
        volumes: where their slices are, as far as the records keep it.

    Args:
        builder: a prepared TFDS builder of `datasets/`.
        split: "train", "validation" or "test", or several joined by "+". It may be empty.
        config: `config.dataset`.

    Raises:
        InputError: the data set has no such mask, or the window does not fit the unit.
    """

    def __init__(
        self, builder: tfds.core.DatasetBuilder, split: str, config: ml_collections.ConfigDict
    ):
        decoders = records.undecoded(builder.info.features)
        self.mask_names = [name for name in decoders if name != "image"]
        if config.mask not in self.mask_names:
            raise InputError(
                f"{builder.name} has no mask {config.mask!r}: "
                f"set --config.dataset.mask (evaluate: --mask) to one of "
                f"{', '.join(self.mask_names)}"
            )
        there = [name for name in split.split("+") if name in builder.info.splits]  # not the empty
        self._source = builder.as_data_source("+".join(there), decoders=decoders) if there else ()
        self.mask_name = config.mask
        self.volumes = KeptVolumes(builder.info)
        # A data set has one unit.
        self.unit = self._source[0]["unit"].decode() if len(self._source) else records.UNITS[0]
        self._size, self._how = config.image_size, config.resize
        self._soft = config.soft_mask
        self._window = tuple(config.window_hu)
        self._kept: dict[int, Any] | None = {} if config.cache else None
        self._check_window(builder.name)
        self.ids: list[str] = []
        extents = []
        for record in self._source:
            self.ids.append(record["id"].decode())
            extents.append(self._extent(records.shape_of(record["image"])))
        self._extents = np.array(extents, np.int32).reshape(-1, 2)
        self._is_padded = bool((self._extents < self._size).any())

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
        item = {**packed, "mask": packed["mask"].astype(np.float32)}
        if self._is_padded:
            item["valid"] = np.zeros(item["mask"].shape, bool)
            item["valid"][self.inside(i)] = True
        return item

    def inside(self, i: int) -> tuple[slice, slice]:
        """The rows and the columns of slice i that are not padding."""
        return inside(self._extents[i], self._size)

    def picture(self, i: int, native: bool = False) -> dict[str, Any]:
        """Slice i as it is scored and drawn, without padding.

        Args:
            i: its index.
            native: as stored, not at the size that the network sees.

        Returns:
            `image` float32 [H, W] in 0..1, `mask` bool [H, W], `id`, `patient_id` and `spacing_mm`
            of these pixels.
        """
        if native:
            record = self._source[int(i)]
            return {
                "image": window(records.decode_hu(record["image"]), *self._window),
                "mask": records.decode_mask(record[self.mask_name]),
                **_about(record),
            }
        item, inside = self[i], self.inside(i)
        image, mask = item["image"][*inside, 0], item["mask"][*inside, 0] > 0.5
        return {**item, "image": image, "mask": mask}

    def outline(self, i: int, name: str, native: bool = False) -> np.ndarray:
        """Another mask of slice i, such as that of one reader: bool [H, W] of `picture`.

        Raises:
            KeyError: the data set has no such mask.
        """
        mask = records.decode_mask(self._source[int(i)][name])
        return mask if native else resize_mask(mask, self._size, self._how)[self.inside(i)]

    def prob_of(self, i: int, prob: np.ndarray, native: bool = False) -> np.ndarray:
        """A network's probability of slice i, [S, S], at the size of `picture`: float32 [H, W]."""
        if native:
            return resize_prob(prob, records.shape_of(self._source[int(i)]["image"]), self._how)
        return prob[self.inside(i)]

    def stored(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """(id, patient_id, pixels int16 [H, W] as stored) of every slice, in order."""
        for record in self._source:
            yield _stored(record)

    def stored_masks(self) -> Iterator[np.ndarray]:
        """The mask bool [H, W] as stored of every slice, in order."""
        for record in self._source:
            yield records.decode_mask(record[self.mask_name])

    def stored_in_full(
        self,
    ) -> Iterator[tuple[tuple[str, str, np.ndarray], np.ndarray, np.ndarray]]:
        """What `stored` and `stored_masks` give, and the spacing float64 [2], reading once."""
        for record in self._source:
            mask = records.decode_mask(record[self.mask_name])
            yield _stored(record), mask, _about(record)["spacing_mm"]

    def _extent(self, shape: tuple[int, int]) -> tuple[int, int]:
        return extent(shape, self._size, self._how)

    def _check_window(self, name: str) -> None:
        """Refuses a window of HU on grey values, which would leave them little contrast."""
        low, high = self._window
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"the window must be (lower, upper); found ({low:g}, {high:g})")
        if self.unit == "grey" and (low < 0 or high > 255):
            raise InputError(
                f"{name} holds grey values from 0 to 255, not HU, but the window is ({low:g}, "
                f'{high:g}): set --config.dataset.window_hu="(0.0,255.0)"; evaluate takes '
                "--window 0 255"
            )

    def _read(self, i: int) -> dict[str, Any]:
        record = self._source[i]
        image = window(records.decode_hu(record["image"]), *self._window)
        mask = records.decode_mask(record[self.mask_name])
        scale = pixel_scale(image.shape, self._size, self._how)
        resized = resize_image if self._soft else resize_mask
        return {
            "image": resize_image(image, self._size, self._how)[..., None],
            "mask": resized(mask, self._size, self._how)[..., None],
            **_about(record, scale),
        }


def _stored(record: Mapping[str, Any]) -> tuple[str, str, np.ndarray]:
    """(id, patient_id, pixels int16 [H, W])."""
    pixels = records.decode_hu(record["image"])
    return record["id"].decode(), record["patient_id"].decode(), pixels


def _about(record: Mapping[str, Any], scale: float | np.ndarray = 1.0) -> dict[str, Any]:
    """`id`, `patient_id` and `spacing_mm` of pixels that are `scale` times as large as stored."""
    return {
        "id": record["id"].decode(),
        "patient_id": record["patient_id"].decode(),
        "spacing_mm": np.asarray(record["spacing_mm"], np.float64) * scale,
    }


def open_splits(
    builder: tfds.core.DatasetBuilder, config: ml_collections.ConfigDict
) -> dict[str, Slices]:
    """The three splits by name; arguments and errors as for `Slices`."""
    return {split: Slices(builder, split, config) for split in SPLITS}


def splits_hash(slices: Mapping[str, Slices]) -> str:
    """`manifest_hash` of who is in which split."""
    return manifest_hash({id: split for split in slices for id in slices[split].ids})


def train_batches(
    slices: Slices, batch_size: int, seed: int, num_threads: int, start_step: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches in random order; each pass has every slice once and may end within a batch.

    The sequence of draws depends on the seed alone, and batch b starts at draw b * batch_size, so
    training can resume at any batch with any number of processes. Each process gets its share of
    every batch, batch_size / process_count rows, with `draw` [N] int32.

    Args:
        slices: the split.
        batch_size: of all processes together.
        seed: of the order.
        num_threads: threads that read and resize.
        start_step: the first batch.
    """
    order = grain.MapDataset.range(len(slices)).seed(seed).shuffle().repeat()

    def read(draw: int) -> dict[str, Any]:
        return {**slices[order[draw]], "draw": np.int32(draw)}

    return _batches(read, _ENDLESS, batch_size, num_threads, start_step)


def eval_batches(
    slices: Slices, batch_size: int, num_threads: int
) -> Iterator[dict[str, np.ndarray]]:
    """Every slice once, in order, with `index` [N] int32, which is -1 for padding at the end."""
    padded = _Padded(slices, batch_size)
    return _batches(padded.__getitem__, len(padded), batch_size, num_threads)


def step_arrays(batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a batch that a step of `prnet_jax.steps` takes."""
    return {name: batch[name] for name in _ARRAYS if name in batch}


def _batches(
    read: Callable[[int], dict[str, Any]],
    number: int,
    batch_size: int,
    num_threads: int,
    start_step: int = 0,
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of `read(0)`, `read(1)`, ...: of each the rows of this process."""
    local = batch_size // jax.process_count()
    first = local * jax.process_index()

    def read_own(i: int) -> dict[str, Any]:
        step, row = divmod(i, local)
        return read((start_step + step) * batch_size + first + row)

    data = grain.MapDataset.range(number // batch_size * local - start_step * local)
    data = data.map(read_own).batch(local)
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    return iter(data.to_iter_dataset(options))


class _Padded:
    """Slices with `index`, followed by blank ones that fill the last batch."""

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
