"""What masks mark, what resizing takes away, and what is said about it."""

import numpy as np
import pytest

from prnet_jax.data import foreground
from prnet_jax.data.foreground import Foreground
from prnet_jax.data.preprocess import resize_mask
from prnet_jax.errors import InputError


def square(side, at=(0, 0), shape=(64, 64)):
    mask = np.zeros(shape, bool)
    mask[at[0] : at[0] + side, at[1] : at[1] + side] = True
    return mask


def marks(masks, size=64):
    found = Foreground(size)
    for mask in masks:
        found.add(mask)
    return found


def check(size=64, **splits):
    splits = {"train": [square(8)], "validation": [square(8)], "test": [square(8)]} | splits
    found = {name: marks(masks, size) for name, masks in splits.items()}
    return foreground.check(found, splits.__getitem__)


def test_counts_by_hand():
    found = marks([square(0), square(16), square(1), square(48), square(1, shape=(16, 32))], 32)
    assert found.facts() == {
        "images": 5,
        "empty": 1,
        "vanished": 1,  # 1 of 4 stored pixels; in the wide mask the pixel only grows
        "cut": 0,
        "mean_share": pytest.approx((0 + 1 / 16 + 1 / 4096 + 9 / 16 + 1 / 512) / 5),
    }
    assert (found.marked, found.mostly, found.largest_side) == (3, 1, 64)
    assert str(found) == "12.5 % of the pixels; of 5 masks 1 empty, 1 more at 32x32"


def test_nothing_to_say_of_ordinary_masks():
    assert check() == []


def test_small_targets_are_refused_with_the_size_that_keeps_them():
    """Nodules of 2 x 2 pixels in slices of 256 x 256, each within a pixel of 64 x 64."""
    places = np.random.default_rng(0).integers(5, 57, (12, 2)) * 4 + 1
    masks = [square(2, at, (256, 256)) for at in places]
    larger = [s for s in range(96, 257, 32) if sum(resize_mask(m, s).any() for m in masks) >= 11]
    assert larger[0] > 96  # which is the first to be tried
    message = (
        "no mask of the train split marks anything at 64x64 pixels, 12 do as stored: "
        f"--config.dataset.image_size={larger[0]} keeps nine in ten of them, or more"
    )
    with pytest.raises(InputError) as error:
        check(train=masks, validation=masks[:2], test=masks[:2])
    assert str(error.value) == message


def test_masks_that_are_all_empty_are_refused():
    with pytest.raises(InputError, match="all 2 masks of the train split are empty: check them"):
        check(train=[square(0), square(0)])


@pytest.mark.parametrize(("lost", "warned"), [(1, False), (2, True)])
def test_a_tenth_may_vanish(lost, warned):
    """Empty masks do not count; 128 is the first size at which the pixels survive."""
    masks = [square(1, (1, 1), (128, 128))] * lost + [square(20)] * (10 - lost) + [square(0)] * 9
    doubts = check(validation=masks)
    assert doubts == warned * [
        "masks that mark something become empty at 64x64 pixels (0 of 1 in train, 2 of 10 in "
        "validation, 0 of 1 in test): --config.dataset.image_size=128 keeps nine in ten of them, "
        "or more"
    ]


def test_masks_that_the_middle_cuts():
    def found(*masks):
        counts = Foreground(32, "middle")
        for mask in masks:
            counts.add(mask)
        return counts

    inside, across, outside = square(32, (16, 16)), square(8, (12, 20)), square(8)
    counts = {
        "train": found(inside, across, outside, square(0)),
        "validation": found(inside),
        "test": found(inside),
    }
    assert (counts["train"].cut, counts["train"].vanished) == (2, 1)
    assert marks([across, outside]).cut == 0
    doubt = foreground.check(counts, dict.fromkeys(counts, [inside]).__getitem__)[-1]
    assert doubt == (
        "masks reach out of the middle 32x32 pixels, which are all that the network sees (2 of 3 "
        "in train, 0 of 1 in validation, 0 of 1 in test): --config.dataset.image_size takes more"
    )
    assert foreground.check({name: found(inside) for name in counts}, {}.__getitem__) == []


def test_inverted_masks():
    (doubt,) = check(train=[~square(8)] * 3, validation=[~square(8)])
    assert doubt == (
        "more than half of the pixels are marked in 4 of 5 images: are the masks inverted?"
    )
    assert check(train=[~square(8)], validation=[square(8)] * 2) == []


@pytest.mark.parametrize("mask", [square(0), square(1)])
def test_a_validation_that_marks_nothing(mask):
    doubts = check(size=32, validation=[mask])
    assert doubts[-1] == (
        "validation marks nothing at 32x32 pixels: the best checkpoint is that of the lowest "
        "validation loss"
    )
