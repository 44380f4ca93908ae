"""TFDS builder of your own images and masks; see README.md."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from prnet_jax.data import records, splits, stacks
from prnet_jax.data.builder import SliceBuilder, config_name, split_names
from prnet_jax.data.folders import read_bytes
from prnet_jax.data.integrity import row
from prnet_jax.data.scan import AXES
from prnet_jax.data.threads import in_threads
from prnet_jax.errors import InputError

from . import inspection, pairs
from .inspection import Case, Choices
from .labels import Label, checked_label, label_name
from .metadata import Entry
from .pairs import METADATA, find_pairs

SLICES = ("all", "with_mask")


@dataclasses.dataclass(eq=False)
class ImageFolderConfig(tfds.core.BuilderConfig):
    """The options; `make_config` names them."""

    split_seed: int | None = None  # None: the split given, or a random one of seed 0
    fold: str = ""  # "2/5": the second of five folds, drawn with split_seed (0 where None)
    label: Label = None  # the foreground of masks with several labels
    slices: str = "all"  # or "with_mask"
    hu_offset: int = 0  # added to every pixel
    axes: str | None = None  # of NumPy volumes: "HWD" or "DHW"
    rescale_optional: bool | None = None  # CT in DICOM may lack RescaleSlope and RescaleIntercept
    hu_as_stored: bool | None = None  # values are meant as they are, even if they do not look HU
    evaluate_only: bool | None = None  # whether splits may be empty


def make_config(
    manual_dir: str | os.PathLike | None = None,
    *,
    split_seed: int | None = None,
    fold: str = "",
    label: int | Sequence[int] | str | None = None,
    slices: str = "all",
    hu_offset: int = 0,
    axes: str | None = None,
    rescale_optional: bool | None = None,
    hu_as_stored: bool | None = None,
    evaluate_only: bool | None = None,
) -> ImageFolderConfig:
    """The config of these options and, where given, of the files in `manual_dir`.

    Its name differs wherever the records would: `default-1a2b3c4d`, `fold2of5_label3-1a2b3c4d`.
    Without `manual_dir` it ends before the dash.

    Args:
        manual_dir: holds `images`, `masks` and optionally `metadata.csv`.
        split_seed: seed of a random split by patient, which replaces that of `metadata.csv` or of
            folders.
        fold: "i/k", fold i of k by patient.
        label: the foreground of masks with several labels: a value, several, or "all" above 0; all
            others are background.
        slices: "all", or "with_mask" for only those on which something is marked.
        hu_offset: added to every pixel: -1024 for files that hold HU + 1024.
        axes: "HWD" or "DHW", which axis of every NumPy volume counts its slices; None tells by the
            shape and refuses what is unclear.
        rescale_optional: True where CT in DICOM may lack RescaleSlope (1) or RescaleIntercept (0).
        hu_as_stored: True where values are meant as they are although they do not look like HU.
        evaluate_only: True to score a network only: splits may be empty, and fewer than three
            patients are all in "test". It is in no name, since all else stays the same.

    Raises:
        InputError: an option of the wrong type or form, or a folder that cannot be read.
    """
    label = checked_label(label)
    if isinstance(hu_offset, bool) or not isinstance(hu_offset, int):
        raise InputError(f"hu_offset is {hu_offset!r}; expected a whole number")
    for option, value in (("rescale_optional", rescale_optional), ("hu_as_stored", hu_as_stored)):
        if not isinstance(value, bool | None):
            raise InputError(f"{option} is {value!r}; expected True or False")
    if slices not in SLICES:
        raise InputError(f"slices is {slices!r}; expected one of {', '.join(SLICES)}")
    if axes not in (None, *AXES):
        raise InputError(f"axes is {axes!r}; expected one of {', '.join(AXES)}, or None")
    if evaluate_only not in (None, True, False):
        raise InputError(f"evaluate_only is {evaluate_only!r}; expected True or None")
    names = split_names(split_seed, fold) or ["default"]
    names += label_name(label)
    names += ["with_mask"] if slices == "with_mask" else []
    names += [f"{'plus' if hu_offset > 0 else 'minus'}{abs(hu_offset)}"] if hu_offset else []
    names += [axes] if axes else []
    names += ["rescale_optional"] if rescale_optional else []
    names += ["hu_as_stored"] if hu_as_stored else []
    fingerprint = "" if manual_dir is None else _fingerprint(manual_dir)
    return ImageFolderConfig(
        name=config_name(names, fingerprint),
        split_seed=split_seed,
        fold=fold,
        label=label,
        slices=slices,
        hu_offset=hu_offset,
        axes=axes,
        rescale_optional=rescale_optional,
        hu_as_stored=hu_as_stored,
        evaluate_only=evaluate_only,
    )


class Builder(SliceBuilder):
    """Your own images with masks: pictures, or the axial slices of volumes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put your images and masks into one directory, each pair under one name:

        images/NAME.png    or .tif .jpg .npy .npz .nii .nii.gz .dcm, or a folder NAME of DICOM files
        masks/NAME.png     0 and one other value, or several labels and the option label
        metadata.csv       optional: id, patient_id, split, spacing_row_mm, spacing_column_mm

    Then name that directory: --config.dataset.manual_dir=DIRECTORY on the command line, or the
    environment variable PRNET_MANUAL_DIR. More: datasets/image_folder/README.md
    """

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        config = self.builder_config
        found = inspection.inspect(dl_manager.manual_dir, _choices(config))
        print(found.report, flush=True)
        found.report.raise_for_defects()
        split_of, source = choose_splits(found.cases, found.metadata, config)
        cases = {
            name: [case for case in found.cases if split_of[case.pair.id] == name]
            for name in splits.SPLITS
        }
        print(row("split", f"{_split_text(cases)}; {source}"), flush=True)
        unit = found.report.unit
        stacks.keep(self.info, {case.pair.id: case.placed for case in found.cases if case.placed})
        return {  # TFDS refuses empty ones
            name: self._generate_examples(cases[name], found.choices, unit)
            for name in splits.SPLITS
            if cases[name]
        }

    def _generate_examples(self, cases: Iterable[Case], choices: Choices, unit: str):
        def read() -> Iterator[tuple[Case, str, np.ndarray, np.ndarray]]:
            for case in cases:
                _, values, _ = inspection.read_image(case.pair, choices)
                _, mask = inspection.read_mask(case.pair, choices)
                volume, masks = np.atleast_3d(values), np.atleast_3d(mask)
                for id, z in zip(case.ids, case.slices or (0,), strict=True):
                    yield case, id, volume[:, :, z], masks[:, :, z]

        def example(found: tuple[Case, str, np.ndarray, np.ndarray]) -> tuple[str, dict[str, Any]]:
            case, id, pixels, mask = found
            spacing = case.spacing_mm
            return id, records.example(id, case.patient_id, pixels, spacing, unit, mask=mask)

        yield from in_threads(example, read())


def _fingerprint(manual_dir: str | os.PathLike) -> str:
    """Eight hex digits over the names and contents of all images, masks and `metadata.csv`."""
    manual_dir = pathlib.Path(manual_dir)
    files = find_pairs(manual_dir).files
    metadata = manual_dir / METADATA
    digest = hashlib.sha256()
    for file in files + [metadata] * metadata.is_file():
        content = hashlib.sha256(read_bytes(file)).hexdigest()
        digest.update(f"{file.relative_to(manual_dir).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:8]


def choose_splits(
    cases: Iterable[Case], metadata: Mapping[str, Entry], config: ImageFolderConfig
) -> tuple[dict[str, str], str]:
    """The split of each pair, and a line on where it comes from.

    All slices of a patient stay in one split. The options `split_seed` and `fold` come first, then
    the table, then folders named after splits.

    Raises:
        InputError: too few patients, an empty split, a patient in two, or a table and folders that
            disagree.
    """
    patients = {case.pair.id: case.patient_id for case in cases}
    number = len(set(patients.values()))
    few = number < len(splits.SPLITS)
    if few and not config.evaluate_only:
        raise InputError(
            f"found {number} patients; train, validation and test need at least one each: add "
            f"more, or tell people apart in the column patient_id of {METADATA}"
        )
    if config.fold or config.split_seed is not None:
        return splits.draw(patients, config.split_seed, config.fold, patients)
    split_of, source = _given_splits(patients, metadata)
    if split_of:
        _check_given(split_of, source, patients, config)
        return split_of, source
    if few:
        return dict.fromkeys(patients, "test"), "too few patients to train on, so all are for tests"
    return splits.draw(patients, None, "", patients)


def _given_splits(
    ids: Collection[str], metadata: Mapping[str, Entry]
) -> tuple[dict[str, str], str]:
    """The splits that the table or else the folders give, empty where none does; and which."""
    of_table = {id: metadata[id].split for id in ids if id in metadata and metadata[id].split}
    of_folder = {id: pairs.split_of(id) for id in ids if pairs.split_of(id)}
    for id in of_table.keys() & of_folder.keys():
        if of_table[id] != of_folder[id]:
            raise InputError(
                f"{METADATA} puts {id!r} into {of_table[id]}, but its folder says {of_folder[id]}; "
                "correct the table or move the files"
            )
    if of_table:
        return of_table, f"the column split of {METADATA}"
    if len(of_folder) < len(ids):  # folders of some only: their patients are in the table
        return {}, ""
    names = sorted({id.split("/")[0] for id in of_folder})
    return of_folder, f"the folder layout ({', '.join(names)})"


def _check_given(
    split_of: Mapping[str, str],
    source: str,
    patients: Mapping[str, str],
    config: ImageFolderConfig,
) -> None:
    """Refuses a patient in two splits, and empty splits unless the config allows them."""
    first: dict[str, str] = {}
    for id, patient in patients.items():
        other = first.setdefault(patient, id)
        if split_of[id] != split_of[other]:
            raise InputError(
                f"{source} puts patient {patient!r} into two splits: {other!r} into "
                f"{split_of[other]}, {id!r} into {split_of[id]}; keep patients together, or tell "
                f"people apart in the column patient_id of {METADATA}"
            )
    empty = [split for split in splits.SPLITS if split not in split_of.values()]
    if empty and not config.evaluate_only:
        marked = " with a mask" if config.slices == "with_mask" else ""
        raise InputError(
            f"{source} puts no image{marked} into {empty[0]}; each split needs at least one: move "
            "patients there, or set split_seed=0 to draw all splits at random by patient"
        )


def _split_text(cases: Mapping[str, list[Case]]) -> str:
    slices = {name: sum(len(case.ids) for case in some) for name, some in cases.items()}
    patients = " / ".join(str(len({case.patient_id for case in some})) for some in cases.values())
    return f"{splits.counts_text(slices)} (patients {patients})"


def _choices(config: ImageFolderConfig) -> Choices:
    return Choices(
        config.label,
        config.slices,
        config.hu_offset,
        config.axes,
        config.rescale_optional,
        config.hu_as_stored,
    )
