"""AwsNet: with its deep supervision at the weights its search starts from.

    python -m prnet_jax.main --config configs/awsnet.py[:variant]

Variants as for configs/prnet.py.
"""

from prnet_jax import config as settings

_SMALL = (16, 32, 64, 128, 256)
_WIDTHS = {"quick": (8, 16, 32, 64, 128), "lungs_small": _SMALL, "nodules_small": _SMALL}


def get_config(variant: str = ""):
    config = settings.make_config("awsnet", variant)
    config.model.widths = _WIDTHS.get(variant, config.model.widths)
    config.head_weights = (0.5, 0.5, 0.5, 1.0)
    return config
