"""TFDS builder of LIDC-IDRI nodule crops with the masks of four readers; see README.md."""

import collections
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow_datasets as tfds

from prnet_jax.data import records, splits
from prnet_jax.data.integrity import row
from prnet_jax.data.readers import read_png
from prnet_jax.errors import InputError

from . import integrity
from .layout import FOLDERS, READERS, Layout, patient_of

NEEDS_MANUAL_DIR = True
MASKS = ("mask", *(f"reader_{reader}" for reader in range(READERS)))


@dataclasses.dataclass(eq=False)
class LidcNodulesConfig(tfds.core.BuilderConfig):
    """What the records depend on. `make_config` composes the name from the other fields."""

    readers_needed: int = 2  # a pixel is nodule where so many of the four readers marked it
    split_seed: int | None = None  # of the draw by patient; None is 0
    fold: str = ""  # "2/5": the second of five folds, drawn with split_seed
    fingerprint: str = ""  # of all files, so that no two folders share records


def make_config(
    manual_dir: str | os.PathLike | None = None,
    *,
    readers_needed: int = 2,
    split_seed: int | None = None,
    fold: str = "",
) -> LidcNodulesConfig:
    """The configuration for these options and, where given, the files of `manual_dir`.

    Its name, a folder's name, differs wherever the records would: `default-1a2b3c4d`,
    `readers3-1a2b3c4d`, `readers3_seed1_fold2of5-1a2b3c4d`. Without `manual_dir` it ends before
    the dash.

    Raises:
        InputError: an option of the wrong type or form, or a folder that cannot be read.
    """
    if type(readers_needed) is not int or not 1 <= readers_needed <= READERS:
        raise InputError(f"readers_needed is {readers_needed!r}; expected 1 to {READERS}")
    parts = [] if readers_needed == 2 else [f"readers{readers_needed}"]
    parts += splits.option_names(split_seed, fold)
    fingerprint = "" if manual_dir is None else fingerprint_of(manual_dir)
    name = ("_".join(parts) or "default") + (f"-{fingerprint}" if fingerprint else "")
    return LidcNodulesConfig(
        name=name,
        readers_needed=readers_needed,
        split_seed=split_seed,
        fold=fold,
        fingerprint=fingerprint,
    )


class Builder(tfds.core.GeneratorBasedBuilder):
    """128x128 grey crops around lung nodules: each reader's mask and their consensus."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download the nodule crops of LIDC-IDRI from
    https://www.kaggle.com/datasets/zhangweiled/lidcidri (a Kaggle account is needed) and unpack:

        LIDC-IDRI-slices/LIDC-IDRI-0001/nodule-0/images/slice-0.png
        LIDC-IDRI-slices/LIDC-IDRI-0001/nodule-0/mask-0/slice-0.png    and so on to mask-3

    Then name the folder LIDC-IDRI-slices: --config.dataset.manual_dir=DIRECTORY on the command
    line, or the environment variable PRNET_MANUAL_DIR. Nothing else of the download is read.
    """
    pkg_dir_path = tfds.core.Path(pathlib.Path(__file__).parent)  # not in prnet_jax/datasets

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=records.features(MASKS), supervised_keys=("image", "mask")
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        layout = Layout(dl_manager.manual_dir)
        report = integrity.inspect(layout)
        print(report)
        report.raise_for_defects()
        config = self.builder_config
        split_of, source = splits.draw(report.pairs, config.split_seed, config.fold, patient_of)
        ids = {name: [id for id in split_of if split_of[id] == name] for name in splits.SPLITS}
        patients = {name: len({*map(patient_of, ids[name])}) for name in splits.SPLITS}
        print(row("mask", f"marked by {config.readers_needed} or more of {READERS} readers"))
        print(row("split", f"{_shares(patients)} patients, {source}"))
        counts = collections.Counter(split_of.values())
        print(row("", f"{_shares(counts)} slices"), flush=True)
        return {name: self._generate_examples(layout, ids[name]) for name in splits.SPLITS}

    def _generate_examples(self, layout: Layout, ids: Iterable[str]):
        for id in ids:
            image, *masks = (
                read_png(layout.read(id, folder), layout.file(id, folder)) for folder in FOLDERS
            )
            readings = np.stack([mask != 0 for mask in masks])
            named = {
                "mask": consensus(readings, self.builder_config.readers_needed),
                **dict(zip(MASKS[1:], readings, strict=True)),
            }
            # The crops' spacing was not kept when they were made: see README.md.
            yield id, records.example(id, patient_of(id), image, None, unit="grey", **named)


def consensus(readings: np.ndarray, readers_needed: int) -> np.ndarray:
    """Where at least `readers_needed` of the masks, bool [readers, H, W], are set: bool [H, W]."""
    return readings.sum(axis=0) >= readers_needed


def fingerprint_of(manual_dir: str | os.PathLike) -> str:
    """Eight hex digits over names and contents of all images and masks.

    Raises:
        InputError: the folder or a file in it cannot be read.
    """
    layout = Layout(manual_dir)
    digest = hashlib.sha256()
    for folder in FOLDERS:
        for id in sorted(layout.ids[folder]):
            data = layout.read(id, folder)
            digest.update(f"{layout.file(id, folder)} {len(data)}\n".encode())
            digest.update(data)
    return digest.hexdigest()[:8]


def _shares(counts: dict[str, int]) -> str:
    return " / ".join(f"{counts[name]} {name}" for name in splits.SPLITS)
