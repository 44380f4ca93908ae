"""Steps on padded images: padding is left out of losses and counts, and moves with the image."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from prnet_jax import optim, processes, steps
from prnet_jax.data.augment import augment
from tests.fakes.pixelwise import Pixelwise

INSIDE = np.s_[:, 2:7]  # of 8 rows: not in the middle


@pytest.fixture
def config(tiny_config):
    tiny_config.dataset.image_size = 8
    tiny_config.augment.flip_horizontal = 0.0
    return tiny_config


def cropped_and_padded():
    """Four images of 5x8, and the same with three rows of bright, marked padding."""
    rng = np.random.default_rng(0)
    padded = {
        "image": rng.random((4, 8, 8, 1), np.float32),
        "mask": np.float32(rng.random((4, 8, 8, 1)) > 0.5),
        "draw": np.arange(4, dtype=np.int32),
    }
    cropped = {name: padded[name][INSIDE] for name in ("image", "mask")} | {"draw": padded["draw"]}
    valid = np.zeros((4, 8, 8, 1), bool)
    valid[INSIDE] = True
    outside = {name: np.where(valid, padded[name], 1) for name in ("image", "mask")}
    return cropped, padded | outside | {"valid": valid}


def build(config):
    """A state whose step moves the parameters by the gradient."""
    model, optimizer = Pixelwise(), optax.sgd(1.0)
    state = steps.init_state(config, model, optimizer)
    schedule = optim.make_schedule(config, 2)
    return model, state, jax.jit(steps.make_train_step(config, model, optimizer, schedule))


@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_is_that_without_the_padding(config, parts):
    config.accumulate_steps = parts
    cropped, padded = cropped_and_padded()
    _, state, step = build(config)
    (expected, wanted), (found, results) = step(state, cropped), step(state, padded)
    assert float(results["loss"]) == pytest.approx(float(wanted["loss"]), rel=1e-6)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    padded.pop("valid")
    _, counted = step(state, padded)
    assert abs(float(counted["loss"]) - float(wanted["loss"])) > 1e-2


def test_an_evaluation_is_that_without_the_padding(config):
    cropped, padded = ({**batch, "index": batch["draw"]} for batch in cropped_and_padded())
    model, state, _ = build(config)
    step = jax.jit(steps.make_eval_step(config, model))
    expected, found = (step(state.eval_variables, batch) for batch in (cropped, padded))
    np.testing.assert_allclose(found["prob"][INSIDE], expected["prob"], rtol=1e-6)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-6)
    for name in ("tp", "fp", "fn", "tn"):
        np.testing.assert_array_equal(found[name], expected[name])
    assert sum(found[name] for name in ("tp", "fp", "fn", "tn")).tolist() == [40] * 4


def test_padding_is_flipped_with_the_image(config):
    config.augment.flip_vertical = 1.0
    cropped, padded = cropped_and_padded()
    _, state, step = build(config)
    losses = [float(step(state, batch)[1]["loss"]) for batch in (cropped, padded)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_soft_masks_are_moved_uncut_and_the_padding_is_cut(config):
    config.augment.shift = 0.1
    _, padded = cropped_and_padded()
    image, _, valid = steps.make_augment(config)(padded)
    config.dataset.soft_mask = True
    padded["mask"] = padded["image"]
    soft_image, mask, soft_valid = steps.make_augment(config)(padded)
    np.testing.assert_array_equal(soft_image, image)
    np.testing.assert_array_equal(soft_valid, valid)
    np.testing.assert_array_equal(mask, image)
    del padded["valid"]  # as where all slices are square
    image, mask = steps.make_augment(config)(padded)
    np.testing.assert_array_equal(mask, image)
    assert len(np.unique(mask)) > 100


def test_a_soft_mask_is_scored_above_a_half(config):
    config.dataset.soft_mask = True
    soft, _ = cropped_and_padded()
    soft = {"image": soft["image"], "mask": soft["image"], "index": soft["draw"]}
    hard = {**soft, "mask": np.float32(soft["mask"] > 0.5)}
    model, state, _ = build(config)
    step = jax.jit(steps.make_eval_step(config, model))
    expected, found = (step(state.eval_variables, batch) for batch in (hard, soft))
    for name in ("tp", "fp", "fn", "tn"):
        np.testing.assert_array_equal(found[name], expected[name])
    assert 0 < int(found["tp"].sum() + found["fn"].sum()) < 4 * 40


def test_padding_is_shifted_and_what_follows_it_counts(config):
    """Equal probabilities everywhere: the Dice loss says how many pixels count."""
    config.augment.shift, config.bce_weight = 0.5, 0.0
    _, padded = cropped_and_padded()
    padded["mask"] = np.zeros_like(padded["mask"])
    _, state, step = build(config)
    state = state.replace(params=jax.tree.map(jnp.zeros_like, state.params))
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, padded["draw"])
    padding = np.float32(~padded["valid"])
    _, moved = augment(keys, padded["image"], padding, config.augment)
    number = 64 - np.asarray(moved).sum(axis=(1, 2, 3))  # of the pixels that count
    assert len(set(number.tolist())) > 1 and (number >= 40).all()
    _, results = step(state, padded)
    assert float(results["loss"]) == pytest.approx(np.mean(1 - 1 / (number / 2 + 1)), rel=1e-5)


def test_several_processes_take_batches_with_and_without_padding(monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 2)
    waits = []
    monkeypatch.setattr(processes, "_wait_for_all", lambda: waits.append(1))
    step = processes.compile_together(jax.jit(lambda batch: sum(batch.values())))
    one = {"mask": np.float32(1)}
    assert [float(step(one)), float(step(one | {"valid": np.float32(2)})), float(step(one))] == [
        *(1, 3, 1)
    ]
    assert len(waits) == 2
