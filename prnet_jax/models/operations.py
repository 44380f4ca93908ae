"""How many operations a call has, whatever the device."""

from collections.abc import Callable
from typing import Any

import jax

from prnet_jax.models.convolution import as_xla


def gflop(function: Callable, *arguments: Any) -> float | None:
    """Operations in 10^9 of the program as written, a multiply-add as two.

    Convolutions count as computed directly. The program is that for CPUs: JAX does not count in
    those for GPUs and TPUs (https://github.com/jax-ml/jax/issues/22713).

    Args:
        function: of arrays, not jitted.
        arguments: trees of arrays or of their shapes.

    Returns:
        None where it cannot be counted: JAX_PLATFORMS leaves out CPUs, or the function calls what
        CPUs do not have, such as cuDNN's attention.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
    try:
        # A new function: what is traced as XLA's must not be what runs.
        with jax.default_device(cpu), as_xla():
            program = jax.jit(lambda *arguments: function(*arguments)).lower(*shapes)
    except NotImplementedError:
        return None
    counted = program.cost_analysis()
    return counted["flops"] / 1e9 if counted else None
