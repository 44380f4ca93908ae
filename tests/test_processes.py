"""Several processes: the same figures as one, one set of files, and an end when one is gone.

`pytest -s tests/test_processes.py` prints the table of topologies.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.runs import (
    ROOT,
    Starter,
    free_port,
    long_flags,
    metrics_lines,
    newest_step,
    until,
)

TWO_DEVICES = {"JAX_NUM_CPU_DEVICES": "2", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
# Few steps, each of which takes a while: long enough to be stopped in, and too short for rounding,
# which is not the same on other numbers of devices, to push an activation over the edge of a ReLU.
FIELDS = {"batch_size": 4, "num_epochs": 3, "log_every_steps": 1, "save_every_steps": 3}
FIELDS |= {"dataset__image_size": 64}
STEPS = 6
TOLERANCE = 1e-6
DEAD_AFTER_S = 10


class Machines:
    """Starters of runs on one device, on four, and on two for each of two processes."""

    def __init__(self, folder, records_dir):
        self._folder, self._records_dir = folder, records_dir
        self._starters = {}

    def starter(self, devices: int) -> Starter:
        if devices not in self._starters:
            env = {1: {}, 2: TWO_DEVICES, 4: {"JAX_NUM_CPU_DEVICES": "4"}}[devices]
            self._starters[devices] = Starter(self._folder, **env)
        return self._starters[devices]

    def one(self, devices: int, workdir, **fields):
        fields = {**FIELDS, **fields}
        return self.starter(devices).start(long_flags(workdir, self._records_dir, **fields))

    def pair(self, workdir, records_dir=None, second=None, second_workdir=None, **fields):
        """Two processes of one run; `second` are fields of the second alone."""
        fields |= {"coordinator": f"127.0.0.1:{free_port()}", "num_processes": 2}
        started = []
        for index in range(2):
            own = {**FIELDS, **fields, "process_id": index, **((second or {}) if index else {})}
            folder = second_workdir if index and second_workdir else workdir
            argv = long_flags(folder, records_dir or self._records_dir, **own)
            started.append(self.starter(2).start(argv))
        return started

    def close(self) -> None:
        for starter in self._starters.values():
            starter.__exit__(None, None, None)


@pytest.fixture(scope="module")
def machines(tmp_path_factory, records_dir):
    machines = Machines(tmp_path_factory.mktemp("machines"), records_dir)
    yield machines
    machines.close()


@pytest.fixture(scope="module")
def topologies(machines, tmp_path_factory):
    """{name: (workdir, its processes)} of the same run on three topologies."""
    root = tmp_path_factory.mktemp("topologies")
    runs = {
        "1 x 1": (root / "one", [machines.one(1, root / "one")]),
    }
    assert runs["1 x 1"][1][0].wait() == 0
    runs["1 x 4"] = (root / "four", [machines.one(4, root / "four")])
    assert runs["1 x 4"][1][0].wait() == 0, runs["1 x 4"][1][0].err
    # Its records do not exist yet: one process makes them while the other waits.
    runs["2 x 2"] = (root / "pair", machines.pair(root / "pair", root / "records"))
    for process in runs["2 x 2"][1]:
        assert process.wait() == 0, process.err
    return runs


def figures_of(workdir) -> dict[str, float]:
    """All numbers that a run leaves, by name."""
    found = {}
    for line in metrics_lines(workdir):
        step = line.pop("step")
        found |= {f"{name} at {step}": value for name, value in line.items()}
    summary = json.loads((workdir / "test" / "summary.json").read_text())
    for name, stats in summary["metrics"].items():
        found |= {f"test {name} {stat}": value for stat, value in stats.items()}
    return {k: v for k, v in found.items() if isinstance(v, (int, float))}


def farthest(found: dict[str, float], expected: dict[str, float]) -> tuple[float, str]:
    """The largest difference and where it is; every figure must be there."""
    assert found.keys() == expected.keys()
    return max((abs(found[name] - expected[name]), name) for name in expected)


def files_of(workdir) -> set[str]:
    """What lies in a run; checkpoints and TensorBoard files, which have other names, as folders."""
    return {
        str(path.relative_to(workdir))
        for path in workdir.rglob("*")
        if not {"state", "events", "seals"} & set(path.relative_to(workdir).parts[:-1])
    }


def printed_by_us(text: str) -> str:
    """Without what the collectives of CPUs say by themselves."""
    return "".join(x for x in text.splitlines(True) if not x.startswith("[Gloo]"))


@pytest.mark.slow
def test_the_same_figures_on_every_topology(topologies):
    figures = {name: figures_of(workdir) for name, (workdir, _) in topologies.items()}
    shown = [
        name
        for name in figures["1 x 1"]
        if name.startswith(("train/loss", "val/", "test dsc mean", "test iou mean", "test hd_px m"))
    ]
    print(f"\n{'processes x devices':<26}", *(f"{name:>12}" for name in figures))
    for name in shown:
        print(f"{name:<26}", *(f"{found[name]:12.8f}" for found in figures.values()))
    expected = figures["1 x 1"]
    apart = {name: farthest(found, expected) for name, found in figures.items()}
    for name, (difference, where) in apart.items():
        print(f"{name}: at most {difference:.2g} from 1 x 1 ({where})")
    assert max(difference for difference, _ in apart.values()) <= TOLERANCE


@pytest.mark.slow
def test_one_process_writes_and_talks_and_the_data_set_is_made_once(topologies):
    workdir, (first, second) = topologies["2 x 2"]
    assert files_of(workdir) == files_of(topologies["1 x 1"][0])
    assert len(list((workdir / "events").iterdir())) == 1
    assert first.out.count("Preparing lung_phantom") == 1
    assert "device     4 x cpu" in first.out and "| DSC %" in first.out
    assert printed_by_us(second.out) == ""
    assert "Preparing" not in second.err and "train:" not in second.err


@pytest.mark.slow
def test_a_run_goes_on_under_another_topology(machines, topologies, tmp_path):
    """Saved by two processes, one of which got SIGTERM."""
    workdir = tmp_path / "run"
    pair = machines.pair(workdir)
    assert until(lambda: len(metrics_lines(workdir)) >= 1)
    pair[1].send(signal.SIGTERM)
    assert [process.wait() for process in pair] == [0, 0], pair[0].err + pair[1].err
    step = newest_step(workdir)
    assert 1 <= step < STEPS
    assert f"Stopped after step {step} of {STEPS}, saved." in pair[0].err
    expected = figures_of(topologies["1 x 1"][0])
    for devices in (1, 4):
        again = shutil.copytree(workdir, tmp_path / str(devices))
        process = machines.one(devices, again)
        assert process.wait() == 0, process.err
        assert f"Going on after step {step} of {STEPS}" in process.out
        difference, where = farthest(figures_of(again), expected)
        print(f"\n2 x 2 to step {step}, then 1 x {devices}: {difference:.2g} off ({where})")
        assert difference <= TOLERANCE


@pytest.mark.slow
def test_one_device_hands_over_to_two_processes(machines, topologies, tmp_path):
    workdir = tmp_path / "run"
    process = machines.one(1, workdir)
    assert until(lambda: len(metrics_lines(workdir)) >= 1)
    process.send(signal.SIGTERM)
    assert process.wait() == 0
    step = newest_step(workdir)
    pair = machines.pair(workdir)
    assert [process.wait() for process in pair] == [0, 0], pair[0].err + pair[1].err
    assert f"Going on after step {step} of {STEPS}" in pair[0].out
    difference, where = farthest(figures_of(workdir), figures_of(topologies["1 x 1"][0]))
    print(f"\n1 x 1 to step {step}, then 2 x 2: {difference:.2g} off ({where})")
    assert difference <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("killed", [1, 0])
def test_a_process_that_dies_ends_the_other(machines, topologies, tmp_path, killed):
    workdir = tmp_path / "run"
    pair = machines.pair(workdir, dead_after_s=DEAD_AFTER_S)
    assert until(lambda: len(metrics_lines(workdir)) >= 2)
    begin = time.monotonic()
    pair[killed].send(signal.SIGKILL)
    other = pair[1 - killed]
    code = other.wait(120)
    took = time.monotonic() - begin
    print(f"\nprocess {killed} killed: process {1 - killed} ended after {took:.1f} s with {code}")
    assert code not in (0, None)
    assert took < 3 * DEAD_AFTER_S
    # Ours, or that of JAX's runtime where it was faster.
    told = ("another process ended or cannot be reached", "another task died")
    assert any(text in other.err for text in told), other.err
    if killed == 0:
        return

    step = newest_step(workdir)
    pair = machines.pair(workdir)
    assert [process.wait() for process in pair] == [0, 0], pair[0].err + pair[1].err
    if step:
        assert f"Going on after step {step} of {STEPS}" in pair[0].out
    difference, where = farthest(figures_of(workdir), figures_of(topologies["2 x 2"][0]))
    print(f"gone on after step {step}: {difference:.2g} off ({where})")
    assert difference <= TOLERANCE


@pytest.mark.slow
def test_folders_that_are_not_one_are_refused(machines, tmp_path):
    """As where the run directory is not on storage that all processes see."""
    first, second = tmp_path / "first", tmp_path / "second"
    pair = machines.pair(first, second_workdir=second)
    for process in pair:
        assert process.wait(120) == 2, process.err
        assert "must be one on storage that all share, of process 1" in process.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "second", "message"),
    [
        ({"batch_size": 6}, {}, "config.batch_size must be a positive multiple of 4 devices = 4"),
        ({"eval_batch_size": 2}, {}, "config.eval_batch_size must be a positive multiple of 4 dev"),
        ({}, {"dataset.options.num_slices": "8,4,2"}, "the settings of process 1 are not"),
        ({}, {"learning_rate": 0.5}, "of process 1"),
    ],
    ids=["batch", "evaluation batch", "data", "config"],
)
def test_what_does_not_go_together_is_refused_by_both(machines, tmp_path, fields, second, message):
    pair = machines.pair(tmp_path / "run", second=second, **fields)
    for index, process in enumerate(pair):
        assert process.wait(120) == 2, process.err
        lines = [line for line in process.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and lines[0].startswith(f"error: process {index}: ")
        assert message in lines[0]
        assert "Traceback" not in process.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"coordinator": "127.0.0.1:1"}, "error: num_processes and process_id must be"),
        ({"num_processes": 2, "process_id": 0}, "error: coordinator must be given too"),
        (
            {"coordinator": "nowhere", "num_processes": 2, "process_id": 0},
            "error: coordinator must be host:port, found 'nowhere'",
        ),
        (
            {"coordinator": "127.0.0.1:1", "num_processes": 2, "process_id": 2},
            "error: process_id must be from 0 to below num_processes 2, found 2",
        ),
        ({"distributed": "on"}, "config.distributed must be auto or off, found 'on'"),
    ],
)
def test_fields_that_contradict_are_refused_in_one_line(machines, tmp_path, fields, message):
    process = machines.one(1, tmp_path / "run", **fields)
    assert process.wait(60) == 2
    assert process.err.startswith("error: ") and process.err.count("\n") == 1
    assert message in process.err
    assert not (tmp_path / "run").exists()


# ---- the parts, in two small processes

_SMALL = """
import sys
import jax
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from prnet_jax import processes
from prnet_jax.errors import InputError, RunError

