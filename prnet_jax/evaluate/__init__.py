"""Scores a run, or imported weights, on any split of any data set; also as a command."""

from typing import Any

_PUBLIC = ("Choices", "evaluate_run", "evaluate_weights")


def __getattr__(name: str) -> Any:
    """Imports on first use: `python -m prnet_jax.evaluate --help` needs no JAX."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from prnet_jax.evaluate import run

    return getattr(run, name)
