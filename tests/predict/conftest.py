"""A network that needs no training: it marks what is brighter than 0.5."""

import pytest

from prnet_jax import sharding
from prnet_jax.config import make_config
from prnet_jax.predictor import Predictor
from tests.predict.made_up import SIZE


@pytest.fixture
def bright():
    """Its probability is the windowed image itself."""
    config = make_config("prnet", "quick")
    config.dataset.image_size = SIZE
    config.eval_batch_size = 4
    calls = []

    def step(variables, arrays):
        calls.append(arrays["image"].shape)
        return {"prob": arrays["image"][..., 0]}

    predictor = Predictor(config, step, {}, sharding.make_mesh(), "HU")
    return predictor, calls