me = jax.process_index()
calls = []
def made():
    calls.append(me)
    return {"text": "\u00e4" * 3000, "number": 0.1, "none": None, "process": me}
found = processes.on_first(made)
assert found == {"text": "\u00e4" * 3000, "number": 0.1, "none": None, "process": 0}, found
assert calls == [0] * (me == 0) and processes.is_first() == (me == 0)

for kind, told in ((InputError, InputError), (RunError, RunError), (OSError, RunError)):
    def fails():
        raise kind("the reason")
    try:
        processes.on_first(fails)
    except (InputError, RunError, OSError) as error:
        assert str(error) == "the reason"
        assert type(error) is (kind if me == 0 else told), error
    else:
        raise AssertionError("no error")

processes.check_same("the splits", "same")
try:
    processes.check_same("the splits", f"of {me}")
except InputError as error:
    assert "the splits of process 1 are not those of process 0" in str(error), error
else:
    raise AssertionError("no error")
print("done", me)
"""


_SAVES = """
import pathlib, sys
import jax, jax.numpy as jnp
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from prnet_jax import sharding
from prnet_jax.checkpoint import Checkpoints

mesh = sharding.make_mesh()
state = sharding.make_state(mesh, lambda: {"step": jnp.int32(1), "w": jnp.ones((64, 1024))})
with Checkpoints(pathlib.Path(sys.argv[3])) as checkpoints:
    for step in range(1, 31):
        checkpoints.save(step, state, {"step": step}, None if step % 2 else 0.5)
    checkpoints.wait()
    assert checkpoints.last_step == 30
print("done", jax.process_index())
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [_SMALL, _SAVES], ids=["on_first, check_same", "saves"])
def test_the_parts_in_two_processes(program, tmp_path):
    """Saves with and without a score, one right after the other, do not meet in Orbax."""
    address = f"127.0.0.1:{free_port()}"
    env = {**os.environ, **TWO_DEVICES, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, address, str(index), str(tmp_path / "run")],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for index, process in enumerate(started):
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert printed_by_us(out) == f"done {index}\n"


def test_alone_the_parts_do_without_others(tmp_path):
    from prnet_jax import processes

    counter = itertools.count()
    value = object()
    assert processes.is_first()
    assert processes.on_first(lambda: (next(counter), value)) == (0, value)
    processes.check_same("anything", "x")
    assert next(counter) == 1
    np.testing.assert_equal(processes.on_first(lambda: np.arange(3)), np.arange(3))
