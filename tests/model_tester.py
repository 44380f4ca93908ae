"""One battery of tests that every network inherits.

    class TestUNet(ModelTester):
        name = "unet"
        small = {"widths": (4, 4, 8, 8, 8)}
        parameter_count = 31_036_481
        min_side = 16

`GoldenTester` compares a network with a golden: outputs, the input gradient and running statistics
of its PyTorch reference, stored in tests/goldens. `ModelTester` adds what any network must do.
"""

import functools
import pathlib
import zlib

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.models import create_model
from prnet_jax.torch_weights import from_torch, to_torch
from tests.goldens import weights

GOLDENS = pathlib.Path(__file__).resolve().parent / "goldens"
KEY = jax.random.key(0)
# The name since jax 0.8, and the one before.
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
# Compile options. Level 0 would leave jax 0.7.2's float64 convolutions unoptimised.
_QUICK = jax.config.read("jax_disable_most_optimizations")
QUICK_COMPILE = {"xla_backend_optimization_level": 0} if _QUICK else {}
QUICK_COMPILE_DOUBLE = {"xla_backend_optimization_level": 1} if _QUICK else {}


class GoldenTester:
    """A network against its public PyTorch class.

    Attributes:
        name: the network's name for `create_model`.
        golden: the golden's name; None: the network's.
        fields: the golden's overrides of the network's defaults.
        evaluation_tolerance: of float32 in evaluation mode, relative to the golden's peak.
        training_tolerance: of float32 in training mode, outputs and running statistics.
        double_tolerance: of everything in float64; the goldens are rounded to float32 (6e-8).
        dropped: prefixes of the state_dict names that the network does not use; they come back as
            zeros.
    """

    name: str
    golden: str | None = None
    fields: dict = {}
    evaluation_tolerance = 2e-5
    training_tolerance = 2e-4
    double_tolerance = 1e-6
    dropped: tuple[str, ...] = ()

    @pytest.fixture(scope="class")
    @classmethod
    def reference(cls):
        """The golden's description, its state_dict and its arrays (NCHW)."""
        path = GOLDENS / f"{cls.golden or cls.name}.json"
        spec, state_dict = weights.load(path)
        return spec, state_dict, dict(np.load(path.with_suffix(".npz")))

    @pytest.fixture(scope="class")
    @classmethod
    def single(cls, reference):
        return differences(cls.name, cls.fields, reference, np.float32)

    @pytest.fixture(scope="class")
    @classmethod
    def double(cls, reference):
        with enable_x64(True):
            return differences(cls.name, cls.fields, reference, np.float64)

    def test_float32_in_evaluation(self, single):
        worst = {key: d for key, d in single.items() if key.startswith("eval_output")}
        assert all(d < self.evaluation_tolerance for d in worst.values()), worst

    def test_float32_in_training(self, single):
        worst = {key: d for key, d in single.items() if "train" in key}
        assert all(d < self.training_tolerance for d in worst.values()), worst

    @pytest.mark.slow
    def test_float64_in_everything(self, double, reference):
        """Every head in both modes, input gradient, running statistics after one step."""
        assert double.keys() == reference[2].keys()
        assert all(d < self.double_tolerance for d in double.values()), double

    def test_state_dict_round_trip_to_the_bit(self, reference):
        """With all names and shapes of the reference, including `num_batches_tracked`."""
        state_dict = reference[1]
        back = to_torch(self.name, from_torch(self.name, state_dict, **self.fields), **self.fields)
        assert back.keys() == state_dict.keys()
        for key, array in state_dict.items():
            expected = np.zeros_like(array) if key.startswith(self.dropped) else array
            assert (back[key].dtype, back[key].shape) == (array.dtype, array.shape), key
            assert back[key].tobytes() == expected.tobytes(), key


