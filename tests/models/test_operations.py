"""Operations are counted alike on every device."""

import jax
import jax.numpy as jnp
import pytest

from prnet_jax.models.operations import gflop

SHAPES = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((64, 32), (32, 16))]
OF_PRODUCT = 2 * 64 * 32 * 16 / 1e9


def product(a, b):
    return a @ b


def test_a_known_product():
    assert gflop(product, *SHAPES) == OF_PRODUCT
    assert gflop(product, jnp.ones((64, 32)), jnp.ones((32, 16))) == OF_PRODUCT


def test_the_program_that_is_counted_is_for_the_cpu(monkeypatch):
    """JAX does not count in those for GPUs and TPUs."""
    asked = []
    devices = jax.local_devices

    def local_devices(backend=None):
        asked.append(backend)
        return devices(backend=backend)

    monkeypatch.setattr(jax, "local_devices", local_devices)
    on = []

    def where(x):
        on.append(jax.config.jax_default_device)
        return x + 1

    gflop(where, SHAPES[0])
    assert asked == ["cpu"] and [device.platform for device in on] == ["cpu"]


def fails_with(error):
    def fails(*_, **__):
        raise error

    return fails


def test_not_known(monkeypatch):
    """Of what CPUs do not have, or without CPUs; an error of the function itself is no answer."""
    assert gflop(fails_with(NotImplementedError("cudnn")), *SHAPES) is None
    with pytest.raises(RuntimeError, match="its own"):
        gflop(fails_with(RuntimeError("its own")), *SHAPES)
    for error in (RuntimeError("no backend cpu"), NotImplementedError("no devices")):
        monkeypatch.setattr(jax, "local_devices", fails_with(error))
        assert gflop(product, *SHAPES) is None
