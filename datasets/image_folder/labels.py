"""The labels of masks: as people's tools write them, and which of them are the foreground."""

from collections.abc import Iterable, Sequence

import numpy as np

from prnet_jax.data.integrity import listed_values
from prnet_jax.errors import InputError

ALL = "all"  # the option's value for every label above 0
NEAR = 1e-3  # what scaling may add to a whole number

_ONE = (1, 255, 65535)  # how programs write "foreground"

Label = tuple[int, ...] | str | None  # None: the only one


def checked_label(label: int | Sequence[int] | str | None) -> Label:
    """The option `label`: sorted whole numbers, `ALL` or None.

    Raises:
        InputError: anything else.
    """
    if label is None or (isinstance(label, str) and label == ALL):
        return label
    several = tuple(label) if isinstance(label, list | tuple) else (label,)
    if not several or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in several):
        raise InputError(
            f"label is {label!r}; expected a whole number of 1 or more, several such as 1,2, "
            f"{ALL} or None"
        )
    return tuple(sorted(set(several)))


def label_name(label: Label) -> list[str]:
    """The option as part of a config's name: `label3`, `label1and2`, `all_labels`."""
    if label is None:
        return []
    return ["all_labels"] if label == ALL else [f"label{'and'.join(map(str, label))}"]


def as_labels(pixels: np.ndarray, name: str) -> np.ndarray:
    """A mask's values as whole numbers, of the same shape and type.

    Scaling in a NIfTI header turns 1 into 0.99998 or 1.00002: what is within `NEAR` of a whole
    number is that number.

    Raises:
        InputError: fractions, negative values, or values that are not finite.
    """
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise InputError(
                f"{name} holds values that are not finite; expected 0 and whole labels above it: "
                "export it again"
            )
        whole = np.rint(pixels) + pixels.dtype.type(0)  # no -0
        error = np.abs(pixels - whole)
        if error.max() > NEAR * 1.0001:  # float32's own 0.999
            raise InputError(
                f"{name} holds {pixels.flat[error.argmax()]:g}; expected 0 and whole labels above "
                "it: if these are probabilities or smoothed edges, save them as 0 and 1"
            )
        pixels = whole
    if pixels.dtype.kind in "if" and pixels.min() < 0:
        raise InputError(
            f"{name} holds the label {pixels.min():g}; expected 0 for the background and whole "
            "labels above it: save it so"
        )
    return pixels


def labels_in(mask: np.ndarray) -> list[float]:
    """The values other than 0, sorted."""
    nonzero = mask[mask != 0]
    if not nonzero.size or np.all(nonzero == nonzero[0]):
        return nonzero[:1].tolist()
    return np.unique(nonzero).tolist()


def foreground(mask: np.ndarray, label: Label) -> np.ndarray:
    """Where a mask of `as_labels` holds the chosen labels, or any where none is chosen; bool."""
    return np.isin(mask, label) if isinstance(label, tuple) else mask != 0


def is_one_label(labels: Iterable[float]) -> bool:
    """Whether the labels of all masks, each with one label at most, mean the same."""
    labels = set(labels)
    return len(labels) < 2 or labels <= set(_ONE)


def can_mean_one(label: Label) -> bool:
    """Whether `with_equals` may add to the label."""
    return isinstance(label, tuple) and not set(_ONE).isdisjoint(label)


def with_equals(label: tuple[int, ...], masks: Iterable[Sequence[float]]) -> tuple[int, ...]:
    """The chosen labels, with 1, 255 and 65535 as the masks write them.

    255 and 65535 are 1 unless a mask holds them beside another label.

    Args:
        label: the option.
        masks: the labels in each mask.
    """
    masks = [set(labels) for labels in masks]
    present = set().union(*masks)
    beside = set().union(*(labels for labels in masks if len(labels) > 1))
    chosen = set(label)
    if 1 in chosen or chosen & (set(_ONE) - beside):
        chosen |= (set(_ONE) & present) - beside
    # Of several ways to write 1 those that occur are enough.
    found = chosen & set(_ONE) & present
    return tuple(sorted(map(int, chosen - set(_ONE) | found))) if found else label


def several_defect(name: str, labels: Sequence[float]) -> str:
    """What is wrong with a mask of several labels where none is chosen."""
    return (
        f"{name} holds the labels {listed_values([0, *labels])}; expected 0 and one other: set the "
        f"option label to {ALL}, to several, such as {_example(labels)}, or to one, such as "
        f"label={labels[0]:g}, or, if these are not labels, export it without smoothing"
    )


def different_defect(first_of: dict[float, str]) -> str:
    """What is wrong with masks of one label each that differ; `first_of` has a mask of each."""
    examples = ", ".join(f"{label:g} in {first_of[label]}" for label in sorted(first_of)[:3])
    return (
        f"the masks hold different labels ({examples}); expected one: set the option label to one "
        f"of them, to several, such as {_example(sorted(first_of))}, or to {ALL}"
    )


def absent_defect(label: Label, found: Iterable[float]) -> str:
    """What is wrong with a choice of labels; empty where the masks hold them all."""
    found = sorted(found)
    absent = [v for v in label if v not in found] if isinstance(label, tuple) and found else []
    if not absent:
        return ""
    return (
        f"no mask holds the label {absent[0]}; found {listed_values([0, *found])}: set the option "
        "label to one of them"
    )


def chosen_text(label: Label, found: Iterable[float]) -> str:
    """`{0, 1, 2}; foreground is 1, 2`: the labels of all masks, and the chosen ones."""
    text = listed_values([0, *sorted(found)])
    if label is None:
        return text
    return f"{text}; foreground is {'all above 0' if label == ALL else ', '.join(map(str, label))}"


def share_text(shares: Sequence[float]) -> str:
    """The foreground's share of each slice, in words; large ones are pointed out."""
    mean, low, high = (100 * share for share in (np.mean(shares), min(shares), max(shares)))
    text = f"{mean:.1f} % of a slice on average, {low:.1f} to {high:.1f} %"
    large = sum(share > 0.5 for share in shares)
    if large * 2 > len(shares):
        text += f" (above half in {large} of {len(shares)}: is the background marked instead?)"
    return text


def _example(labels: Sequence[float]) -> str:
    return f"label={labels[0]:g},{labels[1]:g}"
