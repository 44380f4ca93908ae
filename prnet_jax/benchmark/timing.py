"""Medians, spread and ratios of measured times. Plain numbers, no library."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence

_TURN_S = 0.2  # a turn calls a fast function until about this long has passed
_MOST_CALLS = 1000
_SLOW_S = 1.0  # from here on a turn begins without a call that is not timed


@dataclasses.dataclass(frozen=True)
class Timing:
    """Times of one side, one for each repetition, in milliseconds a call."""

    ms: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one, or the mean of the middle two."""
        return statistics.median(self.ms)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between these lies the middle half; of one value, that value."""
        if len(self.ms) == 1:
            return self.ms[0], self.ms[0]
        low, _, high = statistics.quantiles(self.ms, n=4, method="inclusive")
        return low, high


def paired_ratio(ours: Timing, theirs: Timing) -> tuple[float, float]:
    """Quartiles of ours / theirs, repetition by repetition: what drifts in both cancels out."""
    ratios = [a / b for a, b in zip(ours.ms, theirs.ms, strict=True)]
    return Timing(tuple(ratios)).quartiles


@dataclasses.dataclass(frozen=True)
class Turn:
    """How one side takes its turn: calls that warm up, then calls whose mean time counts."""

    warm: int
    calls: int


def turn_of(call_s: float) -> Turn:
    """The turn of a function that takes `call_s` seconds a call."""
    if call_s >= _SLOW_S:
        return Turn(0, 1)
    calls = max(1, min(_MOST_CALLS, math.ceil(_TURN_S / max(call_s, 1e-9))))
    return Turn(1, calls)


def alternate(sides: Mapping[str, Callable[[], float]], repetitions: int) -> dict[str, Timing]:
    """Times of every side, which take turns: a, b, a, b, ...

    Args:
        sides: by name; each takes one turn and returns its milliseconds a call.
        repetitions: turns of each side.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repetitions):
        for name, take_turn in sides.items():
            found[name].append(take_turn())
    return {name: Timing(tuple(ms)) for name, ms in found.items()}


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float:
    """b of the power law y = a x^b that fits best: least squares on logarithms.

    Args:
        xs: at least two different positive numbers.
        ys: a positive number for each.
    """
    x, y = [math.log(v) for v in xs], [math.log(v) for v in ys]
    return statistics.linear_regression(x, y).slope
