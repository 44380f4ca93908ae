"""Our side: the programs that training and prediction run, compiled, counted and called."""

import importlib.metadata
import time
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from prnet_jax import compiler, optim, sharding, steps
from prnet_jax.benchmark import machine
from prnet_jax.benchmark.ceilings import ceilings
from prnet_jax.benchmark.task import (
    CLIP_NORM,
    LEARNING_RATE,
    WEIGHT_DECAY,
    Task,
    attention_example,
    example,
)
from prnet_jax.models import create_model
from prnet_jax.models.attend import attend
from prnet_jax.models.operations import gflop

Run = Callable[[int], None]
_INSTALLED = ("predict", "data", "evaluate")
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")


def about() -> dict[str, Any]:
    """JAX's platform, the device, and versions."""
    compiler.disable_ynn()
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device": machine.cpu_name() if device.platform == "cpu" else device.device_kind,
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def begin(task: Task, side: str) -> tuple[Run, dict[str, Any]]:
    """A function that does the task's work so many times, and what is known of its program."""
    compiler.disable_ynn()
    if task.devices:
        jax.config.update("jax_num_cpu_devices", task.devices)
    if task.part in _INSTALLED:
        # Imported here: the other parts run without what it imports.
        from prnet_jax.benchmark import installed

        return getattr(installed, task.part)(task)
    makers = {"ceilings": ceilings, "train": _train, "infer": _infer, "attention": _attention}
    return makers[task.part](task)


def peak_mib() -> float | None:
    """The largest memory: of the device, or on CPUs of the process since the first call."""
    return machine.peak_mib_of(jax.devices()[0])


def settings(task: Task) -> Any:
    """What `prnet_jax.steps` and `prnet_jax.optim` read of a config; augmentation is off."""
    return types.SimpleNamespace(
        seed=0,
        dtype=task.dtype,
        model={"name": task.model, **task.fields},
        dataset=types.SimpleNamespace(image_size=task.size, soft_mask=False),
        augment={},
        batch_size=task.batch,
        accumulate_steps=1,
        remat=False,
        num_epochs=1,
        learning_rate=LEARNING_RATE,
        warmup_epochs=0,
        final_learning_rate=1.0,
        weight_decay=WEIGHT_DECAY,
        clip_norm=CLIP_NORM,
        loss="bce_dice",
        head_weights=(),
        bce_weight=1.0,
        dice_weight=1.0,
        ema_decay=0.0,
    )


def compiled_and_counted(function: Any, *arguments: Any) -> tuple[Callable, dict[str, Any]]:
    """A jitted function compiled for its arguments, and what its program does.

    Returns:
        The program, and `compile_s`; `gflop`, operations before optimisation with convolutions
        computed directly, a multiply-add being two; `gbytes` that it reads and writes, as fused
        where the compiler tells (not on GPUs, where it does not see into libraries); and
        `program_mib`, what it needs of memory.
    """
    begin = time.perf_counter()
    lowered = function.lower(*arguments)
    program = lowered.compile()
    facts = {"compile_s": time.perf_counter() - begin}
    facts["gflop"] = gflop(function.__wrapped__, *arguments)
    if jax.default_backend() != "gpu":
        facts["gbytes"] = (program.cost_analysis() or {}).get("bytes accessed", 0) / 1e9 or None
    if needs := program.memory_analysis():
        both = needs.output_size_in_bytes - needs.alias_size_in_bytes
        total = needs.argument_size_in_bytes + both + needs.temp_size_in_bytes
        facts["program_mib"] = total / 2**20
    return program, facts


def training(task: Task) -> tuple[Callable, Any, dict[str, jax.Array]]:
    """The jitted training step of a task, its state and its batch, on the devices."""
    config = settings(task)
    mesh = sharding.make_mesh()
    sharding.check_batch_size("batch_size", task.batch, mesh)
    model = steps.make_model(config)
    schedule = optim.make_schedule(config, steps_per_epoch=100_000)
    optimizer = optim.make_optimizer(config, schedule)
    state = sharding.make_state(mesh, lambda: steps.init_state(config, model, optimizer))
    step = sharding.jit_train_step(
        mesh, steps.make_train_step(config, model, optimizer, schedule), state
    )
    draw = jnp.arange(task.batch, dtype=jnp.int32)
    return step, state, sharding.shard_batch(mesh, {**example(task), "draw": draw})


def _train(task: Task) -> tuple[Run, dict[str, Any]]:
    step, state, batch = training(task)
    program, facts = compiled_and_counted(step, state, batch)

    def run(calls):
        nonlocal state
        for _ in range(calls):
            state, results = program(state, batch)
        jax.block_until_ready((state, results))

    return run, facts


def _infer(task: Task) -> tuple[Run, dict[str, Any]]:
    model = create_model(task.model, dtype=jnp.dtype(task.dtype), **task.fields)
    image = jnp.asarray(example(task)["image"])
    variables = sharding.make_state(
        sharding.make_mesh(), lambda: model.init(jax.random.key(0), image[:1], train=False)
    )
    forward = jax.jit(lambda variables, image: model.apply(variables, image, train=False))
    program, facts = compiled_and_counted(forward, variables, image)

    def run(calls):
        for _ in range(calls):
            logits = program(variables, image)
        logits.block_until_ready()

    return run, facts


def _attention(task: Task) -> tuple[Run, dict[str, Any]]:
    """Forward and backward pass; operations are those of the dense form, whichever is measured."""
    arrays = [jnp.asarray(array, jnp.dtype(task.dtype)) for array in attention_example(task)]

    def both(implementation):
        def loss(q, k, v):
            out = attend(q, k, v, implementation=implementation)
            return jnp.square(out.astype(jnp.float32)).sum()

        return jax.jit(jax.grad(loss, (0, 1, 2)))

    program, facts = compiled_and_counted(both(task.variant), *arrays)
    # XLA counts the body of a loop once.
    facts["gflop"] = gflop(both("dense").__wrapped__, *arrays)
    facts["gbytes"] = None

    def run(calls):
        for _ in range(calls):
            gradients = program(*arrays)
        jax.block_until_ready(gradients)

    return run, facts
