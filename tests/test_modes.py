"""What saves memory or time and leaves the result alone.

Remat, accumulation, blockwise attention, bfloat16.
"""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from prnet_jax import optim, steps
from prnet_jax.config import make_config
from prnet_jax.data.pipeline import Slices
from prnet_jax.data.prepare import prepare
from prnet_jax.losses import bce_dice
from prnet_jax.models.layers import AttentionGate, Conv, DoubleConv, UpConv
from prnet_jax.steps import make_model

# Compiled in a third of the time, and slow: for programs that run once.
quickly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

SMALL = {
    "prnet": {"widths": (4, 8), "heads": 2},
    "unet": {"widths": (4, 8)},
    "lightunet": {"widths": (4, 4, 4, 4, 4)},  # has dropout
}


def small_config(name):
    config = make_config(name, "quick")
    for field, value in SMALL[name].items():
        config.model[field] = value
    config.dataset.image_size, config.ema_decay = 32, 0.5
    config.augment.flip_horizontal = 0.0
    return config


def batch(number=8, size=32):
    rng = np.random.default_rng(0)
    image = rng.random((number, size, size, 1)).astype(np.float32)
    draw = np.arange(number, dtype=np.int32)
    return {"image": image, "mask": (image > 0.5).astype(np.float32), "draw": draw}


def step_of(config, model=None):
    """The state and one step of SGD of rate 1, so that the parameters move by the gradient."""
    model = model or make_model(config)
    schedule = optim.make_schedule(config, 2)
    state = quickly(lambda: steps.init_state(config, model, optax.sgd(1.0)))()
    return state, steps.make_train_step(config, model, optax.sgd(1.0), schedule)


def gradient(before, after):
    return jax.tree.map(lambda a, b: a - b, before.params, after.params)


def relative(a, b):
    """|a - b| / |b| of the norms of all gradients together."""
    return float(optax.global_norm(jax.tree.map(jnp.subtract, a, b)) / optax.global_norm(b))


