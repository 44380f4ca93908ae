"""Channels that a network cannot be made of are one line, and the least that it takes do work."""

import jax
import jax.numpy as jnp
import pytest

from prnet_jax.errors import InputError
from prnet_jax.models import create_model, list_models

# network: fewest levels, whether others are possible, fewest channels of a level, other fields
LIMITS = {
    "anamnet": (4, False, 1, {}),
    "attention_unet": (2, True, 2, {}),
    "awsnet": (2, True, 2, {}),
    "infnet": (4, False, 3, {}),
    "lightunet": (5, False, 1, {"channels_per_group": 1}),
    "prnet": (1, True, 1, {"heads": 1}),
    "unet": (1, True, 1, {}),
    "unetpp": (1, True, 1, {}),
}
VARIANTS = {
    "unet": (1, True, 2, {"bilinear": True}),
    "unetpp": (2, True, 1, {"deep_supervision": True}),
    "lightunet": (5, False, 1, {"variant": "light"}),
}
CASES = [*LIMITS.items(), *VARIANTS.items()]


def outputs(name, widths, fields):
    model = create_model(name, widths=widths, **fields)
    image = jnp.zeros((1, 32, 32, 1))
    key = jax.random.key(0)
    return jax.eval_shape(lambda: model.init_with_output(key, image, train=True)[0])


def test_all_networks_are_here():
    assert sorted(LIMITS) == list_models()


@pytest.mark.parametrize(("name", "limits"), CASES)
def test_the_least_is_enough(name, limits):
    count, _, channels, fields = limits
    assert outputs(name, (channels,) * count, fields).shape == (1, 32, 32, 1)
    assert outputs(name, [channels] * count, fields).shape == (1, 32, 32, 1)  # as JSON has it


@pytest.mark.parametrize(("name", "limits"), CASES)
def test_less_and_other_things_are_refused(name, limits):
    count, more, channels, fields = limits
    one = max(channels, 4)
    refused = [
        (),
        (one,) * (count - 1),
        *((value, *(one,) * (count - 1)) for value in (channels - 1, 0, -1, 4.0, None, "4")),
        (*(one,) * (count - 1), 0),
        "4444",
        4,
    ]
    if not more:
        refused.append((one,) * (count + 1))
    for widths in refused:
        with pytest.raises(InputError, match=f"^{name}'s widths must be {count} ") as caught:
            outputs(name, widths, fields)
        assert "\n" not in str(caught.value)
    if more:
        assert outputs(name, (one,) * (count + 1), fields).shape == (1, 32, 32, 1)
