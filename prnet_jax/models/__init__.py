"""The networks by name. A new network is one new file here, which calls its class `NETWORK`.

`ABOUT` beside it is its row in the table of `python -m prnet_jax.models`; its "sides" says what
the sides of an image must be a multiple of.

Every network is a `flax.linen` module with this contract:

    model = create_model("prnet", in_channels=1, num_classes=1)
    variables = model.init(key, image, train=False)                 # image float32 [N, H, W, C]
    logits = model.apply(variables, image, train=False)             # [N, H, W, num_classes]
    heads = model.apply(variables, image, train=False, all_heads=True)   # tuple of logits

Computation follows the dtype of the input and the parameters unless `dtype` is given; norms and
softmax stay in float32 or better. Parameters have the names of the PyTorch reference, see
`prnet_jax.torch_weights`.
"""

import dataclasses
import difflib
import importlib
import pathlib
import re
from typing import TYPE_CHECKING, Any

from prnet_jax.errors import InputError

if TYPE_CHECKING:
    from flax import linen as nn


def list_models() -> list[str]:
    """The names that `create_model` takes, in alphabetical order.

    Reads them from the files here, so that a command's `--help` need not import JAX.
    """
    files = pathlib.Path(__file__).parent.glob("*.py")
    return sorted(f.stem for f in files if re.search("^NETWORK = ", f.read_text("utf-8"), re.M))


def create_model(name: str, **fields: Any) -> "nn.Module":
    """The network `name` with `fields` overriding its defaults.

    Raises:
        InputError: an unknown network, or a field that it does not have.
    """
    models = list_models()
    if name not in models:
        raise InputError(f"unknown network {name!r}: choose one of {', '.join(models)}")
    network = importlib.import_module(f"{__name__}.{name}").NETWORK
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
