"""Weights between PyTorch and Flax: `from_torch` and `to_torch`; as a command, see `__main__`."""

from typing import Any

_PUBLIC = ("from_torch", "to_torch")


def __getattr__(name: str) -> Any:
    """Imports on first use, so that `python -m prnet_jax.torch_weights --help` is fast."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from prnet_jax.torch_weights import convert

    return getattr(convert, name)
