"""The ways of `convolve` on CPU against XLA's own convolution, in value and gradients."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax.models import convolution
from prnet_jax.models.convolution import as_xla, convolve
from tests.model_tester import QUICK_COMPILE_DOUBLE, enable_x64


@pytest.fixture(autouse=True)
def switched_on(monkeypatch):
    monkeypatch.setattr(convolution, "_left_to_xla", False)


WAYS = [
    # way, images, dilation, channels, features, size of the kernel
    ("product", (2, 3, 5), 1, 6, 7, 1),
    ("product", (1, 4, 4), 1, 1, 3, 1),
    ("strips", (2, 92, 90), 1, 64, 65, 3),
    ("strips", (1, 131, 128), 1, 66, 64, 3),  # of one row each
    ("winograd", (1, 6, 4), 1, 128, 129, 3),
    ("winograd", (2, 5, 7), 1, 130, 128, 3),
    ("winograd", (1, 66, 65), 1, 128, 128, 3),  # tiles of 4 x 4
    ("side by side", (1, 5, 8), 2, 128, 128, 3),
    ("side by side", (2, 4, 2), 3, 128, 130, 3),
]


def case(images, dilation, channels, features, size):
    rng = np.random.default_rng(0)
    arrays = (
        rng.normal(size=(*images, channels)),
        rng.normal(size=(size, size, channels, features)),
        rng.normal(size=(*images, features)),
    )
    pads = (dilation * (size - 1) // 2,) * 2
    return [array.astype(np.float32) for array in arrays], pads


def value_and_gradients(convolution, x, kernel, grad):
    value, gradients = jax.vjp(convolution, x, kernel)
    return value, *gradients(grad)


def own(pads, dilation, stride=1, groups=1):
    """XLA's own convolution."""
    return partial(
        jax.lax.conv_general_dilated,
        window_strides=(stride, stride),
        padding=[(pad, pad) for pad in pads],
        rhs_dilation=(dilation, dilation),
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other platforms have none of the ways")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way[0]}-{'x'.join(map(str, way[1]))}")
def test_every_way_equals_xlas_convolution_in_float64(way):
    name, images, dilation, *rest = way
    arrays, pads = case(images, dilation, *rest)
    ours = jax.jit(partial(value_and_gradients, partial(convolve, pads=pads, dilation=dilation)))
    assert convolution._way(*map(jnp.asarray, arrays[:2]), dilation) == name
    with enable_x64(True):
        precise = jax.jit(
            partial(value_and_gradients, own(pads, dilation)),
            compiler_options=QUICK_COMPILE_DOUBLE,
        )
        expected = precise(*(array.astype(np.float64) for array in arrays))
    for value, exact in zip(ours(*arrays), expected, strict=True):
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, exact, rtol=0, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize(
    ("dtype", "stride", "groups", "dilation"),
    [(jnp.bfloat16, 1, 1, 1), (jnp.float32, 2, 1, 1), (jnp.float32, 1, 2, 1), (None, 1, 1, 4)],
    ids=["bfloat16", "stride", "groups", "dilation of few channels"],
)
def test_the_rest_is_xlas_to_the_last_bit(dtype, stride, groups, dilation):
    (x, kernel, _), pads = case((1, 8, 8), dilation, 32, 32, 3)
    x, kernel = (jnp.asarray(array, dtype) for array in (x, kernel[:, :, : 32 // groups]))
    found = convolve(x, kernel, pads, dilation, stride, groups)
    expected = own(pads, dilation, stride, groups)(x, kernel)
    np.testing.assert_array_equal(found, expected)


def test_float64_is_left_to_xla():
    (x, kernel, _), pads = case((1, 6, 6), 1, 128, 128, 3)
    with enable_x64(True):
        x, kernel = (array.astype(np.float64) for array in (x, kernel))
        np.testing.assert_array_equal(convolve(x, kernel, pads), own(pads, 1)(x, kernel))


@pytest.mark.parametrize("way", [WAYS[0], WAYS[2], WAYS[4], WAYS[7]], ids=lambda way: way[0])
def test_other_platforms_keep_xlas_convolutions(way):
    """Lowered for TPU, value and both gradients are convolutions, and nothing else multiplies."""
    _, images, dilation, *rest = way
    arrays, pads = case(images, dilation, *rest)
    ours = jax.jit(partial(value_and_gradients, partial(convolve, pads=pads, dilation=dilation)))
    text = ours.trace(*arrays).lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("stablehlo.convolution") == 3
    assert "stablehlo.dot_general" not in text


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="JAX counts operations on CPUs alone")
def test_operations_are_counted_as_xla_computes_them():
    """2 x 9 x 128 x 128 for each of 32 x 32 pixels, padding less; and Winograd's after that."""
    x, kernel = jnp.ones((1, 32, 32, 128)), jnp.ones((3, 3, 128, 128))

    def flops():
        lowered = jax.jit(lambda x, kernel: convolve(x, kernel, (1, 1))).lower(x, kernel)
        return lowered.cost_analysis()["flops"]

    ours = flops()
    with as_xla():
        direct = flops()
    assert direct == 2 * 128 * 128 * (3 * 32 - 2) ** 2
    assert ours != direct and flops() == ours


_ON_FOUR_DEVICES = """
import re
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from tests.models.test_convolution import WAYS, case, convolve, partial, value_and_gradients
mesh = jax.make_mesh((4,), ("data",))
split = NamedSharding(mesh, PartitionSpec("data"))
copied = NamedSharding(mesh, PartitionSpec())
for name, images, dilation, *rest in [WAYS[0], WAYS[2], WAYS[4], WAYS[6], WAYS[7]]:
    arrays, pads = case((4, *images[1:]), dilation, *rest)
    run = partial(value_and_gradients, partial(convolve, pads=pads, dilation=dilation))
    alone = jax.jit(run)(*arrays)
    placed = {"in_shardings": (split, copied, split), "out_shardings": (split, split, copied)}
    program = jax.jit(run, **placed).lower(*arrays).compile()
    moved = re.findall(r" (all-\\S+|collective-permute)\\(", program.as_text())
    together = program(*map(jax.device_put, arrays, placed["in_shardings"]))
    apart = [np.abs(np.subtract(*two)).max() for two in zip(alone, together, strict=True)]
    near = [bool(a < 1e-5 * np.abs(value).max()) for a, value in zip(apart, alone, strict=True)]
    long = name == "side by side"  # 9 x 128 terms in a sum
    print(name, *moved, *(near[:2] if long else apart[:2]), near[2])
"""


@pytest.mark.slow
def test_four_devices_compute_what_one_does(root):
    """Images stay where they are, with the same bits; the kernel's gradient is a sum over all.

    Long sums have other bits: a product splits them by its shape and the processor's caches.
    """
    cpus = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4"}
    environment = {**os.environ, **cpus, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", _ON_FOUR_DEVICES]
    printed = subprocess.check_output(command, cwd=root, env=environment, text=True)
    names = ["product", "strips", "winograd", "winograd"]
    expected = [f"{name} all-reduce 0.0 0.0 True" for name in names]
    assert printed.splitlines() == [*expected, "side by side all-reduce True True True"]


@pytest.mark.parametrize(("size", "dilation"), [(1, 1), (3, 1), (3, 2)])
def test_an_export_of_any_batch_is_left_to_xla(size, dilation):
    (x, kernel, _), pads = case((2, 4, 4), dilation, 128, 128, size)
    convolution = jax.jit(partial(convolve, pads=pads, dilation=dilation))
    batch = jax.export.symbolic_shape("n")
    shape = jax.ShapeDtypeStruct((*batch, 4, 4, 128), np.float32)
    exported = jax.export.export(convolution)(shape, jnp.asarray(kernel))
    assert exported.mlir_module().count("stablehlo.convolution") == 1
    expected = own(pads, dilation)(x, kernel)
    np.testing.assert_allclose(exported.call(x, kernel), expected, rtol=1e-6, atol=1e-6)


def test_a_variable_switches_them_off(root):
    code = "import prnet_jax.models.convolution as c; print(c._left_to_xla)"
    command = [sys.executable, "-c", code]
    found = []
    for value in ("0", "1", None):
        env = {k: v for k, v in os.environ.items() if k != "PRNET_CPU_CONVOLUTIONS"}
        env |= {} if value is None else {"PRNET_CPU_CONVOLUTIONS": value}
        found.append(subprocess.check_output(command, cwd=root, env=env, text=True).strip())
    assert found == ["True", "False", "False"]
