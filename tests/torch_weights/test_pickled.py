"""Files of torch.save without PyTorch: what is read, and that nothing in them is executed."""

import argparse
import copyreg
import os
import pathlib
import pickle
import subprocess
import time
import zipfile

import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.torch_weights.files import read_state_dict
from tests.torch_weights import saved

ATTACKS = list(saved.attacks(""))
GENERATOR = np.random.default_rng(0)
STATE_DICT = {
    "conv.weight": GENERATOR.normal(size=(3, 2, 3, 3)).astype(np.float32),
    "turned": GENERATOR.normal(size=(4, 5)),
    "half": np.array([0.1, 3e-5], np.float16),
    "bn.num_batches_tracked": np.array(7),
    "none": np.zeros((0, 3), np.float32),
}
SAVE = {"zip": saved.save, "before 1.6": saved.save_as_before_1_6}


def check_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("save", SAVE.values(), ids=SAVE)
def test_arrays_are_read_to_the_bit(tmp_path, save):
    save(STATE_DICT, tmp_path / "w.pth")
    check_same(read_state_dict(tmp_path / "w.pth"), STATE_DICT)


@pytest.mark.parametrize("old", [False, True])
def test_files_of_torch_itself(tmp_path, old):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.tensor(array) for name, array in STATE_DICT.items()}
    tensors["turned"] = tensors["turned"].T.contiguous().T
    base = torch.arange(24.0).reshape(2, 3, 4)
    tensors |= {"part": base[:, 1:, ::2], "whole": base, "same": base}
    tensors["parameter"] = torch.nn.Parameter(torch.ones(2, 2))
    tensors["tagged"] = torch.nn.Parameter(torch.ones(2))
    tensors["tagged"].note = "a Python attribute"
    tensors["bool"] = torch.tensor([True, False])
    path = tmp_path / "w.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=not old)
    check_same(read_state_dict(path), {k: t.detach().numpy() for k, t in tensors.items()})


@pytest.mark.parametrize("old", [False, True])
def test_a_checkpoint_of_a_training_in_torch(tmp_path, old):
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(2, 1, 4, 4)).square().sum().backward()
    optimizer.step()
    content = {
        "epoch": 3,
        "model_state_dict": network.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "best": np.float64(0.9),
        "arguments": argparse.Namespace(rate=1e-3, folder=pathlib.Path("runs")),
    }
    told, path = [], tmp_path / "w.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    check_same(
        read_state_dict(path, tell=told.append),
        {k: t.numpy() for k, t in network.state_dict().items()},
    )
    (line,) = told
    assert line.endswith("weights: epoch, optimizer_state_dict, best, arguments")


@pytest.mark.parametrize("save", SAVE.values(), ids=SAVE)
def test_the_tests_own_files_are_as_torch_reads_them(tmp_path, save):
    torch = pytest.importorskip("torch")
    save(STATE_DICT, tmp_path / "w.pth")
    found = torch.load(tmp_path / "w.pth", weights_only=True)
    check_same({k: t.numpy() for k, t in found.items()}, STATE_DICT)


def test_bfloat16_is_widened_to_the_bit(tmp_path):
    halves = np.array([0x3F80, 0xBE20, 0x0001], np.uint16)  # 1, -0.15625, the least above 0
    saved.save({"a": halves}, tmp_path / "w.pth")
    found = read_state_dict(tmp_path / "w.pth")["a"]
    assert found.dtype == np.float32
    assert found.tolist() == [1.0, -0.15625, 2.0**-133]


# ---- nothing is executed


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "executed"


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_does_run_where_it_is_unpickled(marker, attack):
    """Else the next tests would show nothing."""
    program = saved.attacks(f"touch {marker}")[attack]
    pickle.loads(b"\x80\x02" + program + b".")
    assert marker.exists()


@pytest.mark.parametrize("save", SAVE.values(), ids=SAVE)
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_not_executed(tmp_path, marker, attack, save):
    program = saved.attacks(f"touch {marker}")[attack]
    path, weights = tmp_path / "w.pth", {"a": np.ones(2, np.float32)}
    told = []
    save({"state_dict": weights, "extra": program}, path)
    check_same(read_state_dict(path, tell=told.append), weights)
    assert told == [f"{path}: passed over, as they are not among the weights: extra"]
    save(program, path)
    with pytest.raises(InputError, match="expected a state_dict|cannot be read"):
        read_state_dict(path)
    # In the places of a tensor's storage, of a storage's class, of its offset and of a key.
    storage = saved.storage(b"FloatStorage", "0", 2)
    about = (saved.text("storage"), program, saved.text("0"), saved.text("cpu"), saved.number(2))
    for evil in (
        saved.tensor(program, 0, (2,), (1,)),
        saved.tensor(saved.Program(saved.tuple_of(*about) + b"Q"), 0, (2,), (1,)),
        saved.call(saved.found("torch._utils._rebuild_tensor_v2"), storage, program),
        saved.Program(b"}" + program + saved.text("value") + b"s"),
        saved.Program(program + b"Q"),
    ):
        save({"state_dict": weights, "evil": evil}, path)
        try:
            check_same(read_state_dict(path), weights)
        except InputError:
            pass
    time.sleep(0.01)
    assert not marker.exists()


