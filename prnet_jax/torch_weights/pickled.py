"""What `torch.save` wrote, read without PyTorch. Nothing in the file is unpickled or executed.

Such a file holds a pickle, a program that may import and call anything, and the numbers apart from
it. Here the program runs on a machine of our own that makes numbers, strings, lists, tuples, dicts
and descriptions of tensors. Whatever else the program names or calls becomes an `Unknown`.
"""

import dataclasses
import math
import os
import pathlib
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

_ZIP = b"PK\3\4"  # how a file begins
_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle in a file of torch before 1.6
_BFLOAT16 = "BFloat16Storage"
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    _BFLOAT16: "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
_TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
_PARAMETERS = (
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
)


@dataclasses.dataclass(frozen=True)
class Unknown:
    """A class, a function or what a call of it would give: only its name."""

    name: str


@dataclasses.dataclass(frozen=True)
class Storage:
    """The numbers of one or more tensors: a type of `_DTYPES`, a key in the file, how many."""

    kind: str
    key: str
    count: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor that is not read yet; offset and strides count numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(
    path: pathlib.Path, pick: Callable[[Any], Mapping[str, Tensor]]
) -> dict[str, np.ndarray]:
    """Some of the tensors in a file of `torch.save`, of any version since 0.4.

    Args:
        path: the file.
        pick: content of the file, with a `Tensor` for each tensor -> those to read, by name.

    Returns:
        name -> array. Dtypes are kept, except that bfloat16 becomes float32. Tensors that share
        their numbers in the file share them here.

    Raises:
        Exception: of many kinds, for a file that is damaged, cut short or of another kind.
    """
    with open(path, "rb") as file:
        is_zip = file.read(len(_ZIP)) == _ZIP
        file.seek(0)
        if is_zip:
            with zipfile.ZipFile(file) as archive:
                return _read_archive(archive, pick)
        return _read_sequence(file, pick)


