"""Files of PyTorch weights as NumPy arrays: of `torch.save`, .safetensors, .npz.

Such files come from strangers, so nothing in them is ever executed: what a reader gives is arrays
or an `InputError`. PyTorch is only needed to write its files.
"""

import contextlib
import io
import math
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np
import safetensors.numpy

from prnet_jax.data.untrusted import printable
from prnet_jax.errors import InputError
from prnet_jax.run.files import write_whole
from prnet_jax.torch_weights.entries import pick_weights
from prnet_jax.torch_weights.pickled import read_torch

_TORCH = (".pth", ".pt", ".pth.tar", ".ckpt", ".bin")
_SAFETENSORS = ".safetensors"
_NPZ = ".npz"
_ENDINGS = (*_TORCH, _SAFETENSORS, _NPZ)
_EXPANSION = 100  # how much larger the arrays of a .npz may be than the file
_ALWAYS_FITS = 1 << 30  # bytes


def read_state_dict(
    path: str | pathlib.Path,
    entry: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, np.ndarray]:
    """Reads the state_dict in a file, at its top or nested as training programs save it.

    Args:
        path: a file with one of the endings .pth, .pt, .pth.tar, .ckpt, .bin, .safetensors, .npz.
        entry: under which name it lies, such as "ema"; None to look for it.
        tell: gets a line for the user where the file holds several, or more than arrays.

    Returns:
        name -> array. Dtypes are kept, except that bfloat16, which NumPy lacks, becomes float32.

    Raises:
        InputError: the file does not exist, is damaged or holds no arrays.
    """
    path = pathlib.Path(path)
    ending = _ending(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file: name a file of weights ({', '.join(_ENDINGS)})")

    def pick(content: Any) -> dict[str, Any]:
        weights = pick_weights(content, path, entry, lambda line: tell(printable(line)))
        if not all(name.isprintable() for name in weights):
            raise ValueError("a name has control characters")
        return weights

    with _arrays_or_input_error(path):
        if ending in _TORCH:
            return read_torch(path, pick)
        arrays = pick(_read_npz(path) if ending == _NPZ else _read_safetensors(path))
        return {name: _widen(array) for name, array in arrays.items()}


def read_metadata(path: str | pathlib.Path) -> dict[str, str]:
    """What a .safetensors file says of itself besides its arrays; nothing for other files.

    Raises:
        InputError: the file is damaged.
    """
    path = pathlib.Path(path)
    if _ending(path) != _SAFETENSORS:
        return {}
    with _arrays_or_input_error(path), safetensors.safe_open(path, "numpy") as file:
        return file.metadata() or {}


def write_state_dict(
    path: str | pathlib.Path,
    state_dict: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a state_dict in the format of the file's ending, atomically; bfloat16 as float32.

    Args:
        path: a new file; folders above it are made.
        state_dict: name -> array.
        metadata: what a .safetensors file says of itself; other formats have no place for it.

    Raises:
        InputError: the file exists, its ending is unknown, or the package that writes it is not
            installed.
    """
    path = pathlib.Path(path)
    ending = _ending(path)
    if path.exists():
        raise InputError(f"{path} exists and is not overwritten: name a new file")
    # Not np.ascontiguousarray, which makes a vector of a scalar.
    arrays = {name: np.asarray(_widen(array), order="C") for name, array in state_dict.items()}
    content = io.BytesIO()
    if ending in _TORCH:
        try:
            import torch
        except ImportError:
            raise InputError(
                f"{path} needs the package torch: pip install 'prnet_jax[torch]'"
            ) from None
        torch.save({name: torch.tensor(array) for name, array in arrays.items()}, content)
    elif ending == _SAFETENSORS:
        content.write(safetensors.numpy.save(arrays, dict(metadata or {})))
    else:
        np.savez(content, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())


def as_array(name: str, value: Any) -> np.ndarray:
    """The NumPy array of a state_dict's entry: an array, or a torch tensor on any device.

    Raises:
        InputError: the entry is anything else.
    """
    try:
        if hasattr(value, "detach"):  # a torch tensor, recognised without importing torch
            value = value.detach().cpu()
            value = (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
        if hasattr(value, "shape") and not np.asarray(value).dtype.hasobject:
            return np.asarray(value)
    except (TypeError, RuntimeError):  # a sparse or a quantized tensor
        pass
    raise InputError(
        f"{name} is a {type(value).__name__}, expected an array of numbers: "
        "save model.state_dict() alone"
    )


def _ending(path: pathlib.Path) -> str:
    for ending in _ENDINGS:
        if path.name.endswith(ending):
            return ending
    raise InputError(f"{path} must end in {', '.join(_ENDINGS)}, found {path.suffix!r}")


@contextlib.contextmanager
def _arrays_or_input_error(path: pathlib.Path) -> Iterator[None]:
    """Turns whatever a parser raises on a damaged or hostile file into one line."""
    try:
        yield
    except InputError as error:
        raise InputError(printable(str(error))) from None
    except Exception as error:
        why = (str(error).splitlines() or [""])[0].split(". ")[0]
        raise InputError(
            f"{path} cannot be read as a {path.suffix} file ({type(error).__name__}: "
            f"{printable(why)}): it is damaged, cut short or of another kind; copy it again"
        ) from None


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    import ml_dtypes  # noqa: F401  NumPy has no bfloat16 of its own

    return safetensors.numpy.load_file(path)


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays; what a file says of their sizes is checked before memory is taken for them."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        needed = sum(info.file_size for info in members)
        if needed > max(_EXPANSION * path.stat().st_size, _ALWAYS_FITS):
            raise ValueError(f"it would become {needed} bytes")
        for info in members:
            with archive.open(info) as file:
                _check_size(file, info.file_size)
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _check_size(file: IO[bytes], size: int) -> None:
    """Compares the shape in the header of a .npy file with the bytes that follow."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0}
    shape, _, dtype = read.get(version, np.lib.format.read_array_header_2_0)(file)
    if not dtype.hasobject and file.tell() + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"an array of shape {list(shape)} is cut short or too long")


def _widen(array: np.ndarray) -> np.ndarray:
    """float32 for bfloat16 and the like, which NumPy knows only as extensions."""
    return array.astype(np.float32) if array.dtype.kind == "V" else array
