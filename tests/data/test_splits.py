"""Splits: sizes, folds, patients kept together, independence of order."""

import collections
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prnet_jax.data.splits import (
    counts_text,
    draw,
    ids_by_split,
    kfold,
    manifest_hash,
    paper_shares,
    parse_fold,
    random_split,
    read_manifest,
)
from prnet_jax.errors import InputError

IDS = [f"ID_{i:04d}_Z_0001" for i in range(264)]


def test_paper_shares():
    assert paper_shares(264) == (211, 26, 27)
    assert paper_shares(267) == (214, 26, 27)
    assert paper_shares(12) == (10, 1, 1)
    assert paper_shares(3) == (1, 1, 1)
    with pytest.raises(InputError, match="found 2 patients"):
        paper_shares(2)


def test_random_split_sizes_seed_and_order():
    split = random_split(IDS, (211, 26, 27), seed=0)
    assert collections.Counter(split.values()) == {"train": 211, "validation": 26, "test": 27}
    assert split == random_split(reversed(IDS), seed=0)
    assert list(split) == IDS
    assert split != random_split(IDS, seed=1)
    with pytest.raises(ValueError, match="do not add up"):
        random_split(IDS, (1, 1, 1))


def test_random_split_is_the_same_on_every_machine():
    split = random_split("edcba", (3, 1, 1), seed=0)  # PCG64(0) permutes five to 2 4 3 0 1
    assert split == {"a": "validation", "b": "test", "c": "train", "d": "train", "e": "train"}


@given(
    patients=st.lists(st.integers(0, 9), min_size=12, max_size=60).filter(lambda p: len({*p}) > 4),
    seed=st.integers(0, 99),
)
def test_slices_of_a_patient_stay_together(patients, seed):
    patient_of = {f"slice{i}": f"patient{p}" for i, p in enumerate(patients)}
    splits = [random_split(patient_of, None, seed, patient_of)]
    splits += [kfold(patient_of, fold, 4, seed, patient_of.get) for fold in range(1, 5)]
    for split in splits:
        assert set(split) == set(patient_of)
        assert set(split.values()) == {"train", "validation", "test"}
        of_patient = collections.defaultdict(set)
        for id, name in split.items():
            of_patient[patient_of[id]].add(name)
        assert all(len(names) == 1 for names in of_patient.values())


def test_folds_test_and_validate_each_image_once():
    folds = [kfold(IDS, fold, 5, seed=3) for fold in range(1, 6)]
    for name in ("test", "validation"):
        members = [id for split in folds for id in split if split[id] == name]
        assert sorted(members) == IDS
    test_of = [{id for id in split if split[id] == "test"} for split in folds]
    validation_of = [{id for id in split if split[id] == "validation"} for split in folds]
    assert validation_of == test_of[1:] + test_of[:1]
    assert sorted(len(test) for test in test_of) == [52, 53, 53, 53, 53]
    assert kfold(IDS, 1, 5, seed=4) != folds[0]


def test_fold_text():
    assert parse_fold("2/5") == (2, 5)
    for text in ("0/5", "6/5", "1/2", "2", "2/5x", "", 2):
        with pytest.raises(InputError, match="fold is"):
            parse_fold(text)
    with pytest.raises(InputError, match="5 folds need at least 5 patients; found 4"):
        kfold("abcd", 1, 5)


def test_manifest_hash_is_of_the_sorted_lines():
    expected = hashlib.sha256(b"a,train\nb,test\n").hexdigest()
    assert manifest_hash({"a": "train", "b": "test"}) == expected
    assert manifest_hash({"b": "test", "a": "train"}) == expected
    assert manifest_hash({"b": "train", "a": "test"}) != expected


def test_read_manifest(tmp_path):
    path = tmp_path / "csv"
    path.write_text("id,split\na,train\nb,test\n")
    assert read_manifest(path) == {"a": "train", "b": "test"}
    for bad in ("a,train\na,test\n", "a,dev\n"):
        path.write_text("id,split\n" + bad)
        with pytest.raises(ValueError, match="listed twice or names no split"):
            read_manifest(path)


def test_options_of_a_data_set():
    ids = [f"p{i}" for i in range(20)]
    for seed in (None, 0, 3):
        plain, source = draw(ids, seed, "")
        assert plain == random_split(ids, None, seed or 0)
        assert source == f"random, seed {seed or 0}"
        folded, source = draw(ids, seed, "2/5", lambda id: id[:2])
        assert folded == kfold(ids, 2, 5, seed or 0, lambda id: id[:2])
        assert source == f"fold 2/5 of seed {seed or 0}"


def test_ids_and_counts_by_split():
    by_split = ids_by_split({"b": "test", "a": "train", "c": "test"})
    assert by_split == {"train": ["a"], "validation": [], "test": ["b", "c"]}
    text = counts_text({name: len(ids) for name, ids in by_split.items()})
    assert text == "1 train / 0 validation / 2 test"
