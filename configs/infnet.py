"""Inf-Net: Fan et al., IEEE TMI 2020, with its own loss over its five heads.

    python -m prnet_jax.main --config configs/infnet.py[:variant]

The variants are those of configs/prnet.py, except that quick is at 128x128, because its main head
works at an eighth of the side.
"""

from prnet_jax.config import scaled_config


def get_config(variant: str = ""):
    narrow = (16, 32, 64, 128)
    config = scaled_config("infnet", variant, quick=narrow, small=narrow)
    config.loss = "infnet"
    if variant == "quick" or variant.endswith("_small"):
        config.model.channels = 16
    if variant == "table1_small":
        config.model.channels = 8
    if variant == "quick":
        config.dataset.image_size = 128
        config.num_epochs = 8
        config.model.blocks = (1, 1, 1, 1)
    return config