class ModelTester(GoldenTester):
    """The tests of `GoldenTester`, and those that hold for any weights.

    Attributes:
        small: fields, in addition to `fields`, of a network that compiles and runs quickly.
        parameter_count: trainable parameters of the golden's network.
        divisor: the image's sides must be multiples of it.
        min_side: instead, the smallest side of a network that takes any from there up.
        main_head: index of the head that the network returns without `all_heads`.
        bfloat16_tolerance: of the small network in bfloat16, relative to the peak in float32.
    """

    small: dict = {}
    parameter_count: int
    divisor: int = 16
    min_side: int | None = None
    main_head = -1
    bfloat16_tolerance = 0.1

    @property
    def side(self) -> int:
        return self.min_side or self.divisor

    @pytest.fixture(scope="class")
    @classmethod
    def narrow(cls):
        """The small network, variables of noise for it and an image of noise."""
        model = create_model(cls.name, **cls.fields, **cls.small)
        side = 2 * (cls.min_side or cls.divisor)
        return model, *noise(model, (2, side, side, model.in_channels))

    @pytest.fixture(scope="class")
    @classmethod
    def evaluated(cls, narrow):
        """Of the small network: the main logits, all heads, all heads in bfloat16."""
        model, variables, image = narrow
        half = model.clone(dtype=jnp.bfloat16)

        @functools.partial(jax.jit, compiler_options=QUICK_COMPILE)
        def run(variables, image):
            return (
                model.apply(variables, image, train=False),
                model.apply(variables, image, train=False, all_heads=True),
                half.apply(variables, image, train=False, all_heads=True),
            )

        return run(variables, image)

    def test_parameter_count(self):
        variables = variable_shapes(create_model(self.name, **self.fields), self.side)
        assert sum(x.size for x in jax.tree.leaves(variables["params"])) == self.parameter_count
        assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}

    def test_shapes(self, reference):
        """Every head has the image's sides."""
        fields = {**self.fields, **self.small, "in_channels": 3, "num_classes": 2}
        model = create_model(self.name, **fields)
        side = self.side
        sizes = [(side, 2 * side), (3 * side, side)]
        sizes += [(side + 1, 2 * side - 1), (53, 70)] if self.min_side else []
        for h, w in sizes:
            image = jax.ShapeDtypeStruct((2, h, w, 3), jnp.float32)
            heads, _ = jax.eval_shape(
                lambda x: model.init_with_output(KEY, x, train=False, all_heads=True), image
            )
            assert [head.shape for head in heads] == [(2, h, w, 2)] * len(reference[0]["heads"])

    def test_refuses_images_it_cannot_take(self):
        model = create_model(self.name, **self.fields, **self.small)

        def init(*shape):
            jax.eval_shape(lambda: model.init(KEY, jnp.zeros(shape), train=False))

        side, channels = self.side, model.in_channels
        bad = side - 1 if self.min_side else side + 1
        limit = f"sides of {side} or more" if self.min_side else f"divisible by {side}"
        with pytest.raises(InputError, match=f"{self.name} .*{limit}, found {bad}x{side}"):
            init(1, bad, side, channels)
        with pytest.raises(InputError, match=f"{limit}, found {2 * side}x{bad}"):
            init(1, 2 * side, bad, channels)
        with pytest.raises(InputError, match=rf"expects images \[N, H, W, {channels}\]"):
            init(1, side, side, channels + 1)

    def test_gradients_and_one_compilation(self, narrow, reference):
        """Two steps of gradient descent on every head: one trace, finite gradients, none zero.

        A bias may have none, because a norm that subtracts the mean cancels it.
        """
        model, variables, image = narrow
        traces = []

        @functools.partial(jax.jit, compiler_options=QUICK_COMPILE)
        def step(variables, image):
            traces.append(image.shape)

            def loss(params):
                heads, updates = model.apply(
                    {**variables, "params": params},
                    image,
                    train=True,
                    all_heads=True,
                    mutable=["batch_stats"],
                    rngs={"dropout": KEY},
                )
                return sum(jnp.square(head - 1.0).mean() for head in heads), updates

            gradients, updates = jax.grad(loss, has_aux=True)(variables["params"])
            params = jax.tree.map(lambda p, g: p - 1e-3 * g, variables["params"], gradients)
            return {"params": params, **updates}, gradients

        variables, gradients = step(variables, image)
        step(variables, image)
        assert len(traces) == 1
        unused = reference[0]["params_without_gradient"]
        for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
            name = ".".join(part.key for part in path)
            assert np.isfinite(gradient).all(), name
            if path[-1].key != "bias" and f"{name.rpartition('.')[0]}.weight" not in unused:
                assert np.abs(gradient).max() > 0, name

    def test_main_head(self, evaluated):
        logits, heads, _ = evaluated
        np.testing.assert_array_equal(logits, heads[self.main_head])

    def test_bfloat16(self, narrow, evaluated):
        """Computes in bfloat16 with float32 parameters, close to the float32 results."""
        variables = variable_shapes(narrow[0].clone(dtype=jnp.bfloat16), self.side)
        assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
        for exact, rounded in zip(*evaluated[1:], strict=True):
            assert (exact.dtype, rounded.dtype) == (jnp.float32, jnp.bfloat16)
            error = np.abs(np.asarray(rounded, np.float32) - exact).max()
            assert 0 < error < self.bfloat16_tolerance * np.abs(exact).max()


