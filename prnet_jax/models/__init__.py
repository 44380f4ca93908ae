"""Networks by name: a network is one file here that names its class `NETWORK`, nothing more.

`ABOUT` beside it says where the network is from, for the table of `python -m prnet_jax.models`:
"sides" is what an image's sides must divide by.

Every network is a `flax.linen` module with this contract:

    model = create_model("prnet", in_channels=1, num_classes=1)
    variables = model.init(key, image, train=False)                 # image float32 [N, H, W, C]
    logits = model.apply(variables, image, train=False)             # [N, H, W, num_classes]
    heads = model.apply(variables, image, train=False, all_heads=True)   # tuple of logits

Computation follows the dtype of the input and the parameters unless `dtype` is given; norms and
softmax stay in float32 or better. Parameter names are those of the PyTorch reference, see
`prnet_jax.torch_weights`.
"""

import dataclasses
import difflib
import importlib
import pkgutil
from typing import Any

from flax import linen as nn

from prnet_jax.errors import InputError


def list_models() -> list[str]:
    """The names that `create_model` takes, in alphabetical order."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if _network(m.name) is not None)


def create_model(name: str, **fields: Any) -> nn.Module:
    """The network `name` with `fields` overriding its defaults.

    Raises:
        InputError: no such network, or a field that it does not have.
    """
    network = _network(name) if name.isidentifier() else None
    if network is None:
        raise InputError(f"unknown network {name!r}: choose one of {', '.join(list_models())}")
    known = [f.name for f in dataclasses.fields(network) if f.name not in ("parent", "name")]
    for field in fields:
        if field not in known:
            near = difflib.get_close_matches(field, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
            raise InputError(f"network {name} has no field {field!r}: {hint}")
    return network(**fields)


def model_fields(name: str) -> dict[str, Any]:
    """The fields of the network `name` and their defaults, for a config."""
    network = type(create_model(name))
    return {
        f.name: f.default
        for f in dataclasses.fields(network)
        if f.name not in ("parent", "name", "dtype")
    }


def _network(name: str) -> type[nn.Module] | None:
    """The class that `models/<name>.py` offers, or None where there is no such network."""
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        return None
    return getattr(module, "NETWORK", None)
