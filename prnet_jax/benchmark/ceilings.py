"""What the device can do at best, measured: matrix products and copying."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from prnet_jax.benchmark.task import Task

_SIDES = {"cpu": (1024, 2048)}  # of square matrices
_ACCELERATOR_SIDES = (4096, 8192)
_COPIED = {"cpu": 2**28}  # bytes
_ACCELERATOR_COPIED = 2**30
_TRIES, _AT_ONCE = 7, 4


def ceilings(task: Task) -> tuple[Callable[[int], None], dict[str, Any]]:
    """`matmul_gflop_s` and `copy_gb_s` in the task's dtype, the best of several tries.

    Copying counts bytes read and bytes written. There is nothing to call afterwards.
    """
    dtype, platform = jnp.dtype(task.dtype), jax.default_backend()
    multiply = jax.jit(lambda a, b: a @ b)
    fastest = 0.0
    for side in _SIDES.get(platform, _ACCELERATOR_SIDES):
        a = jnp.full((side, side), 1 / math.sqrt(side), dtype)
        fastest = max(fastest, 2 * side**3 / 1e9 / _best_s(multiply, a, a))
    copied = jnp.zeros(_COPIED.get(platform, _ACCELERATOR_COPIED) // dtype.itemsize, dtype)
    copy_s = _best_s(jax.jit(lambda x: x + 1), copied)
    facts = {"matmul_gflop_s": fastest, "copy_gb_s": 2 * copied.nbytes / 1e9 / copy_s}
    return (lambda calls: None), facts


def _best_s(function: Callable, *arguments: jax.Array) -> float:
    """Seconds a call in the best try; calls are queued, so that starting them does not count."""
    function(*arguments).block_until_ready()
    best = math.inf
    for _ in range(_TRIES):
        begin = time.perf_counter()
        for _ in range(_AT_ONCE):
            result = function(*arguments)
        result.block_until_ready()
        best = min(best, (time.perf_counter() - begin) / _AT_ONCE)
    return best
