"""What a side is asked to compute: a network, a part of its work, sizes. Both sides read this."""

import dataclasses
import math
from typing import Any

import numpy as np

from prnet_jax.errors import InputError

# One training step on either side: BCE + Dice, clipped gradients, AdamW on kernels.
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-4
CLIP_NORM = 1.0

HEADS, HEAD_WIDTH = 8, 64  # of the attention that is measured: PR-Net's at full width


@dataclasses.dataclass(frozen=True)
class Task:
    """One measurement.

    Attributes:
        part: one of `choices.PARTS`.
        model: a network's name.
        batch: images in a batch.
        size: side of the image (of the feature map, for attention) in pixels.
        dtype: "float32" or "bfloat16", of the computation; parameters are float32.
        fields: the network's fields that differ from their defaults.
        variant: of the part, such as an implementation of attention; "" where it has none.
        slices: of the part's data set.
        folder: where the part may write.
        devices: virtual CPU devices; 0: those that there are.
    """

    part: str
    model: str
    batch: int
    size: int
    dtype: str
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    variant: str = ""
    slices: int = 0
    folder: str = ""
    devices: int = 0

    @property
    def about(self) -> str:
        """A few words for a person."""
        words = (self.part, self.variant, self.model, f"{self.batch}x{self.size}x{self.size}")
        return " ".join(dict.fromkeys(filter(None, (*words, self.dtype))))

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON knows them; `from_json` reads them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Task":
        """The task of `as_json`, in which JSON has turned tuples into lists."""
        own = {k: tuple(v) if isinstance(v, list) else v for k, v in fields["fields"].items()}
        return cls(**{**fields, "fields": own})


def example(task: Task) -> dict[str, np.ndarray]:
    """The same batch for every side: `image` float32 [N, S, S, 1] in 0..1, `mask` of {0, 1}.

    Each mask is a disc, and the image is brighter there.
    """
    rng = np.random.default_rng(0)
    side = np.linspace(-1, 1, task.size)
    disc = (side[:, None] ** 2 + side[None, :] ** 2 < 0.4).astype(np.float32)
    shape = (task.batch, task.size, task.size, 1)
    mask = np.broadcast_to(disc[None, :, :, None], shape).copy()
    noise = rng.random(shape, np.float32)
    return {"image": 0.5 * noise + 0.4 * mask, "mask": mask}


def attention_example(task: Task) -> list[np.ndarray]:
    """q, k and v, float32 [N, S * S, heads, width], small enough for a soft softmax."""
    rng = np.random.default_rng(0)
    shape = (task.batch, task.size**2, HEADS, HEAD_WIDTH)
    return [rng.standard_normal(shape, np.float32) / math.sqrt(HEAD_WIDTH) for _ in range(3)]


def check_fields(name: str, fields: dict[str, Any], known: tuple[str, ...]) -> None:
    """Refuses fields that a network of another library does not have.

    Raises:
        InputError: naming the first.
    """
    for field in fields:
        if field not in known:
            raise InputError(
                f"the PyTorch side of {name} has no field {field!r} (it has {', '.join(known)}): "
                "leave out --against"
            )
