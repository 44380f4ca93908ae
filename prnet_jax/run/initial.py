"""The weights that a training starts from."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from prnet_jax import steps
from prnet_jax.errors import InputError
from prnet_jax.run.variables import load_variables, network_of


def initial_variables(config: ml_collections.ConfigDict, model) -> dict[str, Any] | None:
    """The variables in `config.init_from`, or None where it is not set.

    Raises:
        InputError: the folder does not exist, or holds another network or other widths.
    """
    if not config.init_from:
        return None
    folder = pathlib.Path(config.init_from)
    name, _ = network_of(folder)
    if name != config.model.name:
        raise InputError(f"config.init_from {folder} holds {name}, not {config.model.name}")
    variables = load_variables(folder)
    size = config.dataset.image_size
    image = jnp.zeros((1, size, size, model.in_channels))
    expected = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    shapes = [
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}
        for leaves in map(jax.tree_util.tree_leaves_with_path, (expected, variables))
    ]
    differ = sorted(k for k in shapes[0] | shapes[1] if shapes[0].get(k) != shapes[1].get(k))
    if differ:
        raise InputError(
            f"config.init_from {folder} does not fit config.model: {len(differ)} arrays differ, "
            f"such as {differ[0]}: expected {shapes[0].get(differ[0])}, found "
            f"{shapes[1].get(differ[0])}; set config.model as it was trained"
        )
    return variables


def start_from(variables: dict[str, Any], state: steps.TrainState) -> steps.TrainState:
    """`state` with the weights and running statistics of `variables`, on the same devices."""

    def like(old, new):
        return jax.tree.map(lambda a, b: jax.device_put(b, a.sharding), old, new)

    params = variables["params"]
    return state.replace(
        params=like(state.params, params),
        batch_stats=like(state.batch_stats, variables.get("batch_stats", {})),
        ema_params=None if state.ema_params is None else like(state.ema_params, params),
    )
