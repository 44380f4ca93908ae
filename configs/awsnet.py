"""AwsNet: github.com/soleilssss/AWSnet, with its search's initial weights of the four heads.

    python -m prnet_jax.main --config configs/awsnet.py[:variant]

The variants are those of configs/prnet.py.
"""

from prnet_jax.config import scaled_config


def get_config(variant: str = ""):
    quick, half = (8, 16, 32, 64, 128), (16, 32, 64, 128, 256)
    small = quick if variant == "table1_small" else half  # there a quarter, as for the others
    config = scaled_config("awsnet", variant, quick, small)
    config.head_weights = (0.5, 0.5, 0.5, 1.0)
    return config
