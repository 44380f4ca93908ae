"""How long programs take until they do something: imports, --help, the first step."""

import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, Self

from prnet_jax.benchmark.side import Side
from prnet_jax.benchmark.task import Task
from prnet_jax.benchmark.timing import Turn
from prnet_jax.errors import RunError

COMMANDS = {
    "import jax": ("-c", "import jax"),
    "import prnet_jax": ("-c", "import prnet_jax"),
    "--help": ("-m", "prnet_jax.main", "--help"),
    "import of training": ("-c", "import prnet_jax.train"),
}
FIRST_STEP = "first step"  # of a training: import, compile, one step


class Started:
    """Starts a program anew in each turn; stands in for a `Side`.

    Args:
        variant: one of `COMMANDS`, or `FIRST_STEP`.
        environment: for the program; see `Side`.
        cache: a folder for compiled programs.
        keep: whether a turn finds in it what the turn before has compiled.
    """

    kind = "ours"

    def __init__(
        self,
        variant: str,
        environment: Mapping[str, str | None],
        cache: pathlib.Path,
        keep: bool = True,
    ):
        self._variant = variant
        self._environment = dict(environment)
        self._cache = cache
        self._keep = keep
        self._task: Task | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        shutil.rmtree(self._cache, ignore_errors=True)

    def begin(self, task: Task) -> dict[str, Any]:
        """Runs the program once, so that its files are in the disk's cache."""
        self._task = task
        return {"call_s": self.take(Turn(0, 1)) / 1000}

    def take(self, turn: Turn) -> float:
        """Milliseconds of a start."""
        if not self._keep:
            shutil.rmtree(self._cache, ignore_errors=True)
        begin = time.perf_counter()
        for _ in range(turn.calls):
            if self._variant == FIRST_STEP:
                self._first_step()
            else:
                self._command()
        return 1000 * (time.perf_counter() - begin) / turn.calls

    def end(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def cpu_s(self) -> None:
        """Not known: each turn has its own process."""

    def _command(self) -> None:
        done = subprocess.run(
            [sys.executable, *COMMANDS[self._variant]], capture_output=True, text=True
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise RunError(f"{self._variant} ended with exit code {done.returncode}: {last}")

    def _first_step(self) -> None:
        cached = {
            "JAX_ENABLE_COMPILATION_CACHE": "true",
            "JAX_COMPILATION_CACHE_DIR": str(self._cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        with Side("ours", sys.executable, self._environment | cached) as side:
            side.begin(self._task)
