"""Convolutions from and to one channel: values, gradients, and where they are chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax.models import convolution
from prnet_jax.models.convolution import convolve
from prnet_jax.models.one_channel import by_channel, has_one_channel
from tests.model_tester import enable_x64

SIZES = [(1, 5), (5, 1)]  # channels, features


@pytest.fixture(autouse=True)
def switched_on(monkeypatch):
    monkeypatch.setattr(convolution, "_left_to_xla", False)


def case(channels, features, dtype):
    rng = np.random.default_rng(0)
    shapes = ((2, 3, 4, channels), (1, 1, channels, features), (2, 3, 4, features))
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def of_xla(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def value_and_gradients(convolution, x, kernel, grad):
    value, gradients = jax.vjp(convolution, x, kernel)
    return value, *gradients(grad)


@pytest.mark.parametrize(("channels", "features"), SIZES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 2**-8)])
def test_values_and_gradients_are_the_convolutions(channels, features, dtype, tolerance):
    arrays = case(channels, features, dtype)
    ours = value_and_gradients(by_channel, *arrays)
    with enable_x64(True):
        exact = value_and_gradients(of_xla, *(np.asarray(a).astype(np.float64) for a in arrays))
        exact = [np.asarray(array) for array in exact]
    for value, expected in zip(ours, exact, strict=True):
        assert value.dtype == dtype
        assert expected.dtype == np.float64
        error = np.abs(np.asarray(value).astype(np.float64) - expected)
        assert error.max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize(("channels", "features"), SIZES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tpus_take_it_and_other_platforms_do_not(channels, features, dtype):
    arrays = case(channels, features, dtype)
    traced = jax.jit(lambda *a: value_and_gradients(lambda x, k: convolve(x, k, (0, 0)), *a)).trace(
        *arrays
    )

    def program(platform):
        return traced.lower(lowering_platforms=(platform,)).as_text()

    assert "convolution" not in program("tpu") and "dot_general" not in program("tpu")
    assert "stablehlo.convolution" in program("cuda")
    # In float32 a matrix product is faster on CPU; in bfloat16 it is XLA's convolution.
    assert ("dot_general" if dtype == "float32" else "stablehlo.convolution") in program("cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_cpu_nothing_changes_in_half_precision(dtype):
    x, kernel, grad = case(1, 5, dtype)
    ours = value_and_gradients(lambda x, k: convolve(x, k, (0, 0)), x, kernel, grad)
    theirs = value_and_gradients(of_xla, x, kernel, grad)
    for value, expected in zip(ours, theirs, strict=True):
        if dtype == "bfloat16":
            np.testing.assert_array_equal(value, expected)
        else:
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)


def test_which_kernels():
    assert has_one_channel(np.zeros((1, 1, 1, 64))) and has_one_channel(np.zeros((1, 1, 64, 1)))
    assert not has_one_channel(np.zeros((1, 1, 64, 2)))
    assert not has_one_channel(np.zeros((3, 3, 1, 64)))
