"""Weights that a training starts from: files and names. test_train.py starts from a run."""

import jax
import numpy as np
import pytest

from prnet_jax.config import default_config
from prnet_jax.errors import InputError
from prnet_jax.models import create_model
from prnet_jax.predictor import load
from prnet_jax.run import seen
from prnet_jax.run.initial import initial_variables
from prnet_jax.torch_weights import to_torch
from prnet_jax.torch_weights.files import write_state_dict


@pytest.fixture
def config():
    """Of a network like the released one."""
    config = default_config("prnet")
    config.model.widths = (16, 32, 64, 128)
    config.init_from = "lungs"
    return config


def variables_of(config):
    fields = {k: v for k, v in config.model.items() if k != "name"}
    return initial_variables(config, create_model(config.model.name, **fields))


def test_released_weights_are_found_by_name(config):
    jax.tree.map(np.testing.assert_array_equal, variables_of(config), dict(load("lungs").variables))
    origin = seen.origin_of("lungs")
    assert origin == {
        "folder": "lungs",
        "not_known": "released weights, see prnet_jax/weights/lungs.md",
    }


def test_a_file_that_says_nothing_is_read_as_the_network_of_the_config(config, tmp_path):
    expected = variables_of(config)
    config.init_from = str(tmp_path / "plain.npz")
    fields = {k: v for k, v in config.model.items() if k != "name"}
    write_state_dict(config.init_from, to_torch("prnet", expected, **fields))
    jax.tree.map(np.testing.assert_array_equal, variables_of(config), expected)
    assert seen.origin_of(config.init_from)["not_known"] == "imported weights"


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("init_from", "lung", "lung does not exist and is no name of released weights"),
        ("model.widths", (8, 16, 32, 64), "does not fit config.model: "),
    ],
)
def test_what_does_not_fit_is_refused(config, field, value, message):
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=message):
        variables_of(config)


def test_another_network_is_refused():
    config = default_config("unet")
    config.init_from = "lungs"
    with pytest.raises(InputError, match="holds prnet, not unet"):
        variables_of(config)
