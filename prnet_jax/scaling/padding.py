"""What a compiled TPU program moves to and from the chip's large memory, and what of it is padding.

All of it is read from the text of the program: nothing is run. The bytes that are moved are those
of the operands and results of each instruction of the entry that lie in the large memory; an
operand of which an instruction reads a part counts in full, and the body of a loop not at all.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from prnet_jax.scaling.layouts import Array, Instruction

_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}
# Where the result is in what a start gives: (copy, original, counter), (original, slice, counter)
_START = {"copy-start": 0, "slice-start": 1}
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


class Bytes(NamedTuple):
    """Bytes of arrays.

    Attributes:
        values: of their values.
        padded: with the padding.
    """

    values: int
    padded: int

    @property
    def padding(self) -> float:
        """The part that is padding, 0 to 1."""
        return 1 - self.values / self.padded if self.padded else 0.0


def total(found: Iterable[Array]) -> Bytes:
    """Bytes of all of `found`."""
    found = list(found)
    return Bytes(sum(a.bytes for a in found), sum(a.padded_bytes for a in found))


def moved(instructions: Sequence[Instruction]) -> list[Array]:
    """The arrays that are read or written in the large memory, once for each time."""
    results = {i.name: i.arrays for i in instructions}
    found: list[Array] = []
    for instruction in instructions:
        kind = instruction.kind
        if kind in _FREE or kind.endswith("-done"):
            continue  # a view, or counted at its start
        if kind.endswith("-start"):  # it reads as much as it writes: perhaps a part of its operand
            for array in _made(instruction).values():
                found += [array, array._replace(space=0)]
            continue
        found += instruction.arrays
        for name in instruction.operands:
            found += results.get(name, ())
    return [array for array in found if array.space == 0]


def live(instructions: Sequence[Instruction]) -> list[Array]:
    """The arrays that are in the large memory when the most is.

    An array is there from the instruction that makes it to the last one that takes it, arguments
    and results all the time. The compiler may let a result take the place of an operand, and an
    operand of which it is known that it is overwritten; then less is needed.
    """
    parts = _parts(instructions)
    arrays = {part: array for i in instructions for part, array in _new(i)}
    last: dict[tuple[str, int], int] = {}
    for when, instruction in enumerate(instructions):
        for part in (p for name in instruction.operands for p in parts.get(name, ())):
            last[part] = when
    end = len(instructions)
    for part in parts[instructions[-1].name]:
        last[part] = end
    now: set[tuple[str, int]] = set()
    for instruction in instructions:
        if instruction.kind == "parameter":
            now.update(part for part, _ in _new(instruction))
            last.update((part, end) for part, _ in _new(instruction))
    most, size, best = set(now), sum(arrays[p].padded_bytes for p in now), 0
    ends = defaultdict(list)
    for part, when in last.items():
        ends[when].append(part)
    for when, instruction in enumerate(instructions):
        for part, array in _new(instruction):
            if part not in now and part in last:
                now.add(part)
                size += array.padded_bytes
        if size > best:
            most, best = set(now), size
        for part in ends[when]:
            if part in now:
                now.remove(part)
                size -= arrays[part].padded_bytes
    return [arrays[part] for part in most]


def _new(instruction: Instruction) -> list[tuple[tuple[str, int], Array]]:
    """The arrays that an instruction makes in the large memory, by its name and their number."""
    made = _made(instruction).items()
    return [((instruction.name, i), array) for i, array in made if array.space == 0]


def _made(instruction: Instruction) -> dict[int, Array]:
    """The arrays that an instruction makes, by their number in its result."""
    kind, arrays = instruction.kind, instruction.arrays
    if kind == "parameter":
        return dict(enumerate(arrays))
    if kind in _FREE or kind.endswith("-done"):
        return {}
    if kind.endswith("-start"):
        return {_START.get(kind, 1): arrays[_START.get(kind, 1)]}
    return dict(enumerate(arrays))


def _parts(instructions: Sequence[Instruction]) -> dict[str, list[tuple[str, int]]]:
    """What each instruction's result consists of: arrays that it or another one makes."""
    parts: dict[str, list[tuple[str, int]]] = {}
    for instruction in instructions:
        name, kind = instruction.name, instruction.kind
        of = [part for operand in instruction.operands for part in parts.get(operand, ())]
        if kind == "get-tuple-element":
            index = re.search(r"index=(\d+)", instruction.text)
            parts[name] = [of[int(index[1])]] if index and int(index[1]) < len(of) else of
        elif kind in ("tuple", "bitcast"):
            parts[name] = of
        elif kind.endswith("-done"):
            result = _START.get(kind.replace("-done", "-start"), 1)
            parts[name] = of[result : result + 1]
        else:
            parts[name] = [(name, i) for i in range(len(instruction.arrays))]
    return parts


def by_tile(found: Iterable[Array]) -> dict[tuple[int, int], Bytes]:
    """Bytes by the lengths of the inner two axes, which sublanes and lanes hold: most first."""
    groups = defaultdict(list)
    for array in found:
        inner = [1, 1, *(array.shape[axis] for axis in array.order)][-2:]
        groups[inner[0], inner[1]].append(array)
    sizes = {inner: total(group) for inner, group in groups.items()}
    return dict(sorted(sizes.items(), key=lambda item: -item[1].padded))


def cycles(instructions: Sequence[Instruction]) -> int:
    """Cycles that the compiler estimates for the entry's instructions, one after another."""
    return sum(int(n) for i in instructions for n in _CYCLES.findall(i.text))
