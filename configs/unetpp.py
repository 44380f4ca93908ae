"""UNet++: Zhou et al., DLMIA 2018. For deep supervision: --config.model.deep_supervision=True
--config.head_weights=0.25,0.25,0.25,0.25.

    python -m prnet_jax.main --config configs/unetpp.py[:variant]

Variants as for configs/prnet.py.
"""

from prnet_jax import config as settings

_SMALL = (16, 32, 64, 128, 256)
_WIDTHS = {"quick": (8, 16, 32, 64, 128), "lungs_small": _SMALL, "nodules_small": _SMALL}


def get_config(variant: str = ""):
    config = settings.make_config("unetpp", variant)
    config.model.widths = _WIDTHS.get(variant, config.model.widths)
    return config
