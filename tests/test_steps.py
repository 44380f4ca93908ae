"""The pure steps: what they compute, and that the number of devices does not matter."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from prnet_jax import optim, steps
from prnet_jax.config import make_config
from prnet_jax.losses import bce_dice
from prnet_jax.steps import make_model


def batch(number=4, size=32, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.random((number, size, size, 1)), jnp.float32),
        "mask": jnp.asarray(rng.random((number, size, size, 1)) > 0.5, jnp.float32),
        "draw": jnp.arange(number, dtype=jnp.int32),
    }


def build(config, optimizer=None):
    model = make_model(config)
    schedule = optim.make_schedule(config, 2)
    optimizer = optimizer or optim.make_optimizer(config, schedule)
    state = jax.jit(lambda: steps.init_state(config, model, optimizer))()
    return model, state, jax.jit(steps.make_train_step(config, model, optimizer, schedule))


def differences(a, b):
    return jax.tree.leaves(jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), a, b))


def test_flips_average_the_probability_over_mirror_images(tiny_config):
    model, state, _ = build(tiny_config)
    images = {**batch(), "index": jnp.arange(4)}
    variables = state.eval_variables

    @jax.jit
    def prob(image):
        return jax.nn.sigmoid(model.apply(variables, image, train=False))

    image = images["image"]
    expected = prob(image)
    expected += prob(image[:, ::-1])[:, ::-1]
    expected += prob(image[:, :, ::-1])[:, :, ::-1]
    expected += prob(image[:, ::-1, ::-1])[:, ::-1, ::-1]
    plain = jax.jit(steps.make_eval_step(tiny_config, model))(variables, images)
    flipped = jax.jit(steps.make_eval_step(tiny_config, model, flips=True))(variables, images)
    np.testing.assert_allclose(flipped["prob"], expected[..., 0] / 4, atol=1e-6)
    assert np.abs(flipped["prob"] - plain["prob"]).max() > 1e-3
    np.testing.assert_allclose(flipped["loss"], plain["loss"], rtol=1e-6)
    pred, target = flipped["prob"] >= 0.5, images["mask"][..., 0] > 0.5
    np.testing.assert_array_equal(flipped["tp"], np.sum(pred & target, axis=(1, 2)))


def test_schedule_by_hand(tiny_config):
    tiny_config.num_epochs, tiny_config.warmup_epochs = 10, 2
    tiny_config.learning_rate, tiny_config.final_learning_rate = 0.5, 0.1
    schedule = optim.make_schedule(tiny_config, steps_per_epoch=5)
    rates = [float(schedule(step)) for step in (0, 5, 10, 30, 50)]
    np.testing.assert_allclose(rates, [0, 0.25, 0.5, 0.05 + 0.45 / 2, 0.05], rtol=1e-6)
    tiny_config.warmup_epochs = 0
    assert float(optim.make_schedule(tiny_config, 5)(0)) == 0.5


def test_weight_decay_spares_vectors(tiny_config):
    tiny_config.weight_decay, tiny_config.learning_rate, tiny_config.warmup_epochs = 0.1, 1.0, 0
    optimizer = optim.make_optimizer(tiny_config, optim.make_schedule(tiny_config, 2))
    params = {"kernel": jnp.ones((1, 1, 2, 2)), "bias": jnp.ones(2)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.1, rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], 0)


def test_step_is_the_gradient_of_the_loss(tiny_config):
    """Plain SGD with rate 1 moves by the gradient, computed here without the step's code."""
    tiny_config.augment.flip_horizontal = 0.0
    model, state, step = build(tiny_config, optax.sgd(1.0))
    data = batch()

    def loss(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, _ = model.apply(variables, data["image"], train=True, mutable=["batch_stats"])
        prob, target = jax.nn.sigmoid(logits), data["mask"]
        bce = -(target * jnp.log(prob) + (1 - target) * jnp.log(1 - prob)).mean((1, 2, 3))
        shared, total = (prob * target).sum((1, 2, 3)), (prob + target).sum((1, 2, 3))
        return (bce + 1 - (2 * shared + 1) / (total + 1)).mean()

    value, gradient = jax.jit(jax.value_and_grad(loss))(state.params)
    after, results = step(state, data)
    assert float(results["loss"]) == pytest.approx(float(value), rel=1e-5)
    assert float(results["grad_norm"]) == pytest.approx(float(optax.global_norm(gradient)), 1e-4)
    moved = jax.tree.map(lambda before, now: before - now, state.params, after.params)
    assert max(differences(moved, gradient)) < 1e-4 * float(optax.global_norm(gradient))
    assert int(after.step) == 1
    assert max(differences(after.batch_stats, state.batch_stats)) > 0


def test_augmentation_depends_on_the_draw_not_on_the_place_in_the_batch(tiny_config):
    """A reordered batch gives the same step, to rounding; other draws give another step."""
    tiny_config.augment.noise = 0.5
    _, state, step = build(tiny_config)
    data = batch()
    order = np.array([2, 0, 3, 1])
    _, results = step(state, data)
    _, shuffled = step(state, {name: array[order] for name, array in data.items()})
    _, others = step(state, {**data, "draw": data["draw"] + 4})
    assert float(shuffled["loss"]) == pytest.approx(float(results["loss"]), rel=1e-5)
    assert abs(float(others["loss"]) - float(results["loss"])) > 1e-4


def test_accumulation_averages_the_parts(tiny_config):
    """Two parts: the mean of their gradients, each with its own batch statistics."""
    tiny_config.augment.flip_horizontal = 0.0
    data = batch()
    _, state, whole = build(tiny_config, optax.sgd(1.0))
    tiny_config.accumulate_steps = 2
    _, _, in_parts = build(tiny_config, optax.sgd(1.0))
    after, results = in_parts(state, data)
    moves, losses, start = [], [], state
    for part in (slice(0, None, 2), slice(1, None, 2)):
        moved, alone = whole(start, {name: array[part] for name, array in data.items()})
        moves.append(jax.tree.map(lambda a, b: a - b, start.params, moved.params))
        losses.append(float(alone["loss"]))
        start = start.replace(batch_stats=moved.batch_stats)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *moves)
    moved = jax.tree.map(lambda a, b: a - b, state.params, after.params)
    assert max(differences(moved, mean)) < 1e-5
    assert float(results["loss"]) == pytest.approx(np.mean(losses), rel=1e-5)
    assert max(differences(after.batch_stats, start.batch_stats)) < 1e-5


