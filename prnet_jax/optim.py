"""The optimizer: AdamW with warm-up, cosine decay and gradient clipping."""

from typing import TYPE_CHECKING

import jax
import optax

if TYPE_CHECKING:
    import ml_collections


def make_schedule(config: "ml_collections.ConfigDict", steps_per_epoch: int) -> optax.Schedule:
    """The learning rate by step: linear from 0 to the peak, then a cosine to the final rate."""
    total = config.num_epochs * steps_per_epoch
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total - 1)
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup else config.learning_rate,
        peak_value=config.learning_rate,
        warmup_steps=warmup,
        decay_steps=total,
        end_value=config.learning_rate * config.final_learning_rate,
    )


def make_optimizer(
    config: "ml_collections.ConfigDict", schedule: optax.Schedule
) -> optax.GradientTransformation:
    """AdamW that decays only kernels, on gradients clipped by their global norm."""
    adamw = optax.adamw(schedule, weight_decay=config.weight_decay, mask=_kernels)
    if config.clip_norm:
        return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)
    return adamw


def _kernels(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)
