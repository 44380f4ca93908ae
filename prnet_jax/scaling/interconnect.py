"""How long communication takes: computed from published speeds, not measured.

The sources are in launch/README.md, "Scale".
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from prnet_jax.scaling.collectives import Collective

SHARE = 0.1  # the part of a step that communication may take


class Machine(NamedTuple):
    """Accelerators of one kind.

    Attributes:
        title: its name in the table.
        peak: operations per second of one device, bfloat16 with float32 sums.
        bandwidth: number of devices in a ring -> bytes per second that a device sends, one way.
            For H100s in several nodes, what the eight of a node send together.
        latency_s: number of devices -> seconds that a collective takes without any bytes.
    """

    title: str
    peak: float
    bandwidth: Callable[[int], float]
    latency_s: Callable[[int], float]


def grid(number: int) -> tuple[int, int]:
    """The sides of the grid of `number` devices that is closest to a square: 8 -> (2, 4)."""
    rows = max(d for d in range(1, math.isqrt(number) + 1) if number % d == 0)
    return rows, number // rows


def _hops(number: int) -> int:
    """From a chip of a v5e slice to the farthest one; only the full pod, 256 chips, is a torus."""
    rows, columns = grid(number)
    return rows // 2 + columns // 2 if number == 256 else rows + columns - 2


# The latencies are assumptions.
MACHINES = (
    Machine(
        "TPU v5e",
        peak=197e12,
        bandwidth=lambda n: {2: 50e9, 256: 200e9}.get(n, 100e9),
        latency_s=lambda n: 1e-6 * 2 * _hops(n),
    ),
    Machine(
        "H100",
        peak=989e12,
        bandwidth=lambda n: 450e9 if n <= 8 else 400e9,
        latency_s=lambda n: 10e-6 + 5e-6 * 2 * math.log2(max(n / 8, 1)),
    ),
)


def communication_s(found: Sequence[Collective], machine: Machine) -> float:
    """Seconds that a step's collectives take one after another, without overlapping computation."""
    return sum(c.sent_bytes / machine.bandwidth(c.group) for c in found) + latency_s(found, machine)


def latency_s(found: Sequence[Collective], machine: Machine) -> float:
    """Seconds that they would take without any bytes."""
    return sum(machine.latency_s(c.group) for c in found)


def least_batch(seconds: float, image_s: float, share: float = SHARE) -> int:
    """The smallest batch per device with which communication takes at most `share` of a step.

    Args:
        seconds: of communication c, whatever the batch.
        image_s: seconds t to compute one image.
        share: c / (c + b t) with a batch of b images.
    """
    return max(1, math.ceil(round(seconds * (1 - share) / share / image_s, 9)))
