"""The implementations of attention: against NumPy, against each other, and which is chosen."""

import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.models.attend import MOST_DENSE_POSITIONS, attend, choose
from prnet_jax.models.attention import DilatedSelfAttention
from prnet_jax.models.blockwise import blockwise_attention
from tests.model_tester import QUICK_COMPILE, QUICK_COMPILE_DOUBLE, enable_x64

dense = functools.partial(attend, implementation="dense")
ALIKE = {"dense": dense, "blockwise": functools.partial(blockwise_attention, block=16)}


def normal(positions, widths=(4, 4, 6, 6), n=2, heads=2):
    """q, k, v and the result's cotangent, float64 NumPy."""
    rng = np.random.default_rng(positions)
    return [rng.normal(size=(n, positions, heads, width)) for width in widths]


def oracle(q, k, v, d_out, scale=1.0):
    """The result and the gradients of q, k and v, in NumPy."""
    logits = scale * np.einsum("nqhc,nkhc->nhqk", q, k)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    d_weights = np.einsum("nqhd,nkhd->nhqk", d_out, v)
    mean = (weights * d_weights).sum(-1, keepdims=True)
    d_logits = scale * weights * (d_weights - mean)
    return [
        np.einsum("nhqk,nkhd->nqhd", weights, v),
        np.einsum("nhqk,nkhc->nqhc", d_logits, k),
        np.einsum("nhqk,nqhc->nkhc", d_logits, q),
        np.einsum("nhqk,nqhd->nkhd", weights, d_out),
    ]


def with_gradients(function):
    """(q, k, v, d_out) -> (out, d_q, d_k, d_v)."""

    def run(q, k, v, d_out):
        out, pull_back = jax.vjp(function, q, k, v)
        return out, *pull_back(d_out)

    return run


def run(function, arrays, dtype=np.float32):
    options = QUICK_COMPILE_DOUBLE if dtype == np.float64 else QUICK_COMPILE
    program = jax.jit(with_gradients(function), compiler_options=options)
    return program(*(jnp.asarray(array, dtype) for array in arrays))


def error(found, expected):
    """The largest difference of each array, relative to its peak; the largest of all."""
    pairs = zip(found, expected, strict=True)
    return max(
        float(np.abs(np.asarray(a, np.float64) - b).max() / np.abs(b).max()) for a, b in pairs
    )


@pytest.mark.parametrize(
    "positions, block, scale",
    [(1, 16, 1.0), (7, 16, 1.0), (64, 16, 0.5), (67, 16, 1.0), (100, 33, 1.0), (65, 1, 1.0)],
)
def test_value_and_gradient(positions, block, scale):
    """Also for numbers of positions that are no multiple of the block."""
    arrays = normal(positions)
    arrays = [np.float32(array).astype(np.float64) for array in arrays]
    expected = oracle(*arrays, scale)
    functions = dense, functools.partial(blockwise_attention, block=block)
    for function in functions:
        found = run(functools.partial(function, scale=scale), arrays)
        assert {x.dtype for x in found} == {jnp.dtype(jnp.float32)}
        assert [x.shape for x in found] == [x.shape for x in expected]
        if positions > 1:
            assert error(found, expected) < 1e-5
        else:  # one weight, which is 1: q and k have no gradient
            np.testing.assert_allclose(found[0], arrays[2], rtol=1e-6)
            assert all(np.abs(x).max() < 1e-5 for x in found[1:3])


@pytest.mark.parametrize("name", ALIKE)
def test_float64(name):
    arrays = normal(67)
    with enable_x64(True):
        found = run(functools.partial(ALIKE[name], scale=0.5), arrays, np.float64)
    assert {x.dtype for x in found} == {np.dtype(np.float64)}
    assert error(found, oracle(*arrays, 0.5)) < 1e-13


