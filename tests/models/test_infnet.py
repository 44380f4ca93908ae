"""Inf-Net: the battery, its one-channel adapter, its resize."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.models import create_model
from prnet_jax.models.infnet import resize
from prnet_jax.models.res2net import average_pool
from tests.model_tester import KEY, ModelTester, noise

SMALL = {"widths": (8, 8, 8, 8), "blocks": (1, 2, 1, 1), "channels": 4}


class TestInfNet(ModelTester):
    name = "infnet"
    fields = {"in_channels": 3}
    small = SMALL
    parameter_count = 31_072_721
    divisor = 32
    main_head = 3
    training_tolerance = 1e-3
    dropped = ("resnet.fc.",)

    def test_shapes(self, reference):
        """Every head has the image's sides. There is one class, and one channel or three."""
        model = create_model("infnet", **SMALL)
        for h, w in ((32, 64), (96, 32)):
            image = jax.ShapeDtypeStruct((2, h, w, 1), jnp.float32)
            heads, _ = jax.eval_shape(
                lambda x: model.init_with_output(KEY, x, train=False, all_heads=True), image
            )
            assert [head.shape for head in heads] == [(2, h, w, 1)] * len(reference[0]["heads"])
        with pytest.raises(InputError, match="infnet's num_classes must be 1, found 2"):
            model.clone(num_classes=2).init(KEY, jnp.zeros((1, 32, 32, 1)), train=False)
        with pytest.raises(InputError, match="infnet's in_channels must be 1 or 3, found 2"):
            model.clone(in_channels=2).init(KEY, jnp.zeros((1, 32, 32, 2)), train=False)


def test_one_channel_is_the_slice_three_times():
    """The parameters are the same."""
    model = create_model("infnet", **SMALL)
    variables, image = noise(model, (1, 32, 32, 1))
    colour = model.clone(in_channels=3)

    @jax.jit
    def both(variables, image):
        three = jnp.concatenate((image, image, image), axis=-1)
        return (
            model.apply(variables, image, train=False),
            colour.apply(variables, three, train=False),
        )

    single, triple = both(variables, image)
    assert np.abs(single).max() > 0
    np.testing.assert_array_equal(single, triple)


def test_resize_takes_two_taps():
    """Half-pixel centres. Down by 4, it is the mean of the middle two of each four pixels."""
    line = jnp.asarray([0.0, 1.0, 4.0, 9.0, 16.0, 25.0, 36.0, 49.0])
    found = resize(jnp.broadcast_to(line, (4, 8))[None, :, :, None], 1 / 4)
    np.testing.assert_allclose(found[0, :, :, 0], [[2.5, 30.5]], rtol=1e-6)
    found = resize(jnp.asarray([[0.0, 4.0]] * 2)[None, :, :, None], 2)
    np.testing.assert_allclose(found[0, :, :, 0], [[0, 1, 3, 4]] * 4, rtol=1e-6)
    assert resize(jnp.ones((1, 2, 2, 1), jnp.bfloat16), 2).dtype == jnp.bfloat16


def test_the_backbones_average_counts_its_padding():
    """At a corner of a constant map four of the nine pixels are not padding."""
    found = average_pool(jnp.full((1, 4, 4, 1), 9.0), 2)
    np.testing.assert_allclose(found[0, :, :, 0], [[4, 6], [6, 9]], rtol=1e-6)
