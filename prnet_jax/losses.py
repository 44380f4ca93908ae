"""Losses per image: binary cross-entropy, soft Dice, their sum, and losses over several heads.

All take logits and masks [N, H, W, C], with C masks an image, and compute in float32 or better
whatever the logits' dtype. The paper does not name its loss.

Pixels where `valid` is False, such as padding, do not matter; without `valid` all do.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from prnet_jax.errors import InputError


def bce(logits: jax.Array, target: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Binary cross-entropy, the mean over an image's pixels.

    Args:
        logits: float [N, H, W, C].
        target: bool, or float in [0, 1], [N, H, W, C].
        valid: bool [N, H, W, 1], True somewhere in each image.

    Returns:
        float [N], at least 0.

    Raises:
        ValueError: the shapes differ.
    """
    logits, target = _promote(logits, target)
    entropy = optax.sigmoid_binary_cross_entropy(logits, target)
    return jnp.mean(entropy, axis=(1, 2, 3), where=valid)


def dice_loss(
    logits: jax.Array,
    target: jax.Array,
    smooth: float = 1.0,
    valid: jax.Array | None = None,
) -> jax.Array:
    """Soft Dice loss 1 - (2 sum(p g) + smooth) / (sum(p) + sum(g) + smooth), p = sigmoid(logits).

    On an empty mask the loss falls to 0 with the probabilities, and so has a useful gradient.

    Args:
        logits: float [N, H, W, C].
        target: bool, or float in [0, 1], [N, H, W, C].
        smooth: above 0, in pixels: the total probability at which an empty mask has a loss of 1/2.
        valid: bool [N, H, W, 1].

    Returns:
        float [N] in [0, 1], the mean over C.

    Raises:
        ValueError: the shapes differ.
    """
    logits, target = _promote(logits, target)
    prob = jax.nn.sigmoid(logits)
    over_pixels = functools.partial(jnp.sum, axis=(1, 2), where=valid)
    shared = over_pixels(prob * target)
    total = over_pixels(prob) + over_pixels(target)
    return jnp.mean(1 - (2 * shared + smooth) / (total + smooth), axis=-1)


def bce_dice(
    logits: jax.Array,
    target: jax.Array,
    bce_weight: float = 1.0,
    dice_weight: float = 1.0,
    valid: jax.Array | None = None,
) -> jax.Array:
    """`bce_weight` * `bce` + `dice_weight` * `dice_loss`, float [N]; arguments as for those."""
    entropy = bce_weight * bce(logits, target, valid)
    return entropy + dice_weight * dice_loss(logits, target, valid=valid)


def head_losses(
    heads: Sequence[jax.Array],
    target: jax.Array,
    weights: Sequence[float],
    loss: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    """Deep supervision: the sum over heads of weight * `loss(head, target)`, float [N].

    Args:
        heads: logits, [N, H, W, C] each, in the network's order.
        target: [N, H, W, C].
        weights: one for each head. The originals have (0.5, 0.5, 0.5, 1) for AwsNet, and 1/4 each
            for UNet++.
        loss: such as `bce_dice`.

    Raises:
        InputError: the numbers of weights and heads differ.
    """
    if len(weights) != len(heads):
        raise InputError(
            f"config.head_weights has {len(weights)} numbers, but the network has {len(heads)} "
            "heads: give one for each head, or () for the main head alone"
        )
    return sum(w * loss(head, target) for w, head in zip(weights, heads, strict=True))


def infnet_loss(
    heads: Sequence[jax.Array], target: jax.Array, valid: jax.Array | None = None
) -> jax.Array:
    """Inf-Net's own loss: `region_loss` of its four region heads and `bce` of its edge head.

    All five have weight 1, as in DengPingFan/Inf-Net. The original reads edge maps from files; here
    the edge is what a 3x3 erosion removes from the mask.

    Args:
        heads: logits, [N, H, W, 1] each: four regions, then the edge.
        target: bool, or float in [0, 1], [N, H, W, 1].
        valid: bool [N, H, W, 1]; the edge does not run along the border of what is valid.

    Returns:
        float [N].

    Raises:
        InputError: there are not five heads; the loss is for Inf-Net only.
    """
    if len(heads) != 5:
        raise InputError(
            f"config.loss 'infnet' is for Inf-Net's 5 heads, the network has {len(heads)}: "
            "use 'bce_dice'"
        )
    *regions, edge = heads
    target = target.astype(jnp.promote_types(edge.dtype, jnp.float32))
    filled = target if valid is None else jnp.where(valid, target, 1)  # which erodes nothing
    inner = -nn.max_pool(-filled, (3, 3), padding=((1, 1), (1, 1)))
    region_losses = sum(region_loss(head, target, valid) for head in regions)
    return region_losses + bce(edge, target - inner, valid)


def region_loss(logits: jax.Array, target: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """BCE plus an IoU loss that gives pixels near the mask's border more weight, float [N].

    The weight is `w = 1 + 5 |m - g|`, where m is the mean of the mask g over 31x31 pixels (zeros
    outside and where not valid), and the IoU loss is
    `1 - (sum(w p g) + 1) / (sum(w (p + g)) - sum(w p g) + 1)`. The original means to weight the
    BCE too, but passes an option that PyTorch takes for "mean".

    Args:
        logits: float [N, H, W, 1].
        target: bool, or float in [0, 1], [N, H, W, 1].
        valid: bool [N, H, W, 1].

    Raises:
        ValueError: the shapes differ.
    """
    logits, target = _promote(logits, target)
    if valid is not None:
        target = jnp.where(valid, target, 0)
    mean = nn.avg_pool(target, (31, 31), padding=((15, 15), (15, 15)))
    weight = 1 + 5 * jnp.abs(mean - target)
    prob = jax.nn.sigmoid(logits)
    shared = jnp.sum(weight * prob * target, axis=(1, 2, 3), where=valid)
    total = jnp.sum(weight * (prob + target), axis=(1, 2, 3), where=valid)
    return bce(logits, target, valid) + 1 - (shared + 1) / (total - shared + 1)


def _promote(logits: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    if logits.shape != target.shape:
        raise ValueError(f"logits are {logits.shape} but target is {target.shape}")
    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    return logits.astype(dtype), target.astype(dtype)
