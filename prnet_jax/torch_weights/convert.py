"""PyTorch state_dict <-> Flax variables, for every network.

The modules of a Flax network have the names of its PyTorch reference (dots included), so one rule
serves every network: join the path with dots and rename the last part,

    params       kernel -> weight, scale -> weight, bias -> bias
    batch_stats  mean -> running_mean, var -> running_var

A kernel goes from [k, k, in, out] to [out, in, k, k]. The same permutation serves a transposed
convolution, whose Flax kernel is [k, k, out, in].

What only torch has is dropped on import and zero on export: `num_batches_tracked`, and arrays that
the reference never uses. `models/<name>.py` lists the latter as `UNUSED_TORCH`, name -> shape.
"""

import functools
import importlib
import os
from collections.abc import Collection, Mapping, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prnet_jax.errors import InputError
from prnet_jax.models import create_model, list_models
from prnet_jax.torch_weights.files import as_array

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_TO_TORCH = (3, 2, 0, 1)
_TO_FLAX = (2, 3, 1, 0)
_COUNTER = "num_batches_tracked"


def from_torch(name: str, state_dict: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Flax variables of the network `name` from a PyTorch state_dict.

    Args:
        name: a name of `list_models()`.
        state_dict: name -> array (NumPy, JAX or a torch tensor) in PyTorch's layout. A prefix that
            all names share, as `module._orig_mod.`, is removed.
        **fields: overrides as for `create_model`.

    Returns:
        {"params": ..., "batch_stats": ...}, copies as NumPy arrays. Dtypes are kept, except that a
        torch tensor of bfloat16 becomes float32.

    Raises:
        InputError: a missing or unexpected name, a wrong shape, or a value that is not an array of
            finite floating-point numbers.
    """
    template = _template(name, fields)
    names = {_torch_name(path): path for path in template}
    dropped = _unused(name)
    forms = [
        {k: v for k, v in form.items() if not k.endswith(_COUNTER) and k not in dropped}
        for form in (state_dict, _without_prefix(state_dict))
    ]
    fitting = [form for form in forms if form.keys() == names.keys()]
    if not fitting:
        raise InputError(_explain_names(name, set(names), *map(set, forms)))
    state_dict = fitting[0]

    flat, misfits = {}, []
    for torch_name, path in names.items():
        array = as_array(torch_name, state_dict[torch_name])
        expected = _torch_shape(template[path].shape)
        if array.shape != expected:
            misfits.append(f"{torch_name} must be {list(expected)}, found {list(array.shape)}")
        # A copy, because training the torch module changes the state_dict's tensors in place.
        flat[path] = np.array(array.transpose(_TO_FLAX) if array.ndim == 4 else array, order="C")
    if misfits:
        raise InputError(
            f"{len(misfits)} of {len(names)} arrays have another shape than {name}'s "
            f"({_some(misfits)}): does it have another width or number of channels?"
        )
    for torch_name, path in names.items():
        _check_finite(torch_name, flat[path])
    return _nest(flat)


def to_torch(name: str, variables: Mapping[str, Any], **fields: Any) -> dict[str, np.ndarray]:
    """The PyTorch state_dict of Flax variables. It loads with `strict=True`.

    Args:
        name: a name of `list_models()`.
        variables: {"params": ..., "batch_stats": ...}; other collections are not allowed.
        **fields: overrides as for `create_model`.

    Returns:
        name -> array in PyTorch's layout, dtypes kept. `num_batches_tracked` is int64 0; arrays
        that the reference never uses are float32 zeros.

    Raises:
        InputError: the variables are not those of the network.
    """
    template = _template(name, fields)
    flat = _flatten(variables)
    if flat.keys() != template.keys():
        lacks, extra = set(template) - set(flat), set(flat) - set(template)
        raise InputError(
            f"these are not the variables of {name}: "
            + _missing_and_unexpected({".".join(p) for p in lacks}, {".".join(p) for p in extra})
        )
    state_dict = {}
    for path, array in flat.items():
        if np.shape(array) != template[path].shape:
            raise InputError(
                f"{'.'.join(path)} of {name} must have shape {list(template[path].shape)}, "
                f"found {list(np.shape(array))}"
            )
        torch_name = _torch_name(path)
        # A copy that torch may write to.
        state_dict[torch_name] = np.array(_to_torch_layout(np.asarray(array)), order="C")
        if path[0] == "batch_stats" and path[-1] == "var":
            counter = torch_name.removesuffix("running_var") + _COUNTER
            state_dict[counter] = np.zeros((), np.int64)
    return state_dict | {k: np.zeros(shape, np.float32) for k, shape in _unused(name).items()}


def _template(name: str, fields: Mapping[str, Any]) -> dict[tuple[str, ...], jax.ShapeDtypeStruct]:
    """Path -> shape and dtype of every variable of a network, without computing any."""
    model = create_model(name, **fields)

    def init(key):
        return model.init(key, jnp.zeros((1, 64, 64, model.in_channels)), train=False)

    try:
        return _flatten(jax.eval_shape(init, jax.random.key(0)))
    except InputError:
        raise
    except Exception as error:  # a field of another type fails in as many ways as it is used
        raise InputError(
            f"there is no {name} with {', '.join(f'{k}={v!r}' for k, v in fields.items())} "
            f"({type(error).__name__}): see the fields of the class in prnet_jax/models/{name}.py"
        ) from None


def _torch_name(path: tuple[str, ...]) -> str:
    return ".".join((*path[1:-1], _LEAVES.get(path[-1], path[-1])))


def _to_torch_layout(array: np.ndarray) -> np.ndarray:
    return array.transpose(_TO_TORCH) if array.ndim == 4 else array


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[i] for i in _TO_TORCH) if len(shape) == 4 else shape


def _unused(name: str) -> dict[str, tuple[int, ...]]:
    module = importlib.import_module(f"prnet_jax.models.{name}")
    return getattr(module, "UNUSED_TORCH", {})


def _check_finite(name: str, array: np.ndarray) -> None:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(f"{name} must hold floating-point numbers, found {array.dtype}")
    wrong = array.size - np.count_nonzero(np.isfinite(array))
    if wrong:
        raise InputError(
            f"{name} holds NaN or infinity in {wrong} of {array.size} places: "
            "the training diverged or the file is damaged; take an earlier checkpoint"
        )


def _without_prefix(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The same without the parts that all names begin with: wrappers of the network add some."""
    parts = [name.split(".")[:-1] for name in state_dict]
    shared = os.path.commonprefix(parts)
    return {".".join(k.split(".")[len(shared) :]): v for k, v in state_dict.items()}


def _explain_names(name: str, expected: set[str], found: set[str], bare: set[str]) -> str:
    """Why a state_dict is not one of `name`, and which network's it may be.

    Args:
        name: of the network.
        expected: the names of its arrays.
        found: those of the state_dict.
        bare: the same without a prefix that they share.
    """

    def likeness_to_networks(names: set[str]) -> dict[str, float]:
        return {other: _likeness(_default_names(other), names) for other in list_models()}

    likeness = likeness_to_networks(found)
    without = likeness_to_networks(bare)
    if max(without.values()) > max(likeness.values()):
        found, likeness = bare, without
    nearest = max(likeness, key=lambda other: likeness[other])
    hint = f"is it another variant of {name}, or another network?"
    if nearest != name and likeness[nearest] > max(0.9, _likeness(expected, found)):
        hint = f"it looks like a state_dict of {nearest}"
    for part in {other.partition(".")[0] for other in found}:
        if {k.removeprefix(f"{part}.") for k in found if k.startswith(f"{part}.")} == expected:
            hint = f"what begins with {part} is one (--entry {part})"
    what = _missing_and_unexpected(expected - found, found - expected)
    return f"this is not a state_dict of {name}: {what}; {hint}"


@functools.cache
def _default_names(name: str) -> frozenset[str]:
    """The torch names of the network `name` at its defaults."""
    return frozenset(_torch_name(path) for path in _template(name, {}))


def _likeness(a: Set[str], b: Set[str]) -> float:
    """The fraction of names in common, 0..1."""
    return len(a & b) / len(a | b)


def _missing_and_unexpected(missing: set[str], unexpected: set[str]) -> str:
    parts = {"missing": missing, "unexpected": unexpected}
    return ", ".join(f"{len(v)} {k} ({_some(sorted(v))})" for k, v in parts.items() if v)


def _some(items: Collection[str]) -> str:
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join([*items][:3]) + more


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
