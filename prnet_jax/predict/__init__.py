"""Files in, masks out: what `python -m prnet_jax.predict` does, from Python."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Imports on first use, since JAX takes a while."""
    if name == "predict_files":
        from prnet_jax.predict.run import predict_files

        return predict_files
    if name == "Options":
        from prnet_jax.predict.options import Options

        return Options
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
