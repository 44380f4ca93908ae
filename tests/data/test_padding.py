"""How slices become squares: padded, stretched as before, or their middle."""

import numpy as np
import pytest

from prnet_jax.data.pipeline import Slices, eval_batches, step_arrays, train_batches
from prnet_jax.data.preprocess import (
    extent,
    inside,
    pixel_scale,
    resize_image,
    resize_mask,
    resize_prob,
)
from tests.data.made_up_records import MadeUp, disc

SHAPE = (400, 512)  # at 64: 50 rows, from the seventh on
CIRCLE = disc(SHAPE, (200, 256), 120)


@pytest.fixture
def data(tiny_config):
    tiny_config.dataset.image_size = 64
    return tiny_config.dataset


def made_up(*masks):
    """Slices that show their mask as water in air."""
    return MadeUp([(np.where(mask, 0, -1000), {"mask": mask}) for mask in masks])


@pytest.mark.parametrize(
    ("shape", "size", "filled"),
    [
        ((400, 512), 64, (50, 64)),
        ((512, 400), 256, (256, 200)),
        ((403, 512), 64, (50, 64)),  # 50.4
        ((404, 512), 64, (51, 64)),  # 50.5
        ((1, 1000), 32, (1, 32)),
        ((97, 97), 64, (64, 64)),
    ],
)
def test_extent_by_hand(shape, size, filled):
    assert extent(shape, size, "pad") == filled
    assert extent(shape, size, "stretch") == (size, size)


def test_padding_by_hand():
    image = np.arange(8.0).reshape(2, 4) + 1
    padded = resize_image(image, 4, "pad")
    assert padded.dtype == np.float32
    np.testing.assert_array_equal(padded, [[0] * 4, [1, 2, 3, 4], [5, 6, 7, 8], [0] * 4])
    # Three rows of four: the odd row of padding is below.
    np.testing.assert_array_equal(resize_image(np.ones((3, 4)), 4, "pad").any(1), [1, 1, 1, 0])
    np.testing.assert_array_equal(resize_mask(image > 4, 4, "pad"), padded > 4)
    np.testing.assert_array_equal(resize_prob(padded, (2, 4), "pad"), image)
    # Back at another size: the padding does not bleed into the picture.
    np.testing.assert_array_equal(resize_prob(padded > 0, (9, 18), "pad"), np.ones((9, 18)))


@pytest.mark.parametrize("side", [31, 64, 200])
def test_a_square_is_the_same_to_the_bit(side):
    image = np.random.default_rng(0).random((side, side))
    for resize in (resize_image, resize_mask):
        np.testing.assert_array_equal(resize(image, 64, "pad"), resize(image, 64, "stretch"))
    small = resize_image(image, 64)
    back = [resize_prob(small, image.shape, how) for how in ("pad", "stretch")]
    np.testing.assert_array_equal(*back)


def test_a_circle_stays_a_circle(data):
    item = Slices(made_up(CIRCLE), "train", data)[0]
    mask, valid = item["mask"][..., 0] > 0, item["valid"][..., 0]
    assert (mask.any(1).sum(), mask.any(0).sum()) == (30, 30)  # a diameter of 240 / 8
    np.testing.assert_array_equal(mask[7:57, 7:57], mask[7:57, 7:57].T)
    assert mask.sum() == pytest.approx(np.pi * 15**2, rel=0.02)
    assert valid.dtype == bool and valid[7:57].all() and not valid[:7].any()
    assert not valid[57:].any() and not item["image"][~valid].any()
    np.testing.assert_array_equal(item["spacing_mm"], [6, 6])


def test_stretched_as_before(data):
    data.resize = "stretch"
    item = Slices(made_up(CIRCLE), "train", data)[0]
    assert "valid" not in item
    np.testing.assert_array_equal(item["mask"][..., 0] > 0, resize_mask(CIRCLE, 64))
    assert (item["mask"].any(1).sum(), item["mask"].any(0).sum()) == (38, 30)
    np.testing.assert_array_equal(item["spacing_mm"], [0.75 * 400 / 64, 6])


def test_the_middle_by_hand():
    image = np.arange(20.0).reshape(4, 5) + 1  # one row and one column are left out on each side
    middle = resize_image(image, 2, "middle")
    np.testing.assert_array_equal(middle, [[7, 8], [12, 13]])
    np.testing.assert_array_equal(resize_mask(image > 7, 2, "middle"), middle > 7)
    back = resize_prob(middle, (4, 5), "middle")
    assert back.dtype == np.float32 and back.sum() == middle.sum()
    np.testing.assert_array_equal(back[1:3, 1:3], middle)
    # Where there is less than the square, the rest is padding.
    wide = resize_image(image[:, :3], 4, "middle")
    np.testing.assert_array_equal(wide, np.pad(image[:, :3], ((0, 0), (0, 1))))
    np.testing.assert_array_equal(resize_prob(wide, (4, 3), "middle"), image[:, :3])
    np.testing.assert_array_equal(pixel_scale((4, 5), 2, "middle"), [1, 1])
    np.testing.assert_array_equal(pixel_scale((4, 8), 2, "pad"), [4, 4])


