"""PyTorch state_dict <-> Flax variables.

A network's Flax modules bear the names of its PyTorch reference (dots included), so that one rule
serves every network: join the path by dots and rename the last part,

    params       kernel -> weight, scale -> weight, bias -> bias
    batch_stats  mean -> running_mean, var -> running_var

A kernel goes from [k, k, in, out] to [out, in, k, k]. The same permutation serves a transposed
convolution, whose kernel is kept as [k, k, out, in].

`num_batches_tracked`, which only torch has, is dropped on the way in and 0 on the way out.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prnet_jax.errors import InputError
from prnet_jax.models import create_model

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_TO_TORCH = (3, 2, 0, 1)
_TO_FLAX = (2, 3, 1, 0)
_COUNTER = "num_batches_tracked"


def from_torch(name: str, state_dict: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Flax variables of the network `name` from a PyTorch state_dict.

    Args:
        name: a name of `list_models()`.
        state_dict: name -> array (NumPy, or a torch tensor on the CPU), in PyTorch's layout.
        **fields: overrides as for `create_model`.

    Returns:
        {"params": ..., "batch_stats": ...} of NumPy arrays, each of the dtype it had.

    Raises:
        InputError: a missing or unexpected name, or an array of another shape.
    """
    template = _template(name, fields)
    names = {_torch_name(path): path for path in template}
    found = {k: np.asarray(v) for k, v in state_dict.items() if not k.endswith(_COUNTER)}
    _refuse(f"state_dict lacks names of {name}", set(names) - set(found))
    _refuse(f"state_dict has names that {name} does not know", set(found) - set(names))

    flat = {}
    for torch_name, path in names.items():
        array = found[torch_name]
        array = array.transpose(_TO_FLAX) if array.ndim == 4 else array
        if array.shape != template[path].shape:
            expected = _to_torch_layout(np.empty(template[path].shape, np.bool_)).shape
            raise InputError(
                f"{torch_name} of {name} must have shape {list(expected)}, found "
                f"{list(found[torch_name].shape)}: is it a network of another width?"
            )
        flat[path] = array
    return _nest(flat)


def to_torch(name: str, variables: Mapping[str, Any], **fields: Any) -> dict[str, np.ndarray]:
    """The PyTorch state_dict of Flax variables, which loads with `strict=True`.

    Args:
        name: a name of `list_models()`.
        variables: {"params": ..., "batch_stats": ...}; other collections are not allowed.
        **fields: overrides as for `create_model`.

    Returns:
        name -> array in PyTorch's layout, dtypes kept; `num_batches_tracked` is int64 0.

    Raises:
        InputError: variables that are not those of the network.
    """
    template = _template(name, fields)
    flat = _flatten(variables)
    _refuse(f"variables lack arrays of {name}", {".".join(p) for p in set(template) - set(flat)})
    _refuse(
        f"variables hold arrays that {name} does not know",
        {".".join(p) for p in set(flat) - set(template)},
    )
    state_dict = {}
    for path, array in flat.items():
        if np.shape(array) != template[path].shape:
            raise InputError(
                f"{'.'.join(path)} of {name} must have shape {list(template[path].shape)}, "
                f"found {list(np.shape(array))}"
            )
        torch_name = _torch_name(path)
        state_dict[torch_name] = np.ascontiguousarray(_to_torch_layout(np.asarray(array)))
        if path[0] == "batch_stats" and path[-1] == "var":
            counter = torch_name.removesuffix("running_var") + _COUNTER
            state_dict[counter] = np.zeros((), np.int64)
    return state_dict


def _template(name: str, fields: Mapping[str, Any]) -> dict[tuple[str, ...], jax.ShapeDtypeStruct]:
    """Path -> shape of every variable of a network, without computing any."""
    model = create_model(name, **fields)
    image = jnp.zeros((1, 64, 64, model.in_channels))
    shapes = jax.eval_shape(lambda key: model.init(key, image, train=False), jax.random.key(0))
    return _flatten(shapes)


def _torch_name(path: tuple[str, ...]) -> str:
    return ".".join((*path[1:-1], _LEAVES.get(path[-1], path[-1])))


def _to_torch_layout(array: np.ndarray) -> np.ndarray:
    return array.transpose(_TO_TORCH) if array.ndim == 4 else array


def _flatten(tree: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {tuple(part.key for part in path): leaf for path, leaf in leaves}


def _nest(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = leaf
    return tree


def _refuse(what: str, names: set[str]) -> None:
    if names:
        shown = sorted(names)
        more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
        raise InputError(f"{what}: {', '.join(shown[:3])}{more}")
