"""A network in Flax NNX, as docs/guides/nnx.md shows it."""

import re

import flax
import jax
import numpy as np
import optax
import pytest
from flax import errors, nnx
from packaging.version import Version

from prnet_jax import steps
from prnet_jax.config import make_config
from tests.model_tester import noise

WIDTHS = (8, 16)  # of the page


@pytest.fixture(scope="module")
def page(root):
    """What the page's code defines."""
    text = (root / "docs" / "guides" / "nnx.md").read_text(encoding="utf-8")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    return names


@pytest.fixture(scope="module")
def config():
    config = make_config("unet", "quick")
    config.model.widths = WIDTHS
    config.augment = dict.fromkeys(config.augment, 0.0)
    return config


def assert_equal(network, variables, **tolerance):
    for kind, part in ((nnx.Param, "params"), (nnx.BatchStat, "batch_stats")):
        found = nnx.to_pure_dict(nnx.state(network, kind))
        assert jax.tree.structure(found) == jax.tree.structure(variables[part])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, **tolerance), found, variables[part]
        )


def test_same_weights_and_same_output(page, config):
    model = steps.make_model(config)
    variables, image = noise(model, (2, 64, 64, 1))
    network, set_variables = page["network"], page["set_variables"]
    before = network(image, train=False)
    set_variables(network, variables)
    assert_equal(network, variables, rtol=0)
    expected = model.apply(variables, image, train=False)
    assert np.abs(before - expected).max() > 0.1
    np.testing.assert_array_equal(network(image, train=False), expected)

    with pytest.raises(errors.ModifyScopeVariableError):
        network(image, train=True)


@pytest.mark.skipif(
    Version(flax.__version__) < Version("0.12"),
    reason="ToNNX of flax 0.11 loses parameters that lie beside running statistics",
)
def test_the_same_step_of_training(page, config):
    model = steps.make_model(config)
    variables, image = noise(model, (2, 64, 64, 1))
    mask = (image > 0.1).astype(np.float32)
    network = page["network"]
    page["set_variables"](network, variables)

    optimizer = optax.sgd(0.01, momentum=0.9)
    step = steps.make_train_step(config, model, optimizer, optax.constant_schedule(0.01))
    params, batch_stats = variables["params"], variables["batch_stats"]
    state = steps.TrainState(np.int32(0), params, batch_stats, optimizer.init(params), None)
    state, results = jax.jit(step)(state, {"image": image, "mask": mask, "draw": np.arange(2)})

    loss = page["train_step"](network, page["optimizer"], image, mask)
    np.testing.assert_allclose(loss, results["loss"], rtol=1e-6)
    assert_equal(network, state.eval_variables, rtol=1e-5, atol=1e-6)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), params, state.params)
    assert max(jax.tree.leaves(moved)) > 1e-4
