"""A split through a predictor, and the figures that steer a training."""

import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax import sharding
from prnet_jax.data.pipeline import Slices
from prnet_jax.data.prepare import prepare
from prnet_jax.inference import predict_split, validate
from prnet_jax.metrics import counts


@pytest.fixture
def slices(tiny_config):
    data = tiny_config.dataset
    tiny_config.eval_batch_size = 2  # three images: the last batch is padded
    return Slices(prepare(data.name, data.data_dir, **data.options), "test", data)


def predictor(variables, batch):
    """Says that everything is foreground, more so in later images."""
    prob = jnp.ones(batch["mask"].shape[:3]) * (0.7 + 0.1 * batch["index"][:, None, None])
    target = batch["mask"][..., 0] > 0.5
    return {
        "index": batch["index"],
        "prob": prob,
        "loss": jnp.ones(len(prob)),
        **counts(prob >= 0.5, target),
    }


def test_every_slice_once_in_order(slices, tiny_config):
    found = predict_split(predictor, None, slices, tiny_config, sharding.make_mesh())
    assert [prob.shape for prob in found.probs] == [(32, 32)] * 3
    np.testing.assert_allclose([prob[0, 0] for prob in found.probs], [0.7, 0.8, 0.9], rtol=1e-6)
    for i, mask in enumerate(found.masks):
        np.testing.assert_array_equal(mask, slices[i]["mask"][..., 0] == 1)


def test_validation_means_over_images(slices, tiny_config):
    scores, picture = validate(predictor, None, slices, tiny_config, sharding.make_mesh())
    share = np.array([slices[i]["mask"].mean(dtype=np.float64) for i in range(3)])
    assert scores["loss"] == 1.0
    assert scores["iou"] == pytest.approx(share.mean())
    assert scores["dsc"] == pytest.approx((2 * share / (1 + share)).mean())
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