def test_classes_of_torch_that_load_files_are_not_called(tmp_path, marker):
    """A file in the file, which torch.load would open if it were called."""
    inner = tmp_path / "inner.pth"
    saved.save(saved.attacks(f"touch {marker}")["a call"], inner)
    stream = saved.call(saved.found("io.BytesIO"), saved.Program(b"B" + _length(inner)))
    program = saved.call(saved.found("torch.serialization.load"), stream)
    saved.save({"a": np.ones(1), "b": program}, tmp_path / "w.pth")
    assert read_state_dict(tmp_path / "w.pth").keys() == {"a"}
    with zipfile.ZipFile(tmp_path / "w.pth", "a") as archive:
        archive.write(inner, "archive/inner/data.pkl")
    with pytest.raises(InputError, match="no single data.pkl"):
        read_state_dict(tmp_path / "w.pth")
    assert not marker.exists()


def _length(path):
    content = path.read_bytes()
    return len(content).to_bytes(4, "little") + content


def test_registered_extensions_are_not_called(tmp_path, marker):
    copyreg.add_extension("os", "mkdir", 240)
    try:
        program = saved.call(saved.Program(b"\x82\xf0"), saved.text(str(marker)))
        saved.save({"a": np.ones(1), "b": program}, tmp_path / "w.pth")
        assert read_state_dict(tmp_path / "w.pth").keys() == {"a"}
        assert not marker.exists()
        pickle.loads(b"\x80\x02" + program + b".")
        assert marker.exists()
    finally:
        copyreg.remove_extension("os", "mkdir", 240)


def test_nothing_is_imported(tmp_path, monkeypatch):
    (tmp_path / "strangers_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    program = saved.call(saved.found("strangers_module.Trainer"))
    saved.save({"a": np.ones(1), "b": program}, tmp_path / "w.pth")
    assert read_state_dict(tmp_path / "w.pth").keys() == {"a"}


# ---- damaged files, and files that ask for more memory than they have


def refused(path):
    with pytest.raises(InputError, match="cannot be read as a .pth file") as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


ONE = saved.storage(b"FloatStorage", "0", 1)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (saved.tensor(ONE, 0, (10**12,), (1,)), "larger than its storage"),
        (saved.tensor(ONE, 0, (10**12,), (0,)), "larger than its storage"),
        (saved.tensor(ONE, 1, (1,), (1,)), "larger than its storage"),
        (saved.tensor(ONE, 0, (1, 1), (1,)), "ValueError"),
        (saved.tensor(ONE, -1, (1,), (1,)), "not one of whole numbers"),
        (saved.tensor(ONE, 0, (-1,), (1,)), "not one of whole numbers"),
        (saved.tensor(saved.storage(b"FloatStorage", "0", 10**12), 0, (1,), (1,)), "longer than"),
        (saved.tensor(saved.storage(b"FloatStorage", "9", 1), 0, (1,), (1,)), "KeyError"),
        (saved.Program(b"N" + b"r" + b"\xff" * 4 + b"B" + b"\xff" * 4), "ValueError"),
        (saved.Program(b"\x8e" + b"\xff" * 7 + b"\x00"), "ValueError"),
        (saved.Program(b"\x97"), "the instruction NEXT_BUFFER"),
        (saved.Program(b"t"), "IndexError"),
    ],
)
def test_what_a_file_promises_is_checked(tmp_path, value, why):
    saved.save({"a": value}, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth", "a") as archive:
        archive.writestr("archive/data/0", b"\0" * 4)
    assert why in refused(tmp_path / "w.pth")


def test_a_huge_place_in_the_memo_costs_nothing(tmp_path):
    """CPython's own unpickler would reserve 16 GiB."""
    program = saved.Program(b"N" + b"r" + b"\xff\xff\xff\x7f")
    saved.save({"a": np.ones(1), "b": program}, tmp_path / "w.pth")
    assert read_state_dict(tmp_path / "w.pth").keys() == {"a"}


def test_compressed_and_foreign_zips_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    saved.save({"a": np.zeros(10**6)}, path, zipfile.ZIP_DEFLATED)
    assert "compressed, which torch.save never does" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")
    assert "no single data.pkl" in refused(path)


def test_numbers_of_the_other_byte_order_are_refused(tmp_path):
    saved.save({"a": np.ones(1)}, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "big.pth", "w") as archive:
        with zipfile.ZipFile(tmp_path / "w.pth") as little:
            for name in little.namelist():
                big = name.endswith("byteorder")
                archive.writestr(name, b"big" if big else little.read(name))
    assert "big-endian" in refused(tmp_path / "big.pth")


@pytest.mark.parametrize("save", SAVE.values(), ids=SAVE)
def test_a_damaged_byte_gives_arrays_or_one_line(tmp_path, save):
    path = tmp_path / "w.pth"
    save({"state_dict": STATE_DICT, "epoch": saved.number(3)}, path)
    whole = path.read_bytes()
    generator, refusals = np.random.default_rng(1), 0
    for _ in range(300):
        content = bytearray(whole)
        content[generator.integers(len(whole))] = generator.integers(256)
        path.write_bytes(content[: generator.integers(len(whole) // 2, 2 * len(whole))])
        try:
            found = read_state_dict(path)
            assert all(isinstance(array, np.ndarray) for array in found.values())
        except InputError as error:
            refusals += 1
            assert "\n" not in str(error)
    assert refusals > 50


def test_a_whole_network_is_named(tmp_path):
    module = saved.found("torch.nn.modules.linear.Linear")
    saved.save(saved.Program(module + b")\x81}b"), tmp_path / "w.pth")
    with pytest.raises(InputError, match="holds a torch.nn.modules.linear.Linear, expected a st"):
        read_state_dict(tmp_path / "w.pth")


def test_reading_needs_no_torch(tmp_path, root):
    saved.save(STATE_DICT, tmp_path / "w.pth")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from prnet_jax.torch_weights.files import read_state_dict\n"
        f"print(len(read_state_dict({str(tmp_path / 'w.pth')!r})))"
    )
    done = subprocess.run([os.sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "5", done.stderr