@pytest.mark.parametrize("name", ALIKE)
def test_large_logits(name):
    """Up to four million, whole numbers, so exact in float32. Their exponentials overflow."""
    q, k, v, d_out = normal(67)
    arrays = [np.round(300 * q), np.round(300 * k), np.float32(v), np.float32(d_out)]
    assert np.einsum("nqhc,nkhc->nhqk", *arrays[:2]).max() > 1e5
    found = run(ALIKE[name], arrays)
    expected = oracle(*(np.asarray(array, np.float64) for array in arrays))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[3], expected[3], rtol=1e-5, atol=1e-6)
    assert all(np.isfinite(x).all() for x in found)


@pytest.mark.parametrize("name", ALIKE)
def test_bfloat16_has_a_softmax_in_float32(name):
    """Logits of 100 and 100.25 are one number in bfloat16, and its sums of ones end at 256."""
    q = np.ones((1, 600, 1, 2))
    k, v = np.array([100.0, 0.0]), np.array([0.0, 1.0])
    k, v = (np.broadcast_to(x, (1, 600, 1, 2)).copy() for x in (k, v))
    k[:, ::2, :, 1], v[:, ::2] = 0.25, [1.0, 1.0]
    found = run(ALIKE[name], (q, k, v, v), jnp.bfloat16)
    assert {x.dtype for x in found} == {jnp.dtype(jnp.bfloat16)}
    share = 1 / (1 + np.exp(-0.25))
    np.testing.assert_allclose(
        np.asarray(found[0], np.float32)[0, :, 0], [[share, 1.0]] * 600, rtol=2**-8
    )


@pytest.mark.parametrize("name", ALIKE)
def test_bfloat16_is_close(name):
    arrays = [np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64) for x in normal(67)]
    assert 1e-4 < error(run(ALIKE[name], arrays, jnp.bfloat16), oracle(*arrays)) < 2e-2


def test_under_vmap_and_checkpoint():
    arrays = normal(67, n=4)
    expected = run(ALIKE["blockwise"], arrays)

    def one(q, k, v):
        return jax.checkpoint(ALIKE["blockwise"])(q[None], k[None], v[None])[0]

    found = run(jax.vmap(one), arrays)
    assert error(found, [np.asarray(x, np.float64) for x in expected]) < 1e-6


def memory(function, positions, heads=1, width=16):
    """Bytes that the program of value and gradient needs besides arguments and results."""
    array = jax.ShapeDtypeStruct((1, positions, heads, width), jnp.float32)
    compiled = jax.jit(with_gradients(function)).lower(*[array] * 4).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_is_linear_in_the_positions():
    growth = {
        function: memory(function, 16_384) / memory(function, 4096)
        for function in (blockwise_attention, dense)
    }
    assert growth[blockwise_attention] < 4.1
    assert growth[dense] > 15


def test_a_map_of_256x256_positions_trains_in_two_gigabytes():
    module = DilatedSelfAttention(dilation=2)
    x = jax.ShapeDtypeStruct((1, 256, 256, 64), jnp.float32)
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros(x.shape)))

    def loss(variables, x):
        return jnp.square(module.apply(variables, x)).mean()

    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(variables, x).compile()
    sizes = compiled.memory_analysis()
    total = sizes.temp_size_in_bytes + sizes.argument_size_in_bytes + sizes.output_size_in_bytes
    assert total < 2e9


def test_auto_is_dense_for_small_maps_and_blockwise_for_large_ones():
    def program(function, positions):
        array = jax.ShapeDtypeStruct((1, positions, 1, 8), jnp.float32)
        return str(jax.make_jaxpr(with_gradients(function))(*[array] * 4))

    small, large = MOST_DENSE_POSITIONS, MOST_DENSE_POSITIONS + 1
    assert program(attend, small) == program(dense, small)
    blockwise = functools.partial(attend, implementation="blockwise")
    assert program(attend, large) == program(blockwise, large) != program(dense, large)


@pytest.mark.parametrize("implementation", ["dense", "blockwise"])
def test_nothing_in_the_program_is_of_one_platform(implementation):
    array = jax.ShapeDtypeStruct((2, 700, 2, 8), jnp.bfloat16)
    function = functools.partial(attend, implementation=implementation)
    traced = jax.jit(with_gradients(function)).trace(*[array] * 4)
    program = traced.lower(lowering_platforms=("cpu", "tpu", "cuda")).as_text()
    assert "stablehlo.exponential" in program and "custom_call" not in program


