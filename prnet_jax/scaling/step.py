"""Compiles the training step of a config for many devices, which need not exist."""

import concurrent.futures
import math
import multiprocessing
import os
import runpy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from prnet_jax import commands, optim, sharding, steps
from prnet_jax.config import check_config
from prnet_jax.errors import InputError
from prnet_jax.models.convolution import as_xla
from prnet_jax.scaling.collectives import Collective, collectives
from prnet_jax.scaling.interconnect import grid


class Step(NamedTuple):
    """A compiled training step.

    Attributes:
        collectives: what it sends.
        parameters: the number of parameters.
        zero_gradient: how many of them have a gradient that is the constant zero, and is not sent:
            a bias before a norm.
        channels: the number of channels of all BatchNorms.
        norms: the paths of the BatchNorms, as in `Collective.op_name`.
    """

    collectives: list[Collective]
    parameters: int
    zero_gradient: int
    channels: int
    norms: tuple[str, ...]

    def expected_bytes(self) -> int:
        """Bytes of the all-reduces if each device holds the complete state, in float32.

        The gradient; for each BatchNorm channel two sums forward (mean, variance) and three
        backward, one of which is the gradient of the scale up to a factor; and the loss.
        """
        return 4 * (self.parameters - self.zero_gradient + 4 * self.channels + 1)

    def purpose(self, collective: Collective) -> str:
        """Returns "gradient", "forward" or "backward" (of a BatchNorm), or "other".

        A collective that contains a kernel is "gradient", whatever else was fused with it.
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
    """Compiles the training step of a config, with one image per device and accumulated part.

    This takes a process of its own, because JAX's number of devices cannot be changed.

    Args:
        config_file: FILE[:VARIANT].
        fields: values of top-level fields of the config, by name.
        devices: the number of virtual CPU devices, or of TPU v5e chips.
        side: of the image in pixels.
        tpu: use the TPU's compiler.

    Raises:
        InputError: the config is invalid, v5e has no such slice, or its compiler is not installed.
    """
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_compile_here, config_file, fields, devices, side, tpu).result()


def _compile_here(
    config_file: str, fields: dict[str, Any], devices: int, side: int, tpu: bool
) -> Step:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 1 if tpu else devices)
    mesh = sharding.make_mesh()
    if tpu:
        chips = v5e_chips(devices)
        axes = {"axis_names": mesh.axis_names, "axis_types": mesh.axis_types}
        mesh = jax.make_mesh((devices,), **axes, devices=chips)
    config = read_config(config_file, fields)
    config.dataset.image_size = side
    check_config(config)
    step, (state, batch) = abstract_step(config, mesh, devices * config.accumulate_steps)
    program = step.lower(state, batch).compile().as_text()

    means = [
        (path, leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.batch_stats)
        if path[-1].key == "mean"
    ]
    return Step(
        collectives(program, devices),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        zero_gradient=_count_zero_gradient(config, state),
        channels=sum(leaf.size for _, leaf in means),
        norms=tuple("/".join(key.key for key in path[:-1]) for path, _ in means),
    )


def abstract_step(config: Any, mesh: Any, images: int) -> tuple[Callable, tuple[Any, Any]]:
    """The step as `prnet_jax.train` makes it, and the shapes of its arguments."""
    model = steps.make_model(config)
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


def _count_zero_gradient(config: Any, state: Any) -> int:
    """The number of parameters whose gradient is the constant zero."""
    model = steps.make_model(config)
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


def v5e_chips(number: int) -> Sequence[Any]:
    """The chips of a v5e slice as libtpu describes them; they need not exist.

    Raises:
        InputError: v5e has no such slice, or libtpu is not installed.
    """
    # Without these libtpu looks for the machine's own chips.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    # Nothing is run, so another process may have libtpu open.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    name = "v5e:{}x{}".format(*grid(number))
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except Exception as error:  # its type depends on the versions
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"--tpu and --chip cannot compile for {name} ({reason}): "
            "pip install 'prnet_jax[tpu]', or omit them"
        ) from None


def image_flops(config: Any) -> float:
    """Operations of a training step per image: those that one more image takes."""
    return step_flops(config, 2) - step_flops(config, 1)


def step_flops(config: Any, images: int) -> float:
    """Operations of a training step on so many images, as XLA counts them before optimisation.

    The image's side is `config.dataset.image_size`; a multiply-add counts as two operations.
    """
    config = config.copy_and_resolve_references()
    # XLA counts the body of a loop once.
    config.accumulate_steps = 1
    if "attention" in config.model:
        config.model.attention = "dense"
    step, arguments = abstract_step(config, sharding.make_mesh(), images)
    with as_xla():
        return step.lower(*arguments).cost_analysis()["flops"]


def read_config(config_file: str, fields: dict[str, Any]) -> Any:
    """The config of FILE[:VARIANT] with top-level `fields` set.

    Raises:
        InputError: the file, variant, field or value is invalid.
    """
    file, variant = commands.config_file(config_file)
    make = runpy.run_path(str(file)).get("get_config")
    if make is None:
        raise InputError(f"--config {file} has no get_config: give a file such as configs/prnet.py")
    config = make(variant)
    for name, value in fields.items():
        if name not in config or hasattr(config[name], "items"):
            raise InputError(f"--set {name}: the config has no such top-level field")
        try:
            config[name] = value
        except TypeError:
            kind = type(config[name]).__name__
            raise InputError(f"--set {name} must be of type {kind}, found {value!r}") from None
    check_config(config)
    return config
