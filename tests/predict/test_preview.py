"""What a preview shows: which slices, contours in their places, lengths as in the patient."""

import numpy as np
import pytest
from PIL import Image

from prnet_jax.data.scan import NOT_ORIENTED
from prnet_jax.figures.slices import PRED_COLOUR
from prnet_jax.predict.preview import chosen_slices, write_preview
from tests.predict.shown import box, shown


@pytest.mark.parametrize(
    "marked, count, expected",
    [
        ("....", 12, [0, 1, 2, 3]),
        (".xxxxx.", 3, [1, 3, 5]),  # enough are marked
        ("..x.....x", 4, [0, 2, 7, 8]),  # others fill up, from end to end
        ("...........", 3, [0, 5, 10]),
        ("x", 12, [0]),
    ],
)
def test_marked_slices_come_first(marked, count, expected):
    assert chosen_slices(np.array([c == "x" for c in marked]), count) == expected


def drawn(tmp_path, prediction):
    """The preview, and where it has the contour's colour."""
    path = tmp_path / "new" / "a_preview.png"
    write_preview(path, prediction)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    picture = np.asarray(Image.open(path))
    assert picture.ndim == 3
    return picture, (picture == PRED_COLOUR).all(axis=-1)


def extent(where):
    """(height, width) of the smallest box around what is set."""
    return tuple(int(np.ptp(index)) + 1 for index in np.nonzero(where))


def test_a_coronal_view_has_the_lengths_of_the_patient(tmp_path):
    mask = box((30, 40, 10), (5, 25), (10, 30), (6, 10))
    pixels = np.where(mask, -800, 50).astype(np.int16)
    # 20 columns of 1.5 mm, 4 slices of 7.5 mm: a square that ends at the top
    _, contour = drawn(tmp_path, shown(pixels, mask, (1.0, 1.5, 7.5)))
    tiles = 4 * 288 + 3 * 6 + 14  # of the four columns of slices
    coronal = contour[:, tiles:]
    height, width = extent(coronal)
    # 720 pixels are the 75 mm from bottom to top.
    assert height == pytest.approx(288, abs=6) and width == pytest.approx(288, abs=6)
    assert np.nonzero(coronal)[0].min() == 40
    # In a slice 20 rows of 1 mm and 20 columns of 1.5 mm, of which 40 are 288 pixels
    axial = contour[:, :tiles]
    assert extent(axial[:, : 288 + 14])[1] == pytest.approx(144, abs=4)
    first_line = axial[: 40 + 30 * 288 // 60, : 288 + 14]
    assert not first_line.any()  # slice 1 is not marked


def test_right_is_named_where_the_file_says_so(tmp_path):
    pixels, mask = np.full((30, 30), -1000, np.int16), np.zeros((30, 30), bool)
    (oriented, _), (silent, _) = (
        drawn(tmp_path, shown(pixels, mask, (1.0, 1.0, 1.0), notes=notes))
        for notes in ((), (NOT_ORIENTED,))
    )
    assert (oriented[40:] > 128).any() and not silent[40:].any()


def test_no_place_no_coronal_view(tmp_path):
    mask = box((20, 20, 3), (5, 15), (5, 15), (0, 3))
    pixels = np.where(mask, -800, 50).astype(np.int16)
    placed, _ = drawn(tmp_path, shown(pixels, mask, (1.0, 1.0, 1.0)))
    unplaced, contour = drawn(tmp_path, shown(pixels, mask))
    assert unplaced.shape[1] == 3 * 288 + 2 * 6 + 2 * 14 < placed.shape[1]
    assert contour.any()


def test_a_picture_is_plain_on_the_left_and_marked_on_the_right(tmp_path):
    mask = box((64, 64), (16, 48), (16, 48))
    pixels = np.where(mask, 200, 50).astype(np.uint8)
    prediction = shown(pixels, mask, unit="grey", window=(0, 255))
    picture, contour = drawn(tmp_path, prediction)
    left, right = contour[:, : 14 + 576], contour[:, 14 + 576 + 6 :]
    assert not left.any() and extent(right) == (pytest.approx(288, abs=2),) * 2
    inside = picture[40 + 288, [14 + 288, 14 + 576 + 6 + 288]]
    np.testing.assert_array_equal(inside, 200)  # grey as it is


def test_warnings_are_below(tmp_path):
    mask = np.zeros((20, 20), bool)
    pixels = np.full((20, 20), -1000, np.int16)
    silent, contour = drawn(tmp_path, shown(pixels, mask))
    loud, _ = drawn(tmp_path, shown(pixels, mask, warnings=["nothing is marked " * 20, "look"]))
    assert not contour.any()
    assert loud.shape[1] == silent.shape[1] and loud.shape[0] > silent.shape[0] + 60
    extra = loud[silent.shape[0] :].reshape(-1, 3)
    assert extra[:, 0].max() == 255 and extra[:, 2].max() < 100  # amber on black


@pytest.mark.parametrize("stem", ["a" * 3000, "two\nlines", "肺/\udcff", ""])
def test_any_name_leaves_the_rest_as_it_is(tmp_path, stem):
    mask = box((20, 20), (5, 15), (5, 15))
    pixels = np.zeros((20, 20), np.int16)
    named, _ = drawn(tmp_path, shown(pixels, mask, stem=stem))
    plain, _ = drawn(tmp_path, shown(pixels, mask))
    np.testing.assert_array_equal(named[40:], plain[40:])
