"""Estimates how long training takes on a CPU."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_CHANNELS = 64


def cpu_hours(step: Callable, example: tuple[Any, ...], number: int) -> float:
    """Estimates the hours that `number` steps take on this CPU, without compiling a step.

    Divides the operations of the step, as XLA counts them, by the measured speed of a convolution
    and its gradients. The measurement takes about a second.

    Args:
        step: a jitted function.
        example: its arguments: arrays or `jax.ShapeDtypeStruct`s.
        number: of steps.
    """
    flops = step.lower(*example).cost_analysis()["flops"]
    return flops * number / _trial_flops_per_s() / 3600


def _trial_flops_per_s() -> float:
    """Operations per second of two 3x3 convolutions and their gradients."""
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
