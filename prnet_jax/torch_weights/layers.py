"""A Flax network compared with a PyTorch module, layer by layer.

A difference is `max |Flax - PyTorch| / max |PyTorch|`.
"""

import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from prnet_jax.errors import InputError
from prnet_jax.models import create_model
from prnet_jax.torch_weights.convert import to_torch

_LIMIT = 2e-5  # of the outputs' differences, in float32 and evaluation mode


@dataclasses.dataclass
class Difference:
    """One line of a report.

    Attributes:
        part: the layer or the output.
        shape: of its map, in PyTorch's layout.
        value: the difference, relative to PyTorch's peak.
        limit: what the difference must stay below; None: no limit.
    """

    part: str
    shape: tuple[int, ...]
    value: float
    limit: float | None = None

    @property
    def fails(self) -> bool:
        return self.limit is not None and not self.value < self.limit


def layer_differences(
    name: str,
    variables: Mapping[str, Any],
    fields: Mapping[str, Any],
    reference: Any,
    size: int = 64,
) -> list[Difference]:
    """Compares Flax and PyTorch on one image of noise, in float32 and evaluation mode.

    The layers are those that have the same name and the same shape of map on both sides, in the
    order in which PyTorch computes them. The outputs come last; only they have a limit.

    Args:
        name: a name of `list_models()`.
        variables: of that network.
        fields: overrides as for `create_model`.
        reference: the torch module. It gets the weights and is left in evaluation mode.
        size: side of the image in pixels.

    Raises:
        InputError: the module's names or shapes are not those of the network.
    """
    import torch

    state_dict = to_torch(name, _cast(variables, np.float32), **fields)
    try:
        reference.load_state_dict({k: torch.tensor(v) for k, v in state_dict.items()})
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise InputError(
            f"{type(reference).__name__} does not take the weights of {name}: "
            f"{' '.join(lines[:2])[:300]}"
        ) from None
    model = create_model(name, **fields)
    image = np.random.default_rng(0).standard_normal((1, size, size, model.in_channels))
    image = image.astype(np.float32)

    expected: dict[str, list[np.ndarray]] = {}

    def keep(part):
        def hook(module, inputs, output):
            # A copy, because an in-place ReLU may follow.
            if isinstance(output, torch.Tensor) and output.ndim == 4:
                expected.setdefault(part, []).append(output.numpy().copy())

        return hook

    hooks = [module.register_forward_hook(keep(k)) for k, module in reference.named_modules() if k]
    with torch.no_grad():
        heads = reference.eval()(torch.from_numpy(_to_nchw(image).copy()))
    for hook in hooks:
        hook.remove()
    heads = [heads] if isinstance(heads, torch.Tensor) else list(heads)

    @jax.jit
    def run(variables, image):
        return model.apply(
            variables,
            image,
            train=False,
            all_heads=True,
            capture_intermediates=True,
            mutable=["intermediates"],
        )

    with jax.default_matmul_precision("highest"):
        logits, captured = run(_cast(variables, np.float32), image)
    found = dict(_calls(captured["intermediates"]))
    pairs = [
        (part, ours, theirs)
        for part, calls in expected.items()
        if len(found.get(part, ())) == len(calls)
        for ours, theirs in zip(map(_to_nchw, found[part]), calls, strict=True)
        if ours.shape == theirs.shape
    ]
    differences = [Difference(part, b.shape, _relative(a, b)) for part, a, b in pairs]
    # AwsNet's class returns its last head twice.
    for i, (ours, theirs) in enumerate(zip(map(_to_nchw, logits), heads, strict=False)):
        value = _relative(ours, theirs.numpy())
        differences.append(Difference(f"output {i}", theirs.shape, value, _LIMIT))
    return differences


def load_reference(where: str, arguments: Mapping[str, Any]) -> Any:
    """The torch module "package.module:Class", called with `arguments`.

    Raises:
        InputError: there is no such module or class, it does not take the arguments, or torch is
            not installed.
    """
    module, colon, class_name = where.partition(":")
    try:
        if not colon:
            raise ImportError("expected MODULE:CLASS")
        return getattr(importlib.import_module(module), class_name)(**arguments)
    except (ImportError, AttributeError, TypeError) as error:
        if getattr(error, "name", None) == "torch":
            raise InputError(f"{where} needs PyTorch: pip install 'prnet_jax[torch]'") from None
        raise InputError(
            f"the reference {where} cannot be made ({error}): see --reference and --reference-field"
        ) from None


def table(differences: list[Difference]) -> str:
    """The differences as text, a line each."""
    width = max([len(d.part) for d in differences], default=0)
    lines = [f"{'layer':{width}}  {'shape':>16}  difference    limit"]
    for d in differences:
        shape = "x".join(map(str, d.shape))
        limit = f"{d.limit:7.0e}" if d.limit is not None else "      -"
        mark = "  FAILS" if d.fails else ""
        lines.append(f"{d.part:{width}}  {shape:>16}  {d.value:10.1e}  {limit}{mark}")
    return "\n".join(lines)


def _calls(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(dotted module name, the maps that its calls returned), from Flax's intermediates."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _calls(value, f"{path}.{key}" if path else key)
        elif key == "__call__":
            yield path, tuple(v for v in value if getattr(v, "ndim", 0) == 4)


def _relative(found: Any, expected: np.ndarray) -> float:
    difference = np.abs(np.asarray(found, np.float64) - expected).max()
    return float(difference / (np.abs(expected).max() or 1.0))


def _to_nchw(array: Any) -> np.ndarray:
    return np.transpose(array, (0, 3, 1, 2))


def _cast(tree: Any, dtype: type) -> Any:
    return jax.tree.map(lambda x: np.asarray(x, dtype), tree)
