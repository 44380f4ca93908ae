"""Files of weights: what is read back, and what is refused and never executed."""

import os
import pickle
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.torch_weights import files
from prnet_jax.torch_weights.files import (
    as_array,
    read_metadata,
    read_state_dict,
    write_state_dict,
)

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
        with pytest.raises(InputError, match="damaged") as caught:
            read_state_dict(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("nested", [False, True])
def test_a_pickle_of_torch_that_runs_code_is_not_executed(tmp_path, nested):
    torch = pytest.importorskip("torch")
    marker = tmp_path / "executed"
    content = {"state_dict": {"a": torch.ones(2)}, "b": Opener(marker)}
    path = tmp_path / "evil.pth"
    torch.save(content if nested else content["b"], path)
    if nested:
        assert read_state_dict(path)["a"].tolist() == [1, 1]
    else:
        with pytest.raises(InputError, match="holds a posix.mkdir, expected a state_dict"):
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
    with pytest.raises(InputError, match="cannot be read"):
        read_state_dict(path)
    assert not marker.exists()


def test_pickled_arrays_in_npz_are_not_executed(tmp_path):
    marker = tmp_path / "executed"
    np.savez(tmp_path / "evil.npz", a=np.array([Opener(marker)], object))
    with pytest.raises(InputError, match="Object arrays cannot be loaded"):
        read_state_dict(tmp_path / "evil.npz")
    assert not marker.exists()


def npz_with(path, header, content=b"\0" * 8):
    """A .npz of one array whose header is this text."""
    head = header.encode() + b"\n"
    start = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", start + head + content)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,", "TokenError|cannot be read"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}", "is cut short"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", "is cut short or too long"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -1)}", "cannot be read"),
        ("{'descr': 'f' * 9, 'fortran_order': False, 'shape': (2,)}", "ValueError"),
        ("__import__('os')", "ValueError"),
        ("(" * 5000, "cannot be read"),
    ],
)
def test_headers_in_npz_that_are_wrong(tmp_path, header, why):
    path = tmp_path / "w.npz"
    npz_with(path, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}")
    assert read_state_dict(path)["a"].tolist() == [0, 0]
    npz_with(path, header)
    with pytest.raises(InputError, match=why) as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)


def test_an_npz_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "w.npz", a=np.zeros(10**6))
    assert read_state_dict(tmp_path / "w.npz")["a"].size == 10**6
    monkeypatch.setattr(files, "_ALWAYS_FITS", 10**6)
    with pytest.raises(InputError, match="it would become 8000128 bytes"):
        read_state_dict(tmp_path / "w.npz")


@pytest.mark.parametrize("length", [2**62, 10**8, 50])
def test_headers_in_safetensors_that_are_wrong(tmp_path, length):
    path = tmp_path / "w.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{" * 100)
    with pytest.raises(InputError, match="cannot be read as a .safetensors file"):
        read_state_dict(path)
    with pytest.raises(InputError, match="cannot be read as a .safetensors file"):
        read_metadata(path)


def test_a_damaged_byte_gives_arrays_or_one_line(path):
    write_state_dict(path, STATE_DICT)
    whole, generator = path.read_bytes(), np.random.default_rng(1)
    for _ in range(200):
        content = bytearray(whole)
        content[generator.integers(len(whole))] = generator.integers(256)
        path.write_bytes(content)
        try:
            assert all(isinstance(a, np.ndarray) for a in read_state_dict(path).values())
        except InputError as error:
            assert "\n" not in str(error)


def test_metadata_of_safetensors(tmp_path):
    path = tmp_path / "w.safetensors"
    write_state_dict(path, STATE_DICT, {"network": "unet"})
    assert read_metadata(path) == {"network": "unet"}
    assert read_state_dict(path).keys() == STATE_DICT.keys()
    write_state_dict(tmp_path / "w.npz", STATE_DICT, {"network": "unet"})
    assert read_metadata(tmp_path / "w.npz") == {}


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_a_file_has_the_usual_mode(path, mask, mode):
    before = os.umask(mask)
    try:
        write_state_dict(path, STATE_DICT)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode


def test_paths_without_weights(tmp_path):
    with pytest.raises(InputError, match="absent.npz is not a file"):
        read_state_dict(tmp_path / "absent.npz")
    endings = ".pth, .pt, .pth.tar, .ckpt, .bin, .safetensors, .npz"
    with pytest.raises(InputError, match=f"must end in {endings}, found '.h5'"):
        read_state_dict(tmp_path / "weights.h5")
    np.save(tmp_path / "array.npy", np.ones(2))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(InputError, match="cannot be read as a .npz file"):
        read_state_dict(tmp_path / "array.npz")


def test_a_missing_torch_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "w.pth"
    with pytest.raises(InputError, match=r"pip install 'prnet_jax\[torch\]'"):
        write_state_dict(path, STATE_DICT)


def test_tensors_become_arrays():
    torch = pytest.importorskip("torch")
    tensor = torch.ones(2, requires_grad=True)
    assert as_array("a", tensor).tolist() == [1.0, 1.0]
    with pytest.raises(InputError, match="a is a Tensor, expected an array"):
        as_array("a", tensor.detach().to_sparse())
    for value in (3, [1.0], {"b": 1}, None, np.array([None])):
        with pytest.raises(InputError, match="a is a .*, expected an array"):
            as_array("a", value)
