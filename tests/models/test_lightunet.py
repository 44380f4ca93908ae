"""Light U-Net: the battery for both variants, its groups, its dropout."""

import jax
import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.models import create_model
from tests.model_tester import GoldenTester, ModelTester, noise, variable_shapes


class TestLighter(ModelTester):
    name = "lightunet"
    small = {"widths": (4, 4, 8, 8, 8), "channels_per_group": 4}
    parameter_count = 7_944_459
    min_side = 16


class TestLight(ModelTester):
    name = "lightunet"
    golden = "lightunet_light"
    fields = {"variant": "light"}
    small = {"widths": (4, 4, 8, 8, 8)}
    parameter_count = 10_999_105
    min_side = 16


class TestLighterOdd(GoldenTester):
    name = "lightunet"
    golden = "lightunet_odd"


def parameters(**fields):
    return variable_shapes(create_model("lightunet", **fields))["params"]


@pytest.mark.parametrize(
    "fields, count",
    [
        ({"channels_per_group": 1}, 1_983_583),
        ({"channels_per_group": 2}, 2_031_445),
        ({"channels_per_group": 4}, 2_127_061),
        ({"channels_per_group": 64}, 4_995_541),
        ({}, 7_944_661),
        ({"variant": "light"}, 11_000_257),
    ],
)
def test_counts_of_the_authors_for_colour(fields, count):
    """The classes of Yingping-LI/Light-U-net have these counts at three input channels."""
    assert sum(x.size for x in jax.tree.leaves(parameters(in_channels=3, **fields))) == count


def test_groups():
    up = parameters()["up1.conv.double_conv"]["0"]
    assert up["conv.0"]["kernel"].shape == (3, 3, 128, 1024)  # eight groups
    assert up["conv.1"]["kernel"].shape == (1, 1, 1024, 512)
    light = parameters(variant="light")["up1.conv.double_conv"]
    assert light["0"]["kernel"].shape == (3, 3, 1024, 512)
    assert light["3"]["conv.0"]["kernel"].shape == (3, 3, 1, 512)


def test_dropout_needs_training_and_a_key():
    """It sets about half of the deepest level's values to zero and doubles the others."""
    model = create_model("lightunet", widths=(4, 4, 8, 8, 8))
    variables, image = noise(model, (2, 64, 64, 1))

    def run(train, seed=None):
        rngs = None if seed is None else {"dropout": jax.random.key(seed)}
        _, state = model.apply(
            variables,
            image,
            train=train,
            rngs=rngs,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=True,
        )
        found = state["intermediates"]
        deepest = found["down4.maxpool_conv.1.double_conv"]["__call__"][0]
        return deepest, found["Dropout_0"]["__call__"][0]

    for train, seed in ((True, None), (False, 0), (False, None)):
        before, after = run(train, seed)
        np.testing.assert_array_equal(before, after)
    before, after = run(True, 0)
    alive = np.asarray(before) > 0
    kept = np.asarray(after)[alive] != 0
    assert alive.sum() > 50 and 0.3 < kept.mean() < 0.7
    np.testing.assert_allclose(after[alive][kept], 2 * before[alive][kept], rtol=1e-6)
    assert (run(True, 1)[1] != after).any()


def test_refusals():
    with pytest.raises(InputError, match="one of lighter, light, found 'lightest'"):
        parameters(variant="lightest")
    with pytest.raises(InputError, match="cannot split 64 channels into 3 equal groups"):
        parameters(channels_per_group=20)
    with pytest.raises(InputError, match="channels_per_group must be 1 or more, found 0"):
        parameters(channels_per_group=0)
