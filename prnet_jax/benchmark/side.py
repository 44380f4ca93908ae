"""The sides of a comparison as the measuring process sees them: processes that answer requests."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any, Self

from prnet_jax.benchmark import machine
from prnet_jax.benchmark.task import Task
from prnet_jax.benchmark.timing import Turn
from prnet_jax.errors import InputError, RunError

_REST_S = 0.1  # after a turn, until the threads of the side sleep
_PACKAGE = pathlib.Path(__file__).resolve().parents[1]


class Side:
    """A worker process. Use it in a `with` statement, which ends the process.

    Args:
        kind: "ours", "torch" or "torch-compile".
        python: the interpreter.
        environment: variables to set, or to remove where the value is None.
    """

    def __init__(
        self,
        kind: str,
        python: str = sys.executable,
        environment: Mapping[str, str | None] | None = None,
    ):
        self.kind = kind
        self.python = python
        self.started = time.perf_counter()
        self._folder = tempfile.TemporaryDirectory(prefix="prnet-benchmark-")
        self._errors = tempfile.TemporaryFile(mode="w+", errors="replace")
        self._process = subprocess.Popen(
            [python, "-m", "prnet_jax.benchmark.worker", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=self._environment(environment or {}),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()
        self._folder.cleanup()

    def about(self) -> dict[str, Any]:
        """`platform`, `device` and `versions`."""
        return self._ask(do="about")

    def begin(self, task: Task) -> dict[str, Any]:
        """Prepares and warms up a task: see `worker.Worker.begin`."""
        return self._ask(do="begin", task=task.as_json())

    def take(self, turn: Turn) -> float:
        """Milliseconds a call of a turn."""
        ms = self._ask(do="turn", warm=turn.warm, calls=turn.calls)["ms"]
        time.sleep(_REST_S)
        return ms

    def end(self) -> dict[str, Any]:
        """What is known of the task afterwards."""
        return self._ask(do="end")

    def cpu_s(self) -> float | None:
        """Seconds of CPU time that the side has used so far."""
        return machine.cpu_s(self._process.pid)

    def _ask(self, **request: Any) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            InputError: what the side calls a person's mistake.
            RunError: the side failed.
        """
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise RunError(f"the {self.kind} side {self._why_it_ended()}")
        answer = json.loads(line)
        if "mistake" in answer:
            raise InputError(answer["mistake"])
        if "lacks" in answer:
            hint = "name another one by --torch-python" if self.kind != "ours" else "see README.md"
            raise InputError(
                f"{self.python} has no {answer['lacks']}, which the {self.kind} side needs: "
                f"install it there, or {hint}"
            )
        if "failure" in answer:
            raise RunError(f"the {self.kind} side failed: {answer['failure']}")
        return answer

    def _why_it_ended(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"was ended by signal {-code}" + (": too little memory?" if code == -9 else "")
        self._errors.seek(0)
        last = (self._errors.read().strip().splitlines() or ["it said nothing"])[-1]
        return f"({self.python}) ended with exit code {code}: {last}"

    def _environment(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        environment = dict(os.environ)
        if self.kind == "ours":
            path = [str(_PACKAGE.parent), environment.get("PYTHONPATH", "")]
        else:
            # Nothing of this Python's packages but our own may reach the other one.
            (pathlib.Path(self._folder.name) / "prnet_jax").symlink_to(_PACKAGE)
            path = [self._folder.name]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        for name, value in changes.items():
            environment.pop(name, None)
            if value is not None:
                environment[name] = value
        return environment
