"""Blocks against values computed by hand and with NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.models.attention import DilatedSelfAttention, GatedConv, ProgressiveAttention
from prnet_jax.models.layers import BatchNorm, Conv, DoubleConv, InstanceNorm, UpConv, check_image
from prnet_jax.models.prnet import ResidualBlock

KEY = jax.random.key(0)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_conv_by_hand():
    x = np.arange(9.0, dtype=np.float32).reshape(1, 3, 3, 1)
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[0, 1] = 2.0  # the pixel above
    kernel[1, 2] = 1.0  # the pixel to the right
    params = {"kernel": kernel, "bias": np.array([0.5], np.float32)}
    out = Conv(1).apply({"params": params}, x)[0, ..., 0]
    above = np.array([[0, 0, 0], [0, 1, 2], [3, 4, 5]])
    right = np.array([[1, 2, 0], [4, 5, 0], [7, 8, 0]])
    np.testing.assert_array_equal(out, 2 * above + right + 0.5)


def test_dilated_conv_reaches_as_far_as_its_dilation():
    x = np.zeros((1, 9, 9, 1), np.float32)
    x[0, 4, 4] = 1.0
    params = {"kernel": np.ones((3, 3, 1, 1), np.float32), "bias": np.zeros(1, np.float32)}
    out = Conv(1, dilation=3).apply({"params": params}, x)[0, ..., 0]
    assert {tuple(p) for p in np.argwhere(out)} == {(r, c) for r in (1, 4, 7) for c in (1, 4, 7)}


@pytest.mark.parametrize(
    ("module", "fan_in"), [(Conv(64, 3), 3 * 3 * 32), (UpConv(64), 2 * 2 * 64)], ids=["conv", "up"]
)
def test_initialisation_is_torchs_default(module, fan_in):
    params = module.init(KEY, jnp.zeros((1, 8, 8, 32)))["params"]
    bound = fan_in**-0.5
    for name in ("kernel", "bias"):
        values = np.asarray(params[name])
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.9 * bound
    assert np.std(params["kernel"]) == pytest.approx(bound / 3**0.5, rel=0.02)


@pytest.mark.parametrize("size", [2, 4])
def test_up_conv_spreads_each_pixel(size):
    """Each input pixel adds its kernel to the output, whose borders torch's padding cuts off."""
    x, kernel, bias = normal(1, 3, 4, 2), normal(size, size, 5, 2, seed=1), normal(5, seed=2)
    expected = np.zeros((2 * 3 + size - 2, 2 * 4 + size - 2, 5), np.float64)
    for row in range(3):
        for column in range(4):
            spot = np.einsum("abop,p->abo", kernel.astype(float), x[0, row, column])
            expected[2 * row : 2 * row + size, 2 * column : 2 * column + size] += spot
    pad = size // 2 - 1
    expected = expected[pad : pad + 6, pad : pad + 8] + bias
    out = UpConv(5, size).apply({"params": {"kernel": kernel, "bias": bias}}, x)
    np.testing.assert_allclose(out[0], expected, rtol=1e-5, atol=1e-5)


def test_up_conv_refuses_an_odd_kernel():
    with pytest.raises(InputError, match="even, found 3"):
        UpConv(5, 3).init(KEY, jnp.zeros((1, 4, 4, 2)))


