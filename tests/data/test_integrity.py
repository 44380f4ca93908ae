"""The report: counters, defects, duplicates, text."""

import contextlib
import io
import pathlib

import numpy as np
import pytest

from prnet_jax.data.integrity import Report, counted, listed, listed_values
from prnet_jax.errors import InputError

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_text_of_a_sound_folder():
    report = Report(pathlib.Path("mine"), unit="grey")
    report.match("ab", "ab")
    report.add_image("a.png", GREY, "int8")
    report.add_image("b.png", GREY + np.uint8(200))
    report.add_mask("a_mask.png", GREY > 5, "a.png", (3, 4))
    report.add_mask("b_mask.png", np.zeros((3, 4), np.uint8), "b.png", (3, 4))
    report.facts["patients"] = "2"
    assert str(report).splitlines() == [
        "Integrity of mine",
        "  pairs             2 of 2 images and 2 masks",
        "  missing partners  none",
        "  unreadable        none",
        "  sizes             3x4: 2",
        "  image types       int8: 1, uint8: 1",
        "  grey range        0 to 211",
        "  mask types        bool: 1, uint8: 1",
        "  mask values       {0, 1}: 1, {0}: 1",
        "  empty masks       1: b_mask.png",
        "  full masks        none",
        "  duplicate images  none",
        "  patients          2",
        "  defects           none",
    ]
    assert report.defects == []
    report.raise_for_defects()


def test_partners():
    report = Report(pathlib.Path("mine"))
    report.match(["a", "c", "b"], ["b", "d"])
    assert (report.images, report.masks, report.pairs) == (3, 2, ("b",))
    assert (report.images_without_mask, report.masks_without_image) == (("a", "c"), ("d",))
    assert "3: a (mask), c (mask), d (image)" in str(report)


def test_masks_that_do_not_fit():
    report = Report(pathlib.Path("mine"), mask_advice="choose a label")
    report.add_mask("m.png", GREY, "i.png", (4, 4))
    report.add_mask("n.png", np.ones((2, 2)), image_shape=(4, 4))
    report.add_mask("o.png", np.ones((2, 2), ">f8"))
    assert report.defects == [
        "m.png holds the values {0, 1, 2, 3, 4, 5, ... 12 in all}; "
        "a mask holds 0 and one other value: choose a label",
        "m.png is 3x4 but its image i.png is 4x4; "
        "a mask must have its image's size: export it again",
        "n.png is 2x2 but its image is 4x4; a mask must have its image's size: export it again",
    ]
    assert report.full_masks == ["n.png", "o.png"]
    assert report.mask_types == {"uint8": 1, "float64": 2}  # whatever the order of the bytes
    with pytest.raises(InputError, match=r"^m.png holds .* \(3 defects\)$"):
        report.raise_for_defects()


def test_unreadable_file():
    report = Report(pathlib.Path("mine"))
    report.add_unreadable("a.png", InputError("a.png cannot be read"))
    assert (report.unreadable, report.defects) == (["a.png"], ["a.png cannot be read"])
    with pytest.raises(InputError, match="^a.png cannot be read$"):
        report.raise_for_defects()


def duplicates(*patients):
    report = Report(pathlib.Path("mine"))
    for number, patient in enumerate(patients):
        report.add_image(f"i{number}", GREY.copy(), patient_id=patient)
    report.add_image("other", GREY.reshape(4, 3), patient_id="z")  # the same bytes, another shape
    return report


def test_the_same_pixels_are_a_defect_unless_within_a_patient():
    assert duplicates(None).duplicates == []
    for patients, defects in (
        ((None, None), ["i1"]),
        (("p", "q"), ["i1"]),
        (("p", "p"), []),
        (("p", "p", "q", "p"), ["i2"]),
        (("p", None), ["i1"]),
    ):
        report = duplicates(*patients)
        assert report.duplicates == [tuple(f"i{i}" for i in range(len(patients)))]
        lines = [f"{name} has the same pixels as i0; a picture may" for name in defects]
        assert [line[: len(lines[0])] for line in report.defects] == lines


@pytest.mark.parametrize(
    ("unit", "offset", "text"),
    [
        ("HU", -1000, "HU range          -1000 to -989\n"),
        ("HU", 0, "HU range          0 to 11 (nothing below 0, although air is -1000: are"),
        ("grey", 0, "grey range        0 to 11\n"),
    ],
)
def test_values_without_air(unit, offset, text):
    report = Report(pathlib.Path("mine"), unit=unit)
    report.add_image("a", GREY.astype(np.int16) + np.int16(offset))
    assert text in str(report)


def test_lists_as_text():
    assert listed([]) == "none"
    assert listed(list("abcdefg")) == "7: a, b, c, d, e, and 2 more"
    assert listed(["x", "y"], "; ") == "2: x; y"
    assert listed_values([0, 0.5, 255]) == "{0, 0.5, 255}"
    assert "duplicate images  1: i0 = i1 = i2\n" in str(duplicates(*"ppp"))
    assert "duplicate images  1: i0 = i1 = i2 = 2 more\n" in str(duplicates(*"ppppp"))
    report = duplicates(None, None)
    assert counted(report.sizes) == "3x4: 2, 4x3: 1"


def test_a_row_is_folded_in_its_column_on_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    report = Report(pathlib.Path("folder"))
    for name in ("a", "b"):
        report.defect(
            f"masks/{name}.png holds the labels {{0, 1, 2}}; expected 0 and one other: now"
        )
    long, screen = str(report), io.StringIO()
    assert max(map(len, long.splitlines())) > 80
    screen.isatty = lambda: True
    with contextlib.redirect_stdout(screen):
        folded = str(report)
    assert max(map(len, folded.splitlines())) <= 80
    assert folded.endswith(
        """
  defects           2: masks/a.png holds the labels {0, 1, 2}; expected 0 and
                    one other: now
                    masks/b.png holds the labels {0, 1, 2}; expected 0 and one
                    other: now"""
    )
    assert folded.split() == long.split()
