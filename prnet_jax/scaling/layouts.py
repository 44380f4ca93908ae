"""Reads how the arrays of a compiled TPU program lie in memory, and what of them is padding.

The layout of an array is a part of its type: `bf16[8,256,256,64]{3,0,2,1:T(8,128)(2,1)S(1)}` has
its axis 3 innermost, then 0; the inner two are cut into tiles of 8 x 128, and those into pairs of
rows; the array is in memory space 1. What rounds up to whole tiles is padding: 64 channels fill
half of 128 lanes. https://openxla.org/xla/tiled_layout describes the tiles.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_ARRAY = re.compile(r"\b(pred|bf16|f\d+e\w+|[fsuc]\d+)\[([\d,]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
_TILES = re.compile(r"T((?:\([^)]*\))+)")
_SPACE = re.compile(r"S\((\d+)\)")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")


class Array(NamedTuple):
    """An array as it lies in memory.

    Attributes:
        dtype: as XLA names it, such as "bf16".
        shape: the lengths of its axes.
        order: its axes from the outermost to the innermost.
        tiles: the tiles that the inner axes are cut into, the first of the array, each other one of
            the tile before it; empty if there are none.
        space: the memory space; 0 is the chip's large memory (HBM), the others are on the chip.
    """

    dtype: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    tiles: tuple[tuple[int, ...], ...]
    space: int = 0

    @property
    def bytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * _bits(self.dtype) // 8

    @property
    def padded_bytes(self) -> int:
        """Bytes that it takes, rounded up to whole tiles."""
        lengths = [self.shape[axis] for axis in self.order]
        for tile in self.tiles:
            lengths = [1] * (len(tile) - len(lengths)) + lengths
            inner = zip(lengths[-len(tile) :], tile, strict=True)
            outer = [-(-length // side) for length, side in inner]
            lengths = [*lengths[: -len(tile)], *outer, *tile]
        return math.prod(lengths) * _bits(self.dtype) // 8


class Instruction(NamedTuple):
    """An instruction of a program.

    Attributes:
        name: without the percent sign.
        arrays: its result, an array or the arrays of a tuple.
        kind: such as "fusion".
        operands: the names of the instructions whose results it takes.
        text: the rest of its line.
    """

    name: str
    arrays: tuple[Array, ...]
    kind: str
    operands: tuple[str, ...]
    text: str


def arrays(text: str) -> tuple[Array, ...]:
    """The arrays of a type, such as `(f32[8]{0:T(128)}, s32[])`.

    Raises:
        ValueError: a tile has an unknown form.
    """
    found = []
    for dtype, sizes, order, rest in _ARRAY.findall(text):
        shape = _numbers(sizes)
        inner_first = _numbers(order) or tuple(reversed(range(len(shape))))
        tiles = _TILES.search(rest)
        space = _SPACE.search(rest)
        found.append(
            Array(
                dtype,
                shape,
                tuple(reversed(inner_first)),
                tuple(map(_numbers, re.findall(r"\(([^)]*)\)", tiles[1]))) if tiles else (),
                int(space[1]) if space else 0,
            )
        )
    return tuple(found)


def entry(program: str) -> list[Instruction]:
    """The instructions of a program's entry, in the order in which they run.

    Args:
        program: the text of a compiled program (`jax.stages.Compiled.as_text`).

    Raises:
        ValueError: it has no entry, or one with a line of an unknown form.
    """
    return list(_entry(program))


def _entry(program: str) -> Iterator[Instruction]:
    _, found, body = program.partition("\nENTRY ")
    if not found:
        raise ValueError("the program has no entry")
    for line in body.splitlines()[1:]:
        if line.startswith("}"):
            return
        match = _INSTRUCTION.match(line)
        if not match:
            continue  # a comment, or the middle of an instruction that spans lines
        name, rest = match[1], match[2]
        kind_at = _type_end(rest)
        kind, _, inside = rest[kind_at:].lstrip().partition("(")
        operands, text = _balanced(inside)
        names = tuple(re.findall(r"%([\w.-]+)", operands))
        yield Instruction(name, arrays(rest[:kind_at]), kind, names, text)


def _type_end(text: str) -> int:
    """Where the type at the beginning of `text` ends."""
    depth = 0
    for i, letter in enumerate(text):
        depth += letter in "({["
        depth -= letter in ")}]"
        if letter == " " and depth == 0:
            return i
    raise ValueError(f"no instruction in {text[:200]!r}")


def _balanced(text: str) -> tuple[str, str]:
    """Splits at the parenthesis that closes the one before `text`."""
    depth = 1
    for i, letter in enumerate(text):
        depth += letter == "("
        depth -= letter == ")"
        if depth == 0:
            return text[:i], text[i + 1 :]
    raise ValueError(f"a parenthesis is not closed in {text[:200]!r}")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(",") if word)
    except ValueError:
        raise ValueError(f"unknown form of a layout: {text!r}") from None


def _bits(dtype: str) -> int:
    if dtype == "pred":
        return 8
    found = re.search(r"\d+", dtype)
    assert found
    return int(found[0])
