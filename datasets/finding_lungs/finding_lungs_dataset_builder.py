"""TFDS builder of the 2-D part of "Finding and Measuring Lungs in CT Data"; see README.md."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from prnet_jax.data import records, splits
from prnet_jax.data.builder import SliceBuilder, config_name, fingerprint_of, split_names
from prnet_jax.data.folders import Folder
from prnet_jax.data.integrity import row
from prnet_jax.data.readers import read_hu, read_tiff
from prnet_jax.data.threads import in_threads
from prnet_jax.errors import InputError

from . import integrity

LEAKING = ("ID_0052_Z_0108", "ID_0134_Z_0137", "ID_0254_Z_0075")  # masks with air outside the body
HALF_MASKED = "ID_0079_Z_0072"  # its mask misses one lung; it trains in the committed split

# Another split under the same name needs another VERSION.
_MANIFEST = pathlib.Path(__file__).parent / "splits.csv"


@dataclasses.dataclass(eq=False)
class FindingLungsConfig(tfds.core.BuilderConfig):
    """The options; `make_config` names them."""

    split_seed: int | None = None  # None: the committed split; else a random one
    fold: str = ""  # "2/5": the second of five folds, drawn with split_seed (0 where None)
    include_leaking: bool = False  # keep the three leaking masks


def make_config(
    manual_dir: str | os.PathLike | None = None,
    *,
    split_seed: int | None = None,
    fold: str = "",
    include_leaking: bool = False,
) -> FindingLungsConfig:
    """The config of these options and, where given, of the files in `manual_dir`.

    Its name differs wherever the records would: `default-1a2b3c4d`, `seed1-1a2b3c4d`,
    `fold2of5_leaking-1a2b3c4d`. Without `manual_dir` it ends before the dash.

    Raises:
        InputError: an option of the wrong type or form, or a folder that cannot be read.
    """
    if not isinstance(include_leaking, bool):
        raise InputError(f"include_leaking is {include_leaking!r}; expected True or False")
    names = split_names(split_seed, fold) or ["default"]
    names += ["leaking"] * include_leaking
    fingerprint = "" if manual_dir is None else fingerprint_of(_files(manual_dir))
    return FindingLungsConfig(
        name=config_name(names, fingerprint),
        split_seed=split_seed,
        fold=fold,
        include_leaking=include_leaking,
    )


class Builder(SliceBuilder):
    """264 axial chest CT slices in HU with a mask of both lungs; one slice a patient."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {"1.1.0": "Records say their unit.", "1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download "Finding and Measuring Lungs in CT Data" (K. Mader) from
    https://www.kaggle.com/datasets/kmader/finding-lungs-in-ct-data (needs a Kaggle account).
    Put these two into one directory, as folders or as the zip files they come in:

        2d_images/ or 2d_images.zip    267 slices, ID_nnnn_Z_zzzz.tif
        2d_masks/  or 2d_masks.zip     267 masks of the same names

    Then name that directory: --config.dataset.manual_dir=DIRECTORY on the command line, or the
    environment variable PRNET_MANUAL_DIR. The rest of the download is not read.
    """

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        folder = pathlib.Path(dl_manager.manual_dir)
        report = integrity.inspect(folder)
        print(report)
        report.raise_for_defects()
        split_of, source = choose_splits(report.pairs, self.builder_config)
        ids = splits.ids_by_split(split_of)
        counts = splits.counts_text({name: len(ids[name]) for name in ids})
        print(row("excluded", f"{len(report.pairs) - len(split_of)} leaking masks"))
        print(row("split", f"{counts}, {source}"), flush=True)
        return {name: self._generate_examples(folder, ids[name]) for name in ids}

    def _generate_examples(self, folder: pathlib.Path, ids: Iterable[str]):
        images, masks = Folder(folder, integrity.IMAGES), Folder(folder, integrity.MASKS)

        def read() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
            for id in ids:
                hu = read_hu(images.read(id), images.file(id))
                yield id, hu, read_tiff(masks.read(id), masks.file(id)) != 0

        def example(found: tuple[str, np.ndarray, np.ndarray]) -> tuple[str, dict[str, Any]]:
            id, hu, mask = found
            # The set's one pixel factor cannot be the spacing of every scan: see README.md.
            return id, records.example(id, patient_of(id), hu, None, mask=mask)

        yield from in_threads(example, read())


def patient_of(id: str) -> str:
    """`ID_0003` of `ID_0003_Z_0132`; an id of another form is its own patient."""
    match = re.fullmatch(r"(ID_\d+)_Z_\d+", id)
    return match[1] if match else id


def choose_splits(pairs: Iterable[str], config: FindingLungsConfig) -> tuple[dict[str, str], str]:
    """The split of each image that is kept, and a line on where it comes from.

    The committed split applies to exactly its 264 ids. A folder with more than half of them, but
    with some missing or others added, is refused as a spoilt copy; any other folder gets a random
    split.

    Args:
        pairs: ids that have an image and a mask.
        config: the builder's.

    Returns:
        {id: "train" | "validation" | "test"} and the line.

    Raises:
        InputError: a spoilt copy, or too few patients.
    """
    ids = {id for id in pairs if config.include_leaking or id not in LEAKING}
    if config.fold or config.split_seed is not None:
        return splits.draw(ids, config.split_seed, config.fold, patient_of)
    manifest = splits.read_manifest(_MANIFEST)
    leaking = ids & set(LEAKING)
    missing, unknown = sorted(manifest.keys() - ids), sorted(ids - leaking - manifest.keys())
    if not missing and not unknown:
        # Leaking masks join the training split: validation and test remain comparable.
        return manifest | dict.fromkeys(sorted(leaking), "train"), "the committed list"
    difference = f"{len(missing)} of its {len(manifest)} ids are missing, {len(unknown)} are new"
    if len(missing) < len(manifest) / 2:
        raise InputError(
            f"the committed split does not fit this folder: {difference} "
            f"({', '.join((missing + unknown)[:3])}); repair the folder, or set split_seed=0 for a "
            "random split, not comparable with the committed one"
        )
    drawn, source = splits.draw(ids, None, "", patient_of)
    return drawn, f"{source}: the committed list does not apply ({difference})"


def _files(manual_dir: str | os.PathLike) -> Iterator[tuple[str, bytes]]:
    """(name, content) of all images and masks, zipped or not."""
    for folder in (Folder(manual_dir, integrity.IMAGES), Folder(manual_dir, integrity.MASKS)):
        for id in folder.ids:
            yield f"{folder.name}/{id}", folder.read(id)
