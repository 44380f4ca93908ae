"""Which sides are compared, part by part."""

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from prnet_jax.benchmark import growth
from prnet_jax.benchmark.choices import Choices
from prnet_jax.benchmark.side import Side
from prnet_jax.benchmark.startup import COMMANDS, FIRST_STEP, Started
from prnet_jax.benchmark.task import HEADS, Task

_MOST_DENSE_BYTES = 2**31  # of one map of all pairs of positions in float32
# Programs are compiled anew, so that the time of it is true. Sides share a GPU's memory.
_FRESH = {
    "JAX_COMPILATION_CACHE_DIR": None,
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


class Comparison(NamedTuple):
    """What is measured in turns.

    Attributes:
        task: as the row says it.
        sides: by name, "ours" first: what starts the process of a side, and its task.
    """

    task: Task
    sides: dict[str, tuple[Callable[[], Any], Task]]


class Plan:
    """The comparisons that were chosen.

    Args:
        choices: checked.
        folder: for records and caches; empty at first.
        platform: where JAX computes: "cpu", "gpu" or "tpu".
        networks: those that the peers have.
    """

    def __init__(self, choices: Choices, folder: pathlib.Path, platform: str, networks: list[str]):
        self._choices = choices
        self._folder = folder
        self._platform = platform
        self._networks = networks

    def comparisons(self) -> Iterator[Comparison]:
        """All of them, part by part."""
        for part in self._choices.parts:
            yield from getattr(self, f"_{part}")()

    def _tasks(self, part: str, **more: Any) -> Iterator[Task]:
        c = self._choices
        for model in c.models:
            yield Task(part, model, c.batch, c.size, c.dtype, c.fields, **more)

    def _beside_peers(self, task: Task) -> Comparison:
        sides = {"ours": (ours, task)}
        for kind in self._choices.against:
            if task.model in (*self._networks, "attention"):
                sides[kind] = (self._peer(kind), task)
        return Comparison(task, sides)

    def _peer(self, kind: str) -> Callable[[], Side]:
        return lambda: Side(kind, self._choices.torch_python)

    def _train(self) -> Iterator[Comparison]:
        return map(self._beside_peers, self._tasks("train"))

    def _infer(self) -> Iterator[Comparison]:
        return map(self._beside_peers, self._tasks("infer"))

    def _attention(self) -> Iterator[Comparison]:
        """Blockwise beside the others; `size` is the side of the feature map."""
        c = self._choices
        task = Task("attention", "attention", c.batch, c.size, c.dtype, variant="blockwise")
        sides = {"ours": (ours, task)}
        if 4 * HEADS * c.batch * c.size**4 <= _MOST_DENSE_BYTES:
            sides["dense"] = (ours, dataclasses.replace(task, variant="dense"))
        if self._platform == "gpu" and c.dtype == "bfloat16":
            sides["cudnn"] = (ours, dataclasses.replace(task, variant="cudnn"))
        yield Comparison(task, sides | self._beside_peers(task).sides)

    def _predict(self) -> Iterator[Comparison]:
        return map(self._beside_nobody, self._tasks("predict", **self._on_disk()))

    def _data(self) -> Iterator[Comparison]:
        task = next(self._tasks("data", **self._on_disk()))
        for variant in ("prepare", "read", "kept"):
            yield self._beside_nobody(dataclasses.replace(task, variant=variant))

    def _evaluate(self) -> Iterator[Comparison]:
        """The whole beside its two halves, of which the larger is the least that it can take."""
        for task in self._tasks("evaluate", variant="all", **self._on_disk()):
            halves = {
                half: (ours, dataclasses.replace(task, variant=half)) for half in ("device", "host")
            }
            yield Comparison(task, {"ours": (ours, task), **halves})

    def _startup(self) -> Iterator[Comparison]:
        caches = self._folder / "caches"
        for variant in COMMANDS:
            task = Task("startup", "", 0, 0, self._choices.dtype, variant=variant)
            start = Started(variant, _FRESH, caches / "none")
            yield Comparison(task, {"ours": (lambda start=start: start, task)})
        for task in self._tasks("startup", variant=FIRST_STEP):
            step = dataclasses.replace(task, part="train", variant="")
            kept = Started(FIRST_STEP, _FRESH, caches / "kept")
            emptied = Started(FIRST_STEP, _FRESH, caches / "emptied", keep=False)
            sides = {
                "ours": (lambda kept=kept: kept, step),
                "empty cache": (lambda emptied=emptied: emptied, step),
            }
            yield Comparison(task, sides)

    def _growth(self) -> Iterator[Comparison]:
        for axis, task in growth.tasks(self._choices, self._on_disk(), self._platform):
            row = dataclasses.replace(task, part="growth", variant=axis)
            yield Comparison(row, {"ours": (ours, task)})

    def _beside_nobody(self, task: Task) -> Comparison:
        return Comparison(task, {"ours": (ours, task)})

    def _on_disk(self) -> dict[str, Any]:
        return {"slices": self._choices.slices, "folder": str(self._folder)}


def ours() -> Side:
    """Our side, in a process that compiles everything anew."""
    return Side("ours", sys.executable, _FRESH)
