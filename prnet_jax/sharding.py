"""Where arrays are placed; the only file that knows meshes. One device is a mesh of one."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from prnet_jax import processes
from prnet_jax.errors import InputError

_DATA = "data"
_MIN_SHARDED = 2**12  # elements


def make_mesh() -> Mesh:
    """All devices of all processes in one axis, along which batches are split."""
    return jax.make_mesh((jax.device_count(),), (_DATA,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy of the array on every device: for parameters, and results that every process reads."""
    return NamedSharding(mesh, PartitionSpec())


def check_batch_size(field: str, size: int, mesh: Mesh, parts: int = 1) -> None:
    """Checks that a global batch of `parts` parts can be split evenly over the devices.

    Raises:
        InputError: it cannot; the message names the config's `field` and the numbers.
    """
    if size < 1 or size % (mesh.size * parts):
        by = f"{mesh.size} devices" + (f" x {parts} accumulate_steps" if parts > 1 else "")
        raise InputError(
            f"config.{field} must be a positive multiple of {by} = {mesh.size * parts}, "
            f"found {size}"
        )


def split(mesh: Mesh) -> NamedSharding:
    """Axis 0 split over the devices: for batches."""
    return NamedSharding(mesh, PartitionSpec(_DATA))


def shard_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Global arrays, split over the devices along axis 0, of this process's part of a batch."""
    placement = split(mesh)
    return {
        name: jax.make_array_from_process_local_data(placement, array)
        for name, array in batch.items()
    }


def state_sharding(mesh: Mesh, state: Any, shard: bool) -> Any:
    """The placement of every array of `state`: a tree of NamedShardings of its structure.

    Args:
        mesh: the devices.
        state: a tree of arrays or of their shapes.
        shard: False: a copy on every device. True: an array of 4,096 or more elements is split
            along its longest axis that the number of devices divides (the last of equals). Smaller
            ones are copied: 16 KiB take less time to move than a transfer takes to start, and
            larger arrays hold nearly all bytes of a network (99.9 % of PR-Net's).
    """

    def place(array):
        fits = [size if size % mesh.size == 0 else 0 for size in array.shape]
        if not shard or math.prod(array.shape) < _MIN_SHARDED or not any(fits):
            return replicated(mesh)
        axis = max(range(len(fits)), key=lambda i: (fits[i], i))
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, _DATA))

    return jax.tree.map(place, state)


def make_state(mesh: Mesh, make: Callable[[], Any], shard: bool = False) -> Any:
    """Computes `make()`, with the results placed as `state_sharding` says."""
    placement = state_sharding(mesh, jax.eval_shape(make), shard)
    # On CPUs a higher level unrolls the loops of every random draw: over a minute of compilation,
    # for the same bits.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 1} if on_cpu else None
    return jax.jit(make, out_shardings=placement, compiler_options=options)()


def jit_train_step(mesh: Mesh, step: Callable, state: Any) -> Callable:
    """`step(state, batch) -> (state, results)` compiled for the mesh.

    The batch is split, the results are copied to every device, and the new state takes the place
    and the memory of `state`. Parameters that are split are gathered for the forward and backward
    pass; each device updates its own part of them and of the optimizer's state.
    """
    placement = jax.tree.map(lambda array: array.sharding, state)
    is_split = not all(where.is_fully_replicated for where in jax.tree.leaves(placement))

    def gathered(state, batch):
        params = jax.lax.with_sharding_constraint(state.params, replicated(mesh))
        return step(state.replace(params=params), batch)

    compiled = jax.jit(
        gathered if is_split else step,
        in_shardings=(placement, split(mesh)),
        out_shardings=(placement, replicated(mesh)),
        donate_argnums=0,
    )
    return processes.compile_together(compiled)


def jit_eval_step(mesh: Mesh, step: Callable) -> Callable:
    """`step(variables, batch) -> results` compiled for the mesh: the batch split, the rest copied.

    Variables that are split, or NumPy arrays, are copied to every device at each call; call
    `replicate` before a loop to do it once.
    """
    compiled = jax.jit(
        step,
        in_shardings=(replicated(mesh), split(mesh)),
        out_shardings=replicated(mesh),
    )
    compiled = processes.compile_together(compiled)
    return lambda variables, batch: compiled(replicate(mesh, variables), batch)


def replicate(mesh: Mesh, tree: Any) -> Any:
    """`tree` with a copy of every array on every device; returns those that have one as they are.

    NumPy arrays must be equal in all processes.
    """

    def is_replicated(array):
        where = getattr(array, "sharding", None)
        return where is not None and where.is_equivalent_to(replicated(mesh), array.ndim)

    leaves, structure = jax.tree.flatten(tree)
    moved = [i for i, array in enumerate(leaves) if not is_replicated(array)]
    if moved:
        gather = jax.jit(lambda arrays: arrays, out_shardings=replicated(mesh))
        for i, array in zip(moved, gather([leaves[i] for i in moved]), strict=True):
            leaves[i] = array
    return jax.tree.unflatten(structure, leaves)
