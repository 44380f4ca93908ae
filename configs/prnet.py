"""PR-Net at full width.

    python -m prnet_jax.main --config configs/prnet.py[:variant]

variant        data, size, width                   cost
(none)         phantom, 256x256, 64-128-256-512    for an accelerator
quick          phantom, 64x64, 8-16-32-64          2 cores: about two minutes
release        phantom, 128x128, 16-32-64-128      2 cores: an hour; part 1 of the package's weights
release_fine   the same, 192x192, init_from=RUN    2 cores: a quarter of an hour; part 2 of them
lungs          264 CT slices, 256x256, as (none)   for an accelerator
lungs_small    264 CT slices, 128x128, 16-...-128  a core: 11 minutes
best           264 CT slices, 256x256, 16-...-128  a core: 12 minutes, from `lungs`; PR-Net alone
table1         five folds: launch/table1.sh        for an accelerator
table1_small   as table1, 96x96, 16-32-64-128      2 cores: hours for all eight networks
nodules        nodule crops, 64x64, as (none)      for an accelerator
nodules_small  nodule crops, 64x64, 16-...-128     2 cores: five minutes
own            your images, 256x256, as (none)     for an accelerator
own_small      your images, 128x128, 16-...-128    for a CPU

Those that are not of the phantom need --config.dataset.manual_dir=FOLDER. The README.md of
finding_lungs, lidc_nodules and image_folder in datasets/ says what must be in it.
"""

from prnet_jax.config import scaled_config
from prnet_jax.variants import VARIANTS

SMALL = (16, 32, 64, 128)


def best(config):
    """The best settings of docs/results.md; the network is the paper's."""
    VARIANTS["table1_small"](config)
    config.model.widths = SMALL
    config.init_from = "lungs"
    config.dataset.image_size = 256
    config.dataset.soft_mask = True
    config.num_epochs = 10
    config.learning_rate = 1e-3
    config.warmup_epochs = 0.5
    config.ema_decay = 0.97


def get_config(variant: str = ""):
    return scaled_config("prnet", variant, (8, 16, 32, 64), SMALL, own={"best": best})
