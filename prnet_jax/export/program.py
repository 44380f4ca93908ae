"""A network as one program: slices of any size in, probabilities of that size out."""

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import linen as nn

from prnet_jax import steps
from prnet_jax.errors import InputError
from prnet_jax.export.resample import from_square, to_square

PLATFORMS = ("cpu", "cuda", "tpu")


def make_program(config: ml_collections.ConfigDict, flips: bool = False):
    """The function `program(weights, slices) -> prob` of the network that `config` describes.

    `weights` is what `flat_weights` gives; `slices` float32 [N, H, W] in the unit that the network
    was trained on, all finite; `prob` float32 [N, H, W] in 0..1. Windowing, resizing as the network
    was trained, and resizing back are inside.
    """
    model, data = _portable(steps.make_model(config)), config.dataset
    precise, plain = (functools.partial(_as_seen, data, dtype) for dtype in ("float64", "float32"))

    def program(weights, slices):
        # TPUs have no float64; elsewhere a rounding error here would be 30 times as large in the
        # probability.
        images = jax.lax.platform_dependent(slices, tpu=plain, default=precise)
        _, prob = steps.logits_and_prob(model, nested(weights), images, flips)
        return from_square(prob[..., 0], slices.shape[1:], data.resize)

    return program


def export_program(
    config: ml_collections.ConfigDict, weights: Mapping[str, np.ndarray], flips: bool = False
) -> jax.export.Exported:
    """`make_program` for `PLATFORMS`, and any number and size of slices.

    Args:
        config: a run's settings.
        weights: of `flat_weights`; the program holds their names and shapes, not their values.
        flips: average over a slice and its mirror images.

    Raises:
        InputError: the network computes something that only this version of JAX can read.
    """
    batch = jax.export.symbolic_shape("n, h, w")
    slices = jax.ShapeDtypeStruct(batch, jnp.float32)
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in weights.items()}
    program = jax.jit(make_program(config, flips))
    try:
        return jax.export.export(program, platforms=PLATFORMS)(shapes, slices)
    except ValueError as error:
        if "compatibility guarantee" not in str(error):
            raise
        raise InputError(
            f"{config.model.name} as it is set calls kernels that no other version of JAX is "
            f"sure to read: {str(error).splitlines()[0]}"
        ) from None


def flat_weights(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """{"params": {"conv": {"kernel": x}}} -> {"params/conv/kernel": x}, as NumPy arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}


def nested(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The variables that `flat_weights` made flat."""
    variables: dict[str, Any] = {}
    for name, array in weights.items():
        *folders, last = name.split("/")
        place = variables
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = array
    return variables


def _portable(model: nn.Module) -> nn.Module:
    """The network without cuDNN's attention, which is no stable part of JAX's programs."""
    half = model.dtype != jnp.float32
    if half and getattr(model, "attention", None) in ("auto", "cudnn"):
        return model.clone(attention="blockwise")  # the same values
    return model


def _as_seen(data: ml_collections.ConfigDict, dtype: str, slices: jax.Array) -> jax.Array:
    """[N, H, W] -> what the network sees, float32 [N, S, S, 1] in 0..1, computed in `dtype`."""
    low, high = data.window_hu
    with _float64() if dtype == "float64" else contextlib.nullcontext():
        images = (jnp.clip(slices, low, high) - low).astype(dtype) / (high - low)
        # `preprocess.window` gives float32 too.
        images = images.astype(jnp.float32).astype(dtype)
        images = to_square(images, data.image_size, data.resize)
        return jnp.expand_dims(images, -1).astype(jnp.float32)


def _float64() -> contextlib.AbstractContextManager:
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # until jax 0.8

    return enable_x64()
