"""What the weights that a run starts from have seen. Slice i of a phantom depends on i and seed."""

import json
import shutil

import pytest

from prnet_jax.data.pipeline import open_splits, splits_hash
from prnet_jax.data.prepare import prepare
from prnet_jax.errors import InputError
from prnet_jax.run import seen
from prnet_jax.run.directory import open_run, read_run
from prnet_jax.run.variables import save_variables
from tests.runs import tiny_config

# Slices 0-7 are for training, 8-11 for validation, 12-14 for the test.
TINY = {"dataset__options__num_slices": (8, 4, 3)}


@pytest.fixture
def make(records_dir, tmp_path):
    """Makes the config and the provenance of a run, as after a training."""

    def made(name, init_from=None, about=(), **fields):
        config = tiny_config(records_dir, **fields)
        config.init_from = None if init_from is None else str(tmp_path / init_from)
        records, manifest, _ = opened(config)
        about = {"records": records, "split_manifest_sha256": manifest, **dict(about)}
        open_run(tmp_path / name, config, about)
        return tmp_path / name

    return made


def opened(config):
    data = config.dataset
    builder = prepare(data.name, data.data_dir, data.manual_dir, **data.options)
    slices = open_splits(builder, data)
    return builder.info.full_name, splits_hash(slices), slices


def search(folder, records_dir, tmp_path, **fields):
    """What a new run finds that starts from `folder`."""
    config = tiny_config(records_dir, **fields)
    records, manifest, slices = opened(config)
    origin = json.loads(json.dumps(seen.origin_of(folder)))  # as provenance.json keeps it
    return seen.check_start(origin, tmp_path / "now", config, slices, records, manifest)


def test_the_same_splits_are_known_without_a_search(make, records_dir, tmp_path, monkeypatch):
    first = make("first", **TINY)
    monkeypatch.setattr(seen, "own_splits", None)
    found = search(first, records_dir, tmp_path, **TINY)
    assert found == (f"start from {first}: the same splits", True)


def test_a_test_image_that_the_first_run_trained_on_is_refused(make, records_dir, tmp_path):
    first = make("first", **TINY)
    others = {"dataset__options__num_slices": (2, 2, 2)}  # 2-3 validate, 4-5 test
    with pytest.raises(InputError) as error:
        search(first, records_dir, tmp_path, **others)
    patients = seen_patients(records_dir, **others)
    assert str(error.value) == (
        f"patient {patients['validation'][0]} of the validation split of {tmp_path}/now is in the "
        f"train split of {first}, where the weights of config.init_from were trained (4 such "
        "cases): start from other weights, or give this run the same splits, or say that they are "
        "other people: --config.init_other_patients=true"
    )
    # Other people have other pictures.
    with pytest.raises(InputError, match="has the same pixels as phantom_.* of the train split of"):
        search(first, records_dir, tmp_path, init_other_patients=True, **others)


def seen_patients(records_dir, **fields):
    slices = opened(tiny_config(records_dir, **fields))[2]
    return {split: [patient for _, patient, _ in part.stored()] for split, part in slices.items()}


def test_what_the_first_run_was_chosen_on_may_choose_again_but_not_test(
    make, records_dir, tmp_path
):
    first = make("first", dataset__options__num_slices=(4, 4, 4))  # 4-7 validate
    found, complete = search(first, records_dir, tmp_path, dataset__options__num_slices=(4, 4, 3))
    assert complete and found.startswith(f"start from {first}: no patient and no image in two sp")
    with pytest.raises(InputError, match="of the test split of .*/now is in the validation split"):
        search(first, records_dir, tmp_path, dataset__options__num_slices=(4, 1, 3))


def test_other_patients_are_no_leak(make, records_dir, tmp_path):
    first = make("first", dataset__options__seed=7, dataset__options__num_slices=(2, 2, 2))
    now = {"dataset__options__num_slices": (2, 2, 2)}
    found = (
        f"start from {first}: no patient and no image in two splits (8 patients, 8 images); "
        "0 near-identical pairs"
    )
    assert search(first, records_dir, tmp_path, **now) == (found, True)
    found += "; patients of another source, their ids are not compared"
    assert search(first, records_dir, tmp_path, init_other_patients=True, **now) == (found, True)


@pytest.mark.parametrize("kept", [True, False], ids=["kept origin", "earlier version"])
def test_the_chain_is_followed(make, records_dir, tmp_path, kept):
    """The second run has the splits of today, but the first one was trained on its test split."""
    now = {"dataset__options__num_slices": (2, 2, 2)}
    first = make("first", **TINY)
    about = {"init_from": seen.origin_of(first)} if kept else {}
    second = make("second", init_from="first", about=about, **now)
    if kept:
        shutil.rmtree(first)  # its data are still here
    with pytest.raises(InputError, match=f"is in the train split of {first}, where the weights of"):
        search(second, records_dir, tmp_path, **now)


def test_what_cannot_be_known_is_said(make, records_dir, tmp_path):
    imported = tmp_path / "imported"
    save_variables(imported, "prnet", {}, {"params": {}})
    found = search(imported, records_dir, tmp_path, **TINY)
    assert found == (f"start from {imported}: not known: imported weights", False)

    second = make("second", init_from="gone", **TINY)
    found, complete = search(second, records_dir, tmp_path, **TINY)
    assert not complete and found.startswith(
        f"start from {second}: the same splits; start from {tmp_path}/gone: not known: "
        f"{tmp_path}/gone is not a run directory"
    )

    about = {"records": "lung_phantom/default/0.0.1"}
    changed = make("changed", about=about, **TINY)
    found, complete = search(changed, records_dir, tmp_path, **TINY)
    assert not complete and "was trained on lung_phantom/default/0.0.1, other images or" in found


def test_runs_that_start_from_each_other_end_the_chain(make, records_dir, tmp_path):
    first = make("first", init_from="second", **TINY)
    second = make("second", init_from="first", **TINY)
    found, complete = search(second, records_dir, tmp_path, **TINY)
    assert not complete and found.endswith(
        f"start from {first}: the same splits; start from {second}: not known: its folder was "
        "used again since"
    )


def test_the_origin_of_a_run(make):
    first = make("first", **TINY)
    assert seen.origin_of_run(*read_run(first)) is None
    second = make("second", init_from="first", **TINY)
    assert seen.origin_of_run(*read_run(second)) == seen.origin_of(first)
    third = make("third", init_from="second", about={"init_from": {"folder": "as kept"}}, **TINY)
    assert seen.origin_of_run(*read_run(third)) == {"folder": "as kept"}