def differences(name, fields, reference, dtype):
    """How much the network `name`, computed in `dtype`, differs from each array of a golden.

    Args:
        name, fields: as for `create_model`.
        reference: the golden's description, its state_dict and its arrays (NCHW).
        dtype: np.float32, or np.float64 with x64 enabled.

    Returns:
        array name -> max |found - golden| / max |golden|. In float32 without `grad_input`, because
        a ReLU within rounding error of its kink may flip.
    """
    spec, state_dict, golden = reference
    model = create_model(name, **fields)
    variables = jax.tree.map(lambda x: x.astype(dtype), from_torch(name, state_dict, **fields))
    image = _nhwc(weights.inputs(spec), dtype)
    cotangents = [_nhwc(c, dtype) for c in weights.cotangents(spec)]
    double = dtype == np.float64

    def evaluate(image, variables):
        heads = model.apply(variables, image, train=False, all_heads=True)
        return sum((h * c).sum() for h, c in zip(heads, cotangents, strict=True)), heads

    @functools.partial(jax.jit, compiler_options=QUICK_COMPILE_DOUBLE if double else QUICK_COMPILE)
    def run(variables, image):
        if double:
            gradient, evaluated = jax.grad(evaluate, has_aux=True)(image, variables)
        else:
            gradient, evaluated = None, evaluate(image, variables)[1]
        trained, updates = model.apply(
            variables, image, train=True, all_heads=True, mutable=["batch_stats"]
        )
        return evaluated, trained, updates, gradient

    evaluated, trained, updates, gradient = run(variables, image)
    after = to_torch(name, {"params": variables["params"], **updates}, **fields)
    found = {f"after_train.{key}": value for key, value in after.items()}
    for head, *outputs in zip(spec["heads"], evaluated, trained, strict=True):
        assert {x.dtype for x in outputs} == {jnp.dtype(dtype)}
        found |= zip((head["key"], head["train_key"]), outputs, strict=True)
    if double:
        found["grad_input"] = gradient
    result = {}
    for key, expected in golden.items():
        if double or key != "grad_input":
            array = _nchw(found[key])
            assert array.shape == expected.shape, key
            result[key] = float(np.abs(array - expected).max() / np.abs(expected).max())
    return result


def variable_shapes(model, side=16):
    """The shapes and dtypes of the variables of `model`, without computing any."""
    image = jnp.zeros((1, side, side, model.in_channels))
    return jax.eval_shape(lambda: model.init(KEY, image, train=False))


def noise(model, shape):
    """Random variables of `model` of realistic size, and a random image of `shape`; float32 NumPy.

    An array depends only on its name and shape, not on the rest of the network.
    """

    def value(path, leaf):
        name = jax.tree_util.keystr(path)
        z = np.random.default_rng(zlib.crc32(name.encode())).normal(size=leaf.shape)
        if z.ndim > 1:
            z = z * (2 / np.prod(z.shape[:-1])) ** 0.5
        else:
            z = 1 + 0.1 * np.abs(z) if path[-1].key in ("scale", "var") else 0.1 * z
        return z.astype(np.float32)

    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    variables = jax.eval_shape(lambda: model.init(KEY, image, train=False))
    return jax.tree_util.tree_map_with_path(value, variables), image


def _nhwc(array, dtype):
    return np.transpose(array, (0, 2, 3, 1)).astype(dtype)


def _nchw(array):
    return np.transpose(array, (0, 3, 1, 2)) if array.ndim == 4 else np.asarray(array)
