"""The only file that knows meshes and processes. One device is a mesh of one."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from prnet_jax.errors import InputError

_DATA = "data"


def make_mesh() -> Mesh:
    """All devices of all processes in one row, over which batches are spread."""
    return jax.make_mesh((jax.device_count(),), (_DATA,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device: parameters, and results that every process reads."""
    return NamedSharding(mesh, PartitionSpec())


def check_batch_size(field: str, size: int, mesh: Mesh, parts: int = 1) -> None:
    """Refuses a global batch that cannot be spread evenly over the devices in `parts` parts.

    Raises:
        InputError: naming the config's `field` and the numbers.
    """
    if size < 1 or size % (mesh.size * parts):
        by = f"{mesh.size} devices" + (f" x {parts} accumulate_steps" if parts > 1 else "")
        raise InputError(
            f"config.{field} must be a positive multiple of {by} = {mesh.size * parts}, "
            f"found {size}"
        )


def shard_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's part of a batch as global arrays, spread over the devices by axis 0."""
    sharding = NamedSharding(mesh, PartitionSpec(_DATA))
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def jit_step(mesh: Mesh, step: Callable, donate_state: bool) -> Callable:
    """`step(state, batch) -> results` compiled for the mesh: batch spread, all else replicated.

    With `donate_state` the state's memory is reused for the new one.
    """
    whole = replicated(mesh)
    spread = NamedSharding(mesh, PartitionSpec(_DATA))
    return jax.jit(
        step,
        in_shardings=(whole, spread),
        out_shardings=whole,
        donate_argnums=(0,) if donate_state else (),
    )


def replicate(mesh: Mesh, make: Callable[[], Any]) -> Any:
    """The arrays that `make()` computes, made on every device alike."""
    return jax.jit(make, out_shardings=replicated(mesh))()
