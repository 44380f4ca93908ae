"""What the weights of a run have seen: its images, and those of the runs that it started from.

provenance.json keeps an origin, a record of what `config.init_from` held when the run began: its
folder, the data of the run there, and the origin of that run in turn. So the chain can be followed
after folders were moved or removed, as long as the data are here.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import ml_collections
import numpy as np

from prnet_jax.data import leakage
from prnet_jax.data.mixture import share_a_source
from prnet_jax.data.pipeline import Slices, open_splits, splits_hash
from prnet_jax.data.prepare import prepare
from prnet_jax.errors import InputError
from prnet_jax.progress import progress
from prnet_jax.run import files
from prnet_jax.run.directory import read_run
from prnet_jax.weights import released

Stored = Iterator[tuple[str, str, np.ndarray]]  # as of `Slices.stored`


@dataclasses.dataclass(frozen=True)
class Part:
    """A split that an earlier run was trained or chosen on.

    Attributes:
        folder: of that run.
        split: "train" or "validation".
        slices: its images.
        patients: put before its patients' ids, so that those of another source differ.
    """

    folder: str
    split: str
    slices: Slices
    patients: str

    def __str__(self) -> str:
        return f"{self.split} split of {self.folder}"

    def stored(self) -> Stored:
        """As `Slices.stored`."""
        for id, patient, pixels in self.slices.stored():
            yield id, f"{self.patients}{patient}", pixels


@dataclasses.dataclass(frozen=True)
class Earlier:
    """What the runs behind an origin have seen.

    Attributes:
        parts: the images.
        said: a clause for each run whose images are not among them, and why.
        complete: whether everything is known.
    """

    parts: tuple[Part, ...]
    said: tuple[str, ...]
    complete: bool


def is_own(records: str, manifest: str, about: Mapping[str, Any]) -> bool:
    """Whether these are the images of a run's provenance; the manifest alone knows their names."""
    now = {"records": records, "split_manifest_sha256": manifest}
    return all(about[name] == value for name, value in now.items())


def other_records(folder: str | pathlib.Path, about: Mapping[str, Any], records: str) -> InputError:
    """The error for a run whose images are not `records`."""
    return InputError(
        f"{folder} was trained on {about['records']}, other images or splits than {records} "
        "has now: give its manual_dir (evaluate: --manual-dir) and options as in training"
    )


def own_splits(
    folder: str | pathlib.Path, data: ml_collections.ConfigDict, about: Mapping[str, Any]
) -> dict[str, Slices]:
    """The splits that a run was made with.

    Args:
        folder: of the run.
        data: its `config.dataset`.
        about: its provenance.

    Raises:
        InputError: they are not here, or have changed.
    """
    builder = prepare(data.name, data.data_dir, data.manual_dir, **data.options)
    splits = open_splits(builder, data)
    if not is_own(builder.info.full_name, splits_hash(splits), about):
        raise other_records(folder, about, builder.info.full_name)
    return splits


