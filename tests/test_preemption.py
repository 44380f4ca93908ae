"""SIGTERM and Ctrl-C save and exit with 0, in bounded time; Ctrl-C twice ends at once."""

import contextlib
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from prnet_jax.commands import ABORTED
from tests.programs import PATIENCE_S, Starter, free_port, running, until
from tests.runs import differences, long_flags, metrics_lines, newest_step, what_is_left

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


@pytest.fixture
def small():
    """A function that starts a process, which runs `body` inside a `Stop` named stop."""
    with contextlib.ExitStack() as stack:

        def start(body: str, within_s: float = PATIENCE_S) -> subprocess.Popen:
            command = [sys.executable, "-c", _PROGRAM, body, str(within_s)]
            return stack.enter_context(running(command))[0]

        yield start


def wait_for(stream, text: str) -> str:
    """Reads lines until one holds `text`, and returns them."""
    lines = ""
    for line in stream:
        lines += line
        if text in line:
            return lines
    raise AssertionError(f"never said {text!r}: {lines}")


WORK = """
print("asking", stop.reached(), flush=True)
while not stop.reached():
    time.sleep(0.01)
print("reached", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_the_end_and_tells_the_bound(small, number):
    process = small(WORK)
    wait_for(process.stdout, "asking False")
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0 and out == "reached\nleft\n"
    again = "again " if number == signal.SIGINT else ""
    assert err.strip() == (
        f"{signal.Signals(number).name}: stopping after this step and saving, within 600 s "
        f"(config.stop_within_s). Ctrl-C {again}stops at once."
    )


def test_two_sigterms_are_as_one(small):
    process = small(WORK + "sys.stdin.readline()")
    wait_for(process.stdout, "asking")
    process.send_signal(signal.SIGTERM)
    wait_for(process.stdout, "reached")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate("\n", timeout=PATIENCE_S)
    assert process.returncode == 0 and out == "left\n"
    assert err.count("SIGTERM: ") == 1


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_again_ends_at_once_also_inside_a_call(small, first):
    process = small("stop.reached(); busy()")
    wait_for(process.stdout, "busy")
    process.send_signal(first)
    wait_for(process.stderr, f"{first.name}: ")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == ABORTED
    assert "Stopped at once." in err


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_before_the_training_the_first_signal_ends_at_once_also_inside_a_call(small, first):
    """Nothing can be lost there."""
    process = small("busy()")
    wait_for(process.stdout, "busy")
    process.send_signal(first)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "Stopped before the training began, so" in err


def test_what_does_not_end_is_ended_within_the_bound(small):
    process = small("stop.reached(); busy()", within_s=0.5)
    wait_for(process.stdout, "busy")
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert time.monotonic() - begin > 0.4
    assert "Not done within 0.5 s: stopped." in err


def test_before_the_training_a_signal_ends_without_a_traceback(small):
    process = small("print('waiting', flush=True); time.sleep(10_000)")
    wait_for(process.stdout, "waiting")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert err.strip() == (
        "Stopped before the training began, so there was nothing to save. The same command starts "
        "or resumes it."
    )


def test_the_handlers_before_are_put_back():
    from prnet_jax.preemption import Stop

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with Stop() as stop:
        assert not stop.reached()
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


# ---- complete runs

# Evaluations long enough to be interrupted, and time to save on a busy machine.
FIELDS = {
    "num_epochs": 2,
    "dataset.options.num_slices": (8, 64, 64),
    "eval_batch_size": 1,
    "save_every_steps": 0,
    "dataset.cache": "true",
    "stop_within_s": PATIENCE_S,
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


def hold_compiling(process, workdir) -> bool:
    """Suspends a run of a line each step in its first; compiling takes seconds of the processor."""

    def begun():
        return "train:   0%" in process.err and not metrics_lines(workdir)

    if not process.hold(begun):
        return False
    until_s = process.cpu_s + 0.3
    process.go_on()
    return process.hold(lambda: begun() and process.cpu_s > until_s)


def is_in(phase, process, workdir) -> bool:
    """Whether a run of eight steps, four an epoch, is in the middle of an evaluation."""
    lines = metrics_lines(workdir)
    if phase == "validation":
        return bool(lines) and lines[-1]["step"] == 4 and "epoch" not in lines[-1]
    return "predict:" in process.err and "\nnext:" not in process.out


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        ("training", signal.SIGTERM),
        pytest.param("training", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("validation", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("validation", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("test", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("test", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_resumes_as_if_it_had_not_been(
    starter, straight, tmp_path, records_dir, phase, number
):
    workdir = tmp_path / "run"
    argv = long_flags(workdir, records_dir, **FIELDS)
    process = starter.start(argv, hold_at_step=3 if phase == "training" else None)
    if phase == "training":
        assert process.held()
    else:
        assert process.hold(lambda: is_in(phase, process, workdir))
    process.send(number)
    process.go_on()
    assert process.wait() == 0, process.err
    name = signal.Signals(number).name
    assert f"{name}: stopping after this step and saving, within 600 s" in process.err
    assert "Traceback" not in process.err
    assert "Not done within" not in process.err
    stood = newest_step(workdir)
    print(f"\n{phase}, {name}: exit code 0 at step {stood}")
    if phase == "test":
        assert stood == 8  # scores that were nearly done may be there
    else:
        assert not (workdir / "test" / "summary.json").exists()
        assert f"Stopped after step {stood} of 8, saved." in process.err
        assert stood == 4 if phase == "validation" else 3 <= stood < 8

    again = starter.finish(argv)
    assert re.findall(r"Resuming after step (\d+)", again.out) == [str(stood)]
    assert differences(what_is_left(workdir), straight) == []


@pytest.mark.slow
def test_a_bound_too_short_to_save_is_kept_and_said(starter, straight, tmp_path, records_dir):
    workdir = tmp_path / "run"
    fields = FIELDS | {"stop_within_s": 0.001, "save_every_steps": 2}
    process = starter.start(long_flags(workdir, records_dir, **fields))
    assert process.hold(lambda: newest_step(workdir) == 2)
    process.send(signal.SIGTERM)
    process.go_on()
    assert process.wait() == 0
    assert "Not done within 0.001 s: stopped." in process.err
    stood = newest_step(workdir)
    again = starter.finish(long_flags(workdir, records_dir, **FIELDS))
    assert f"Resuming after step {stood} of 8" in again.out
    assert differences(what_is_left(workdir), straight) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_while_the_data_set_is_made(starter, tmp_path, number):
    """Many slices; the next start prepares them again."""
    workdir, records = tmp_path / "run", tmp_path / "records"
    fields = {"dataset.options.num_slices": (3000, 4, 3), "dataset.options.size": 128}
    process = starter.start(long_flags(workdir, records, **fields))
    # While the records are written, their folder has another name.
    assert process.hold(lambda: any(records.rglob("incomplete.*")))
    process.send(number)
    process.go_on()
    assert process.wait() == 0, process.err
    assert "Stopped before the training began, so" in process.err
    assert "Traceback" not in process.err
    assert not workdir.exists()
    assert not list(records.rglob("dataset_info.json"))
    # What it left is no obstacle.
    starter.finish(long_flags(workdir, records, num_epochs=1))


@pytest.mark.slow
@pytest.mark.parametrize("library", [None, "libjax_common", "_chlo", "array_record"])
def test_stopped_at_any_moment_of_the_start(tmp_path, records_dir, library):
    """As `python -m`, with all its imports: at once, or when it has loaded this library."""
    command = [sys.executable, "-m", "prnet_jax.main", *long_flags(tmp_path / "run", records_dir)]
    with running(command) as (process,):
        loaded = pathlib.Path(f"/proc/{process.pid}/maps")
        assert until(lambda: library is None or library in loaded.read_text())
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in err, err
    assert process.returncode == 0 or (process.returncode == -signal.SIGTERM and library is None)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_before_the_first_step_has_ended_a_signal_ends_at_once(
    starter, tmp_path, records_dir, number
):
    """Nothing can be lost yet, so a compilation that may take minutes is not waited for."""
    workdir = tmp_path / "run"
    # A network that no other test uses, so that there is something to compile.
    fields = FIELDS | {"log_every_steps": 1, "model.widths": (4, 8, 12, 16)}
    process = starter.start(long_flags(workdir, records_dir, **fields))
    assert hold_compiling(process, workdir)
    process.send(number)
    process.go_on()
    assert process.wait() == 0, process.err
    assert "Stopped before the training began, so there was nothing to save." in process.err
    assert "within 600 s" not in process.err and "Traceback" not in process.err
    assert metrics_lines(workdir) == [] and newest_step(workdir) == 0


def distributed(body: str) -> str:
    """`body` where JAX's preemption service runs."""
    start = f"jax.distributed.initialize('127.0.0.1:{free_port()}', 1, 0)"
    return f"import jax\n{start}\nstop.share_sigterm()\n{body}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_beside_jax_preemption_service(small, number):
    process = small(distributed(WORK))
    wait_for(process.stdout, "asking False")
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0 and out == "reached\nleft\n", err
    assert err.count("SIGTERM: stopping after this step and saving, within 600 s") == 1


def test_the_bound_holds_from_the_signal_on_beside_jax_preemption_service(small):
    process = small(distributed("stop.reached(); busy()"), within_s=0.5)
    wait_for(process.stdout, "busy")
    # The kernel may hand one to a thread that Python does not know; that one only JAX hears.
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < end:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "Not done within 0.5 s: stopped." in err