def test_ema_of_the_weights(tiny_config):
    tiny_config.ema_decay = 0.9
    _, state, step = build(tiny_config)
    after, _ = step(state, batch())
    # The decay is 1/10 in the first step: see the step's comment.
    expected = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, state.params, after.params)
    assert max(differences(after.ema_params, expected)) < 1e-6
    assert after.eval_variables["params"] is after.ema_params
    tiny_config.ema_decay = 0.0
    assert build(tiny_config)[1].ema_params is None


def test_eval_step_by_hand(tiny_config):
    model, state, _ = build(tiny_config)
    data = batch(2)
    results = steps.make_eval_step(tiny_config, model)(
        state.eval_variables, {**data, "index": jnp.array([5, -1])}
    )
    logits = model.apply(state.eval_variables, data["image"], train=False)[..., 0]
    prob, target = np.asarray(jax.nn.sigmoid(logits)), np.asarray(data["mask"][..., 0]) > 0.5
    np.testing.assert_allclose(results["prob"], prob, atol=1e-6)
    np.testing.assert_array_equal(results["index"], [5, -1])
    np.testing.assert_array_equal(results["tp"], ((prob >= 0.5) & target).sum((1, 2)))
    np.testing.assert_array_equal(results["fp"], ((prob >= 0.5) & ~target).sum((1, 2)))
    assert results["loss"].shape == (2,)


