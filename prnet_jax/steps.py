"""A training run's state and the pure steps on it. Nothing here knows of devices or files."""

import contextlib
import copy
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import flax
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from prnet_jax.data.augment import augment
from prnet_jax.losses import bce_dice, head_losses, infnet_loss
from prnet_jax.metrics import counts
from prnet_jax.models import create_model

if TYPE_CHECKING:  # the steps run without it: any object with these fields is a config
    import ml_collections

Batch = dict[str, jax.Array]


class TrainState(flax.struct.PyTreeNode):
    """Everything that a step changes.

    Attributes:
        step: int32 scalar, the number of steps taken.
        params: the network's parameters, float32.
        batch_stats: running statistics of its BatchNorms; empty if it has none.
        opt_state: the optimizer's state.
        ema_params: averaged parameters; None if averaging is off.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema_params: Any

    @property
    def eval_variables(self) -> dict[str, Any]:
        """The variables to evaluate with: the averaged parameters if there are any."""
        params = self.params if self.ema_params is None else self.ema_params
        return {"params": params, "batch_stats": self.batch_stats}


def make_model(config: "ml_collections.ConfigDict") -> nn.Module:
    """The network of `config.model`, computing in `config.dtype`.

    Raises:
        InputError: there is no such network or field.
    """
    fields = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in config.model.items()
        if name != "name"
    }
    return create_model(config.model["name"], dtype=jnp.dtype(config.dtype), **fields)


def check_shapes(config: "ml_collections.ConfigDict", model: nn.Module) -> None:
    """Checks, without computing, that network and augmentation take the config's images.

    Raises:
        InputError: they do not.
    """
    size = config.dataset.image_size
    image = jax.ShapeDtypeStruct((1, size, size, model.in_channels), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)

    def trial(image, mask):
        keys = jax.random.split(jax.random.key(0), 1)
        image, mask = augment(keys, image, mask, config.augment)
        return model.init(keys[0], image, train=False)

    jax.eval_shape(trial, image, mask)


def init_state(
    config: "ml_collections.ConfigDict", model: nn.Module, optimizer: optax.GradientTransformation
) -> TrainState:
    """The state before the first step, drawn from `config.seed`."""
    size = config.dataset.image_size
    image = jnp.zeros((1, size, size, model.in_channels))
    variables = model.init(jax.random.key(config.seed), image, train=False)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        ema_params=jax.tree.map(jnp.copy, params) if config.ema_decay else None,
    )


def make_augment(config: "ml_collections.ConfigDict") -> Callable[[Batch], tuple[jax.Array, ...]]:
    """Augmentation: a batch for training -> `image`, `mask`, and `valid` if the batch has it.

    It depends on (`config.seed`, `draw`) alone, so the number of devices and a resume do not change
    it. Padding moves with the image.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    soft = config.dataset.soft_mask

    def augmented(batch):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch["draw"])
        if "valid" not in batch:
            return augment(keys, batch["image"], batch["mask"], config.augment, soft)
        padding = (~batch["valid"]).astype(jnp.float32)  # a second mask
        both = jnp.concatenate([batch["mask"], padding], axis=-1)
        image, both = augment(keys, batch["image"], both, config.augment, soft)
        return image, both[..., :1], both[..., 1:] < 0.5

    return augmented


