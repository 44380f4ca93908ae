"""PR-Net at the paper's width.

    python -m prnet_jax.main --config configs/prnet.py[:variant]

variant       data, size, width                  cost
(none)        phantom, 256x256, 64-128-256-512   for an accelerator
quick         phantom, 64x64, 8-16-32-64         2 cores: about two minutes
lungs         264 CT slices, 256x256, as (none)  for an accelerator
lungs_small   264 CT slices, 128x128, 16-...-128  2 cores: about a quarter of an hour

The last two need --config.dataset.manual_dir=FOLDER, see datasets/finding_lungs/README.md.
"""

from prnet_jax import config as settings

_WIDTHS = {"quick": (8, 16, 32, 64), "lungs_small": (16, 32, 64, 128)}


def get_config(variant: str = ""):
    config = settings.make_config("prnet", variant)
    config.model.widths = _WIDTHS.get(variant, config.model.widths)
    return config
