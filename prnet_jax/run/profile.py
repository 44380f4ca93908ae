"""A trace of some training steps: what the device and the program do in them."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Self

import jax

from prnet_jax import processes


class Profile:
    """Traces the steps after the `first` up to the `last`, in the first process; a context.

        with Profile((100, 105), folder, print) as profile:
            profile.between_steps(step, state)  # before each step

    Args:
        steps: (first, last); () for no trace.
        folder: TensorBoard reads it; Perfetto opens the file that ends in .json.gz below it.
        say: is called with a line that says where the trace is.
    """

    def __init__(self, steps: Sequence[int], folder: pathlib.Path, say: Callable[[str], Any]):
        self._steps = tuple(steps) if processes.is_first() else ()
        self._folder = folder
        self._say = say
        self._begun: int | None = None
        self._now = 0

    def between_steps(self, step: int, state: Any) -> None:
        """Begins or ends the trace.

        Args:
            step: the number of steps taken.
            state: waited for, so that a step is traced completely or not at all.
        """
        if not self._steps:
            return
        first, last = self._steps
        self._now = step
        if self._begun is None and first <= step < last:
            jax.block_until_ready(state)
            # Not Python's own calls: before 3.13.7 Python may crash when their trace ends while
            # other threads run, such as those that save a checkpoint (cpython 137400).
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0
            jax.profiler.start_trace(
                str(self._folder), create_perfetto_trace=True, profiler_options=options
            )
            self._begun = step
        elif step >= last:
            jax.block_until_ready(state)
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._end()

    def _end(self) -> None:
        if self._begun is not None:
            jax.profiler.stop_trace()
            traces = sorted(self._folder.glob("plugins/profile/*/*.json.gz"))
            self._say(
                f"traced steps {self._begun + 1} to {self._now}: tensorboard --logdir "
                f"{self._folder}, or open {traces[-1]} at https://ui.perfetto.dev"
            )
        self._steps, self._begun = (), None
