"""SIGTERM and Ctrl-C at any time: saved, exit code 0 within a bound; twice Ctrl-C: at once."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.runs import (
    ROOT,
    Starter,
    differences,
    free_port,
    long_flags,
    metrics_lines,
    newest_step,
    until,
    what_is_left,
)

WITHIN_S = 30.0
ABORTED = 130

_PROGRAM = """
import hashlib, signal, sys, time
from prnet_jax.errors import Stopped
from prnet_jax.preemption import Stop

def busy():
    # One long call into C, in which other threads run but no handler does, as while compiling.
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 10**9)

with Stop(within_s=float(sys.argv[2])) as stop:
    try:
        exec(sys.argv[1])
    except Stopped as stopped:
        print("stopped:", stopped, flush=True)
print("left", flush=True)
"""


def small(body: str, within_s: float = 5.0) -> subprocess.Popen:
    """A process that runs `body` inside a `Stop` named stop."""
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, body, str(within_s)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen, text: str) -> None:
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"never said {text!r}: {process.stderr.read()}")


WORK = """
print("asking", stop.reached(), flush=True)
while not stop.reached():
    time.sleep(0.01)
print("reached", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_the_end_and_tells_the_bound(number):
    process = small(WORK)
    wait_for(process, "asking False")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0 and out == "reached\nleft\n"
    again = "again " if number == signal.SIGINT else ""
    assert err.strip() == (
        f"{signal.Signals(number).name}: saving after the running step, then ending, within 5 s "
        f"(config.stop_within_s). Ctrl-C {again}ends at once."
    )


def test_two_sigterms_are_as_one():
    process = small(WORK.replace('print("reached"', 'time.sleep(0.5); print("reached"'))
    wait_for(process, "asking")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0 and "reached" in out
    assert err.count("SIGTERM: ") == 1


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("body", ["stop.reached(); busy()", "busy()"], ids=["training", "before"])
def test_ctrl_c_again_ends_at_once_also_inside_a_call(first, body):
    process = small(body, within_s=60.0)
    wait_for(process, "busy")
    begin = time.monotonic()
    process.send_signal(first)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    # Before the training began nothing can be lost: there the first ended it.
    assert process.returncode == (ABORTED if "reached" in body else 0)
    assert time.monotonic() - begin < 5


def test_what_does_not_end_is_ended_within_the_bound():
    process = small("stop.reached(); busy()", within_s=0.5)
    wait_for(process, "busy")
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert 0.4 < time.monotonic() - begin < 3
    assert "Not done within 0.5 s, and ended." in err


def test_before_the_training_a_signal_ends_without_a_traceback():
    process = small("print('waiting', flush=True); time.sleep(20)")
    wait_for(process, "waiting")
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0 and time.monotonic() - begin < 5
    assert err.strip() == (
        "Stopped before the training began. The same command begins it or goes on."
    )


def test_the_handlers_before_are_put_back():
    from prnet_jax.preemption import Stop

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with Stop() as stop:
        assert not stop.reached()
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


# ---- whole runs

# Long evaluations, so that a signal comes in their midst.
FIELDS = {
    "num_epochs": 2,
    "dataset.options.num_slices": "8,64,64",
    "eval_batch_size": 1,
    "save_every_steps": 0,
    "dataset.cache": "true",
}


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    with Starter(tmp_path_factory.mktemp("preempted")) as starter:
        yield starter


@pytest.fixture(scope="module")
def straight(starter, tmp_path_factory, records_dir):
    workdir = tmp_path_factory.mktemp("straight") / "run"
    starter.finish(long_flags(workdir, records_dir, **FIELDS))
    return what_is_left(workdir)


def going(process, workdir, phase):
    """Whether a run is in the midst of `phase`."""
    lines = metrics_lines(workdir)
    if phase == "compiling":
        return "train:   0%" in process.err and not lines
    if phase == "training":
        return bool(lines)
    if phase == "validation":
        return bool(lines) and lines[-1]["step"] == 4 and "epoch" not in lines[-1]
    return "predict:" in process.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("phase", ["compiling", "training", "validation", "test"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    starter, straight, tmp_path, records_dir, phase, number
):
    workdir = tmp_path / "run"
    argv = long_flags(workdir, records_dir, **FIELDS)
    process = starter.start(argv)
    assert until(lambda: process.code is not None or going(process, workdir, phase))
    time.sleep(0.2 if phase == "validation" else 0.0)
    begin = time.monotonic()
    process.send(number)
    assert process.wait(60) == 0, process.err
    took = time.monotonic() - begin
    name = signal.Signals(number).name
    assert f"{name}: saving after the running step, then ending, within 30 s" in process.err
    assert "Traceback" not in process.err
    assert took < WITHIN_S
    stood = newest_step(workdir)
    print(f"\n{phase}, {name}: exit code 0 after {took:.1f} s, at step {stood}")
    if phase == "test":
        assert stood == 8  # scores that were nearly done may be there
    else:
        assert not (workdir / "test" / "summary.json").exists()
        assert f"Stopped after step {stood} of 8, saved." in process.err
        assert stood == 4 if phase == "validation" else 0 <= stood < 8

    again = starter.finish(argv)
    assert re.findall(r"Going on after step (\d+)", again.out) == ([str(stood)] if stood else [])
    assert differences(what_is_left(workdir), straight) == []


@pytest.mark.slow
def test_a_bound_too_short_to_save_is_kept_and_said(starter, straight, tmp_path, records_dir):
    workdir = tmp_path / "run"
    fields = FIELDS | {"stop_within_s": 0.001, "save_every_steps": 2}
    process = starter.start(long_flags(workdir, records_dir, **fields))
    assert until(lambda: newest_step(workdir) >= 2)
    process.send(signal.SIGTERM)
    begin = time.monotonic()
    assert process.wait(60) == 0
    assert time.monotonic() - begin < 5
    assert "Not done within 0.001 s, and ended." in process.err
    stood = newest_step(workdir)
    again = starter.finish(long_flags(workdir, records_dir, **FIELDS))
    assert f"Going on after step {stood} of 8" in again.out
    assert differences(what_is_left(workdir), straight) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_while_the_data_set_is_made(starter, tmp_path, number):
    """Many slices; the next start makes them anew."""
    workdir, records = tmp_path / "run", tmp_path / "records"
    fields = {"dataset.options.num_slices": "3000,4,3", "dataset.options.size": 128}
    process = starter.start(long_flags(workdir, records, **fields))
    assert until(lambda: "Preparing" in process.out)
    time.sleep(0.3)
    begin = time.monotonic()
    process.send(number)
    assert process.wait(60) == 0, process.err
    assert time.monotonic() - begin < 10
    assert "Stopped before the training began." in process.err
    assert "Traceback" not in process.err
    assert not workdir.exists()
    # What it left is no obstacle.
    starter.finish(long_flags(workdir, records, num_epochs=1))


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.3, 1.0, 2.0, 3.5])
def test_stopped_at_any_moment_of_the_start(tmp_path, records_dir, delay_s):
    """As `python -m`, with all its imports."""
    argv = long_flags(tmp_path / "run", records_dir)
    process = subprocess.Popen(
        [sys.executable, "-m", "prnet_jax.main", *argv],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(delay_s)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    assert process.returncode == 0 or (process.returncode == -signal.SIGTERM and delay_s < 1)


@pytest.mark.slow
def test_two_ctrl_c_end_a_compilation_at_once(tmp_path, records_dir, starter):
    workdir = tmp_path / "run"
    # A network of its own, so that there is something to compile.
    argv = long_flags(workdir, records_dir, model__widths="4,8,12,16")
    process = starter.start(argv)
    assert until(lambda: "train:   0%" in process.err)
    time.sleep(0.5)
    process.send(signal.SIGINT)
    assert until(lambda: "SIGINT: " in process.err, 10)
    begin = time.monotonic()
    process.send(signal.SIGINT)
    assert process.wait(60) == ABORTED
    assert time.monotonic() - begin < 2
    assert "Stopped at once. The same command goes on from the last checkpoint." in process.err
    assert "Traceback" not in process.err


DISTRIBUTED = f"""
import jax
jax.distributed.initialize("127.0.0.1:{free_port()}", 1, 0)
stop.share_sigterm()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_beside_jax_preemption_service(number):
    process = small(DISTRIBUTED + WORK)
    wait_for(process, "asking False")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and out == "reached\nleft\n", err
    assert err.count("SIGTERM: saving after the running step, then ending, within 5 s") == 1


def test_the_bound_holds_from_the_signal_on_beside_jax_preemption_service():
    process = small(DISTRIBUTED + "stop.reached(); busy()", within_s=0.5)
    wait_for(process, "busy")
    # The kernel may hand one to a thread that Python does not know; that one only JAX hears.
    for _ in range(10):
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)
            break
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Not done within 0.5 s, and ended." in err
