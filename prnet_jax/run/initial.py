"""The weights that a training starts from."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from prnet_jax import steps
from prnet_jax.errors import InputError
from prnet_jax.run.variables import load_variables, network_of
from prnet_jax.torch_weights.files import read_metadata
from prnet_jax.torch_weights.network import STATED_NAME, read_variables, which_network
from prnet_jax.weights import find_weights


def initial_variables(config: ml_collections.ConfigDict, model) -> dict[str, Any] | None:
    """The variables in `config.init_from`, or None where it is not set.

    Raises:
        InputError: there is nothing there, or another network or other widths.
    """
    if not config.init_from:
        return None
    source = find_weights(config.init_from)
    name, variables = _read(source, config.model)
    if name != config.model.name:
        raise InputError(f"config.init_from {source} holds {name}, not {config.model.name}")
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
            f"config.init_from {source} does not fit config.model: {len(differ)} arrays differ, "
            f"such as {differ[0]}: expected {shapes[0].get(differ[0])}, found "
            f"{shapes[1].get(differ[0])}; set config.model as it was trained"
        )
    return variables


def _read(
    source: pathlib.Path, model: ml_collections.ConfigDict
) -> tuple[str, dict[str, Any] | None]:
    """The name and the variables of a network; of a file of another network the name alone.

    A file that does not say what it holds is read as the network that is to be trained.
    """
    if not source.is_file():
        return network_of(source)[0], load_variables(source)
    stated = read_metadata(source).get(STATED_NAME)
    if stated not in (None, model.name):
        return stated, None
    fields = None if stated else {k: v for k, v in model.items() if k != "name"}
    network = which_network(source, model.name, fields)
    variables = read_variables(source, network, tell=print)
    return network.name, jax.tree.map(lambda x: np.asarray(x, np.float32), variables)


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
