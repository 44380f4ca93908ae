"""A Flax network measured against PyTorch: layer by layer, or by the stored parity vectors.

All differences are the worst absolute one, relative to the peak of what PyTorch computed.
"""

import contextlib
import dataclasses
import importlib.util
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax.experimental
import numpy as np

from prnet_jax.errors import InputError
from prnet_jax.models import create_model
from prnet_jax.torch_weights.convert import from_torch, to_torch

# Of float32, evaluation and training mode, and of float64. Inf-Net's deepest BatchNorms see few
# samples in training mode.
EVAL_BAR, TRAIN_BAR, INFNET_TRAIN_BAR, DOUBLE_BAR = 2e-5, 2e-4, 1e-3, 1e-6


_GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "tests" / "goldens"


@dataclasses.dataclass
class Difference:
    """One line of a report.

    Attributes:
        part: the layer or the array.
        shape: its shape in PyTorch's layout.
        value: the difference relative to the peak.
        bar: what it must stay below, or None where it need not.
    """

    part: str
    shape: tuple[int, ...]
    value: float
    bar: float | None = None

    @property
    def fails(self) -> bool:
        return self.bar is not None and not self.value < self.bar


def layer_differences(
    name: str,
    variables: Mapping[str, Any],
    fields: Mapping[str, Any],
    reference: Any,
    size: int = 64,
) -> list[Difference]:
    """Flax and PyTorch on the same image of noise, float32, evaluation mode.

    Layers are those that bear the same name on both sides and give one map of the same shape, in
    the order in which PyTorch computes them; the heads come last, and only they have a bar.

    Args:
        name: a name of `list_models()`.
        variables: of that network.
        fields: overrides as for `create_model`.
        reference: the torch module; it takes the weights and is left in evaluation mode.
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
            # A copy, because a ReLU that works in place may follow.
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
    # AwsNet's class gives its last head twice.
    for i, (ours, theirs) in enumerate(zip(map(_to_nchw, logits), heads, strict=False)):
        value = _relative(ours, theirs.numpy())
        differences.append(Difference(f"output {i}", theirs.shape, value, EVAL_BAR))
    return differences


def load_reference(where: str, arguments: Mapping[str, Any]) -> Any:
    """The torch module "package.module:Class", made with `arguments`.

    Raises:
        InputError: no such module or class, other arguments, or torch is not installed.
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


def parity(name: str, fields: Mapping[str, Any]) -> Iterator[tuple[str, str, list[Difference]]]:
    """The network on its stored parity vectors: outputs and running statistics of the reference.

    Yields:
        The vectors' name, "float32" or "float64", and a difference for every stored array. A
        float32 gradient has no bar: a ReLU at its kink shifts it by as much as 1e-2.

    Raises:
        InputError: the vectors are not here, or there are none of this network and fields.
    """
    paths = [p for p in sorted(_GOLDENS.glob("*.json")) if f"{p.stem}_".startswith(f"{name}_")]
    if not paths:
        raise InputError(
            f"no parity vectors of {name} in {_GOLDENS}: they come with a checkout of the "
            "repository; elsewhere give --reference"
        )
    formula = _import_file(_GOLDENS / "weights.py")
    count = 0
    for path in paths:
        spec, state_dict = formula.load(path)
        try:
            variables = from_torch(name, state_dict, **fields)
        except InputError:  # of another variant
            continue
        count += 1
        with np.load(path.with_suffix(".npz")) as file:
            arrays = dict(file)
        image, cotangents = formula.inputs(spec), formula.cotangents(spec)
        wide = {**fields, "in_channels": image.shape[1]}
        for dtype in (np.float32, np.float64):
            with _enable_x64() if dtype is np.float64 else contextlib.nullcontext():
                inputs = [_to_nhwc(x).astype(dtype) for x in (image, *cotangents)]
                found = _run_golden(name, wide, _cast(variables, dtype), spec, *inputs)
            yield (
                path.stem,
                np.dtype(dtype).name,
                [
                    Difference(
                        key, array.shape, _relative(found[key], array), _bar(name, key, dtype)
                    )
                    for key, array in arrays.items()
                ],
            )
    if not count:
        raise InputError(
            f"the parity vectors of {name} are of other fields than {dict(fields)}: see --field, "
            "or give --reference"
        )


def table(differences: list[Difference]) -> str:
    """The differences as text, a line each."""
    width = max([len(d.part) for d in differences], default=0)
    lines = [f"{'layer or array':{width}}  {'shape':>16}  difference      bar"]
    for d in differences:
        shape = "x".join(map(str, d.shape))
        bar = f"{d.bar:7.0e}" if d.bar is not None else "      -"
        mark = "  FAILS" if d.fails else ""
        lines.append(f"{d.part:{width}}  {shape:>16}  {d.value:10.1e}  {bar}{mark}")
    return "\n".join(lines)


def _run_golden(name, fields, variables, spec, image, *cotangents) -> dict[str, np.ndarray]:
    """What the vectors hold, computed here: key -> array, NCHW."""
    model = create_model(name, **fields)

    def weighted_sum(image):
        heads = model.apply(variables, image, train=False, all_heads=True)
        return sum((h * c).sum() for h, c in zip(heads, cotangents, strict=True)), heads

    @jax.jit
    def run(image):
        gradient, heads = jax.grad(weighted_sum, has_aux=True)(image)
        trained, updates = model.apply(
            variables, image, train=True, all_heads=True, mutable=["batch_stats"]
        )
        return gradient, heads, trained, updates

    with jax.default_matmul_precision("highest"):
        gradient, heads, trained, updates = run(image)
    after = to_torch(name, {"params": variables["params"], **updates}, **fields)
    found = {f"after_train.{key}": array for key, array in after.items()}
    found["grad_input"] = _to_nchw(gradient)
    for head, evaluated, in_training in zip(spec["heads"], heads, trained, strict=True):
        found[head["key"]] = _to_nchw(evaluated)
        found[head["train_key"]] = _to_nchw(in_training)
    return found


def _bar(name: str, key: str, dtype: type) -> float | None:
    if dtype is np.float64:
        return DOUBLE_BAR
    if key == "grad_input":
        return None
    if key.startswith("eval_output"):
        return EVAL_BAR
    return INFNET_TRAIN_BAR if name == "infnet" else TRAIN_BAR


def _calls(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Dotted module name -> the maps that its calls gave, from Flax's intermediates."""
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


def _to_nhwc(array: np.ndarray) -> np.ndarray:
    return np.transpose(array, (0, 2, 3, 1))


def _cast(tree: Any, dtype: type) -> Any:
    return jax.tree.map(lambda x: np.asarray(x, dtype), tree)


def _enable_x64() -> contextlib.AbstractContextManager:
    """By the name since jax 0.8, or the one before."""
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    return enable(True)


def _import_file(path: pathlib.Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