def origin_of_run(
    config: ml_collections.ConfigDict, about: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The origin of a run, as kept or, in runs of earlier versions, as its folder says now.

    Args:
        config: the run's.
        about: its provenance.

    Returns:
        None for a run that started from its seed.
    """
    if about.get("init_from") or not config.get("init_from"):
        return about.get("init_from")
    return origin_of(config.init_from)


def origin_of(folder: str | pathlib.Path, passed: frozenset = frozenset()) -> dict[str, Any]:
    """The origin that a run has which starts from `folder`.

    Args:
        folder: a run, imported weights or the name of released ones.
        passed: folders that were followed before.

    Returns:
        `folder`; and `not_known`, the reason why what its weights have seen cannot be known; or
        `dataset`, `records` and `split_manifest_sha256` of the run, and `init_from`, the origin of
        that run, None where it started from its seed.
    """
    folder = pathlib.Path(folder)
    origin = {"folder": str(folder)}
    if folder.is_file() or (folder / files.NETWORK).is_file():
        return origin | {"not_known": "imported weights"}
    if not folder.exists() and str(folder) in released():
        return origin | {"not_known": f"released weights, see prnet_jax/weights/{folder}.md"}
    if folder.resolve() in passed:
        return origin | {"not_known": "its folder was used again since"}
    try:
        config, about = read_run(folder)
    except InputError as error:
        return origin | {"not_known": str(error)}
    earlier = about.get("init_from")
    if earlier is None and config.get("init_from"):
        earlier = origin_of(config.init_from, passed | {folder.resolve()})
    return origin | {
        "dataset": config.dataset.to_dict(),
        "records": about["records"],
        "split_manifest_sha256": about["split_manifest_sha256"],
        "init_from": earlier,
    }


def seen_by(
    origin: Mapping[str, Any] | None,
    name: str,
    other_patients: bool,
    known: Collection[tuple[str, str]],
) -> Earlier:
    """Opens the images that the runs behind an origin were trained and chosen on.

    Args:
        origin: see `origin_of`; None: there is none.
        name: the data set that they are to be compared with. Patients of another one are others,
            even where their ids are equal.
        other_patients: so are those of the same data set.
        known: (records, hash of the splits) that need not be opened.
    """
    parts, said, complete = [], [], True
    while origin is not None:
        folder = origin["folder"]
        try:
            if "not_known" in origin:
                raise InputError(origin["not_known"])
            if (origin["records"], origin["split_manifest_sha256"]) in known:
                said.append(f"start from {folder}: the same splits")
            else:
                data = ml_collections.ConfigDict(origin["dataset"])
                data.cache = False  # each slice is read once
                splits = own_splits(folder, data, origin)
                other = other_patients or not share_a_source(data.name, name)
                parts += [
                    Part(folder, split, splits[split], f"{folder}: " if other else "")
                    for split in ("train", "validation")
                ]
        except InputError as error:
            said.append(f"start from {folder}: not known: {error}")
            complete = False
        origin = origin.get("init_from")
    return Earlier(tuple(parts), tuple(said), complete)


def check_start(
    origin: Mapping[str, Any],
    workdir: pathlib.Path,
    config: ml_collections.ConfigDict,
    slices: Mapping[str, Slices],
    records: str,
    manifest: str,
) -> tuple[str, bool]:
    """Searches a run's validation and test split for what the weights it starts from have seen.

    Those were trained on train splits and chosen on validation splits. The run may choose on the
    latter again.

    Args:
        origin: of the run.
        workdir: its folder.
        config: its config.
        slices: its splits.
        records: the full name of its records.
        manifest: the hash of its splits.

    Returns:
        What was found, in a line; and whether everything was known.

    Raises:
        InputError: they share a patient or an identical picture.
    """
    other_patients = bool(config.get("init_other_patients"))
    earlier = seen_by(origin, config.dataset.name, other_patients, {(records, manifest)})
    said = list(earlier.said)
    if earlier.parts:
        today = {split: f"{split} split of {workdir}" for split in ("validation", "test")}
        pairs = [
            (str(part), today[split])
            for part, split in itertools.product(earlier.parts, today)
            if not part.split == split == "validation"
        ]
        total = sum(len(part.slices) for part in earlier.parts)
        total += sum(len(slices[split]) for split in today)
        with progress(total, desc="leakage", unit="images") as bar:

            def passing(stored: Iterable) -> Stored:
                for item in stored:
                    yield item
                    bar.update(1)

            compared = {str(part): passing(part.stored()) for part in earlier.parts}
            compared |= {today[split]: passing(slices[split].stored()) for split in today}
            leaks = leakage.find_leaks(compared, pairs)
        _refuse(leaks)
        folders = " and ".join(dict.fromkeys(part.folder for part in earlier.parts))
        said.append(f"start from {folders}: {leaks}{about_patients(earlier.parts)}")
    return "; ".join(said), earlier.complete


def about_patients(parts: Iterable[Part]) -> str:
    """A clause to end the line on leaks with, where ids of patients were not compared."""
    if any(part.patients for part in parts):
        return "; patients of another source, their ids are not compared"
    return ""


def _refuse(leaks: leakage.Leaks) -> None:
    """Raises InputError if earlier runs have seen a patient or a picture."""
    if leaks.patients:
        patient, seen, split = leaks.patients[0]
        what, number = f"patient {patient} of the {split} is in the {seen}", len(leaks.patients)
        also = ", or say that they are other people: --config.init_other_patients=true"
    elif leaks.identical:
        first, second = leaks.identical[0]
        what = f"{second.id} of the {second.split} has the same pixels as {first.id} of the "
        what, number, also = what + first.split, len(leaks.identical), ""
    else:
        return
    more = f" ({number} such cases)" if number > 1 else ""
    raise InputError(
        f"{what}, where the weights of config.init_from were trained{more}: start from other "
        f"weights, or give this run the same splits{also}"
    )
