"""What is scored, and what of it the run has seen before."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from prnet_jax import processes
from prnet_jax.data import leakage
from prnet_jax.data.mixture import share_a_source
from prnet_jax.data.pipeline import Slices, open_splits, splits_hash
from prnet_jax.data.prepare import dataset_options, prepare
from prnet_jax.errors import InputError
from prnet_jax.evaluate.choices import AUTO, Choices
from prnet_jax.run import seen
from prnet_jax.working import working

_EVALUATE_ONLY = "evaluate_only"  # the option of a data set whose splits may then be empty


@dataclasses.dataclass(frozen=True)
class Source:
    """What is scored.

    Attributes:
        slices: of the chosen split.
        records: the full name of their records.
        manifest: the hash of their splits.
        leaks: in words, what they share with the images that the run has seen.
        validation: the validation split of the run's own data; None where those are not here. For
            imported weights, of the data that are scored.
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
    config: ml_collections.ConfigDict,
    data: ml_collections.ConfigDict,
    trained_on: Mapping[str, Any],
    choices: Choices,
) -> Source:
    """Opens what is to be scored, and searches it for images that the run has seen.

    Args:
        workdir: the run directory.
        config: of the run.
        data: its `config.dataset` after `chosen_data`.
        trained_on: the run's provenance.
        choices: the options of the evaluation.

    Raises:
        InputError: the data cannot be used, or hold what the network, or one that it started from,
            was trained or chosen on.
    """
    splits, slices, records = _open(data, choices)
    manifest = splits_hash(splits)

    origin = seen.origin_of_run(config, trained_on)
    if seen.is_own(records, manifest, trained_on):
        said = [_seen(splits, choices)]
        if origin is not None:
            said.append(
                processes.on_first(
                    lambda: _about_start(origin, workdir, config, splits, records, manifest)
                )
            )
        return Source(slices, records, manifest, "; ".join(said), splits["validation"])
    own = config.dataset
    if not choices.is_other_data(own.name):
        raise seen.other_records(workdir, trained_on, records)
    try:
        own_splits = seen.own_splits(workdir, own, trained_on)
    except InputError as error:
        if choices.threshold == AUTO:
            raise
        leaks = f"not searched for, because the run's own data are not here: {error}"
        return Source(slices, records, manifest, leaks, None)

    known = {(trained_on["records"], trained_on["split_manifest_sha256"])}
    if choices.split == "test":
        known.add((records, manifest))  # an earlier run with the same test split has not seen it
    others = choices.other_patients or not share_a_source(data.name, own.name)
    own_parts = [
        seen.Part("", name, own_splits[name], "the run's: " if others else "")
        for name in ("train", "validation")
    ]
    with working("searching for leaks"):
        found = processes.on_first(
            lambda: _search(
                f"{choices.split} of {data.name}",
                slices,
                own_parts,
                seen.seen_by(origin, data.name, choices.other_patients, known),
            )
        )
    return Source(slices, records, manifest, found, own_splits["validation"])


def _search(here: str, slices: Slices, own: Sequence[seen.Part], earlier: seen.Earlier) -> str:
    """Compares what is scored with what was seen; what was found, in a line.

    Args:
        here: names what is scored.
        slices: the same.
        own: what the run itself has seen.
        earlier: what the runs that it started from have seen.

    Raises:
        InputError: they share a patient or an identical picture.
    """
    # Equal ids of another source are no leak; equal pictures still are.
    parts = {part.split: part for part in own} | {str(part): part for part in earlier.parts}
    compared = {name: part.stored() for name, part in parts.items()}
    leaks = leakage.check({**compared, here: slices.stored()}, [(name, here) for name in compared])
    return "; ".join([f"{leaks}{seen.about_patients(parts.values())}", *earlier.said])


def _about_start(
    origin: Mapping[str, Any],
    workdir: pathlib.Path,
    config: ml_collections.ConfigDict,
    splits: Mapping[str, Slices],
    records: str,
    manifest: str,
) -> str:
    """What the weights that the run started from have seen of its splits, in words."""
    if origin.get("complete"):  # found out when it began
        return origin["leakage"]
    return seen.check_start(origin, workdir, config, splits, records, manifest)[0]


def open_for_others(data: ml_collections.ConfigDict, choices: Choices, what: str) -> Source:
    """Opens what is to be scored where it is not known what was trained on.

    Args:
        data: `config.dataset` after `chosen_data`.
        choices: the options of the evaluation.
        what: is scored, such as "imported weights".

    Raises:
        InputError: the data cannot be used.
    """
    splits, slices, records = _open(data, choices)
    _check_tuning(choices)
    said = f"not known: {what}"
    return Source(slices, records, splits_hash(splits), said, splits["validation"])


def _open(
    data: ml_collections.ConfigDict, choices: Choices
) -> tuple[dict[str, Slices], Slices, str]:
    """The splits, what of them is scored, and the full name of their records."""
    options = dict(data.options)
    if _EVALUATE_ONLY in dataset_options(data.name):
        options[_EVALUATE_ONLY] = True
    builder = prepare(data.name, data.data_dir, data.manual_dir, **options)
    splits = open_splits(builder, data)
    every = choices.split == "all"
    slices = Slices(builder, "+".join(splits), data) if every else splits[choices.split]
    records = builder.info.full_name
    if not len(slices):
        raise InputError(
            f"the {choices.split} split of {records} has no images: choose --split all, or one of "
            f"{', '.join(name for name in splits if len(splits[name]))}"
        )
    return splits, slices, records


def _check_tuning(choices: Choices) -> None:
    """Refuses a threshold tuned on images of these splits that are then scored."""
    if choices.threshold == AUTO and choices.split in ("validation", "all"):
        raise InputError(
            f"--threshold {AUTO} would be tuned on images that it scores: choose --split test"
        )


def _seen(splits: Mapping[str, Slices], choices: Choices) -> str:
    """What the run has seen of a split of its own, in words."""
    _check_tuning(choices)
    roles = {
        "train": f"{len(splits['train'])} images were trained on",
        "validation": f"{len(splits['validation'])} images chose the checkpoint",
    }
    named = [roles[name] for name in roles if choices.split in (name, "all")]
    return "; ".join(["the run's own splits", *named])
