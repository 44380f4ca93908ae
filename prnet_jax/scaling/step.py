"""The training step of a config, compiled for many devices that need not exist."""

import concurrent.futures
import math
import multiprocessing
import os
import pathlib
import runpy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from prnet_jax import steps
from prnet_jax.errors import InputError
from prnet_jax.scaling.collectives import Collective, collectives
from prnet_jax.scaling.interconnect import grid


class Step(NamedTuple):
    """A compiled training step.

    Attributes:
        collectives: what it sends.
        parameters: numbers in the network's parameters.
        still: those of them whose gradient is zero whatever the batch, such as a bias before a
            norm; nobody need send it.
        channels: channels of all its BatchNorms.
        norms: the paths of its BatchNorms, as in `Collective.op_name`.
    """

    collectives: list[Collective]
    parameters: int
    still: int
    channels: int
    norms: tuple[str, ...]

    def expected_bytes(self) -> int:
        """What the all-reduces carry where the state is whole on every device, in float32.

        The gradient; for each channel of a BatchNorm two sums forward (mean, variance) and three
        backward, of which one is the gradient of its scale but for a factor; and the loss.
        """
        return 4 * (self.parameters - self.still + 4 * self.channels + 1)

    def purpose(self, collective: Collective) -> str:
        """One of "gradient", "forward" and "backward" of BatchNorm, and "other".

        Whatever holds a kernel is the gradient, with all that was fused with it.
        """
        if collective.kind != "all-reduce":
            return "other"
        backward = "transpose(" in collective.op_name
        if any(len(shape) > 1 for _, shape in collective.arrays):
            return "gradient"
        if any(f"/{path}/" in collective.op_name for path in self.norms):
            return "backward" if backward else "forward"
        return "gradient" if backward else "other"


def compile_step(
    config_file: str, fields: dict[str, Any], devices: int, side: int, tpu: bool = False
) -> Step:
    """Compiles the training step of a config in a process of its own, an image a device and part.

    Args:
        config_file: FILE[:VARIANT].
        fields: of the config's top level, by name.
        devices: virtual ones of this machine's CPU, or TPU v5e chips.
        side: of the image in pixels.
        tpu: let the TPU's compiler do it.

    Raises:
        InputError: the config cannot be used, or there is no such TPU or no compiler for it.
    """
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_compile_here, config_file, fields, devices, side, tpu).result()


def _compile_here(
    config_file: str, fields: dict[str, Any], devices: int, side: int, tpu: bool
) -> Step:
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 1 if tpu else devices)

    from prnet_jax import sharding
    from prnet_jax.config import check_config

    mesh = sharding.make_mesh()
    if tpu:
        chips = _v5e_chips(devices)
        axes = {"axis_names": mesh.axis_names, "axis_types": mesh.axis_types}
        mesh = jax.make_mesh((devices,), **axes, devices=chips)
    config = read_config(config_file, fields)
    config.dataset.image_size = side
    check_config(config)
    step, (state, batch) = _abstract_step(config, mesh, devices * config.accumulate_steps)
    program = step.lower(state, batch).compile().as_text()

    means = [
        (path, leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.batch_stats)
        if path[-1].key == "mean"
    ]
    return Step(
        collectives(program, devices),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        still=_still_parameters(config, state),
        channels=sum(leaf.size for _, leaf in means),
        norms=tuple("/".join(key.key for key in path[:-1]) for path, _ in means),
    )


def _abstract_step(config: Any, mesh: Any, images: int) -> tuple[Callable, tuple[Any, Any]]:
    """The step as `prnet_jax.train` makes it, and the shapes of its arguments."""
    import jax
    import jax.numpy as jnp

    from prnet_jax import optim, sharding
    from prnet_jax.steps import make_model

    model = make_model(config)
    schedule = optim.make_schedule(config, steps_per_epoch=100)
    optimizer = optim.make_optimizer(config, schedule)
    state = jax.eval_shape(lambda: steps.init_state(config, model, optimizer))
    state = jax.tree.map(
        lambda array, where: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=where),
        state,
        sharding.state_sharding(mesh, state, config.shard_state),
    )
    step = steps.make_train_step(config, model, optimizer, schedule)
    side = config.dataset.image_size
    image = jax.ShapeDtypeStruct((images, side, side, 1), jnp.float32)
    batch = {"image": image, "mask": image, "draw": jax.ShapeDtypeStruct((images,), jnp.int32)}
    return sharding.jit_train_step(mesh, step, state), (state, batch)


def _still_parameters(config: Any, state: Any) -> int:
    """How many parameters get a gradient that is the constant zero."""
    import jax
    import jax.numpy as jnp

    from prnet_jax.steps import make_model

    model = make_model(config)
    side = config.dataset.image_size
    all_heads = config.loss == "infnet" or bool(config.head_weights)

    def total(params, batch_stats, image):
        output, _ = model.apply(
            {"params": params, "batch_stats": batch_stats},
            image,
            train=True,
            all_heads=all_heads,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
        return sum(leaf.astype(jnp.float32).sum() for leaf in jax.tree.leaves(output))

    image = jax.ShapeDtypeStruct((2, side, side, model.in_channels), jnp.float32)
    program = jax.make_jaxpr(jax.grad(total))(state.params, state.batch_stats, image).jaxpr
    makers = {result: equation for equation in program.eqns for result in equation.outvars}

    def is_zero(result):
        equation = makers.get(result)
        if equation is None or equation.primitive.name != "broadcast_in_dim":
            return False
        return getattr(equation.invars[0], "val", None) == 0

    return sum(math.prod(result.aval.shape) for result in program.outvars if is_zero(result))


def _v5e_chips(number: int) -> Sequence[Any]:
    """The chips of a v5e slice, which need not exist; libtpu knows them.

    Raises:
        InputError: v5e has no such slice, or libtpu is not installed.
    """
    # Else libtpu looks for the machine's own chips.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    from jax.experimental import topologies

    name = "v5e:{}x{}".format(*grid(number))
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except Exception as error:  # which one depends on the versions
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"--tpu cannot compile for {name} ({reason}): pip install 'prnet_jax[tpu]', "
            "or leave --tpu out"
        ) from None


def image_flops(config: Any) -> float:
    """Operations of the training step for one image more, as XLA counts them before it optimises.

    The size is `config.dataset.image_size`; a multiply-add is two operations.
    """
    from prnet_jax import sharding

    counts = []
    config = config.copy_and_resolve_references()
    config.accumulate_steps = 1  # XLA counts a loop's body once
    for images in (1, 2):
        step, arguments = _abstract_step(config, sharding.make_mesh(), images)
        counts.append(step.lower(*arguments).cost_analysis()["flops"])
    return counts[1] - counts[0]


def read_config(config_file: str, fields: dict[str, Any]) -> Any:
    """The config of FILE[:VARIANT] with `fields` of its top level set.

    Raises:
        InputError: no such file, variant, field or value.
    """
    from prnet_jax.config import check_config

    file, _, variant = config_file.partition(":")
    if not pathlib.Path(file).is_file():
        raise InputError(f"--config {file} is not a file: run from the repository's root")
    make = runpy.run_path(file).get("get_config")
    if make is None:
        raise InputError(f"--config {file} has no get_config: name a file such as configs/prnet.py")
    config = make(variant)
    for name, value in fields.items():
        if name not in config or hasattr(config[name], "items"):
            raise InputError(f"--set {name}: the config has no such field at its top level")
        try:
            config[name] = value
        except TypeError:
            kind = type(config[name]).__name__
            raise InputError(f"--set {name} must be of type {kind}, found {value!r}") from None
    check_config(config)
    return config
