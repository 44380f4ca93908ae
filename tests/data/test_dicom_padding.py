"""Padding that a DICOM header declares: air where it would be white, and else as it is stored."""

import numpy as np
import pytest

from prnet_jax.data.volumes import read_scan
from tests.data.scans import dicom


def slice_of(path, *values, vr=None, **tags):
    """HU of a slice that stores these values; `vr` is the header's type of its padding."""
    file = dicom(path / "a.dcm", np.array([values], tags.pop("dtype", np.uint16)), **tags)
    if vr is not None:
        content, tag = file.read_bytes(), b"\x28\x00\x20\x01"
        assert content.count(tag) == 1
        place = content.index(tag) + len(tag)
        file.write_bytes(content[:place] + vr + content[place + 2 :])
    return read_scan([file]).pixels[0]


@pytest.mark.parametrize(
    ("syntax", "vr"),
    [("1.2.840.10008.1.2.1", b"US"), ("1.2.840.10008.1.2.1", b"SS"), ("1.2.840.10008.1.2", None)],
)
def test_unsigned_padding_is_air(tmp_path, syntax, vr):
    """Stored -2000 without a sign; the header gives it as US or, against the standard, as SS."""
    pydicom = pytest.importorskip("pydicom")
    tags = {"PixelPaddingValue": 63536, "syntax": pydicom.uid.UID(syntax), "vr": vr}
    hu = slice_of(tmp_path, 63536, 24, 1064, 63535, **tags)
    np.testing.assert_array_equal(hu, [-1000, -1000, 40, 63535 - 1024])
    assert slice_of(tmp_path, 63536, 24, 1064, **tags).dtype == np.int16


def test_padding_that_is_declared_unsigned_among_signed_values(tmp_path):
    tags = {"PixelPaddingValue": -2000, "RescaleSlope": -2, "RescaleIntercept": 0, "vr": b"US"}
    hu = slice_of(tmp_path, -2000, -1999, dtype=np.int16, **tags)
    np.testing.assert_array_equal(hu, [-1000, 3998])


def test_a_range_of_padding(tmp_path):
    tags = {"PixelPaddingValue": 63536, "PixelPaddingRangeLimit": 63500}
    hu = slice_of(tmp_path, 63499, 63500, 63510, 63536, 63537, **tags)
    np.testing.assert_array_equal(hu, [63499 - 1024, -1000, -1000, -1000, 63537 - 1024])
    # A range with values that tissue has
    tags["PixelPaddingRangeLimit"] = 1064
    np.testing.assert_array_equal(slice_of(tmp_path, 1064, 63536, **tags), [40, 62512])


@pytest.mark.parametrize(
    ("dtype", "stored", "tags", "intercept", "hu"),
    [
        (np.int16, -2000, {"PixelPaddingValue": -2000}, -1024, -3024),  # dark already
        (np.int16, -2000, {"PixelPaddingValue": -2000}, 0, -2000),
        (np.uint16, 0, {"PixelPaddingValue": 0}, -1024, -1024),
        (np.uint16, 0, {"PixelPaddingValue": 0}, 0, 0),  # water
        (np.uint16, 1064, {"PixelPaddingValue": 1064}, -1024, 40),
        (np.uint16, 4024, {"PixelPaddingValue": 4024}, -1024, 3000),
        (np.uint16, 4025, {"PixelPaddingValue": 4025}, -1024, -1000),
        (np.int16, 5000, {"PixelPaddingValue": 5000}, 0, -1000),
        (np.uint16, 63536, {}, -1024, 62512),  # not declared
        (np.uint16, 63536, {"PixelPaddingValue": [63536, 63535]}, -1024, 62512),  # no number
    ],
)
def test_only_padding_brighter_than_tissue_becomes_air(
    tmp_path, dtype, stored, tags, intercept, hu
):
    found = slice_of(tmp_path, stored, 1, dtype=dtype, RescaleIntercept=intercept, **tags)
    np.testing.assert_array_equal(found, [hu, 1 + intercept])


def test_padding_without_rescaling(tmp_path):
    """Unsigned pixels then become signed; masks and other modalities stay as they are stored."""
    tags = {"PixelPaddingValue": 63536, "RescaleSlope": None, "RescaleIntercept": None}
    file = dicom(tmp_path / "a.dcm", np.array([[63536, 7]], np.uint16), **tags)
    scan = read_scan([file], rescale_required=False)
    np.testing.assert_array_equal(scan.pixels, [[-1000, 7]])
    np.testing.assert_array_equal(read_scan([file], mask=True).pixels, [[63536, 7]])
    file = dicom(tmp_path / "b.dcm", np.array([[63536, 7]], np.uint16), Modality="MR", **tags)
    np.testing.assert_array_equal(read_scan([file]).pixels, [[63536, 7]])