@pytest.mark.parametrize("shape", [(5, 9), (8, 8), (33, 4), (64, 64)])
@pytest.mark.parametrize("size", [4, 7, 64])
def test_the_middle_there_and_back(shape, size):
    """Nothing that is seen changes or moves; what is not seen is 0."""
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    again = resize_prob(resize_image(image, size, "middle"), shape, "middle")
    kept = again > 0
    np.testing.assert_array_equal(again[kept], image[kept])
    assert (kept.any(1).sum(), kept.any(0).sum()) == extent(shape, size, "middle")
    for axis in (0, 1):
        before, after = (int(np.argmax(np.flip(kept.any(1 - axis), i))) for i in ((), 0))
        assert after - before in (0, 1)


def test_slices_of_the_middle(data):
    data.resize = "middle"
    slices = Slices(made_up(CIRCLE), "train", data)
    item = slices[0]
    assert item["mask"].all() and "valid" not in item
    np.testing.assert_array_equal(item["spacing_mm"], [0.75, 0.75])
    whole = slices.prob_of(0, item["mask"][..., 0], native=True)
    assert whole.shape == SHAPE and whole.sum() == 64 * 64 and whole[168:232, 224:288].all()
    small = Slices(made_up(CIRCLE[170:230, 240:270]), "train", data)[0]
    assert small["valid"].sum() == 60 * 30 == small["mask"].sum()


@pytest.mark.parametrize("resize", ["pad", "stretch"])
def test_soft_masks_are_shares_and_are_scored_as_before(data, resize):
    data.resize = resize
    hard = Slices(made_up(CIRCLE), "test", data)
    data.soft_mask = True
    soft = Slices(made_up(CIRCLE), "test", data)
    share = soft[0]["mask"]
    assert share.dtype == np.float32 and len(np.unique(share)) > 10
    np.testing.assert_array_equal(share[..., 0], resize_image(CIRCLE, 64, resize))
    np.testing.assert_array_equal(share > 0.5, hard[0]["mask"] > 0)
    if resize == "stretch":
        assert share.mean() == pytest.approx(CIRCLE.mean(), rel=1e-6)  # nothing is rounded
    for native in (False, True):
        expected, found = (slices.picture(0, native)["mask"] for slices in (hard, soft))
        assert found.dtype == bool
        np.testing.assert_array_equal(found, expected)


def test_spacing_is_exact_where_the_shorter_side_is_rounded(data):
    item = Slices(made_up(np.ones((403, 512), bool)), "train", data)[0]
    np.testing.assert_array_equal(item["spacing_mm"], [0.75 * 403 / 50, 6])
    assert item["mask"].sum() == 50 * 64


def test_only_a_split_with_a_slice_to_pad_has_valid(data):
    square = np.random.default_rng(0).random((90, 90)) > 0.5
    alone = Slices(made_up(square), "train", data)
    mixed = Slices(made_up(CIRCLE, square, CIRCLE.T), "train", data)
    assert "valid" not in alone[0] and mixed[1]["valid"].all()
    for name in ("image", "mask", "spacing_mm"):
        np.testing.assert_array_equal(alone[0][name], mixed[1][name])
    np.testing.assert_array_equal(mixed[2]["mask"], mixed[0]["mask"].swapaxes(0, 1))
    assert [mixed.inside(i) for i in range(3)] == [
        inside(filled, 64) for filled in ((50, 64), (64, 64), (64, 50))
    ]
    for slices, names in ((alone, {"image", "mask"}), (mixed, {"image", "mask", "valid"})):
        (batch,) = eval_batches(slices, 4, num_threads=1)
        assert step_arrays(batch).keys() == names | {"index"}
        batch = next(train_batches(slices, 2, 0, num_threads=1))
        assert step_arrays(batch).keys() == names | {"draw"}
        assert all(array.shape[:3] == (2, 64, 64) for array in map(batch.get, names))


def test_other_masks_are_padded_alike(data):
    slices = MadeUp([(np.zeros(SHAPE, int), {"mask": CIRCLE, "reader_1": CIRCLE})])
    slices = Slices(slices, "train", data)
    np.testing.assert_array_equal(slices.outline(0, "reader_1"), slices.picture(0)["mask"])
