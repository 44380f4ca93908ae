"""How long things take. So far: the estimate that a training without an accelerator begins with."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_CHANNELS = 64


def cpu_hours(step: Callable, example: tuple[Any, ...], number: int) -> float:
    """About how many hours `number` steps take on this CPU, told without compiling one.

    The operations of the step, as the compiler counts them, over the speed of a trial convolution,
    forward and backward, which is timed for about a second.

    Args:
        step: a jitted function.
        example: its arguments, arrays or their `jax.ShapeDtypeStruct`.
        number: of steps.
    """
    flops = step.lower(*example).cost_analysis()["flops"]
    return flops * number / _trial_flops_per_s() / 3600


def _trial_flops_per_s() -> float:
    """Floating point operations per second of a 3x3 convolution's loss and gradients."""
    image = jnp.ones((4, 64, 64, _CHANNELS))
    kernel = jnp.ones((3, 3, _CHANNELS, _CHANNELS))

    @jax.jit
    @jax.grad
    def gradient(kernel):
        dims = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=dims)
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=dims)
        return jnp.square(x).sum()

    flops = gradient.lower(kernel).cost_analysis()["flops"]
    gradient(kernel).block_until_ready()
    begin = time.perf_counter()
    runs = 0
    while time.perf_counter() < begin + 0.5:
        gradient(kernel).block_until_ready()
        runs += 1
    return flops * runs / (time.perf_counter() - begin)
