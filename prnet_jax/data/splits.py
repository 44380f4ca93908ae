"""Which image belongs to which split: a committed list, a random draw or k folds.

All slices of a patient stay in one split. Drawing sorts the patients first, so that neither the
order of files on a disk nor the machine matters.
"""

import csv
import hashlib
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from prnet_jax.errors import InputError

SPLITS = ("train", "validation", "test")
PAPER_SIZES = (211, 26, 27)  # PAPER.md, "The data set of 264 images"

PatientOf = Mapping[str, str] | Callable[[str], str] | None


def read_manifest(path: str | os.PathLike) -> dict[str, str]:
    """A CSV file with the columns `id` and `split` as {id: split}."""
    splits: dict[str, str] = {}
    with pathlib.Path(path).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["id"] in splits or row["split"] not in SPLITS:
                raise ValueError(f"{path}: {row} is there twice or names no split of {SPLITS}")
            splits[row["id"]] = row["split"]
    return splits


def manifest_hash(splits: Mapping[str, str]) -> str:
    """SHA-256, in hex, of who is in which split, whatever the order of the mapping."""
    lines = sorted(f"{id},{split}\n" for id, split in splits.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def paper_shares(number: int) -> tuple[int, int, int]:
    """`number` patients as (train, validation, test) in the paper's 211:26:27, none empty.

    Raises:
        InputError: fewer than three patients.
    """
    if number < len(SPLITS):
        raise InputError(
            f"found {number} patients; train, validation and test need at least one each: add more"
        )
    validation, test = (max(1, round(number * n / sum(PAPER_SIZES))) for n in PAPER_SIZES[1:])
    return number - validation - test, validation, test


def random_split(
    ids: Iterable[str],
    sizes: Sequence[int] | None = None,
    seed: int = 0,
    patient_of: PatientOf = None,
) -> dict[str, str]:
    """A random split of the patients.

    Args:
        ids: image ids, in any order.
        sizes: patients in train, validation and test, all of them together; `paper_shares` where
            not given.
        seed: of NumPy's PCG64.
        patient_of: the patient of an id, as a mapping or a function; each id its own where None.

    Returns:
        {id: split}, sorted by id.

    Raises:
        InputError: fewer than three patients.
    """
    patients = _patients(ids, patient_of)
    order = _permuted(patients, seed)
    sizes = paper_shares(len(order)) if sizes is None else sizes
    if len(sizes) != len(SPLITS) or sum(sizes) != len(order):
        raise ValueError(f"sizes {sizes} do not share out {len(order)} patients")
    names = np.repeat(SPLITS, sizes).tolist()
    return _assign(patients, dict(zip(order, names, strict=True)))


def kfold(
    ids: Iterable[str], fold: int, k: int, seed: int = 0, patient_of: PatientOf = None
) -> dict[str, str]:
    """Fold `fold` (1 to k) of a k-fold cross-validation over patients.

    The permuted patients are cut into k parts; part `fold` is the test split, the next one (part 1
    after part k) the validation split, the others train. Over all folds each image is tested once.

    Returns:
        {id: split}, sorted by id; the other arguments as for `random_split`.

    Raises:
        InputError: a fold that is not among 1 to k, fewer than 3 folds or fewer patients than k.
    """
    _check_fold(fold, k)
    patients = _patients(ids, patient_of)
    order = _permuted(patients, seed)
    if len(order) < k:
        raise InputError(f"{k} folds need at least {k} patients; found {len(order)}: use fewer")
    parts = np.array_split(np.array(order, dtype=object), k)
    split_of = dict.fromkeys(order, "train")
    split_of.update(dict.fromkeys(parts[fold % k], "validation"))
    split_of.update(dict.fromkeys(parts[fold - 1], "test"))
    return _assign(patients, split_of)


def draw(
    ids: Iterable[str], split_seed: int | None, fold: str, patient_of: PatientOf = None
) -> tuple[dict[str, str], str]:
    """What a data set's options `split_seed` and `fold` ask for, and one line that says so.

    Args:
        ids: image ids, in any order.
        split_seed: None is 0.
        fold: "2/5" for `kfold`, "" for `random_split` in the default shares.
        patient_of: as for `random_split`.

    Raises:
        InputError: as `kfold` and `random_split`.
    """
    seed = split_seed or 0
    if fold:
        return kfold(ids, *parse_fold(fold), seed, patient_of), f"fold {fold} of seed {seed}"
    return random_split(ids, None, seed, patient_of), f"random, seed {seed}"


def option_names(split_seed: int | None, fold: str) -> list[str]:
    """The options in the form that they have in a config's name: `seed1`, `fold2of5`.

    Raises:
        InputError: an option of the wrong type or form.
    """
    check_whole("split_seed", split_seed, 0)
    names = [] if split_seed is None else [f"seed{split_seed}"]
    return names + (["fold{}of{}".format(*parse_fold(fold))] if fold else [])


def check_whole(name: str, value: int | None, low: int) -> None:
    """Refuses an option that is neither None nor a whole number of `low` or more.

    Raises:
        InputError: naming the option and the value.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(f"{name} is {value!r}; expected a whole number of {low} or more, or None")


def parse_fold(text: str) -> tuple[int, int]:
    """The option `fold="2/5"` as (2, 5).

    Raises:
        InputError: not of that form, or out of range.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text) if isinstance(text, str) else None
    if not match:
        raise InputError(f'fold is {text!r}; expected "i/k", such as "2/5"')
    fold, k = int(match[1]), int(match[2])
    _check_fold(fold, k)
    return fold, k


def _check_fold(fold: int, k: int) -> None:
    if k < 3 or not 1 <= fold <= k:
        raise InputError(f"fold is {fold}/{k}; expected i/k with 1 <= i <= k and k >= 3")


def _patients(ids: Iterable[str], patient_of: PatientOf) -> dict[str, str]:
    """{id: patient}, sorted by id."""
    if patient_of is None:
        return {id: id for id in sorted(ids)}
    find = patient_of if callable(patient_of) else patient_of.__getitem__
    return {id: find(id) for id in sorted(ids)}


def _permuted(patients: Mapping[str, str], seed: int) -> list[str]:
    names = sorted(set(patients.values()))
    generator = np.random.Generator(np.random.PCG64(seed))
    return [names[i] for i in generator.permutation(len(names))]


def _assign(patients: Mapping[str, str], split_of: Mapping[str, str]) -> dict[str, str]:
    return {id: split_of[patient] for id, patient in patients.items()}
