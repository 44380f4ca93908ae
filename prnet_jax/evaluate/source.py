"""What is scored, and what of it the run has seen before."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections

from prnet_jax.data import leakage
from prnet_jax.data.pipeline import Slices, open_splits, splits_hash
from prnet_jax.data.prepare import dataset_options, prepare
from prnet_jax.errors import InputError
from prnet_jax.evaluate.choices import AUTO, Choices
from prnet_jax.working import working


@dataclasses.dataclass(frozen=True)
class Source:
    """What is scored.

    Attributes:
        slices: of the chosen split.
        records: the full name of their records.
        manifest: the hash of their splits.
        leaks: in words, what they share with the images that the run has seen.
        validation: the validation split of the run's own data; None where those are not here.
    """

    slices: Slices
    records: str
    manifest: str
    leaks: str
    validation: Slices | None


def chosen_data(own: ml_collections.ConfigDict, choices: Choices) -> ml_collections.ConfigDict:
    """`config.dataset` of a run, changed by the choices."""
    data = own.copy_and_resolve_references()
    with data.unlocked():
        if choices.dataset not in (None, own.name):
            data.name = choices.dataset
            data.options = ml_collections.ConfigDict(dataset_options(choices.dataset))
            data.mask = "mask"
            data.manual_dir = None
        # `prepare` refuses unknown options.
        data.options = ml_collections.ConfigDict({**data.options, **choices.options})
        for field in ("manual_dir", "data_dir", "mask"):
            if getattr(choices, field) is not None:
                data[field] = str(getattr(choices, field))
        if choices.window is not None:
            data.window_hu = tuple(choices.window)
    return data


def open_source(
    workdir: pathlib.Path,
    own: ml_collections.ConfigDict,
    data: ml_collections.ConfigDict,
    trained_on: Mapping[str, Any],
    choices: Choices,
) -> Source:
    """Opens what is to be scored, and searches it for images that the run has seen.

    Args:
        workdir: the run directory.
        own: `config.dataset` of the run.
        data: the same after `chosen_data`.
        trained_on: the run's provenance.
        choices: the options of the evaluation.

    Raises:
        InputError: the data cannot be used, or hold what the network was trained or chosen on.
    """
    builder = prepare(data.name, data.data_dir, data.manual_dir, **data.options)
    splits = open_splits(builder, data)
    every = choices.split == "all"
    slices = Slices(builder, "+".join(splits), data) if every else splits[choices.split]
    records, manifest = builder.info.full_name, splits_hash(splits)

    if _is_own(records, manifest, trained_on):
        return Source(slices, records, manifest, _seen(splits, choices), splits["validation"])
    if not choices.is_other_data(own.name):
        raise _other_records(workdir, trained_on, records)
    try:
        own_splits = _own_splits(workdir, own, trained_on)
    except InputError as error:
        if choices.threshold == AUTO:
            raise
        leaks = f"not searched for, because the run's own data are not here: {error}"
        return Source(slices, records, manifest, leaks, None)

    here = f"{choices.split} of {data.name}"
    scored = slices.stored()
    about_patients = ""
    if choices.other_patients or data.name != own.name:
        # Equal ids of another source are no leak; equal pictures still are.
        scored = ((id, f"{here}: {patient}", image) for id, patient, image in scored)
        about_patients = "; patients of another source, their ids are not compared"
    seen = {name: own_splits[name].stored() for name in ("train", "validation")}
    with working("searching for leaks"):
        leaks = f"{leakage.check({**seen, here: scored})}{about_patients}"
    return Source(slices, records, manifest, leaks, own_splits["validation"])


def _seen(splits: Mapping[str, Slices], choices: Choices) -> str:
    """What the run has seen of a split of its own, in words."""
    if choices.threshold == AUTO and choices.split in ("validation", "all"):
        raise InputError(
            f"--threshold {AUTO} would be tuned on images that it scores: choose --split test"
        )
    seen = {
        "train": f"{len(splits['train'])} images were trained on",
        "validation": f"{len(splits['validation'])} images chose the checkpoint",
    }
    named = [seen[name] for name in seen if choices.split in (name, "all")]
    return "; ".join(["the run's own splits", *named])


def _own_splits(
    workdir: pathlib.Path, own: ml_collections.ConfigDict, trained_on: Mapping[str, Any]
) -> dict[str, Slices]:
    """The splits that the run was made with.

    Raises:
        InputError: they are not here, or have changed.
    """
    builder = prepare(own.name, own.data_dir, own.manual_dir, **own.options)
    splits = open_splits(builder, own)
    if not _is_own(builder.info.full_name, splits_hash(splits), trained_on):
        raise _other_records(workdir, trained_on, builder.info.full_name)
    return splits


def _is_own(records: str, manifest: str, trained_on: Mapping[str, Any]) -> bool:
    """Whether these are the run's own images; the manifest alone knows only their names."""
    now = {"records": records, "split_manifest_sha256": manifest}
    return all(trained_on[name] == value for name, value in now.items())


def _other_records(
    workdir: pathlib.Path, trained_on: Mapping[str, Any], records: str
) -> InputError:
    return InputError(
        f"{workdir} was trained on {trained_on['records']}, other images or splits than {records} "
        "has now: give --manual-dir and options as in training"
    )
