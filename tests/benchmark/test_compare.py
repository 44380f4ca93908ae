"""Sides take turns, and what a waiting side uses of the processor is seen."""

import pytest

from prnet_jax.benchmark import compare as module
from prnet_jax.benchmark.task import Task
from prnet_jax.benchmark.timing import Turn
from prnet_jax.errors import RunError

TASK = Task("train", "unet", 1, 8, "float32")


class Clock:
    """Seconds that pass only in turns."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class FakeSide:
    """A side whose turn takes `s` seconds; waiting, it uses `idle` cores, in its turn `busy`."""

    def __init__(self, clock, s, busy=2.0, idle=0.0):
        self.turns = []
        self._clock, self._s, self._busy, self._idle = clock, s, busy, idle
        self._busy_s = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.turns.append("closed")

    def begin(self, task):
        return {"call_s": self._s, "gflop": 7.0}

    def take(self, turn):
        self.turns.append(turn)
        self._clock.now += self._s
        self._busy_s += self._s
        return 1000 * self._s

    def end(self):
        return {"peak_mib": 5.0}

    def cpu_s(self):
        return self._busy * self._busy_s + self._idle * (self._clock.now - self._busy_s)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module.time, "perf_counter", clock.perf_counter)
    return clock


def test_what_is_found_of_each_side(clock):
    ours, theirs = FakeSide(clock, 0.05), FakeSide(clock, 2.0, busy=1.5, idle=0.25)
    sides = {"ours": (lambda: ours, TASK), "torch": (lambda: theirs, TASK)}
    found = module.compare(sides, 3)
    assert found["ours"].timing.ms == (50.0,) * 3 and found["torch"].timing.ms == (2000.0,) * 3
    facts = found["torch"].facts
    assert facts["peak_mib"] == 5.0 and facts["gflop"] == 7.0
    assert facts["busy_cores"] == pytest.approx(1.5)
    assert facts["idle_cores"] == pytest.approx(0.25)  # it spins
    assert found["ours"].facts["idle_cores"] == pytest.approx(0.0)
    assert ours.turns == [Turn(1, 4)] * 3 + ["closed"]
    assert theirs.turns == [Turn(0, 1)] * 3 + ["closed"]


def test_a_side_that_fails_closes_the_others(clock):
    ours, theirs = FakeSide(clock, 0.05), FakeSide(clock, 2.0)

    def fail(task):
        raise RunError("too little memory")

    theirs.begin = fail
    with pytest.raises(RunError, match="too little memory"):
        module.compare({"ours": (lambda: ours, TASK), "torch": (lambda: theirs, TASK)}, 7)
    assert ours.turns == ["closed"]
