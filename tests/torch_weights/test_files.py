"""Files of weights: what is read back, and what is refused and never executed."""

import os
import pickle
import sys

import ml_dtypes
import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.torch_weights.files import as_array, read_state_dict, write_state_dict

STATE_DICT = {
    "up1.conv.weight": np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype(np.float32),
    "bn.running_var": np.array([1.5, 2.5]),
    "half": np.array([0.1, 3e-5], np.float16),
    "bn.num_batches_tracked": np.zeros((), np.int64),
}
# The package that reads each ending.
ENDINGS = {"npz": "numpy", "safetensors": "safetensors", "pth": "torch", "pt": "torch"}


class Opener:
    """Unpickling it creates the folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture(params=ENDINGS)
def path(request, tmp_path):
    pytest.importorskip(ENDINGS[request.param])
    return tmp_path / f"weights.{request.param}"


def test_what_is_written_is_read_to_the_bit(path):
    transposed = {"t": STATE_DICT["up1.conv.weight"].transpose(3, 2, 1, 0)}
    written = STATE_DICT | transposed
    write_state_dict(path, written)
    found = read_state_dict(path)
    assert found.keys() == written.keys()
    for name, array in written.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(found[name], array)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_bfloat16_becomes_float32(path):
    write_state_dict(path, {"a": np.array([1.0, -0.15625], ml_dtypes.bfloat16)})
    found = read_state_dict(path)["a"]
    assert found.dtype == np.float32
    assert found.tolist() == [1.0, -0.15625]


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_bfloat16_files_of_torch(tmp_path, ending):
    torch = pytest.importorskip("torch")
    tensors = {"a": torch.tensor([1.0, -0.15625], dtype=torch.bfloat16)}
    path = tmp_path / f"w.{ending}"
    if ending == "pth":
        torch.save(tensors, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(tensors, path)
    found = read_state_dict(path)["a"]
    assert found.dtype == np.float32
    assert found.tolist() == [1.0, -0.15625]


def test_an_existing_file_is_not_overwritten(path):
    path.write_text("mine")
    with pytest.raises(InputError, match="exists and is not overwritten"):
        write_state_dict(path, STATE_DICT)
    assert path.read_text() == "mine"


def test_damaged_files_are_refused_in_one_line(path):
    write_state_dict(path, STATE_DICT)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:12], b"", b"hello, this is a text\n" * 9):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged|could run code") as caught:
            read_state_dict(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_a_nested_state_dict_is_found(tmp_path, key):
    torch = pytest.importorskip("torch")
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 7, key: {"a": torch.ones(2)}, "optimizer": {"state": {}}}, path)
    assert {name: array.tolist() for name, array in read_state_dict(path).items()} == {"a": [1, 1]}


def test_other_contents_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 7, "a": torch.ones(2)}, path)
    with pytest.raises(InputError, match="checkpoint.pth: epoch is a int, expected an array"):
        read_state_dict(path)
    torch.save([torch.ones(2)], path)
    with pytest.raises(InputError, match="holds a list, expected a state_dict"):
        read_state_dict(path)


@pytest.mark.parametrize("nested", [False, True])
def test_a_pickle_that_runs_code_is_not_executed(tmp_path, nested):
    torch = pytest.importorskip("torch")
    marker = tmp_path / "executed"
    content = {"state_dict": {"a": torch.ones(2)}, "b": Opener(marker)}
    path = tmp_path / "evil.pth"
    torch.save(content if nested else content["b"], path)
    with pytest.raises(InputError, match="could run code, so it was not opened"):
        read_state_dict(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the file would indeed run code
    assert marker.exists()


@pytest.mark.parametrize("ending", ["pth", "npz", "safetensors"])
def test_a_bare_pickle_is_not_executed(tmp_path, ending):
    pytest.importorskip(ENDINGS[ending])
    marker = tmp_path / "executed"
    path = tmp_path / f"evil.{ending}"
    path.write_bytes(pickle.dumps(Opener(marker)))
    with pytest.raises(InputError, match="could run code|cannot be read"):
        read_state_dict(path)
    assert not marker.exists()


def test_pickled_arrays_in_npz_are_not_executed(tmp_path):
    marker = tmp_path / "executed"
    np.savez(tmp_path / "evil.npz", a=np.array([Opener(marker)], object))
    with pytest.raises(InputError, match="Object arrays cannot be loaded"):
        read_state_dict(tmp_path / "evil.npz")
    assert not marker.exists()


def test_paths_without_weights(tmp_path):
    with pytest.raises(InputError, match="absent.npz is not a file"):
        read_state_dict(tmp_path / "absent.npz")
    with pytest.raises(InputError, match="must end in .pth, .pt, .safetensors, .npz, found '.h5'"):
        read_state_dict(tmp_path / "weights.h5")
    np.save(tmp_path / "array.npy", np.ones(2))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(InputError, match="cannot be read as a .npz file"):
        read_state_dict(tmp_path / "array.npz")


@pytest.mark.parametrize("package,ending", [("torch", "pth"), ("safetensors", "safetensors")])
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, package, ending):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.numpy", None)
    path = tmp_path / f"w.{ending}"
    with pytest.raises(InputError, match=rf"pip install 'prnet_jax\[{package}\]'"):
        write_state_dict(path, STATE_DICT)
    path.touch()
    with pytest.raises(InputError, match=rf"pip install 'prnet_jax\[{package}\]'"):
        read_state_dict(path)


def test_tensors_become_arrays():
    torch = pytest.importorskip("torch")
    tensor = torch.ones(2, requires_grad=True)
    assert as_array("a", tensor).tolist() == [1.0, 1.0]
    with pytest.raises(InputError, match="a is a Tensor, expected an array"):
        as_array("a", tensor.detach().to_sparse())
    for value in (3, [1.0], {"b": 1}, None, np.array([None])):
        with pytest.raises(InputError, match="a is a .*, expected an array"):
            as_array("a", value)
