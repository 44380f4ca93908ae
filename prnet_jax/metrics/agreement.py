"""How well several outlines of the same images agree: readers with each other and a network."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from prnet_jax.metrics.overlap import overlap


def pairwise_dice(outlines: Mapping[str, Sequence[np.ndarray]]) -> list[dict]:
    """The mean Dice of every two of several outlines over the same images.

    Args:
        outlines: name -> bool [H, W] of each image, in the same order.

    Returns:
        A row for each pair: `first`, `second`; `dice_both_marked`, the mean over the
        `n_both_marked` images in which both marked something (how inter-reader Dice is mostly
        given); `dice_any_marked`, over the `n_any_marked` images in which at least one did, where
        a blank outline scores 0. NaN where there is no such image.
    """
    rows = []
    for (first, ones), (second, others) in itertools.combinations(outlines.items(), 2):
        dice = np.array([overlap(a, b)["dsc"] for a, b in zip(ones, others, strict=True)])
        marked = [(a.any(), b.any()) for a, b in zip(ones, others, strict=True)]
        both = np.array([all(pair) for pair in marked], bool)
        either = np.array([any(pair) for pair in marked], bool)
        rows.append(
            {
                "first": first,
                "second": second,
                "dice_both_marked": _mean(dice[both]),
                "n_both_marked": int(both.sum()),
                "dice_any_marked": _mean(dice[either]),
                "n_any_marked": int(either.sum()),
            }
        )
    return rows


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
