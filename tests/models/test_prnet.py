"""PR-Net against the parity vectors, and each of its open points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.models import create_model, list_models
from prnet_jax.torch_weights import from_torch, to_torch
from tests.goldens import weights

KEY = jax.random.key(0)
# The name since jax 0.8, and the one before.
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64


@pytest.fixture(scope="module")
def golden(root):
    folder = root / "tests" / "goldens"
    spec, state_dict = weights.load(folder / "prnet.json")
    return spec, state_dict, np.load(folder / "prnet.npz")


def to_nhwc(array):
    return np.transpose(array, (0, 2, 3, 1))


def relative_to_peak(found, expected):
    found = np.asarray(found)
    found = found.transpose(0, 3, 1, 2) if found.ndim == 4 else found
    return np.abs(found - expected).max() / np.abs(expected).max()


def cast(tree, dtype):
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def test_parity_in_float32(golden):
    spec, state_dict, arrays = golden
    model, variables = create_model("prnet"), from_torch("prnet", state_dict)
    image = to_nhwc(weights.inputs(spec))
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image)
    assert logits.dtype == jnp.float32
    assert relative_to_peak(logits, arrays["eval_output"]) < 2e-5


def test_parity_in_float64(golden):
    """Forward and input gradient in both modes, and the running statistics after a step."""
    spec, state_dict, arrays = golden
    with enable_x64(True):
        model = create_model("prnet")
        variables = cast(from_torch("prnet", state_dict), np.float64)
        image = to_nhwc(weights.inputs(spec)).astype(np.float64)
        cotangent = to_nhwc(weights.cotangents(spec)[0]).astype(np.float64)

        def weighted_sum(x):
            logits = model.apply(variables, x, train=False)
            return (logits * cotangent).sum(), logits

        gradient, logits = jax.jit(jax.grad(weighted_sum, has_aux=True))(image)
        trained, updates = jax.jit(
            lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"])
        )(variables, image)
        after = to_torch("prnet", {"params": variables["params"], **updates})
    assert logits.dtype == np.float64
    assert relative_to_peak(logits, arrays["eval_output"]) < 1e-6
    assert relative_to_peak(gradient, arrays["grad_input"]) < 1e-6
    assert relative_to_peak(trained, arrays["train_output"]) < 1e-6
    pinned = [name for name in arrays.files if name.startswith("after_train.")]
    assert len(pinned) == 4
    for name in pinned:
        assert relative_to_peak(after[name.removeprefix("after_train.")], arrays[name]) < 1e-6


def test_parameter_count_and_shapes():
    model = create_model("prnet")
    image = jax.ShapeDtypeStruct((2, 64, 96, 1), jnp.float32)
    logits, variables = jax.eval_shape(
        lambda x: model.init_with_output(KEY, x, train=False), image
    )
    assert logits.shape == (2, 64, 96, 1)
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == 39_876_609
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def small(**fields):
    return create_model("prnet", widths=(4, 8), heads=2, **fields)


def run(model):
    """Logits in training mode and variables, compiled as one."""
    image = jax.random.normal(KEY, (2, 16, 16, 1))
    return jax.jit(lambda: model.init_with_output(KEY, image, train=True))()


@pytest.fixture(scope="module")
def plain():
    return run(small())


def test_heads_and_channels():
    model = create_model("prnet", widths=(4, 8), heads=2, in_channels=3, num_classes=2)
    image = jnp.ones((1, 8, 8, 3))
    heads, _ = model.init_with_output(KEY, image, train=False, all_heads=True)
    assert [head.shape for head in heads] == [(1, 8, 8, 2)]


@pytest.mark.parametrize(
    "fields",
    [
        {"norm_affine": True},
        {"relu_after_sum": True},
        {"enhance_width": 16},
        {"enhance_skips": (1,)},
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
    ids=lambda fields: next(iter(fields)),
)
def test_open_points_change_the_network(plain, fields):
    logits, variables = run(small(**fields))
    assert logits.shape == plain[0].shape
    assert np.isfinite(logits).all()
    if "norm_affine" in fields:  # begins as the identity
        assert "scale" in variables["params"]["encoder.0"]["norm1"]
    else:
        assert np.abs(logits - plain[0]).max() > 1e-6


def test_every_parameter_gets_a_gradient():
    model = small()
    image = jax.random.normal(KEY, (2, 16, 16, 1))
    variables = model.init(KEY, image, train=False)

    def loss(params):
        logits, _ = model.apply(
            {**variables, "params": params}, image, train=True, mutable=["batch_stats"]
        )
        return jnp.square(logits - 1.0).mean()

    gradients = jax.grad(loss)(variables["params"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), path
    # A convolution before a norm that takes the mean away gets none for its bias, nor does k's.
    kernels = [
        (path, leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
        if path[-1].key == "kernel"
    ]
    assert len(kernels) == 26
    for path, leaf in kernels:
        assert np.abs(leaf).max() > 0, path


def test_bfloat16_computes_in_bfloat16_with_float32_parameters():
    image = jax.random.normal(KEY, (1, 16, 16, 1))
    exact, variables = small().init_with_output(KEY, image, train=False)
    logits = small(dtype=jnp.bfloat16).apply(variables, image, train=False)
    assert logits.dtype == jnp.bfloat16
    assert variables["params"]["head"]["kernel"].dtype == jnp.float32
    assert 0 < np.abs(logits - exact).max() < 0.1 * np.abs(exact).max()


def test_refusals():
    assert list_models() == ["prnet"]
    with pytest.raises(InputError, match="unknown network 'prnett': choose one of prnet"):
        create_model("prnett")
    with pytest.raises(InputError, match="unknown network"):
        create_model("layers")
    with pytest.raises(InputError, match="no field 'width': did you mean widths"):
        create_model("prnet", width=(4,))
    with pytest.raises(InputError, match="sides that divide by 16, found 100x100"):
        create_model("prnet").init(KEY, jnp.zeros((1, 100, 100, 1)), train=False)
    with pytest.raises(InputError, match="enhance_skips must be among"):
        small(enhance_skips=(2,)).init(KEY, jnp.zeros((1, 8, 8, 1)), train=False)
