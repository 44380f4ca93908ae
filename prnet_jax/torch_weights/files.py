"""Files of PyTorch weights as NumPy arrays: .pth and .pt, .safetensors, .npz.

Such files come from strangers, so nothing in them is ever executed. PyTorch and safetensors are
optional; they are imported only to read or write a file of theirs.
"""

import io
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from prnet_jax.errors import InputError
from prnet_jax.run.files import write_whole

_TORCH = (".pth", ".pt")
_SAFETENSORS = ".safetensors"
_NPZ = ".npz"
_ENDINGS = (*_TORCH, _SAFETENSORS, _NPZ)

# The keys under which training programs save the state_dict.
_NESTED_UNDER = ("state_dict", "model_state_dict", "model")


def read_state_dict(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the state_dict in a file, at its top or nested as training programs save it.

    Args:
        path: a .pth, .pt, .safetensors or .npz file.

    Returns:
        name -> array. Dtypes are kept, except that bfloat16, which NumPy lacks, becomes float32.

    Raises:
        InputError: the file does not exist, is damaged, holds anything but arrays or would run
            code; or the package that reads it is not installed.
    """
    path = pathlib.Path(path)
    ending = _ending(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file: name a file of weights ({', '.join(_ENDINGS)})")
    read = {_SAFETENSORS: _read_safetensors, _NPZ: _read_npz}.get(ending, _read_torch)
    content = read(path)
    for key in _NESTED_UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path} holds a {type(content).__name__}, expected a state_dict (name -> array): "
            "save model.state_dict()"
        )
    try:
        return {str(name): _widen(as_array(name, value)) for name, value in content.items()}
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def write_state_dict(path: str | pathlib.Path, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a state_dict in the format of the file's ending, atomically; bfloat16 as float32.

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
        torch = _import("torch", path)
        torch.save({name: torch.tensor(array) for name, array in arrays.items()}, content)
    elif ending == _SAFETENSORS:
        content.write(_import("safetensors", path).numpy.save(arrays))
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
    if path.suffix not in _ENDINGS:
        raise InputError(f"{path} must end in {', '.join(_ENDINGS)}, found {path.suffix!r}")
    return path.suffix


def _read_torch(path: pathlib.Path) -> Any:
    torch = _import("torch", path)
    import pickle

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of the pickle's version, then refuses it
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} holds more than arrays and could run code, so it was not opened: "
            "if you trust it, load it yourself and save model.state_dict() alone"
        ) from None
    except Exception as error:  # torch raises many kinds for a file that is cut or not its own
        raise _damaged(path, error) from None


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    package = _import("safetensors", path)
    try:
        return package.numpy.load_file(path)
    except (package.SafetensorError, KeyError, OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (AttributeError, EOFError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from None


def _damaged(path: pathlib.Path, error: Exception) -> InputError:
    why = (str(error).splitlines() or [""])[0].split(". ")[0]
    return InputError(
        f"{path} cannot be read as a {path.suffix} file ({type(error).__name__}: {why}): "
        "it is damaged, cut short or of another kind; copy it again"
    )


def _import(package: str, path: pathlib.Path) -> Any:
    try:
        if package == "torch":
            import torch

            return torch
        import safetensors.numpy

        return safetensors
    except ImportError:
        raise InputError(
            f"{path} needs the package {package}: pip install 'prnet_jax[{package}]'"
        ) from None


def _widen(array: np.ndarray) -> np.ndarray:
    """float32 for bfloat16 and the like, which NumPy knows only as extensions."""
    return array.astype(np.float32) if array.dtype.kind == "V" else array
