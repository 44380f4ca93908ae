"""Attention U-Net: Oktay et al., MIDL 2018.

    python -m prnet_jax.main --config configs/attention_unet.py[:variant]

Variants as for configs/prnet.py.
"""

from prnet_jax import config as settings

_SMALL = (16, 32, 64, 128, 256)
_WIDTHS = {"quick": (8, 16, 32, 64, 128), "lungs_small": _SMALL, "nodules_small": _SMALL}


def get_config(variant: str = ""):
    config = settings.make_config("attention_unet", variant)
    config.model.widths = _WIDTHS.get(variant, config.model.widths)
    return config
