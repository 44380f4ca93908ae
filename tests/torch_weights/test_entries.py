"""Where training programs put the state_dict in their files."""

import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.torch_weights.files import read_state_dict
from tests.torch_weights import saved

WEIGHTS = {name: np.full(2, i, np.float32) for i, name in enumerate("abc")}
AVERAGES = {name: array + 10 for name, array in WEIGHTS.items()}
LOSS = np.array(0.1)
EPOCH = saved.number(7)
SCALAR = saved.call(saved.found("numpy._core.multiarray.scalar"), saved.found("numpy.dtype"))
ARGS = saved.Program(saved.call(saved.found("argparse.Namespace")) + b"}b")
MISSED = "passed over, as they are not among the weights: "


@pytest.fixture
def read(tmp_path):
    """Saves a content, reads it; the arrays by name, and the lines that were told."""

    def save_and_read(content, entry=None):
        path = tmp_path / "w.ckpt"
        saved.save(content, path)
        told = []
        found = read_state_dict(path, entry, told.append)
        return found, [line.removeprefix(str(path)).lstrip(": ") for line in told]

    return save_and_read


def same(found, expected):
    return found.keys() == expected.keys() and all(np.all(found[k] == expected[k]) for k in found)


@pytest.mark.parametrize(
    ("content", "missed"),
    [
        (WEIGHTS, None),
        *[
            ({key: WEIGHTS}, None)
            for key in (
                *("state_dict", "model_state_dict", "network_weights", "model_state", "model"),
                *("net", "state_dict_ema", "ema", "generator"),
            )
        ],
        ({"ema": {"state_dict": WEIGHTS}}, None),
        ({"checkpoint": {"model": WEIGHTS, "step": EPOCH}, "best": SCALAR}, "best, step"),
        ({"epoch": EPOCH, "state_dict": WEIGHTS, "loss": LOSS}, "epoch, loss"),
        ({"state_dict": {"a": WEIGHTS["a"]}, "loss": LOSS}, "loss"),
        ({"state_dict": WEIGHTS, "best": SCALAR, "args": ARGS}, "best, args"),
        ({"callbacks": {"stop": {"best": LOSS}}, "state_dict": WEIGHTS}, "callbacks"),
        (WEIGHTS | {"mask_values": saved.Program(b"](K\x00K\x01e")}, "mask_values"),
        (WEIGHTS | {"epoch": EPOCH, "name": saved.text("unet")}, "epoch, name"),
        (
            {"model": WEIGHTS, "optimizer": {"state": saved.Program(b"}K\x00}s")}},
            "optimizer",
        ),
        (
            {"net": WEIGHTS, **{f"n{i}": EPOCH for i in range(10)}},
            "n0, n1, n2, n3, n4, n5, n6, n7 and 2 more",
        ),
    ],
)
def test_the_weights_are_found_and_the_rest_is_named(read, content, missed):
    found, told = read(content)
    weights = {"a": WEIGHTS["a"]} if len(found) == 1 else WEIGHTS
    assert same(found, weights)
    assert told == ([] if missed is None else [MISSED + missed])


def test_of_several_the_plain_weights_are_taken_and_the_others_named(read):
    content = {"ema": {"state_dict": AVERAGES}, "state_dict": WEIGHTS, "epoch": EPOCH}
    found, (several, missed) = read(content)
    assert same(found, WEIGHTS)
    assert several == (
        "holds several sets of weights: state_dict was taken; for another give --entry "
        "ema.state_dict"
    )
    assert missed == MISSED + "ema, epoch"
    found, told = read(content, "ema.state_dict")
    assert same(found, AVERAGES) and told == [MISSED + "state_dict, epoch"]
    with pytest.raises(InputError, match="no weights under 'emma': it has state_dict, ema.st"):
        read(content, "emma")


def test_of_unknown_names_the_first_is_taken(read):
    found, told = read({"student": WEIGHTS, "teacher": AVERAGES})
    assert same(found, WEIGHTS)
    assert "student was taken; for another give --entry teacher" in told[0]


def test_an_entry_may_be_what_names_begin_with(read):
    """As of a Lightning module that has a loss with weights beside the network."""
    names = {f"model.{k}": v for k, v in WEIGHTS.items()} | {"criterion.weight": LOSS}
    found, _ = read({"state_dict": names, "epoch": EPOCH}, "model")
    assert same(found, WEIGHTS)


def test_files_without_weights_are_refused(read):
    with pytest.raises(InputError, match=r"holds no arrays under epoch, args, expected a state_d"):
        read({"epoch": EPOCH, "args": ARGS})
    with pytest.raises(InputError, match="holds nothing, expected a state_dict"):
        read(saved.Program(b"}"))
    with pytest.raises(InputError, match="holds a list, expected a state_dict"):
        read(saved.Program(b"](K\x00e"))


def test_names_cannot_write_to_the_terminal(read, tmp_path):
    found, told = read(WEIGHTS | {"\x1b[2Jnote\nerror: none": EPOCH})
    assert same(found, WEIGHTS) and told == [f"{MISSED} [2Jnote error: none"]
    with pytest.raises(InputError, match="a name has control characters"):
        read(WEIGHTS | {"\x1b[2J": LOSS})
    with pytest.raises(InputError) as caught:
        read({"\x1b[2J\n": EPOCH})
    assert str(caught.value).isprintable()


def test_a_mapping_inside_itself_ends(read):
    program = saved.Program(b"}q\x01(" + saved.text("self") + b"h\x01" + saved.text("a") + b"Nu")
    with pytest.raises(InputError, match="holds no arrays under self, a"):
        read(program)


def test_arrays_of_npz_are_all_weights(tmp_path):
    np.savez(tmp_path / "w.npz", **WEIGHTS)
    assert same(read_state_dict(tmp_path / "w.npz"), WEIGHTS)


@pytest.mark.parametrize("ending", ["pth", "pt", "pth.tar", "ckpt", "bin"])
def test_every_ending_of_torch_is_read(tmp_path, ending):
    saved.save(WEIGHTS, tmp_path / f"w.{ending}")
    assert same(read_state_dict(tmp_path / f"w.{ending}"), WEIGHTS)
