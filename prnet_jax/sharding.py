"""The only file that knows meshes. One device is a mesh of one."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from prnet_jax import processes
from prnet_jax.errors import InputError

_DATA = "data"
_MIN_CUT = 2**12  # elements


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


def state_sharding(mesh: Mesh, state: Any, shard: bool) -> Any:
    """Where every array of `state` lies: a tree like it of NamedShardings.

    Args:
        mesh: the devices.
        state: a tree of arrays or of their shapes.
        shard: False: whole on every device. True: an array of 4,096 or more elements is cut along
            its longest axis that divides by the devices (the last of equals). A smaller one stays
            whole: moving 16 KiB takes less time than starting the move, and nearly all of a
            network's bytes lie in larger arrays (of PR-Net's 99.9 %).
    """

    def of(array):
        fits = [size if size % mesh.size == 0 else 0 for size in array.shape]
        if not shard or math.prod(array.shape) < _MIN_CUT or not any(fits):
            return replicated(mesh)
        axis = max(range(len(fits)), key=lambda i: (fits[i], i))
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, _DATA))

    return jax.tree.map(of, state)


def make_state(mesh: Mesh, make: Callable[[], Any], shard: bool = False) -> Any:
    """The arrays that `make()` computes, placed as `state_sharding` says."""
    placement = state_sharding(mesh, jax.eval_shape(make), shard)
    # On CPUs a higher level unrolls the loops of every random draw: over a minute of compilation,
    # for the same bits.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 1} if on_cpu else None
    return jax.jit(make, out_shardings=placement, compiler_options=options)()


def jit_train_step(mesh: Mesh, step: Callable, state: Any) -> Callable:
    """`step(state, batch) -> (state, results)` compiled for the mesh.

    The batch is spread, results are whole on every device, and the new state lies where `state`
    lies, whose memory it takes over. Where parameters are cut they are gathered for the forward and
    backward pass; each device updates its own part of them and of the optimizer's state.
    """
    placement = jax.tree.map(lambda array: array.sharding, state)
    cut = not all(where.is_fully_replicated for where in jax.tree.leaves(placement))

    def gathered(state, batch):
        params = jax.lax.with_sharding_constraint(state.params, replicated(mesh))
        return step(state.replace(params=params), batch)

    compiled = jax.jit(
        gathered if cut else step,
        in_shardings=(placement, NamedSharding(mesh, PartitionSpec(_DATA))),
        out_shardings=(placement, replicated(mesh)),
        donate_argnums=0,
    )
    return processes.compile_together(compiled)


def jit_eval_step(mesh: Mesh, step: Callable) -> Callable:
    """`step(variables, batch) -> results` compiled for the mesh: the batch spread, all else whole.

    Variables that are cut, or in NumPy, are made whole on every device at each call; call `replicate`
    before a loop to have that done once.
    """
    compiled = jax.jit(
        step,
        in_shardings=(replicated(mesh), NamedSharding(mesh, PartitionSpec(_DATA))),
        out_shardings=replicated(mesh),
    )
    compiled = processes.compile_together(compiled)
    return lambda variables, batch: compiled(replicate(mesh, variables), batch)


def replicate(mesh: Mesh, tree: Any) -> Any:
    """`tree` with every array whole on every device; what is so already is passed on as it is.

    NumPy arrays must be alike in all processes.
    """

    def is_whole(array):
        where = getattr(array, "sharding", None)
        return where is not None and where.is_equivalent_to(replicated(mesh), array.ndim)

    leaves, structure = jax.tree.flatten(tree)
    moved = [i for i, array in enumerate(leaves) if not is_whole(array)]
    if moved:
        gather = jax.jit(lambda arrays: arrays, out_shardings=replicated(mesh))
        for i, array in zip(moved, gather([leaves[i] for i in moved]), strict=True):
            leaves[i] = array
    return jax.tree.unflatten(structure, leaves)
