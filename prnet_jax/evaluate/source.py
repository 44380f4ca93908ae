"""What is scored, and what of it the run has seen."""

import argparse
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections

from prnet_jax.errors import InputError

AUTO = "auto-on-validation"


class Source(NamedTuple):
    """What is scored.

    Attributes:
        slices: of the split.
        records: the name of their records.
        manifest: the hash of their splits.
        leaks: what they share with the images that the run has seen, in words.
        validation: the validation split of the run's own data; None where these are not here.
    """

    slices: Any
    records: str
    manifest: str
    leaks: str
    validation: Any


def open_source(
    workdir: pathlib.Path,
    own: ml_collections.ConfigDict,
    data: ml_collections.ConfigDict,
    trained_on: Mapping[str, Any],
    arguments: argparse.Namespace,
) -> Source:
    """Opens what is to be scored, and looks for images in it that the run has seen.

    Raises:
        InputError: the data cannot be used, or hold what the network was trained or chosen on.
    """
    from prnet_jax.data import leakage
    from prnet_jax.data.pipeline import Slices, open_splits, splits_hash
    from prnet_jax.data.prepare import prepare

    builder = prepare(data.name, data.data_dir, data.manual_dir, **data.options)
    splits = open_splits(builder, data)
    if arguments.split == "all":
        slices = Slices(builder, "+".join(splits), data)
    else:
        slices = splits[arguments.split]
    records, manifest = builder.info.full_name, splits_hash(splits)

    def result(leaks, validation):
        return Source(slices, records, manifest, leaks, validation)

    if _is_same(records, manifest, trained_on):
        if arguments.threshold == AUTO and arguments.split in ("validation", "all"):
            raise InputError(
                f"--threshold {AUTO} would be tuned on images that it scores: take --split test"
            )
        seen = {
            "train": f"{len(splits['train'])} images were trained on",
            "validation": f"{len(splits['validation'])} images chose the checkpoint",
        }
        named = [seen[name] for name in seen if arguments.split in (name, "all")]
        return result("; ".join(["the run's own splits", *named]), splits["validation"])
    if not is_other(own, arguments):
        raise _other_records(workdir, trained_on, records)
    try:
        own_splits = _own_splits(workdir, own, trained_on)
    except InputError as error:
        if arguments.threshold == AUTO:
            raise
        return result(f"not looked for, the run's own data are not here: {error}", None)
    here = f"{arguments.split} of {data.name}"
    scored = slices.stored()
    about_patients = ""
    if arguments.other_patients or data.name != own.name:
        # Ids of another source that happen to be the same are no leak; pictures still are.
        scored = ((id, f"{here}: {patient}", image) for id, patient, image in scored)
        about_patients = "; patients of another source, their ids are not compared"
    seen = {name: own_splits[name].stored() for name in ("train", "validation")}
    leaks = f"{leakage.check({**seen, here: scored})}{about_patients}"
    return result(leaks, own_splits["validation"])


def _own_splits(
    workdir: pathlib.Path, own: ml_collections.ConfigDict, trained_on: Mapping[str, Any]
) -> dict[str, Any]:
    """The splits that the run was made with.

    Raises:
        InputError: they are not here, or are others now.
    """
    from prnet_jax.data.pipeline import open_splits, splits_hash
    from prnet_jax.data.prepare import prepare

    builder = prepare(own.name, own.data_dir, own.manual_dir, **own.options)
    splits = open_splits(builder, own)
    if not _is_same(builder.info.full_name, splits_hash(splits), trained_on):
        raise _other_records(workdir, trained_on, builder.info.full_name)
    return splits


def _is_same(records: str, manifest: str, trained_on: Mapping[str, Any]) -> bool:
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


def is_other(own: ml_collections.ConfigDict, arguments: argparse.Namespace) -> bool:
    """Whether the command line asks for other data than the run's own."""
    return arguments.dataset not in (None, own.name) or bool(arguments.option)


def chosen_dataset(
    own: ml_collections.ConfigDict, arguments: argparse.Namespace
) -> ml_collections.ConfigDict:
    """`config.dataset` as the command line changes it."""
    from prnet_jax.data.prepare import dataset_options

    data = own.copy_and_resolve_references()
    with data.unlocked():
        if arguments.dataset not in (None, own.name):
            data.name = arguments.dataset
            data.options = ml_collections.ConfigDict(dataset_options(arguments.dataset))
            data.mask = "mask"
            data.manual_dir = None
        # Unknown options are refused by `prepare`.
        data.options = ml_collections.ConfigDict({**data.options, **dict(arguments.option)})
        for field in ("manual_dir", "data_dir", "mask"):
            if getattr(arguments, field) is not None:
                data[field] = getattr(arguments, field)
        if arguments.window is not None:
            data.window_hu = tuple(arguments.window)
    return data
