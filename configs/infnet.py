"""Inf-Net: Fan et al., IEEE TMI 2020, with its own loss over its five heads.

    python -m prnet_jax.main --config configs/infnet.py[:variant]

Variants as for configs/prnet.py, but quick and nodules_small are at 128x128: its maps have an
eighth of the image's side.
"""

from prnet_jax import config as settings


def get_config(variant: str = ""):
    config = settings.make_config("infnet", variant)
    config.loss = "infnet"
    if variant == "quick":
        config.dataset.image_size = 128
        config.num_epochs = 8
        config.model.blocks = (1, 1, 1, 1)
    if variant == "nodules_small":
        config.dataset.image_size = 128
    if variant in ("quick", "lungs_small", "nodules_small"):
        config.model.widths = (16, 32, 64, 128)
        config.model.channels = 16
    return config