_SHARDED = """
import json
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np
from prnet_jax import sharding
from prnet_jax.models.blockwise import blockwise_attention
from tests.models.test_attend import error, normal, with_gradients
arrays = [x.astype(np.float32) for x in normal(67, n=8)]
function = jax.jit(with_gradients(lambda *x: blockwise_attention(*x, 1.0, 16)))
split = sharding.shard_batch(sharding.make_mesh(), dict(enumerate(arrays)))
program = function.lower(*split.values()).compile()
found, expected = program(*split.values()), function(*arrays)
words = ("all-reduce", "all-gather", "all-to-all", "collective-permute")
print(json.dumps({
    "devices": [len(x.sharding.device_set) for x in found],
    "split": [x.addressable_shards[0].data.shape[0] for x in found],
    "sent": [word for word in words if word in program.as_text()],
    "error": error(found, [np.asarray(x, np.float64) for x in expected]),
}))
"""


def test_a_batch_split_over_devices_sends_nothing(root):
    done = subprocess.run(
        [sys.executable, "-c", _SHARDED], cwd=root, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == [8] * 4 and found["split"] == [1] * 4
    assert found["sent"] == []
    assert found["error"] < 1e-6


@pytest.mark.parametrize(
    "positions, widths, dtype, capability, expected",
    [
        (2048, (64, 64), "bfloat16", "9.0", "dense"),
        (2049, (64, 64), "bfloat16", "9.0", "cudnn"),
        (2049, (64, 64), "float16", "8.0", "cudnn"),
        (2049, (128, 128), "bfloat16", "10.0", "cudnn"),
        (2049, (64, 64), "bfloat16", "7.5", "blockwise"),
        (2049, (64, 64), "bfloat16", "gfx942", "blockwise"),
        (2049, (64, 64), "bfloat16", None, "blockwise"),
        (2049, (64, 64), "float32", "9.0", "blockwise"),
        (2049, (60, 60), "bfloat16", "9.0", "blockwise"),
        (2049, (136, 136), "bfloat16", "9.0", "blockwise"),
        (2049, (32, 64), "bfloat16", "9.0", "blockwise"),
    ],
)
def test_what_auto_chooses(positions, widths, dtype, capability, expected):
    assert choose("auto", positions, widths, dtype, capability) == expected
    assert choose("dense", positions, widths, dtype, capability) == "dense"
    assert choose("blockwise", positions, widths, dtype, capability) == "blockwise"


@pytest.mark.parametrize(
    "widths, dtype, capability, message",
    [
        ((64, 64), "float32", "9.0", "needs bfloat16 or float16, found float32: choose 'auto'"),
        ((32, 64), "bfloat16", "9.0", "q and v of one width, found 32 and 64"),
        ((60, 60), "bfloat16", "9.0", "a multiple of 8 up to 128, found 60"),
        ((136, 136), "bfloat16", "9.0", "a multiple of 8 up to 128, found 136"),
        ((64, 64), "bfloat16", "7.5", "capability 8.0 or more, found one of 7.5"),
        ((64, 64), "bfloat16", "gfx942", "NVIDIA GPU .*, found one of gfx942"),
        ((64, 64), "bfloat16", None, "NVIDIA GPU .*, found none"),
    ],
)
def test_where_cudnn_is_refused(widths, dtype, capability, message):
    with pytest.raises(InputError, match=message) as refusal:
        choose("cudnn", 100, widths, dtype, capability)
    assert "\n" not in str(refusal.value)
    assert choose("cudnn", 100, (64, 64), "bfloat16", "9.0") == "cudnn"


def test_an_unknown_implementation_is_refused():
    with pytest.raises(InputError, match="one of auto, dense, blockwise, cudnn, found 'flash'"):
        choose("flash", 100, (64, 64), "float32", None)
