"""What each variant of a config changes in the defaults of `prnet_jax.config`.

`configs/NETWORK.py` lists them, with what they cost.
"""

from collections.abc import Callable

import ml_collections
from ml_collections.config_dict import placeholder

from prnet_jax.data.prepare import dataset_options

Variant = Callable[[ml_collections.ConfigDict], None]  # changes the defaults


def builder_options(dataset: str) -> ml_collections.ConfigDict:
    """A data set's options. One that is None takes anything; its builder checks it."""
    options = dataset_options(dataset).items()
    return ml_collections.ConfigDict(
        {k: placeholder(object) if v is None else v for k, v in options}
    )


def _quick(config: ml_collections.ConfigDict) -> None:
    """1000 slices of the phantom at 64x64: fewer do not teach where there is no lung."""
    config.dataset.options.update(size=128, num_slices=(800, 100, 100))
    config.dataset.image_size = 64
    config.num_epochs = 8
    config.learning_rate = 2e-3
    config.augment = _only_flips(config.augment)


def _release(config: ml_collections.ConfigDict) -> None:
    """The first part of the training of the weights in the package: 6000 slices at 128x128."""
    config.dataset.options.update(size=256, num_slices=(6000, 300, 300))
    config.dataset.image_size = 128
    config.augment.update(
        flip_vertical=0.1, scale=0.25, shift=0.1, elastic=0.02, brightness=0.1, contrast=0.2
    )
    config.augment.update(noise=0.05, gamma=0.4)
    config.batch_size = 16
    config.num_epochs = 8
    config.learning_rate = 2e-3
    config.warmup_epochs = 0.5
    config.ema_decay = 0.998


def _release_fine(config: ml_collections.ConfigDict) -> None:
    """After release: 192x192, 3000 slices of other persons. --config.init_from names its run."""
    _release(config)
    config.init_other_patients = True
    config.dataset.options.update(seed=1, num_slices=(3000, 200, 200))
    config.dataset.image_size = 192
    config.augment.update(brightness=0.2, contrast=0.3, gamma=0.6, noise=0.08)
    config.batch_size = 8
    config.num_epochs = 3
    config.learning_rate = 1e-3
    config.warmup_epochs = 0.2
    config.ema_decay = 0.995


def _lungs(config: ml_collections.ConfigDict) -> None:
    """The 264-image set in `--config.dataset.manual_dir`."""
    config.dataset.name = "finding_lungs"
    config.dataset.options = builder_options("finding_lungs")


def _lungs_small(config: ml_collections.ConfigDict) -> None:
    """The 264-image set at 128x128."""
    _lungs(config)
    config.dataset.image_size = 128
    config.num_epochs = 30
    config.augment = _only_flips(config.augment)


def _table1(config: ml_collections.ConfigDict) -> None:
    """The protocol of launch/table1.sh for an accelerator, the same for all networks: 256x256."""
    _lungs(config)
    config.dtype = "bfloat16"
    config.dataset.soft_mask = True
    config.augment = _only_flips(config.augment)
    config.validate_every_epochs = 10
    config.ema_decay = 0.99


def _table1_small(config: ml_collections.ConfigDict) -> None:
    """The protocol of launch/table1.sh for 2 cores: 96x96. docs/results.md says why only flips."""
    _lungs(config)
    config.ema_decay = 0.99
    config.dataset.image_size = 96
    config.augment = _only_flips(config.augment)
    config.num_epochs = 30
    config.learning_rate = 2e-3


def _nodules(config: ml_collections.ConfigDict) -> None:
    """The middle of LIDC-IDRI nodule crops with the readers' consensus; grey values, not HU.

    A nodule is in the middle of its crop, which tells it from vessels, so nothing is shifted.
    """
    config.dataset.name = "lidc_nodules"
    config.dataset.options = builder_options("lidc_nodules")
    config.dataset.window_hu = (0.0, 255.0)
    config.dataset.image_size = 64
    config.dataset.resize = "middle"
    config.augment.shift = 0.0


def _nodules_small(config: ml_collections.ConfigDict) -> None:
    """The nodule crops in few epochs. docs/results.md says how it was chosen."""
    _nodules(config)
    config.threshold = 0.2
    config.num_epochs = 12
    config.learning_rate = 2e-3
    config.warmup_epochs = 1.0
    config.ema_decay = 0.995


def _own(config: ml_collections.ConfigDict) -> None:
    """A person's own images and masks."""
    config.dataset.name = "image_folder"
    config.dataset.options = builder_options("image_folder")


def _own_small(config: ml_collections.ConfigDict) -> None:
    """A person's own images at 128x128."""
    _own(config)
    config.dataset.image_size = 128
    config.num_epochs = 30
    config.augment = _only_flips(config.augment)


def _only_flips(augment: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {name: 0.5 if name == "flip_horizontal" else 0.0 for name in augment}
    )


VARIANTS: dict[str, Variant] = {
    "quick": _quick,
    "release": _release,
    "release_fine": _release_fine,
    "lungs": _lungs,
    "lungs_small": _lungs_small,
    "table1": _table1,
    "table1_small": _table1_small,
    "nodules": _nodules,
    "nodules_small": _nodules_small,
    "own": _own,
    "own_small": _own_small,
}