def make_train_step(
    config: "ml_collections.ConfigDict",
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """One step of training: augment, forward, backward, update.

    The batch holds `image` [N, H, W, 1] float32 0..1, `mask` [N, H, W, 1] float32 0..1 and
    `draw` [N] int32, each image's index in the run's sequence of drawn images; and, if some image
    is padded, `valid` [N, H, W, 1] bool, False on padding, which the loss leaves out; what
    augmentation (`make_augment`) brings in from outside the square counts. The results besides the
    state are float32 scalars: `loss`, `grad_norm`, `learning_rate`.
    """
    config = copy.deepcopy(config)  # it is traced later
    augmented = make_augment(config)
    dropout_key = jax.random.fold_in(jax.random.key(config.seed), 2)
    all_heads = config.loss == "infnet" or bool(config.head_weights)

    def loss_of(params, batch_stats, key, image, mask, valid=None):
        with _remat() if config.remat else contextlib.nullcontext():
            output, updates = model.apply(
                {"params": params, "batch_stats": batch_stats},
                image,
                train=True,
                all_heads=all_heads,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
        loss = _training_loss(output, mask, valid, config).mean()
        return loss, updates.get("batch_stats", {})

    def gradient_of_part(carry, part):
        batch_stats, params = carry
        value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
        (loss, batch_stats), grads = value_and_grad(params, batch_stats, *part)
        return (batch_stats, params), (loss, grads)

    def train_step(state, batch):
        images = augmented(batch)
        # Part i takes every n-th image, so each part is spread over all devices.
        parts = config.accumulate_steps
        images = [x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1) for x in images]
        keys = jax.random.split(jax.random.fold_in(dropout_key, state.step), parts)
        carry = (state.batch_stats, state.params)
        if parts == 1:
            carry, results = gradient_of_part(carry, (keys[0], *(x[0] for x in images)))
            loss, grads = results
        else:
            carry, results = jax.lax.scan(gradient_of_part, carry, (keys, *images))
            loss, grads = jax.tree.map(lambda x: x.mean(0), results)
        batch_stats, _ = carry

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params = state.ema_params
        if ema_params is not None:
            # A lower decay at first, so that the average soon forgets the initial parameters.
            decay = jnp.minimum(config.ema_decay, (1.0 + state.step) / (10.0 + state.step))
            ema_params = optax.incremental_update(params, ema_params, 1.0 - decay)
        results = {
            "loss": loss,
            "grad_norm": optax.global_norm(grads),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
        }
        state = TrainState(state.step + 1, params, batch_stats, opt_state, ema_params)
        return state, results

    return train_step


def logits_and_prob(
    model: nn.Module, variables: dict[str, Any], image: jax.Array, flips: bool = False
) -> tuple[jax.Array, jax.Array]:
    """The logits of images [N, H, W, C] in 0..1, and their probability; both float32.

    With `flips` the probability is the mean over the image and its three mirror images (left-right,
    top-bottom, both), each flipped back. The logits are those of the image itself.
    """

    def logits_of(image):
        return model.apply(variables, image, train=False).astype(jnp.float32)

    logits = logits_of(image)
    probs = [nn.sigmoid(logits)]
    for axes in ((2,), (1,), (1, 2)) if flips else ():
        mirrored = logits_of(jnp.flip(image, axes))
        probs.append(jnp.flip(nn.sigmoid(mirrored), axes))
    return logits, jnp.mean(jnp.stack(probs), axis=0)


def make_eval_step(
    config: "ml_collections.ConfigDict", model: nn.Module, flips: bool = False
) -> Callable[[dict[str, Any], Batch], dict[str, jax.Array]]:
    """One step of evaluation: variables and a batch -> results per image.

    The batch holds `image`, `mask` and perhaps `valid` as for training, and `index` [N] int32, the
    image's place in its split, -1 for those that fill the batch. The results are `index`; `prob`
    [N, H, W] float32; `loss` [N] float32; and `tp`, `fp`, `fn`, `tn` [N] int32, valid pixels at
    `config.threshold`. `flips` as for `logits_and_prob`; the loss is that of the image itself.
    """
    config = copy.deepcopy(config)

    def eval_step(variables, batch):
        logits, prob = logits_and_prob(model, variables, batch["image"], flips)
        prob = prob[..., 0]
        mask, valid = batch["mask"], batch.get("valid")
        loss = bce_dice(logits, mask, config.bce_weight, config.dice_weight, valid)
        valid = None if valid is None else valid[..., 0]
        return {
            "index": batch["index"],
            "prob": prob,
            "loss": loss,
            **counts(prob >= config.threshold, mask[..., 0] > 0.5, valid=valid),
        }

    return eval_step


def _remat() -> contextlib.AbstractContextManager:
    """A context in which each part of a network keeps only its inputs for the backward pass.

    The backward pass computes the rest again. For 8 images of 256x256 in float32, PR-Net then keeps
    804 MiB instead of 5,596. A part is a direct submodule of the network.
    """
    inside = False

    def apply_part(call, args, kwargs, context):
        nonlocal inside
        part = context.module
        if inside or context.method_name != "__call__" or len(part.path) != 1:
            return call(*args, **kwargs)
        leaves, structure = jax.tree.flatten((args, kwargs))
        is_array = [isinstance(leaf, jax.Array) for leaf in leaves]  # `train` is not

        def run(part, arrays):
            nonlocal inside
            rest = iter(arrays)
            filled = [next(rest) if a else leaf for a, leaf in zip(is_array, leaves, strict=True)]
            args, kwargs = jax.tree.unflatten(structure, filled)
            inside = True
            try:
                return part(*args, **kwargs)
            finally:
                inside = False

        arrays = [leaf for a, leaf in zip(is_array, leaves, strict=True) if a]
        return nn.remat(run)(part, arrays)

    return nn.intercept_methods(apply_part)


def _training_loss(
    output: jax.Array | tuple[jax.Array, ...],
    mask: jax.Array,
    valid: jax.Array | None,
    config: "ml_collections.ConfigDict",
) -> jax.Array:
    """The loss that `config` names, [N], of the logits of the main head or of all heads."""
    if config.loss == "infnet":
        return infnet_loss(output, mask, valid)
    loss = functools.partial(
        bce_dice, bce_weight=config.bce_weight, dice_weight=config.dice_weight, valid=valid
    )
    if config.head_weights:
        return head_losses(output, mask, config.head_weights, loss)
    return loss(output, mask)
