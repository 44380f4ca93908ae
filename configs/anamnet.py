"""AnamNet: Paluru et al., IEEE TNNLS 2021.

    python -m prnet_jax.main --config configs/anamnet.py[:variant]

Variants as for configs/prnet.py.
"""

from prnet_jax import config as settings

_SMALL = (16, 32, 64, 64)
_WIDTHS = {"quick": (8, 16, 32, 32), "lungs_small": _SMALL, "nodules_small": _SMALL}


def get_config(variant: str = ""):
    config = settings.make_config("anamnet", variant)
    config.model.widths = _WIDTHS.get(variant, config.model.widths)
    return config