def _read_archive(
    archive: zipfile.ZipFile, pick: Callable[[Any], Mapping[str, Tensor]]
) -> dict[str, np.ndarray]:
    """A zip of data.pkl and one file for each storage."""
    folders = [n.removesuffix("data.pkl") for n in archive.namelist() if n.endswith("/data.pkl")]
    if len(folders) != 1:
        raise ValueError("it has no single data.pkl, as files of torch.save have")
    order = f"{folders[0]}byteorder"
    if order in archive.namelist() and _stored(archive, order) != b"little":
        raise ValueError("its numbers are big-endian")
    content = interpret(_stored(archive, f"{folders[0]}data.pkl"), {})
    return _arrays(pick(content), lambda s: _stored(archive, f"{folders[0]}data/{s.key}"))


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """A file of a zip that takes no more memory than it takes on disk."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ValueError(f"{name} in it is compressed, which torch.save never does")
    if info.header_offset + info.file_size > os.fstat(archive.fp.fileno()).st_size:
        raise ValueError("it is shorter than it says")
    return archive.read(info)


def _read_sequence(
    file: BinaryIO, pick: Callable[[Any], Mapping[str, Tensor]]
) -> dict[str, np.ndarray]:
    """Before torch 1.6: five pickles, then each storage as its length and its numbers."""
    if interpret(file, {}) != _MAGIC:
        raise ValueError("it was not written by torch.save")
    interpret(file, {})  # the version
    if interpret(file, {}).get("little_endian") is not True:
        raise ValueError("its numbers are big-endian")
    storages: dict[str, Storage] = {}
    content = interpret(file, storages)
    keys = interpret(file, {})
    places, end = {}, file.tell()
    for key in keys:
        places[key] = end + 8
        end = places[key] + _bytes(storages[key])
    if end > os.fstat(file.fileno()).st_size:
        raise ValueError("it is shorter than it says")

    def read(storage: Storage) -> bytes:
        file.seek(places[storage.key])
        return file.read(_bytes(storage))

    return _arrays(pick(content), read)


def _arrays(
    tensors: Mapping[str, Tensor], read: Callable[[Storage], bytes]
) -> dict[str, np.ndarray]:
    storages: dict[Storage, np.ndarray] = {}
    for tensor in tensors.values():
        if tensor.storage not in storages:
            storages[tensor.storage] = _numbers(tensor.storage, read(tensor.storage))
    return {name: _view(t, storages[t.storage]) for name, t in tensors.items()}


def _bytes(storage: Storage) -> int:
    return storage.count * np.dtype(_DTYPES[storage.kind]).itemsize


def _numbers(storage: Storage, content: bytes) -> np.ndarray:
    """All numbers of a storage, [count]."""
    if len(content) != _bytes(storage):
        raise ValueError(f"storage {storage.key} is shorter or longer than it says")
    numbers = np.frombuffer(bytearray(content), _DTYPES[storage.kind])
    if storage.kind == _BFLOAT16:  # the upper half of a float32
        numbers = (numbers.astype("<u4") << 16).view("<f4")
    return numbers


def _view(tensor: Tensor, numbers: np.ndarray) -> np.ndarray:
    """One tensor, a view of its storage's numbers.

    Raises:
        ValueError: it reaches beyond them, or holds more numbers than they are.
    """
    count = math.prod(tensor.shape)
    if count == 0:
        return np.empty(tensor.shape, numbers.dtype)
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((n - 1) * step for n, step in steps)
    if count > numbers.size or last >= numbers.size:
        raise ValueError(f"a tensor of shape {list(tensor.shape)} is larger than its storage")
    strides = [step * numbers.itemsize for step in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides)


def interpret(program: bytes | BinaryIO, storages: dict[str, Storage]) -> Any:
    """The value of a pickle, in which only plain values and tensors are more than a name.

    Args:
        program: the pickle. A file is left right behind it.
        storages: those that the program mentions are added by key.

    Raises:
        Exception: of many kinds, for what is no pickle.
    """
    stack: list[Any] = []
    marks: list[int] = []  # heights of the stack
    memo: dict[int, Any] = {}

    def top(number: int) -> list[Any]:
        return since(len(stack) - number)

    def since(height: int) -> list[Any]:
        items = stack[height:]
        del stack[height:]
        return items

    for opcode, argument, _ in pickletools.genops(program):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                marks.append(len(stack))
            case "POP" | "BUILD":  # BUILD gives an object its attributes
                stack.pop()
            case "POP_MARK" | "ADDITEMS":
                since(marks.pop())
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(top(int(opcode.name[-1]))))
            case "TUPLE":
                stack.append(tuple(since(marks.pop())))
            case "LIST":
                stack.append(since(marks.pop()))
            case "DICT":
                stack.append(_filled({}, since(marks.pop())))
            case "APPEND" | "APPENDS":
                items = top(1) if opcode.name == "APPEND" else since(marks.pop())
                if isinstance(stack[-1], list):
                    stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                items = top(2) if opcode.name == "SETITEM" else since(marks.pop())
                if isinstance(stack[-1], dict):
                    _filled(stack[-1], items)
            case "GLOBAL":
                stack.append(Unknown(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                stack.append(Unknown(".".join(top(2))))
            case "REDUCE" | "NEWOBJ":
                stack.append(_called(*top(2)))
            case "NEWOBJ_EX":
                stack.append(_called(*top(3)[:2]))
            case "OBJ":
                stack.append(_called(since(marks.pop())[0], ()))
            case "INST":
                since(marks.pop())
                stack.append(Unknown(argument.replace(" ", ".")))
            case "EMPTY_SET":
                stack.append(Unknown("set"))
            case "FROZENSET":
                since(marks.pop())
                stack.append(Unknown("frozenset"))
            case "BINPERSID":
                stack.append(_storage(stack.pop(), storages))
            case _ if argument is not None and not opcode.stack_before:
                stack.append(argument)  # a number or a text
            case _:
                raise ValueError(f"it has the instruction {opcode.name}")
    raise ValueError("its pickle has no end")


def _filled(mapping: dict[str, Any], items: list[Any]) -> dict[str, Any]:
    """`mapping` with keys and values added that take turns; only texts name weights."""
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, str):
            mapping[key] = value
    return mapping


def _called(function: Any, arguments: Any) -> Any:
    """What a call gives, of the few functions that make state_dicts and tensors."""
    name = function.name if isinstance(function, Unknown) else type(function).__name__
    if name == "collections.OrderedDict":  # Python 2 gave it pairs
        return _filled({}, [item for pair in sum(arguments, []) for item in pair])
    if name == "collections.defaultdict":
        return {}
    if name in _PARAMETERS:
        return arguments[0]
    if name == "torch._tensor._rebuild_from_type_v2":
        return _called(arguments[0], arguments[2])
    if name in _TENSORS and isinstance(arguments[0], Storage):
        storage, offset, shape, strides = arguments[:4]
        numbers = (offset, *shape, *strides)
        if not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise ValueError("a tensor's shape is not one of whole numbers")
        return Tensor(storage, offset, tuple(shape), tuple(strides))
    return Unknown(name)


def _storage(about: Any, storages: dict[str, Storage]) -> Storage | Unknown:
    """The storage of a persistent id ("storage", class, key, device, count, None)."""
    if about[0] != "storage" or any(view is not None for view in about[5:]):
        return Unknown(str(about[0]))
    kind, key, count = about[1].name.rpartition(".")[2], about[2], about[4]
    if kind not in _DTYPES:
        return Unknown(kind)
    if not (isinstance(key, str) and isinstance(count, int) and count >= 0):
        raise ValueError("a storage has no key or no length")
    return storages.setdefault(key, Storage(kind, key, count))
