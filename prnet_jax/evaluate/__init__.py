"""Scores a run, imported weights, or masks of any program; also as a command."""

import importlib
from typing import Any

_PUBLIC = {
    "Choices": "choices",
    "evaluate_run": "run",
    "evaluate_weights": "run",
    "evaluate_predictions": "predictions",
}


def __getattr__(name: str) -> Any:
    """Imports on first use: `python -m prnet_jax.evaluate --help` needs no JAX."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"prnet_jax.evaluate.{_PUBLIC[name]}")
    return getattr(module, name)
