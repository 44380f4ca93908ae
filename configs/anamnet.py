"""AnamNet: Paluru et al., IEEE TNNLS 2021.

    python -m prnet_jax.main --config configs/anamnet.py[:variant]

The variants are those of configs/prnet.py.
"""

from prnet_jax.config import scaled_config


def get_config(variant: str = ""):
    return scaled_config("anamnet", variant, quick=(8, 16, 32, 32), small=(16, 32, 64, 64))
