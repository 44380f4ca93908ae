"""Attention U-Net: Oktay et al., MIDL 2018.

    python -m prnet_jax.main --config configs/attention_unet.py[:variant]

The variants are those of configs/prnet.py.
"""

from prnet_jax.config import scaled_config


def get_config(variant: str = ""):
    return scaled_config(
        "attention_unet", variant, quick=(8, 16, 32, 64, 128), small=(16, 32, 64, 128, 256)
    )
