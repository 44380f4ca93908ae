"""Reads the collectives from the text of a compiled XLA program."""

import math
import re
from typing import NamedTuple

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# The result's type precedes the kind. `-done` belongs to a `-start` and does not match.
_INSTRUCTION = re.compile(rf"^\s*(?:ROOT )?%?[\w.-]+ = (.+?) ({'|'.join(_KINDS)})(-start)?\(")
_ARRAY = re.compile(r"\b(pred|bf16|f\d+e\w+|[fsuc]\d+)\[([\d,]*)\]")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}")


class Collective(NamedTuple):
    """A collective of a compiled program.

    Attributes:
        kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" or "collective-permute".
        arrays: (dtype, shape) of each complete array: an all-gather's result, a reduce-scatter's
            input.
        group: the number of devices that communicate with each other.
        op_name: the path of the operation in the JAX program, or of one of several fused ones.
    """

    kind: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    group: int
    op_name: str

    @property
    def bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(_bits(dtype) * math.prod(shape) // 8 for dtype, shape in self.arrays)

    @property
    def sent_bytes(self) -> float:
        """Bytes that each device sends if its group forms a ring."""
        n = self.group
        rounds = {"all-reduce": 2.0 * (n - 1) / n, "collective-permute": 1.0}
        return rounds.get(self.kind, (n - 1) / n) * self.bytes


def collectives(program: str, devices: int) -> list[Collective]:
    """The collectives in the text of a compiled program (`jax.stages.Compiled.as_text`).

    One that is split into start and done counts once, and so does one in the body of a loop.

    Args:
        program: the text.
        devices: the number of devices that it was compiled for.

    Raises:
        ValueError: a collective has an unknown form, and would otherwise count as nothing.
    """
    found = []
    for line in program.splitlines():
        match = _INSTRUCTION.match(line)
        if not match:
            continue
        result, kind, start = match.groups()
        arrays = [
            (dtype, tuple(int(size) for size in sizes.split(",") if size))
            for dtype, sizes in _ARRAY.findall(result)
        ]
        if start and kind == "collective-permute":
            arrays = [a for a in arrays if a != ("u32", ())]  # two counters
        if start and kind != "all-reduce":
            arrays = arrays[len(arrays) // 2 :]  # operands come first, then results
        if not arrays:
            raise ValueError(f"no arrays of a known type in {line.strip()[:200]!r}")
        group = _group(line, devices)
        if kind == "reduce-scatter":  # the result is a device's part
            arrays = [(dtype, (group, *shape)) for dtype, shape in arrays]
        name = re.search(r'op_name="([^"]*)"', line)
        found.append(Collective(kind, tuple(arrays), group, name[1] if name else ""))
    return found


def _group(line: str, devices: int) -> int:
    """The number of devices in a group; all devices if the line names no groups."""
    if match := _MESH.search(line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", match[2]))
    if match := re.search(r"replica_groups=\[\d+,(\d+)\]<=", line):
        return int(match[1])
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return match[1].count(",") + 1
    if "replica_groups=" in line and "replica_groups={}" not in line:
        raise ValueError(f"unknown replica_groups in {line.strip()[:200]!r}")
    return devices


def _bits(dtype: str) -> int:
    return 8 if dtype == "pred" else int(re.search(r"\d+", dtype)[0])  # f8e4m3fn has 8
