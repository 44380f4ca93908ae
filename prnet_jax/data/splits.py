"""Which image belongs to which split: a committed list, a random draw or k folds.

All slices of a patient stay in one split. Patients are sorted before they are drawn, so the result
depends neither on the order of files on a disk nor on the machine.
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
PAPER_SIZES = (211, 26, 27)  # of the PR-Net paper's 264 images

PatientOf = Mapping[str, str] | Callable[[str], str] | None


def read_manifest(path: str | os.PathLike) -> dict[str, str]:
    """Reads a CSV file with the columns `id` and `split` as {id: split}.

    Raises:
        ValueError: an id is listed twice, or a split is not one of `SPLITS`.
    """
    splits: dict[str, str] = {}
    with pathlib.Path(path).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["id"] in splits or row["split"] not in SPLITS:
                raise ValueError(f"{path}: {row} is listed twice or names no split of {SPLITS}")
            splits[row["id"]] = row["split"]
    return splits


def manifest_hash(splits: Mapping[str, str]) -> str:
    """SHA-256, in hex, of which id is in which split; the order of the mapping does not matter."""
    lines = sorted(f"{id},{split}\n" for id, split in splits.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def ids_by_split(split_of: Mapping[str, str]) -> dict[str, list[str]]:
    """{split: its ids, in the order of `split_of`}."""
    return {name: [id for id in split_of if split_of[id] == name] for name in SPLITS}


def counts_text(counts: Mapping[str, int]) -> str:
    """`211 train / 26 validation / 27 test`."""
    return " / ".join(f"{counts[name]} {name}" for name in SPLITS)


def paper_shares(number: int) -> tuple[int, int, int]:
    """Divides `number` patients into (train, validation, test) as 211:26:27, none of them empty.

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
    """Draws a random split of the patients.

    Args:
        ids: image ids, in any order.
        sizes: patients in train, validation and test, which must add up to all of them; by default
            `paper_shares`.
        seed: of NumPy's PCG64.
        patient_of: the patient of an id, as a mapping or a function; None: each id is a patient.

    Returns:
        {id: split}, sorted by id.

    Raises:
        InputError: fewer than three patients.
    """
    patients = _patients(ids, patient_of)
    order = _permuted(patients, seed)
    sizes = paper_shares(len(order)) if sizes is None else sizes
    if len(sizes) != len(SPLITS) or sum(sizes) != len(order):
        raise ValueError(f"sizes {sizes} do not add up to {len(order)} patients")
    names = np.repeat(SPLITS, sizes).tolist()
    return _assign(patients, dict(zip(order, names, strict=True)))


def kfold(
    ids: Iterable[str], fold: int, k: int, seed: int = 0, patient_of: PatientOf = None
) -> dict[str, str]:
    """Fold `fold` (1 to k) of a k-fold cross-validation over patients.

    The permuted patients are cut into k parts. Part `fold` is the test split, the next one (part 1
    after part k) the validation split, and the others are for training. Over all folds each image
    is tested once. The other arguments are those of `random_split`.

    Returns:
        {id: split}, sorted by id.

    Raises:
        InputError: `fold` is not in 1 to k, or there are fewer than 3 folds or k patients.
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
    """Draws what a data set's options `split_seed` and `fold` ask for; a line says what that was.

    Args:
        ids: image ids, in any order.
        split_seed: None is 0.
        fold: "2/5" for `kfold`, "" for `random_split` in the default shares.
        patient_of: as for `random_split`.

    Returns:
        {id: split}, sorted by id, and the line.

    Raises:
        InputError: as `kfold` and `random_split`.
    """
    seed = split_seed or 0
    if fold:
        return kfold(ids, *parse_fold(fold), seed, patient_of), f"fold {fold} of seed {seed}"
    return random_split(ids, None, seed, patient_of), f"random, seed {seed}"


def parse_fold(text: str) -> tuple[int, int]:
    """Reads the option `fold="2/5"` as (2, 5).

    Raises:
        InputError: another form, or out of range.
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
