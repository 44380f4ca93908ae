"""One side of a comparison in a process of its own: python -m prnet_jax.benchmark.worker SIDE

Reads requests and writes answers, a line of JSON each; `prnet_jax.benchmark.side` asks. Between
requests it waits for input, so it uses no CPU while the other side is timed. It runs in any Python
that has the library of its side.
"""

import importlib
import json
import os
import sys
import time
from typing import Any

from prnet_jax.benchmark.machine import reset_peak
from prnet_jax.errors import InputError

_MODULES = {"ours": "ours", "torch": "theirs", "torch-compile": "theirs"}


class Worker:
    """Answers requests with the side's module, which has `about`, `begin` and `peak_mib`."""

    def __init__(self, side: str):
        self._side = side
        self._module = importlib.import_module(f"prnet_jax.benchmark.{_MODULES[side]}")
        self._run = None

    def about(self) -> dict[str, Any]:
        """`platform`, `device` and `versions` of the side."""
        return self._module.about()

    def begin(self, task: dict[str, Any]) -> dict[str, Any]:
        """Prepares a task and calls it until it is warm; what is known of it beforehand."""
        from prnet_jax.benchmark.task import Task  # here, because it needs a library

        self._run, facts = self._module.begin(Task.from_json(task), self._side)
        first_s = self._timed(1)
        reset_peak()
        return {**facts, "first_call_s": first_s, "call_s": self._timed(1)}

    def turn(self, warm: int, calls: int) -> dict[str, Any]:
        """Takes a turn of `timing.Turn`."""
        if warm:
            self._run(warm)
        return {"ms": 1000 * self._timed(calls) / calls}

    def end(self) -> dict[str, Any]:
        """What is known of the task afterwards."""
        return {"peak_mib": self._module.peak_mib()}

    def _timed(self, calls: int) -> float:
        begin = time.perf_counter()
        self._run(calls)
        return time.perf_counter() - begin


def main(side: str) -> None:
    """Answers until its input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    worker = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            worker = worker or Worker(side)
            answer = getattr(worker, request.pop("do"))(**request)
        except InputError as error:
            answer = {"mistake": str(error)}
        except ModuleNotFoundError as error:
            answer = {"lacks": error.name}
        except Exception as error:
            answer = {"failure": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
