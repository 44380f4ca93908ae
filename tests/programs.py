"""Programs that tests start, and that do not outlive the test.

Importing JAX and the rest takes longer than a tiny run. A `Starter` is therefore one process that
has imported everything, without using JAX yet, and forks a process for every run: the same program
with its own process id, signals, files and exit code. It is this file, run as a script.
"""

import contextlib
import ctypes
import dataclasses
import fcntl
import json
import os
import pathlib
import random
import re
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]
# No test measures time: this only ends what hangs, on a machine however busy.
PATIENCE_S = 600.0
TWO_DEVICES = {"JAX_NUM_CPU_DEVICES": "2", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
_PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def running(*commands: list[str], env: dict[str, str] | None = None) -> Iterator[list]:
    """Starts commands from the repository's root, with pipes of text for what they print.

    At the end they are killed, with every process that they started.

    Args:
        env: environment variables besides this process's.

    Yields:
        A `subprocess.Popen` for each command.
    """
    environment = {**os.environ, **(env or {}), "PYTHONPATH": str(ROOT)}
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    with contextlib.ExitStack() as stack:
        started = []
        for command in commands:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, text=True, start_new_session=True, **pipes
            )
            stack.callback(_end, process)
            started.append(process)
        yield started


def _end(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


@dataclasses.dataclass
class Process:
    """A started run. `folder` holds what it printed, `out` and `err`, and how it ended, `exit`."""

    pid: int
    folder: pathlib.Path

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text(encoding="utf-8", errors="replace")

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text(encoding="utf-8", errors="replace")

    @property
    def code(self) -> int | None:
        """The exit code, minus the signal that killed it, or None while it runs."""
        path = self.folder / "exit"
        return int(path.read_text()) if path.exists() else None

    def send(self, number: int) -> None:
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def hold(self, holds: Callable[[], bool]) -> bool:
        """Suspends the run at a moment at which `holds()` is true; `go_on` continues it.

        Returns:
            False if the run ended without such a moment.
        """
        while True:
            until(lambda: self.code is not None or holds(), every_s=0.003)
            self.send(signal.SIGSTOP)
            if not self.held() or holds():
                return self.code is None
            self.go_on()

    def held(self) -> bool:
        """Waits until the run has suspended itself; False if it ended before."""
        until(lambda: self.code is not None or self._is_suspended())
        return self.code is None

    def go_on(self) -> None:
        self.send(signal.SIGCONT)

    @property
    def cpu_s(self) -> float:
        """Seconds of work done, however busy the machine; 0 after the end."""
        try:
            stat = pathlib.Path(f"/proc/{self.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return 0.0
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def _is_suspended(self) -> bool:
        """Whether every thread is."""
        try:
            stats = [
                (task / "stat").read_text()
                for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir()
            ]
        except (FileNotFoundError, ProcessLookupError):
            return False  # a thread that ended meanwhile
        return all(stat.rpartition(")")[2].split()[0] in "TZX" for stat in stats)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """The exit code; a run that does not end is killed, and fails the test."""
        if not until(lambda: self.code is not None, timeout_s):
            self.kill()
            last = f"{self.out[-500:]}\n{self.err[-2000:]}"
            raise AssertionError(f"still running after {timeout_s} s:\n{last}")
        return self.code

    def kill(self) -> None:
        """Kills the run and the processes that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class Starter:
    """Starts runs in processes of their own, see the top of the file. A context manager.

    Args:
        folder: for what they print.
        env: environment variables besides this process's.
    """

    def __init__(self, folder: pathlib.Path, **env: str):
        self._folder = folder
        self._number = 0
        self._lock = threading.Lock()
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            text=True,
        )
        self._started: list[Process] = []

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        for process in self._started:
            if process.code is None:
                process.kill()
        self._server.stdin.close()
        try:
            self._server.wait(PATIENCE_S)
        finally:
            self._server.kill()

    def start(self, argv: list[str], hold_at_step: int | None = None) -> Process:
        """Like `python -m prnet_jax.main ARGV...` from the repository's root.

        Args:
            argv: the flags.
            hold_at_step: the run suspends itself after this step, see `Process.held`.
        """
        with self._lock:
            self._number += 1
            folder = self._folder / f"process_{self._server.pid}_{self._number}"
            folder.mkdir(parents=True)
            for name in ("out", "err"):
                (folder / name).touch()
            self._server.stdin.write(json.dumps([argv, str(folder), hold_at_step]) + "\n")
            self._server.stdin.flush()
        if not until((folder / "pid").exists):
            raise AssertionError("the process that starts runs does not answer")
        process = Process(int((folder / "pid").read_text()), folder)
        self._started.append(process)
        return process

    def finish(self, argv: list[str]) -> Process:
        """Starts, waits, and expects exit code 0."""
        process = self.start(argv)
        assert process.wait() == 0, f"exit code {process.code}\n{process.err[-2000:]}"
        return process


def until(holds: Callable[[], bool], timeout_s: float = PATIENCE_S, every_s: float = 0.02) -> bool:
    """Waits until `holds()` is true, asking every `every_s`; False after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(every_s)
    return False


# Its threads write lines like "[Gloo] Rank 1 is connected to 3 peer ranks. Expected number of
# connected peer ranks is : 3" in these pieces, which may come mixed.
_GLOO = re.compile(
    r"^(?:\[Gloo\] Rank |\d+| is connected to | peer ranks\. "
    r"|Expected number of connected peer ranks is : )*\n",
    re.MULTILINE,
)


def printed_by_us(text: str) -> str:
    """Without the lines of Gloo, the collectives of CPUs."""
    return _GLOO.sub("", text)


_ports = []  # open lock files: a port is this process's until it ends


def free_port() -> int:
    """A port that no other test is given, and that the system gives to no outgoing connection."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        lock = open(pathlib.Path(tempfile.gettempdir()) / f"prnet-tests-port-{port}", "w")
        with contextlib.suppress(OSError), socket.socket() as s:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            s.bind(("127.0.0.1", port))
            _ports.append(lock)
            return port
        lock.close()


def end_with_parent() -> None:
    """Has the kernel kill this process when its parent ends, also when that is killed."""
    parent = os.getppid()
    with contextlib.suppress(AttributeError, OSError):  # Linux only
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _hold_at(step: int | None) -> None:
    """Has this process suspend itself after a step of the training."""
    from prnet_jax.run.session import Session

    add = Session.add

    def add_and_hold(session, *results):
        add(session, *results)
        if session.step == step:
            os.kill(os.getpid(), signal.SIGSTOP)

    Session.add = add_and_hold


def _serve() -> None:
    """Forks a run for every line on standard input."""
    import grain  # noqa: F401
    import ml_collections.config_flags  # noqa: F401

    import prnet_jax.train  # noqa: F401

    end_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    for line in iter(sys.stdin.readline, ""):
        argv, folder, hold_at_step = json.loads(line)
        if os.fork():
            continue
        end_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if pid := os.fork():
            _write_number(f"{folder}/pid", pid)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            _write_number(f"{folder}/exit", status)
            os._exit(0)
        end_with_parent()
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY), descriptor)
        sys.stdout.reconfigure(line_buffering=True)
        _hold_at(hold_at_step)
        sys.argv = ["prnet_jax.main", *argv]
        runpy.run_module("prnet_jax.main", run_name="__main__", alter_sys=True)
        sys.exit()


def _write_number(path: str, number: int) -> None:
    pathlib.Path(path + ".new").write_text(str(number))
    os.replace(path + ".new", path)


if __name__ == "__main__":
    _serve()
