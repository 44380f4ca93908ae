"""U-Net: Ronneberger et al., MICCAI 2015.

    python -m prnet_jax.main --config configs/unet.py[:variant]

Variants as for configs/prnet.py.
"""

from prnet_jax import config as settings

_SMALL = (16, 32, 64, 128, 256)
_WIDTHS = {"quick": (8, 16, 32, 64, 128), "lungs_small": _SMALL, "nodules_small": _SMALL}


def get_config(variant: str = ""):
    config = settings.make_config("unet", variant)
    config.model.widths = _WIDTHS.get(variant, config.model.widths)
    return config
