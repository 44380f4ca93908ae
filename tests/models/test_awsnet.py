"""AwsNet: the battery, and the network without deep supervision."""

import functools

import jax
import numpy as np

from tests.model_tester import KEY, QUICK_COMPILE, ModelTester


class TestAwsNet(ModelTester):
    name = "awsnet"
    small = {"widths": (4, 4, 8, 8, 8)}
    parameter_count = 8_727_088

    def test_without_deep_supervision_there_is_only_the_main_head(self, narrow, evaluated):
        """The side heads' parameters still exist."""
        model, variables, image = narrow
        plain = model.clone(deep_supervision=False)
        made = jax.eval_shape(lambda: plain.init(KEY, image, train=False))
        assert jax.tree.map(np.shape, made) == jax.tree.map(np.shape, variables)
        run = functools.partial(plain.apply, train=False, all_heads=True)
        (logits,) = jax.jit(run, compiler_options=QUICK_COMPILE)(variables, image)
        np.testing.assert_array_equal(logits, evaluated[0])
