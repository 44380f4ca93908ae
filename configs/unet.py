"""U-Net: Ronneberger et al., MICCAI 2015.

    python -m prnet_jax.main --config configs/unet.py[:variant]

The variants are those of configs/prnet.py.
"""

from prnet_jax.config import scaled_config


def get_config(variant: str = ""):
    return scaled_config("unet", variant, quick=(8, 16, 32, 64, 128), small=(16, 32, 64, 128, 256))
