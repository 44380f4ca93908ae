"""Times the sides of one comparison in turns."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from prnet_jax.benchmark.side import Side
from prnet_jax.benchmark.task import Task
from prnet_jax.benchmark.timing import Timing, alternate, turn_of
from prnet_jax.working import working


class Measured(NamedTuple):
    """What was found of one side.

    Attributes:
        timing: its times.
        facts: from `begin` and `end` of the worker; and `busy_cores` and `idle_cores`, the
            processor cores that it used on average in its turns, and in those of other sides.
    """

    timing: Timing
    facts: dict[str, Any]


def compare(
    tasks: Mapping[str, tuple[Callable[[], Side], Task]], repetitions: int
) -> dict[str, Measured]:
    """Prepares every side, then times them in turns; no side does anything while it waits.

    Args:
        tasks: by the side's name: what starts its process, and what it does.
        repetitions: turns of each.

    Raises:
        InputError: a side cannot do its task.
        RunError: a side failed.
    """
    what = next(iter(tasks.values()))[1].about
    with contextlib.ExitStack() as stack:
        sides, facts = {}, {}
        for name, (start, task) in tasks.items():
            with working(f"{what}: preparing {name}"):
                sides[name] = stack.enter_context(start())
                facts[name] = sides[name].begin(task)
        cores = _Cores(sides)
        turns = {name: turn_of(facts[name]["call_s"]) for name in sides}

        def turn_taken_by(name: str) -> Callable[[], float]:
            def take() -> float:
                with cores.during_turn_of(name):
                    return sides[name].take(turns[name])

            return take

        with working(f"{what}: timing {', '.join(sides)}"):
            times = alternate({name: turn_taken_by(name) for name in sides}, repetitions)
        return {
            name: Measured(times[name], facts[name] | side.end() | cores.of(name))
            for name, side in sides.items()
        }


class _Cores:
    """The processor cores that sides use while they take a turn, and while they wait."""

    def __init__(self, sides: Mapping[str, Side]):
        self._sides = sides
        self._used = {True: dict.fromkeys(sides, 0.0), False: dict.fromkeys(sides, 0.0)}
        self._passed = {True: dict.fromkeys(sides, 0.0), False: dict.fromkeys(sides, 0.0)}

    @contextlib.contextmanager
    def during_turn_of(self, busy: str) -> Iterator[None]:
        """The time inside is a turn of one side, in which the others wait."""
        begin = time.perf_counter()
        before = {name: side.cpu_s() for name, side in self._sides.items()}
        yield
        for name, cpu_s in before.items():
            if cpu_s is not None:
                self._used[name == busy][name] += self._sides[name].cpu_s() - cpu_s
                self._passed[name == busy][name] += time.perf_counter() - begin

    def of(self, name: str) -> dict[str, float | None]:
        """`busy_cores` and `idle_cores` of a side; None where that is not known."""
        return {
            field: self._used[busy][name] / self._passed[busy][name]
            if self._passed[busy][name]
            else None
            for field, busy in (("busy_cores", True), ("idle_cores", False))
        }
