"""lung_phantom: generated chest CT slices with lung and nodule masks; nothing to download."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from prnet_jax.data import records
from prnet_jax.data.builder import SliceBuilder, check_whole
from prnet_jax.data.splits import PAPER_SIZES, SPLITS
from prnet_jax.data.threads import in_threads
from prnet_jax.datasets.lung_phantom.phantom import make_slice
from prnet_jax.errors import InputError


@dataclasses.dataclass
class LungPhantomConfig(tfds.core.BuilderConfig):
    """The options; `make_config` names them."""

    size: int = 512  # rows and columns
    num_slices: tuple[int, int, int] = PAPER_SIZES  # of train, validation, test
    seed: int = 0  # with another one, all persons are others
    slices_per_person: int = 1  # at heights of their own; a person is in one split


DEFAULT = LungPhantomConfig(name="default")


def make_config(
    size: int = 512,
    num_slices: tuple[int, int, int] = PAPER_SIZES,
    seed: int = 0,
    slices_per_person: int = 1,
) -> LungPhantomConfig:
    """The config of these options (see `LungPhantomConfig`), whose name tells them apart.

    Raises:
        InputError: an option of the wrong type or out of its range.
    """
    check_whole("size", size, 32)
    check_whole("seed", seed, 0)
    check_whole("slices_per_person", slices_per_person, 1)
    numbers = num_slices if isinstance(num_slices, tuple | list) else ()
    if len(numbers) != len(SPLITS) or not all(isinstance(n, int) and n > 0 for n in numbers):
        raise InputError(
            f"num_slices is {num_slices!r}; expected three whole numbers of 1 or more, for "
            f"{', '.join(SPLITS)}"
        )
    config = LungPhantomConfig("default", size=size, num_slices=tuple(numbers), seed=seed)
    config.slices_per_person = slices_per_person
    if config == DEFAULT:
        return DEFAULT  # TFDS wants the very object in BUILDER_CONFIGS
    counts = "-".join(map(str, config.num_slices))
    config.name = f"seed{config.seed}_size{config.size}_n{counts}"
    if slices_per_person > 1:
        config.name += f"_each{slices_per_person}"
    return config


class Builder(SliceBuilder):
    """The lung phantom as a TFDS data set."""

    MASKS = ("mask", "nodule_mask")  # the lungs; the nodules within them
    VERSION = tfds.core.Version("2.1.0")
    RELEASE_NOTES = {
        "2.1.0": "Soft mattresses that the back sinks in; HU scaled by down to 0.74.",
        "2.0.0": "Slices of whole persons from jaw to hips, a quarter of them without lung.",
        "1.1.0": "Records say their unit.",
        "1.0.0": "First release.",
    }
    BUILDER_CONFIGS = [DEFAULT]

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded
        splits, first, each = {}, 0, self.builder_config.slices_per_person
        for name, count in zip(SPLITS, self.builder_config.num_slices, strict=True):
            splits[name] = self._generate_examples(range(first * each, first * each + count))
            first += -(-count // each)  # the next split begins with another person
        return splits

    def _generate_examples(self, indices: range) -> Iterator[tuple[str, dict[str, Any]]]:
        config = self.builder_config
        each = config.slices_per_person

        def draw(index: int) -> tuple[str, dict[str, Any]]:
            person, number = divmod(index, each)
            patient = f"phantom{config.seed or ''}_{person:04d}"  # another seed makes other persons
            id = f"{patient}_{number:03d}" if each > 1 else patient
            made = make_slice(index, config.seed, config.size, each)
            masks = dict(zip(self.MASKS, (made.lung, made.nodule), strict=True))
            return id, records.example(id, patient, made.hu, made.spacing_mm, **masks)

        yield from in_threads(draw, indices)