_RUN_ON_DEVICES = """
import json, sys
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
import numpy as np
from flax import linen as nn
from prnet_jax import optim, sharding, steps
from prnet_jax.config import make_config
from prnet_jax.steps import make_model
config = make_config("prnet", "quick")
config.model.widths, config.model.heads = (4, 8), 2
config.dataset.image_size, config.num_epochs, config.warmup_epochs = 16, 3, 0.5
config.augment.rotate_degrees, config.seed = 10.0, 37
nearest, relu = [], nn.relu
def watched(x):
    jax.debug.callback(nearest.append, abs(x).min())
    return relu(x)
if sys.argv[2:] == ["watched"]:
    nn.relu = watched
mesh, model = sharding.make_mesh(), make_model(config)
schedule = optim.make_schedule(config, 2)
optimizer = optim.make_optimizer(config, schedule)
state = sharding.make_state(mesh, lambda: steps.init_state(config, model, optimizer))
step = steps.make_train_step(config, model, optimizer, schedule)
step = sharding.jit_train_step(mesh, step, state)
evaluate = sharding.jit_eval_step(mesh, steps.make_eval_step(config, model))

rng = np.random.default_rng(0)
rows, columns = np.mgrid[:16, :16]
def discs(name, i):
    y, x, radius = rng.uniform((4, 4, 2), (12, 12, 4.5), (4, 3)).T[..., None, None]
    mask = np.float32((rows - y) ** 2 + (columns - x) ** 2 < radius**2)[..., None]
    image = np.float32(0.3 + 0.3 * mask + 0.1 * rng.standard_normal(mask.shape))
    data = {"image": image, "mask": mask, name: np.arange(4 * i, 4 * i + 4, dtype=np.int32)}
    return sharding.shard_batch(mesh, data)

losses = []
nearest.clear()
for i in range(6):
    state, results = step(state, discs("draw", i))
    losses.append(float(results["loss"]))
jax.effects_barrier()
edge = float(min(nearest, default=0))
results = evaluate(state.eval_variables, discs("index", 0))
print(json.dumps({
    "devices": jax.device_count(),
    "losses": losses,
    "nearest": edge,
    "eval_losses": np.asarray(results["loss"]).tolist(),
    "counts": [np.asarray(results[name]).tolist() for name in ("tp", "fp", "fn", "tn")],
    "stats": [np.asarray(x).tolist() for x in jax.tree.leaves(state.batch_stats)],
}))
"""


@pytest.mark.slow
def test_one_and_four_devices_agree(root):
    """Losses, BatchNorm statistics and evaluation are the same after six steps of AdamW.

    The batch is the same however it is spread, and no gradient is rounding error alone (see
    `normed` in `prnet_jax.models.layers.Conv`). Nor is an activation so near the edge of a ReLU
    that rounding, 2e-6 there, could move it over; if it is, whatever computes, change the seed.
    """
    one, four, watched = (
        json.loads(
            subprocess.run(
                [sys.executable, "-c", _RUN_ON_DEVICES, *arguments],
                cwd=root,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for arguments in (["1"], ["4"], ["1", "watched"])
    )
    assert watched["nearest"] > 1e-5
    assert (one["devices"], four["devices"]) == (1, 4)
    np.testing.assert_allclose(one["losses"], four["losses"], rtol=1e-6)
    np.testing.assert_allclose(np.mean(one["eval_losses"]), np.mean(four["eval_losses"]), rtol=1e-6)
    assert one["counts"] == four["counts"]
    for a, b in zip(one["stats"], four["stats"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


def test_weighted_heads_and_dropout_reach_the_loss(tiny_config):
    """UNet++: the sum over its heads. LightUNet: a new dropout mask in every step."""
    config = make_config("unetpp", "quick")
    config.model.widths, config.model.deep_supervision = (4, 8), True
    config.dataset.image_size, config.head_weights = 32, (0.25,)
    config.augment.flip_horizontal = 0.0
    model, state, step = build(config)
    data = batch()
    heads = model.apply(
        state.eval_variables, data["image"], train=True, all_heads=True, mutable=["batch_stats"]
    )[0]
    _, results = step(state, data)
    expected = 0.25 * float(bce_dice(heads[0], data["mask"]).mean())
    assert float(results["loss"]) == pytest.approx(expected, rel=1e-4)

    config = make_config("lightunet", "quick")
    config.model.widths, config.dataset.image_size = (4, 4, 4, 4, 4), 32
    config.augment.flip_horizontal = 0.0
    _, state, step = build(config, optax.sgd(0.0))
    state, first = step(state, data)
    state, second = step(state, data)
    assert abs(float(first["loss"]) - float(second["loss"])) > 1e-6
