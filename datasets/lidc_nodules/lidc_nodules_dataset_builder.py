"""TFDS builder of LIDC-IDRI nodule crops with the masks of four readers; see README.md."""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from prnet_jax.data import records, splits
from prnet_jax.data.builder import SliceBuilder, config_name, fingerprint_of, split_names
from prnet_jax.data.integrity import row
from prnet_jax.data.readers import read_png
from prnet_jax.data.threads import in_threads
from prnet_jax.errors import InputError

from . import integrity
from .layout import FOLDERS, READERS, Layout, patient_of


@dataclasses.dataclass(eq=False)
class LidcNodulesConfig(tfds.core.BuilderConfig):
    """The options; `make_config` names them."""

    readers_needed: int = 2  # a pixel is nodule where at least this many readers marked it
    split_seed: int | None = None  # of the draw by patient; None is 0
    fold: str = ""  # "2/5": the second of five folds, drawn with split_seed


def make_config(
    manual_dir: str | os.PathLike | None = None,
    *,
    readers_needed: int = 2,
    split_seed: int | None = None,
    fold: str = "",
) -> LidcNodulesConfig:
    """The config of these options and, where given, of the files in `manual_dir`.

    Its name differs wherever the records would: `default-1a2b3c4d`, `readers3-1a2b3c4d`,
    `readers3_seed1_fold2of5-1a2b3c4d`. Without `manual_dir` it ends before the dash.

    Raises:
        InputError: an option of the wrong type or form, or a folder that cannot be read.
    """
    if type(readers_needed) is not int or not 1 <= readers_needed <= READERS:
        raise InputError(f"readers_needed is {readers_needed!r}; expected 1 to {READERS}")
    names = [] if readers_needed == 2 else [f"readers{readers_needed}"]
    names += split_names(split_seed, fold)
    fingerprint = "" if manual_dir is None else fingerprint_of(_files(manual_dir))
    return LidcNodulesConfig(
        name=config_name(names, fingerprint),
        readers_needed=readers_needed,
        split_seed=split_seed,
        fold=fold,
    )


class Builder(SliceBuilder):
    """128x128 grey crops around lung nodules with each reader's mask and their consensus."""

    MASKS = ("mask", *(f"reader_{reader}" for reader in range(READERS)))

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download the nodule crops of LIDC-IDRI from
    https://www.kaggle.com/datasets/zhangweiled/lidcidri (needs a Kaggle account) and unpack:

        LIDC-IDRI-slices/LIDC-IDRI-0001/nodule-0/images/slice-0.png
        LIDC-IDRI-slices/LIDC-IDRI-0001/nodule-0/mask-0/slice-0.png    and so on up to mask-3

    Then name the folder LIDC-IDRI-slices: --config.dataset.manual_dir=DIRECTORY on the command
    line, or the environment variable PRNET_MANUAL_DIR. The rest of the download is not read.
    """

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        layout = Layout(dl_manager.manual_dir)
        report = integrity.inspect(layout)
        print(report)
        report.raise_for_defects()
        config = self.builder_config
        split_of, source = splits.draw(report.pairs, config.split_seed, config.fold, patient_of)
        ids = splits.ids_by_split(split_of)
        patients = splits.counts_text({name: len({*map(patient_of, ids[name])}) for name in ids})
        slices = splits.counts_text({name: len(ids[name]) for name in ids})
        print(row("mask", f"marked by {config.readers_needed} or more of {READERS} readers"))
        print(row("split", f"{patients} patients, {source}"))
        print(row("", f"{slices} slices"), flush=True)
        return {name: self._generate_examples(layout, ids[name]) for name in ids}

    def _generate_examples(self, layout: Layout, ids: Iterable[str]):
        def read(id: str) -> tuple[str, dict[str, Any]]:
            image, *masks = (
                read_png(layout.read(id, folder), layout.file(id, folder)) for folder in FOLDERS
            )
            readings = np.stack([mask != 0 for mask in masks])
            named = {
                "mask": consensus(readings, self.builder_config.readers_needed),
                **dict(zip(self.MASKS[1:], readings, strict=True)),
            }
            # The crops come without their spacing: see README.md.
            return id, records.example(id, patient_of(id), image, None, unit="grey", **named)

        yield from in_threads(read, ids)


def consensus(readings: np.ndarray, readers_needed: int) -> np.ndarray:
    """Bool [readers, H, W] -> [H, W]: set where at least `readers_needed` masks are set."""
    return readings.sum(axis=0) >= readers_needed


def _files(manual_dir: str | os.PathLike) -> Iterator[tuple[str, bytes]]:
    """(name, content) of all images and masks."""
    layout = Layout(manual_dir)
    for folder in FOLDERS:
        for id in sorted(layout.ids[folder]):
            yield layout.file(id, folder), layout.read(id, folder)
