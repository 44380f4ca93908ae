"""Ranges over training images by hand, and what is said of an image outside them."""

import numpy as np
import pytest

from prnet_jax.data.appearance import Appearance, unlike


def with_air(share, shape=(10, 10)):
    pixels = np.full(shape, 40, np.int16)
    pixels.ravel()[: round(share * pixels.size)] = -1000
    return pixels


@pytest.fixture
def seen():
    looks = Appearance("HU")
    looks.add(with_air(0.3), (0.8, 0.5))
    looks.add(with_air(0.5, (10, 20)), (0.7, 0.7))
    looks.add(with_air(0.4), (np.nan, np.nan))
    return looks.facts()


def test_ranges_by_hand(seen):
    assert seen["share_of_air"] == [0.3, 0.5]
    assert seen["spacing_mm"] == [0.5, 0.8]
    assert seen["field_of_view_mm"] == [8.0, pytest.approx(14.0)]
    unknown = Appearance("grey")
    unknown.add(np.full((4, 4), 10, np.uint8), (np.nan, np.nan))
    assert unknown.facts() == {
        "share_of_air": [1.0, 1.0],
        "spacing_mm": None,
        "field_of_view_mm": None,
    }


@pytest.mark.parametrize(
    "share, spacing, said",
    [
        (0.35, (0.8, 0.8), []),
        (0.22, (1.7, 1.7), []),  # a little outside
        (0.55, None, []),
        (0.1, None, ["10 % of the pixels are air, in training 30 to 50 %"]),
        (0.8, None, ["80 % of the pixels are air"]),
        (0.4, (3.0, 3.0), ["the field of view is 30 mm, in training 8 to 14 mm"]),
        (0.4, (0.5, 0.5), ["the field of view is 5 mm"]),
    ],
)
def test_what_is_said(seen, share, spacing, said):
    found = unlike([with_air(share)] * 3, spacing, "HU", seen)
    assert len(found) == len(said)
    for line, part in zip(found, said, strict=True):
        assert line.startswith(part)


@pytest.mark.parametrize(
    ("side", "spacing", "said"),
    [
        (10, (0.8, 0.5), []),
        (40, (0.7, 0.7), []),  # four times the field of view at the same scale
        (10, (0.3, 0.3), ["the side of a pixel is 0.30 mm, in training 0.50 to 0.80 mm"]),
        (10, (0.7, 1.2), ["the side of a pixel is 1.20 mm"]),
    ],
)
def test_what_is_not_resized_must_have_pixels_alike(seen, side, spacing, said):
    found = unlike([with_air(0.4, (side, side))], spacing, "HU", seen, resized=False)
    assert [line[: len(part)] for line, part in zip(found, said, strict=True)] == said


def test_nothing_is_said_where_nothing_is_known():
    for resized in (True, False):
        assert unlike([with_air(0.9)], (9.0, 9.0), "HU", {}, resized) == []