def test_batch_norm_normalises_and_keeps_torchs_statistics():
    x = 3.0 + 2.0 * normal(2, 3, 4, 5)
    norm = BatchNorm()
    variables = norm.init(KEY, x, train=True)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.zeros(5))
    out, updates = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    flat = x.reshape(-1, 5).astype(np.float64)
    expected = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    np.testing.assert_allclose(np.reshape(out, (-1, 5)), expected, atol=1e-5)
    stats = updates["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-5)


def test_batch_norm_uses_running_statistics_in_evaluation():
    stats = {"mean": np.array([1.0, 2.0]), "var": np.array([4.0, 9.0]) - 1e-5}
    params = {"scale": np.array([1.0, 3.0]), "bias": np.array([0.0, 1.0])}
    x = np.array([[5.0, 8.0]], np.float32).reshape(1, 1, 1, 2)
    out = BatchNorm().apply({"params": params, "batch_stats": stats}, x, train=False)
    np.testing.assert_allclose(np.ravel(out), [2.0, 7.0], rtol=1e-5)


def test_norms_compute_in_float32_under_bfloat16():
    """bfloat16, whose spacing at 1000 is 4, would lose the mean of these values."""
    x = jnp.asarray(1000.0 + 4.0 * jnp.arange(16.0).reshape(1, 4, 4, 1), jnp.bfloat16)
    for out in (
        InstanceNorm().apply({}, x),
        BatchNorm().init_with_output(KEY, x, train=True)[0],
    ):
        assert out.dtype == jnp.bfloat16
        exact = np.asarray(x, np.float64)
        exact = (exact - exact.mean()) / exact.std()
        np.testing.assert_allclose(np.asarray(out, np.float64), exact, atol=0.01)


def test_instance_norm_per_image_and_channel():
    x = 7.0 + normal(2, 4, 6, 3)
    out = InstanceNorm().apply({}, x)
    exact = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(out, exact, atol=1e-5)


def test_residual_block_by_hand():
    """The shortcut is the 1x1 group's output, and nothing follows the sum."""
    x = normal(1, 6, 6, 2)
    block = ResidualBlock(3)
    variables = block.init(KEY, x, train=True)
    params = variables["params"]

    def group(x, name, size):
        x = Conv(3, size).apply({"params": params[name]}, x)
        return jax.nn.relu(InstanceNorm().apply({}, x))

    shortcut = group(x, "conv1", 1)
    expected = shortcut + group(group(shortcut, "conv2", 3), "conv3", 3)
    np.testing.assert_allclose(block.apply(variables, x, train=True), expected, atol=1e-6)


def test_attention_by_hand():
    """One head, identity embeddings: out_i = sum_j softmax_j(x_i . x_j) x_j, unscaled."""
    x = normal(1, 2, 3, 4)
    identity = np.zeros((3, 3, 4, 4), np.float32)
    identity[1, 1] = np.eye(4)
    embed = {"kernel": identity, "bias": np.zeros(4, np.float32)}
    params = {name: embed for name in "qkv"}
    tokens = x.reshape(6, 4).astype(np.float64)
    weights = np.exp(tokens @ tokens.T)
    expected = weights / weights.sum(1, keepdims=True) @ tokens
    out = DilatedSelfAttention(2, heads=1).apply({"params": params}, x)
    np.testing.assert_allclose(np.reshape(out, (6, 4)), expected, rtol=1e-5)

    scaled = DilatedSelfAttention(2, heads=1, scale=True, residual=True)
    weights = np.exp(tokens @ tokens.T / 2)
    expected = weights / weights.sum(1, keepdims=True) @ tokens + tokens
    out = scaled.apply({"params": params}, x)
    np.testing.assert_allclose(np.reshape(out, (6, 4)), expected, rtol=1e-5)


def test_attention_refuses_a_width_that_its_heads_do_not_divide():
    with pytest.raises(InputError, match="width must be a multiple of its 8 heads, found 12"):
        DilatedSelfAttention(2).init(KEY, jnp.zeros((1, 2, 2, 12)))


def test_gated_conv_by_hand():
    one = {"kernel": np.full((1, 1, 1, 1), 2.0), "bias": np.array([1.0])}
    high, low = np.full((1, 1, 1, 1), 0.5), np.array([3.0, -3.0]).reshape(1, 1, 2, 1)
    params = {"gate": one, "feature": one}
    out = GatedConv(1).apply({"params": params}, high, low, train=False)
    np.testing.assert_allclose(np.ravel(out), [7.0 / (1.0 + np.exp(-2.0)), 0.0], rtol=1e-6)


def test_progressive_attention_combines_its_three_features():
    x = normal(1, 4, 4, 8)
    two_heads = partial(DilatedSelfAttention, heads=2)
    pam = ProgressiveAttention(attention=two_heads)
    variables = pam.init(KEY, x, train=False)
    params = variables["params"]

    def part(module, name, *args):
        return module.apply({"params": params[name]}, *args)

    f1 = part(Conv(8), "conv", x)
    g1 = part(GatedConv(8), "gc1", part(DilatedSelfAttention(2, 2), "dsa1", x), f1, False)
    g2 = part(GatedConv(8), "gc2", part(DilatedSelfAttention(3, 2), "dsa2", x), g1, False)
    np.testing.assert_allclose(pam.apply(variables, x, train=False), f1 + g1 + g2, atol=1e-6)
    with pytest.raises(InputError, match="pam_combine"):
        ProgressiveAttention(combine="mean", attention=two_heads).init(KEY, x, train=False)


@pytest.mark.parametrize("dilations", [(2,), (0, 3), (2, 10**9), (2, 2.5), (2, 3, 4)])
def test_dilations_that_make_no_attention_are_refused(dilations):
    with pytest.raises(InputError, match="pam_dilations must be two whole numbers from 1 to 1024"):
        ProgressiveAttention(dilations).init(KEY, jnp.zeros((1, 4, 4, 8)), train=False)


def test_double_conv_names_are_torchs():
    params = DoubleConv(4).init(KEY, jnp.zeros((1, 4, 4, 2)), train=False)["params"]
    assert {name: sorted(leaf) for name, leaf in params.items()} == {
        "0": ["bias", "kernel"],
        "1": ["bias", "scale"],
        "3": ["bias", "kernel"],
        "4": ["bias", "scale"],
    }


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 100, 64, 1), "divisible by 16, found 100x64: the nearest is 96x64"),
        ((1, 64, 64, 3), r"expects images \[N, H, W, 1\], found \[1, 64, 64, 3\]"),
        ((64, 64, 1), r"expects images \[N, H, W, 1\]"),
        ((1, 0, 16, 1), "nearest is 16x16"),
    ],
)
def test_check_image(shape, message):
    with pytest.raises(InputError, match=message):
        check_image("prnet", jnp.zeros(shape), 1, 16)
