"""LightUNet: Li et al., ISBI 2021, the "lighter" one; --config.model.variant=light for its sister.

    python -m prnet_jax.main --config configs/lightunet.py[:variant]

Variants as for configs/prnet.py.
"""

from prnet_jax import config as settings

_SMALL = (16, 32, 64, 128, 128)
_WIDTHS = {"quick": (8, 16, 32, 64, 64), "lungs_small": _SMALL, "nodules_small": _SMALL}


def get_config(variant: str = ""):
    config = settings.make_config("lightunet", variant)
    config.model.widths = _WIDTHS.get(variant, config.model.widths)
    return config
