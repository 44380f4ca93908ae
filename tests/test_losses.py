"""Losses against values computed by hand, against PyTorch, and where they could overflow."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax import losses
from prnet_jax.errors import InputError

bce, dice_loss, bce_dice = map(jax.jit, (losses.bce, losses.dice_loss, losses.bce_dice))
EXTREME = [-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4]


@pytest.fixture
def float64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3, size=(3, 5, 4, 1))
    target = rng.random(logits.shape) < 0.4
    target[1] = False
    return logits, target


def images(values):
    """[N, 1, W, 1] from N rows of pixels."""
    return jnp.asarray(values, jnp.float32)[:, None, :, None]


def test_bce_by_hand():
    third = np.log(3)  # sigmoid: 3/4
    loss = bce(images([[0, 0], [third, third]]), images([[1, 0], [1, 0]]))
    np.testing.assert_allclose(loss, [np.log(2), (np.log(4 / 3) + np.log(4)) / 2], rtol=1e-6)


def test_dice_by_hand():
    third = np.log(3)
    # 2 * 3/4 + 1 over 6/4 + 1 + 1
    loss = dice_loss(images([[third, third]]), images([[1, 0]]))
    np.testing.assert_allclose(loss, [1 - 2.5 / 3.5], rtol=1e-6)
    loss = dice_loss(images([[third, third]]), images([[1, 0]]), smooth=0.5)
    np.testing.assert_allclose(loss, [1 - 2.0 / 3.0], rtol=1e-6)


def test_dice_of_an_empty_mask_falls_to_zero_with_the_probabilities():
    logits = images([[-2.0] * 16, [-5.0] * 16, [-20.0] * 16, [20.0] * 16])
    empty = jnp.zeros(logits.shape)
    loss = dice_loss(logits, empty)
    total = 16 / (1 + np.exp([2.0, 5.0, 20.0, -20.0]))
    np.testing.assert_allclose(loss, total / (total + 1), rtol=1e-5, atol=1e-7)
    slope = jax.jit(jax.grad(lambda x: dice_loss(x, empty)[0]))(logits)[0]
    assert (slope > 0).all()  # descent lowers the logits


def test_perfect_and_worst_prediction():
    target = images([[1, 1, 0, 0]])
    logits = 100 * (2 * target - 1)
    np.testing.assert_allclose(bce_dice(logits, target), [0], atol=1e-6)
    np.testing.assert_allclose(bce(-logits, target), [100], rtol=1e-6)
    np.testing.assert_allclose(dice_loss(-logits, target), [1 - 1 / 5], rtol=1e-6)


def test_channels_are_separate_masks_of_one_image(batch):
    logits, target = (jnp.asarray(part) for part in batch)
    two = [jnp.concatenate([part, part[::-1]], axis=-1) for part in (logits, target)]
    for loss in (bce, dice_loss):
        one = loss(logits, target)
        np.testing.assert_allclose(loss(*two), (one + one[::-1]) / 2, rtol=1e-5)


def test_equal_to_torch_with_gradients(batch, float64):
    torch = pytest.importorskip("torch")
    logits, target = torch.tensor(batch[0], requires_grad=True), torch.tensor(batch[1]).double()
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, target, reduction="none"
    ).mean((1, 2, 3))
    prob = logits.sigmoid()
    shared, total = (prob * target).sum((1, 2, 3)), (prob + target).sum((1, 2, 3))
    expected = 0.5 * entropy + 2 * (1 - (2 * shared + 1) / (total + 1))
    expected.sum().backward()

    def loss(x):
        return bce_dice(x, jnp.asarray(batch[1]), bce_weight=0.5, dice_weight=2.0)

    found = loss(jnp.asarray(batch[0]))
    assert found.shape == (3,) and found.dtype == jnp.float64
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-12)
    gradient = jax.jit(jax.grad(lambda x: loss(x).sum()))(jnp.asarray(batch[0]))
    np.testing.assert_allclose(gradient, logits.grad.numpy(), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("label", [0, 1])
def test_extreme_logits(label):
    logits, target = images([[x] for x in EXTREME]), images([[label]] * len(EXTREME))
    x = np.asarray(EXTREME)
    np.testing.assert_allclose(
        bce(logits, target), np.logaddexp(0, x if label == 0 else -x), rtol=1e-5, atol=1e-40
    )
    gradient = jax.jit(jax.grad(lambda x: bce(x, target).sum()))(logits)
    probability = 1 / (1 + np.exp(-np.clip(x, -700, 700)))
    np.testing.assert_allclose(gradient.ravel(), probability - label, rtol=1e-5, atol=1e-7)
    gradient = jax.jit(jax.grad(lambda x: bce_dice(x, target).sum()))(logits)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_low_precision_logits_are_computed_in_float32(dtype):
    logits = jnp.full((1, 128, 128, 1), 0.5, dtype)
    target = jnp.ones(logits.shape, bool)
    prob = 1 / (1 + np.exp(-0.5))
    for loss, expected in (
        (bce, -np.log(prob)),
        (dice_loss, 1 - (2 * prob * 128**2 + 1) / ((prob + 1) * 128**2 + 1)),
    ):
        found = loss(logits, target)
        assert found.dtype == jnp.float32
        # A float32 sum of 16,384 terms is right to 1e-4; half precision would be off by 1e-2.
        np.testing.assert_allclose(found, [expected], rtol=1e-4)


@pytest.mark.parametrize("loss", [bce, dice_loss, bce_dice])
def test_shapes_that_would_broadcast_are_refused(loss):
    with pytest.raises(ValueError, match="but target is"):
        loss(jnp.zeros((2, 4, 4, 1)), jnp.zeros((2, 4, 4)))


def test_head_losses_by_hand():
    heads = [jnp.zeros((2, 4, 4, 1)), jnp.full((2, 4, 4, 1), 3.0)]
    target = jnp.ones((2, 4, 4, 1))
    found = losses.head_losses(heads, target, (0.5, 2.0), losses.bce)
    expected = 0.5 * math.log(2) + 2.0 * math.log(1 + math.exp(-3))
    np.testing.assert_allclose(found, [expected, expected], rtol=1e-6)
    with pytest.raises(InputError, match="has 1 numbers, but the network has 2 heads"):
        losses.head_losses(heads, target, (1.0,), losses.bce)


def test_region_loss_against_brute_force():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(40, 36)), rng.random((40, 36)) > 0.6
    weight = np.empty(target.shape)
    padded = np.pad(target.astype(float), 15)
    for row in range(40):
        for column in range(36):
            mean = padded[row : row + 31, column : column + 31].sum() / 31**2
            weight[row, column] = 1 + 5 * abs(mean - target[row, column])
    prob = 1 / (1 + np.exp(-logits))
    bce = -np.where(target, np.log(prob), np.log(1 - prob)).mean()
    shared, total = (weight * prob * target).sum(), (weight * (prob + target)).sum()
    expected = bce + 1 - (shared + 1) / (total - shared + 1)
    shape = (1, 40, 36, 1)
    logits = jnp.asarray(logits.reshape(shape), jnp.float32)
    found = losses.region_loss(logits, target.reshape(shape))
    np.testing.assert_allclose(found, [expected], rtol=1e-5)


def test_infnet_loss_takes_the_edge_of_the_mask():
    target = np.zeros((1, 8, 8, 1), np.float32)
    target[0, 2:6, 2:6] = 1
    edge = target.copy()
    edge[0, 3:5, 3:5] = 0
    sure = [jnp.asarray(40 * (2 * target - 1))] * 4
    right = losses.infnet_loss([*sure, jnp.asarray(40 * (2 * edge - 1))], jnp.asarray(target))
    np.testing.assert_allclose(right, [0.0], atol=1e-6)
    wrong = losses.infnet_loss([*sure, sure[0]], jnp.asarray(target))
    np.testing.assert_allclose(wrong, [40 * 4 / 64], rtol=1e-6)  # the four inner pixels
    with pytest.raises(InputError, match="5 heads, the network has 1"):
        losses.infnet_loss(sure[:1], jnp.asarray(target))


def padded(array, fill):
    """[N, 5, 4, 1] in the middle of [N, 8, 4, 1]."""
    spread = np.broadcast_to(fill, (len(array), 8, 4, 1)).astype(np.float32)
    return jnp.asarray(spread).at[:, 1:6].set(array)


def infnet(logits, target, valid=None):
    return losses.infnet_loss([logits, -logits, logits / 2, logits + 1, 2 * logits], target, valid)


@pytest.mark.parametrize(
    "loss", [losses.bce, losses.bce_dice, losses.region_loss, infnet, losses.dice_loss]
)
def test_padding_does_not_matter(batch, loss):
    """Whatever stands in the padding: the loss and the gradient are those without it."""
    logits, target = (jnp.asarray(part, jnp.float32) for part in batch)
    valid = padded(jnp.ones(target.shape), 0.0) > 0
    with_gradient = jax.jit(
        lambda x, target, valid: jax.value_and_grad(
            lambda x: ((found := loss(x, target, valid=valid)).sum(), found), has_aux=True
        )(x)
    )
    (_, expected), slope = with_gradient(logits, target, None)
    rng = np.random.default_rng(1)
    for noise in (np.zeros((8, 4, 1)), rng.integers(0, 2, (8, 4, 1))):
        (_, found), padded_slope = with_gradient(
            padded(logits, 9 * noise), padded(target, noise), valid
        )
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        np.testing.assert_allclose(padded_slope[:, 1:6], slope, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(jnp.where(valid, 0, padded_slope), 0)
    (_, all_valid), _ = with_gradient(logits, target, jnp.ones(target.shape, bool))
    np.testing.assert_allclose(all_valid, expected, rtol=1e-6)
