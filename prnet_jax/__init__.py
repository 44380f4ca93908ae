"""PR-Net and seven other lung CT segmentation networks in JAX/Flax.

import prnet_jax

predictor = prnet_jax.load("runs/prnet_quick")
mask = predictor.predict(slice_hu).mask
"""

from typing import Any

__version__ = "0.1.0"  # the only place; setup.cfg reads it


def __getattr__(name: str) -> Any:
    """Imports on first use, since JAX takes a while."""
    if name == "load":
        from prnet_jax import loading

        return loading.load
    if name in ("from_pretrained", "push_to_hub", "save_pretrained"):
        from prnet_jax.hub import folder, repository

        return getattr(folder if name == "save_pretrained" else repository, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
