"""UNet++: Zhou et al., DLMIA 2018. For deep supervision: --config.model.deep_supervision=True
--config.head_weights=0.25,0.25,0.25,0.25.

    python -m prnet_jax.main --config configs/unetpp.py[:variant]

The variants are those of configs/prnet.py.
"""

from prnet_jax.config import scaled_config


def get_config(variant: str = ""):
    quick, half = (8, 16, 32, 64, 128), (16, 32, 64, 128, 256)
    small = quick if variant == "table1_small" else half  # there a quarter, as for the others
    return scaled_config("unetpp", variant, quick, small)
