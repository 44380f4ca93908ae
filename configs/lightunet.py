"""LightUNet: Li et al., ISBI 2021, as "lighter"; --config.model.variant=light for the other one.

    python -m prnet_jax.main --config configs/lightunet.py[:variant]

The variants are those of configs/prnet.py.
"""

from prnet_jax.config import scaled_config


def get_config(variant: str = ""):
    return scaled_config(
        "lightunet", variant, quick=(8, 16, 32, 64, 64), small=(16, 32, 64, 128, 128)
    )
