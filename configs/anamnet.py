"""AnamNet: Paluru et al., IEEE TNNLS 2021.

    python -m prnet_jax.main --config configs/anamnet.py[:variant]

Variants as for configs/prnet.py: quick, lungs, lungs_small.
"""

from prnet_jax import config as settings

_WIDTHS = {"quick": (8, 16, 32, 32), "lungs_small": (16, 32, 64, 64)}


def get_config(variant: str = ""):
    config = settings.make_config("anamnet", variant)
    config.model.widths = _WIDTHS.get(variant, config.model.widths)
    return config
