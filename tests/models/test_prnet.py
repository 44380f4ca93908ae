"""PR-Net: the battery, and each point that the paper leaves open."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.models import create_model, list_models
from tests.model_tester import KEY, QUICK_COMPILE, ModelTester, noise


class TestPRNet(ModelTester):
    name = "prnet"
    small = {"widths": (4, 4, 8, 8), "heads": 2}
    parameter_count = 39_876_609

    def test_float64_in_everything(self, double, reference):
        """Without the base's mark: one network keeps it among the tests that are not slow."""
        super().test_float64_in_everything(double, reference)


def small(**fields):
    return create_model("prnet", widths=(4, 8), heads=2, **fields)


def run(model):
    """Logits in training mode."""
    variables, image = noise(model, (2, 16, 16, 1))
    forward = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    return jax.jit(forward, compiler_options=QUICK_COMPILE)(variables, image)[0]


@pytest.fixture(scope="module")
def plain():
    return run(small())


@pytest.mark.parametrize(
    "fields",
    [
        {"encoder": "residual_batch_norm"},
        {"encoder": "double_conv"},
        {"norm_affine": True},
        {"relu_after_sum": True},
        {"enhance_width": 16},
        {"enhance_skips": (1,)},
        {"pam": False},
        {"qk_width": 4},
        {"attention_kernel": 1},
        {"attention_scale": True},
        {"attention_residual": True},
        {"attention_projection": True},
        {"pam_dilations": (1, 2)},
        {"pam_norm": True},
        {"pam_combine": "concat"},
        {"gate_kernel": 3},
        {"gate_norm": True},
        {"up_kernel": 4},
        {"head_kernel": 3},
    ],
    ids=lambda fields: "-".join(str(x) for item in fields.items() for x in item),
)
def test_open_points_change_the_network(plain, fields):
    logits = run(small(**fields))
    assert logits.shape == plain.shape
    assert np.isfinite(logits).all()
    assert np.abs(logits - plain).max() > 1e-3


def test_refusals():
    assert list_models() == sorted(
        "prnet unet unetpp attention_unet anamnet awsnet lightunet infnet".split()
    )
    with pytest.raises(InputError, match="unknown network 'prnett': choose one of .*prnet"):
        create_model("prnett")
    with pytest.raises(InputError, match="unknown network"):
        create_model("layers")
    with pytest.raises(InputError, match="no field 'width': did you mean widths"):
        create_model("prnet", width=(4,))
    with pytest.raises(InputError, match="sides divisible by 16, found 100x100"):
        create_model("prnet").init(KEY, jnp.zeros((1, 100, 100, 1)), train=False)
    with pytest.raises(InputError, match=r"enhance_skips must be among \[0, 1\], found \[2\]"):
        small(enhance_skips=(2,)).init(KEY, jnp.zeros((1, 8, 8, 1)), train=False)
    with pytest.raises(InputError, match="encoder must be one of residual, .*, found 'vgg'"):
        small(encoder="vgg").init(KEY, jnp.zeros((1, 8, 8, 1)), train=False)
    with pytest.raises(
        InputError, match="attention 'cudnn' needs bfloat16 or float16, found float"
    ):
        small(attention="cudnn").init(KEY, jnp.zeros((1, 8, 8, 1)), train=False)
