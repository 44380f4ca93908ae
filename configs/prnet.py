"""PR-Net at the paper's width.

    python -m prnet_jax.main --config configs/prnet.py[:variant]

variant        data, size, width                   cost
(none)         phantom, 256x256, 64-128-256-512    for an accelerator
quick          phantom, 64x64, 8-16-32-64          2 cores: about two minutes
lungs          264 CT slices, 256x256, as (none)   for an accelerator
lungs_small    264 CT slices, 128x128, 16-...-128  2 cores: about a quarter of an hour
nodules        nodule crops, 128x128, as (none)    for an accelerator
nodules_small  nodule crops, 64x64, 16-...-128     2 cores: about a quarter of an hour
own            your images, 256x256, as (none)     for an accelerator

All but the first two need --config.dataset.manual_dir=FOLDER; what lies there is told by the
README.md of finding_lungs, lidc_nodules and image_folder in datasets/.
"""

from prnet_jax import config as settings

_SMALL = (16, 32, 64, 128)
_WIDTHS = {"quick": (8, 16, 32, 64), "lungs_small": _SMALL, "nodules_small": _SMALL}


def get_config(variant: str = ""):
    config = settings.make_config("prnet", variant)
    config.model.widths = _WIDTHS.get(variant, config.model.widths)
    return config
