"""Times the sides of one comparison in turns."""

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from prnet_jax.benchmark.side import Side
from prnet_jax.benchmark.task import Task
from prnet_jax.benchmark.timing import Timing, alternate, turn_of
from prnet_jax.working import working


class Measured(NamedTuple):
    """What was found of one side.

    Attributes:
        timing: its times.
        facts: from `begin` and `end` of the worker; and `idle_cores`, the processor cores that it
            used on average while another side was timed, None where that is not known.
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
    what = " ".join(next(iter(tasks.values()))[1].about)
    with contextlib.ExitStack() as stack:
        sides, facts = {}, {}
        for name, (start, task) in tasks.items():
            with working(f"{what}: preparing {name}"):
                sides[name] = stack.enter_context(start())
                facts[name] = sides[name].begin(task)
        idle = _Idle(sides)
        turns = {name: turn_of(facts[name]["call_s"]) for name in sides}

        def turn_taken_by(name: str) -> Callable[[], float]:
            def take() -> float:
                with idle.but(name):
                    return sides[name].take(turns[name])

            return take

        with working(f"{what}: timing {', '.join(sides)}"):
            times = alternate({name: turn_taken_by(name) for name in sides}, repetitions)
        return {
            name: Measured(times[name], facts[name] | side.end() | {"idle_cores": idle.cores(name)})
            for name, side in sides.items()
        }


class _Idle:
    """The CPU time that sides use while they wait."""

    def __init__(self, sides: Mapping[str, Side]):
        self._sides = sides
        self._used = dict.fromkeys(sides, 0.0)
        self._waited = dict.fromkeys(sides, 0.0)

    @contextlib.contextmanager
    def but(self, busy: str):
        """The time inside counts for all sides but one."""
        begin = time.perf_counter()
        before = {name: side.cpu_s() for name, side in self._sides.items() if name != busy}
        yield
        for name, cpu_s in before.items():
            if cpu_s is not None:
                self._used[name] += self._sides[name].cpu_s() - cpu_s
                self._waited[name] += time.perf_counter() - begin

    def cores(self, name: str) -> float | None:
        return self._used[name] / self._waited[name] if self._waited[name] else None
