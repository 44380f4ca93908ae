"""From what is sent to how long it takes: computed from published speeds, not measured.

Sources and conventions: the section "Scale" of launch/README.md.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from prnet_jax.scaling.collectives import Collective

SHARE = 0.1  # of the step that communication may take


class Machine(NamedTuple):
    """Accelerators of one kind.

    Attributes:
        title: for the table.
        peak: operations a second of one device, bfloat16 with float32 sums.
        bandwidth: by the number of devices in a ring, bytes a second that a device (H100, several
            nodes: the eight of a node) sends, one way.
        latency_s: by the number of devices, seconds that a collective of no bytes takes.
    """

    title: str
    peak: float
    bandwidth: Callable[[int], float]
    latency_s: Callable[[int], float]


def grid(number: int) -> tuple[int, int]:
    """The most nearly square grid of `number` devices: 8 -> (2, 4)."""
    rows = max(d for d in range(1, math.isqrt(number) + 1) if number % d == 0)
    return rows, number // rows


def _hops(number: int) -> int:
    """From one chip of a v5e slice to the farthest; only the whole pod of 256 is a torus."""
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
    """Seconds of a step's collectives, one after the other, nothing computed meanwhile."""
    return sum(c.sent_bytes / machine.bandwidth(c.group) for c in found) + waiting_s(found, machine)


def waiting_s(found: Sequence[Collective], machine: Machine) -> float:
    """Seconds that they would take without any bytes."""
    return sum(machine.latency_s(c.group) for c in found)


def least_batch(seconds: float, image_s: float, share: float = SHARE) -> int:
    """The smallest batch a device with which communication takes `share` of the step or less.

    Args:
        seconds: of communication, whatever the batch.
        image_s: seconds of computing an image.
        share: c / (c + b t) for c seconds of communication and b images of t seconds.
    """
    return max(1, math.ceil(round(seconds * (1 - share) / share / image_s, 9)))
