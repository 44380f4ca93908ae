"""Names of configs, and fingerprints of files."""

import hashlib

import pytest

from prnet_jax.data.builder import check_whole, config_name, fingerprint_of, split_names
from prnet_jax.errors import InputError


def test_name_of_a_config():
    assert config_name([]) == "default"
    assert config_name([], "1a2b3c4d") == "default-1a2b3c4d"
    assert config_name(["seed1", "fold2of5"], "1a2b3c4d") == "seed1_fold2of5-1a2b3c4d"


def test_split_options_in_a_name():
    assert split_names(None, "") == []
    assert split_names(0, "") == ["seed0"]
    assert split_names(3, "2/5") == ["seed3", "fold2of5"]
    for seed, fold in ((-1, ""), (1.0, ""), (True, ""), ("1", ""), (None, "5"), (None, "6/5")):
        with pytest.raises(InputError, match="; expected "):
            split_names(seed, fold)


def test_fingerprint_is_of_names_sizes_and_contents_in_order():
    expected = hashlib.sha256(b"a 2\nxyb 0\n").hexdigest()[:8]
    assert fingerprint_of([("a", b"xy"), ("b", b"")]) == expected
    others = ([("b", b""), ("a", b"xy")], [("a", b"xz"), ("b", b"")], [("a", b"xy"), ("c", b"")])
    assert expected not in {fingerprint_of(files) for files in others}


def test_whole_numbers():
    check_whole("label", None, 1)
    check_whole("label", 1, 1)
    for value in (0, True, 1.0, "1"):
        with pytest.raises(InputError, match=f"^label is {value!r}; expected a whole number of 1"):
            check_whole("label", value, 1)