@pytest.mark.parametrize(
    "name", ["prnet", *(pytest.param(n, marks=pytest.mark.slow) for n in ("unet", "lightunet"))]
)
def test_remat_changes_no_result(name):
    config = small_config(name)
    state, plain = step_of(config)
    config.remat = True
    _, again = step_of(config)
    programs = [str(jax.make_jaxpr(step)(state, batch())) for step in (plain, again)]
    convolutions = [program.count("conv_general_dilated[") for program in programs]
    assert convolutions[0] < convolutions[1]
    a, b = (quickly(step)(state, batch()) for step in (plain, again))
    assert float(b[1]["loss"]) == pytest.approx(float(a[1]["loss"]), rel=1e-6)
    assert relative(gradient(state, b[0]), gradient(state, a[0])) < 1e-5
    for x, y in zip(*map(jax.tree.leaves, (a[0].batch_stats, b[0].batch_stats)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7)


def test_blockwise_attention_changes_no_result():
    """With remat and attention at the finest level too: 1,024 positions, which are two blocks."""
    config = small_config("prnet")
    config.model.enhance_skips, config.model.attention = (0,), "dense"
    state, plain = step_of(config)
    data = batch(2)
    images = {**data, "index": data["draw"]}
    expected = quickly(steps.make_eval_step(config, make_model(config)))
    config.model.attention, config.remat = "blockwise", True
    _, again = step_of(config)
    found = quickly(steps.make_eval_step(config, make_model(config)))
    scores = [evaluate(state.eval_variables, images) for evaluate in (found, expected)]
    np.testing.assert_allclose(scores[0]["prob"], scores[1]["prob"], rtol=1e-5)
    a, b = (quickly(step)(state, data) for step in (plain, again))
    assert float(b[1]["loss"]) == pytest.approx(float(a[1]["loss"]), rel=1e-6)
    assert relative(gradient(state, b[0]), gradient(state, a[0])) < 1e-5
    for x, y in zip(*map(jax.tree.leaves, (a[0].batch_stats, b[0].batch_stats)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["prnet", pytest.param("unet", marks=pytest.mark.slow)])
def test_accumulation_is_one_backward_pass(name):
    """Against four parts at once under vmap, each with its own BatchNorm statistics."""
    config = small_config(name)
    config.accumulate_steps = 4
    state, step = step_of(config)
    model, data = make_model(config), batch()
    # Part i holds every fourth image.
    image, mask = (jnp.stack([data[key][i::4] for i in range(4)]) for key in ("image", "mask"))

    def loss_of(params):
        def of_part(image, mask):
            variables = {"params": params, "batch_stats": state.batch_stats}
            logits, _ = model.apply(variables, image, train=True, mutable=["batch_stats"])
            return bce_dice(logits, mask)

        return jax.vmap(of_part)(image, mask).mean()

    loss, expected = quickly(jax.value_and_grad(loss_of))(state.params)
    after, results = quickly(step)(state, data)
    assert float(results["loss"]) == pytest.approx(float(loss), rel=1e-5)
    assert relative(gradient(state, after), expected) < 1e-5


class Frozen:
    """A network that normalises with its running statistics in training too."""

    def __init__(self, model):
        self._model, self.in_channels = model, model.in_channels
        self.init = model.init

    def apply(self, variables, image, train, all_heads, mutable, rngs):
        output = self._model.apply(variables, image, train=False, all_heads=all_heads)
        return output, {"batch_stats": variables["batch_stats"]}


@pytest.mark.parametrize("name", ["prnet", pytest.param("unet", marks=pytest.mark.slow)])
def test_without_batch_statistics_accumulation_is_the_big_batch(name):
    config = small_config(name)
    model = Frozen(make_model(config))
    state, whole = step_of(config, model)
    config.accumulate_steps = 4
    _, in_parts = step_of(config, model)
    a, b = (quickly(step)(state, batch()) for step in (whole, in_parts))
    assert float(b[1]["loss"]) == pytest.approx(float(a[1]["loss"]), rel=1e-5)
    assert relative(gradient(state, b[0]), gradient(state, a[0])) < 1e-5


def _gradient_of_biases(module, *arrays, train):
    variables = module.init(jax.random.key(0), *arrays, train)

    def loss(params):
        variables_now = {**variables, "params": params}
        out, _ = module.apply(variables_now, *arrays, train, mutable=["batch_stats"])
        return (out * jnp.arange(out.size).reshape(out.shape) % 7).sum()

    found = flax.traverse_util.flatten_dict(quickly(jax.grad(loss))(variables["params"]), sep="/")
    convs = {name for name, array in found.items() if name.endswith("kernel")}
    return [found[name.replace("kernel", "bias")] for name in sorted(convs)]


@pytest.mark.parametrize(
    "module, inputs", [(DoubleConv(4), 1), (AttentionGate(4), 2)], ids=["conv", "gate"]
)
def test_bias_before_a_batch_norm_has_no_gradient_in_training(module, inputs):
    arrays = jax.random.normal(jax.random.key(1), (inputs, 2, 8, 8, 3))
    training = _gradient_of_biases(module, *arrays, train=True)
    assert len(training) == inputs + 1 and not any(np.any(g) for g in training)
    assert all(np.any(g) for g in _gradient_of_biases(module, *arrays, train=False))


def test_normed_leaves_values_and_other_gradients_alone():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    plain, normed = Conv(4), Conv(4, normed=True)
    params = plain.init(jax.random.key(1), x)
    np.testing.assert_array_equal(plain.apply(params, x), normed.apply(params, x))
    a, b = (
        jax.grad(lambda p, conv=conv: jnp.square(conv.apply(p, x)).sum())(params)["params"]
        for conv in (plain, normed)
    )
    np.testing.assert_array_equal(a["kernel"], b["kernel"])
    assert np.all(a["bias"] != 0) and not np.any(b["bias"])


@pytest.mark.parametrize("layer", [Conv(1, 1, dtype=jnp.bfloat16), UpConv(1, dtype=jnp.bfloat16)])
def test_gradient_of_a_bfloat16_bias_counts_beyond_256(layer):
    """bfloat16 cannot count beyond 256: the sum over pixels must be in float32."""
    x = jnp.ones((1, 64, 64, 1))
    params = layer.init(jax.random.key(0), x)
    found = jax.grad(lambda p: layer.apply(p, x).astype(jnp.float32).sum())(params)["params"]
    assert found["bias"].dtype == jnp.float32
    assert float(found["bias"][0]) == layer.apply(params, x).size
    jaxpr = jax.make_jaxpr(jax.grad(lambda p: layer.apply(p, x).astype(jnp.float32).sum()))(params)
    assert "bf16[1] = reduce_sum" not in str(jaxpr)


@pytest.mark.slow
def test_bfloat16_trains_like_float32(records_dir):
    """quick, ten epochs of four steps on phantom slices with lung: losses within 2 %.

    On slices without lung the Dice loss stays near 1 long after the others are learnt.
    """
    found = {}
    for dtype in ("float32", "bfloat16"):
        config = make_config("prnet", "quick")
        config.model.widths, config.dtype, config.num_epochs = (8, 16, 32, 64), dtype, 10
        config.learning_rate = 5e-3
        data = config.dataset
        data.options.size, data.options.num_slices = 64, (64, 16, 8)
        builder = prepare(data.name, str(records_dir), **data.options)
        training, validation = (Slices(builder, part, data) for part in ("train", "validation"))
        with_lung = [i for i in range(64) if training[i]["mask"].any()][:32]
        model, schedule = make_model(config), optim.make_schedule(config, 4)
        optimizer = optim.make_optimizer(config, schedule)
        state = steps.init_state(config, model, optimizer)
        step = jax.jit(steps.make_train_step(config, model, optimizer, schedule))
        losses = []
        for i in range(40):
            order = np.random.default_rng(i // 4).permutation(32)[8 * (i % 4) : 8 * (i % 4) + 8]
            batch = stacked(training, np.take(with_lung, order), draw=order + 32 * (i // 4))
            state, results = step(state, batch)
            losses.append(float(results["loss"]))
        evaluate = jax.jit(steps.make_eval_step(config, model))
        lungs = [i for i in range(16) if validation[i]["mask"].any()][:8]
        scores = evaluate(state.eval_variables, stacked(validation, lungs, index=np.arange(8)))
        found[dtype] = np.mean(losses[-4:]), float(scores["loss"].mean())
    assert found["float32"][0] < 0.9, found  # it starts at 1.4
    np.testing.assert_allclose(found["bfloat16"], found["float32"], rtol=0.02)


def stacked(slices, order, **numbers):
    items = [slices[int(i)] for i in order]
    arrays = {name: np.stack([item[name] for item in items]) for name in ("image", "mask")}
    return arrays | {name: np.asarray(value, np.int32) for name, value in numbers.items()}


def test_bfloat16_reaches_neither_state_nor_results():
    config = small_config("prnet")
    config.dtype = "bfloat16"
    model, schedule = make_model(config), optim.make_schedule(config, 2)
    optimizer = optim.make_optimizer(config, schedule)
    state = jax.eval_shape(lambda: steps.init_state(config, model, optimizer))
    step = steps.make_train_step(config, model, optimizer, schedule)
    assert "bf16" in str(jax.make_jaxpr(step)(state, batch()))
    after, results = jax.eval_shape(step, state, batch())
    scores = jax.eval_shape(
        steps.make_eval_step(config, model),
        state.eval_variables,
        {**batch(), "index": np.arange(8, dtype=np.int32)},
    )
    dtypes = {leaf.dtype.name for leaf in jax.tree.leaves((after, results, scores))}
    assert dtypes == {"float32", "int32"}
