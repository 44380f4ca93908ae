"""LightUNet: Li et al., ISBI 2021, the "lighter" one; --config.model.variant=light for its sister.

    python -m prnet_jax.main --config configs/lightunet.py[:variant]

Variants as for configs/prnet.py: quick, lungs, lungs_small.
"""

from prnet_jax import config as settings

_WIDTHS = {"quick": (8, 16, 32, 64, 64), "lungs_small": (16, 32, 64, 128, 128)}


def get_config(variant: str = ""):
    config = settings.make_config("lightunet", variant)
    config.model.widths = _WIDTHS.get(variant, config.model.widths)
    return config
