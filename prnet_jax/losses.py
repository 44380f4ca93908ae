"""Losses per image: binary cross-entropy, soft Dice, and their sum.

All work on logits and masks [N, H, W, C], C masks an image, and in float32 at least, whatever the
logits' dtype (float64 stays float64). The paper does not name its loss.
"""

import jax
import jax.numpy as jnp
import optax


def bce(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Binary cross-entropy, mean over the pixels of an image.

    Args:
        logits: float [N, H, W, C].
        target: bool, or float in [0, 1], [N, H, W, C].

    Returns:
        float [N], at least 0.

    Raises:
        ValueError: unequal shapes.
    """
    logits, target = _promote(logits, target)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, target), axis=(1, 2, 3))


def dice_loss(logits: jax.Array, target: jax.Array, smooth: float = 1.0) -> jax.Array:
    """Soft Dice loss 1 - (2 sum(p g) + smooth) / (sum(p) + sum(g) + smooth), p = sigmoid(logits).

    On an empty mask it falls to 0 as the probabilities do, with a gradient that leads there.

    Args:
        logits: float [N, H, W, C].
        target: bool, or float in [0, 1], [N, H, W, C].
        smooth: in pixels, above 0: how much probability on an empty mask costs one half.

    Returns:
        float [N] in [0, 1], the mean over C.

    Raises:
        ValueError: unequal shapes.
    """
    logits, target = _promote(logits, target)
    prob = jax.nn.sigmoid(logits)
    shared = jnp.sum(prob * target, axis=(1, 2))
    total = jnp.sum(prob, axis=(1, 2)) + jnp.sum(target, axis=(1, 2))
    return jnp.mean(1 - (2 * shared + smooth) / (total + smooth), axis=-1)


def bce_dice(
    logits: jax.Array, target: jax.Array, bce_weight: float = 1.0, dice_weight: float = 1.0
) -> jax.Array:
    """`bce_weight` * `bce` + `dice_weight` * `dice_loss`; arguments as there, float [N]."""
    return bce_weight * bce(logits, target) + dice_weight * dice_loss(logits, target)


def _promote(logits: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    if logits.shape != target.shape:
        raise ValueError(f"logits are {logits.shape} but target is {target.shape}")
    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    return logits.astype(dtype), target.astype(dtype)
