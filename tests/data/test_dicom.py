"""DICOM: HU and places by hand, series in any order, nibabel's reading, damaged files."""

import importlib.util

import numpy as np
import pytest

from prnet_jax.data.scan import distance_mm
from prnet_jax.data.volumes import format_of, read_scan
from prnet_jax.errors import InputError
from tests.data.scans import dicom, nifti

TO_DICOM = np.diag([-1.0, -1.0, 1.0, 1.0])
STORED = np.arange(12, dtype=np.uint16).reshape(3, 4)


def test_dicom_slice_by_hand(tmp_path):
    """HU = stored * slope + intercept; PixelSpacing[0] is between rows."""
    file = dicom(tmp_path / "a.dcm", STORED, RescaleSlope=2, RescaleIntercept=-1000)
    scan = read_scan([file])
    assert scan.pixels.dtype == np.int16
    np.testing.assert_array_equal(scan.pixels, np.arange(12).reshape(3, 4) * 2 - 1000)
    assert (scan.spacing_mm, scan.patient, scan.turned) == ((0.7, 0.5), "p1", False)
    np.testing.assert_allclose(scan.affine @ [2, 3, 0, 1], [-10 + 1.5, -20 + 1.4, 30, 1])
    np.testing.assert_array_equal(read_scan([file], mask=True).pixels, STORED)
    half = read_scan([dicom(tmp_path / "b.dcm", STORED, RescaleSlope=0.5)])
    np.testing.assert_array_equal(half.pixels, STORED / 2 - 1024)
    signed = dicom(tmp_path / "c.dcm", -STORED.astype(np.int16), RescaleIntercept=0)
    np.testing.assert_array_equal(read_scan([signed]).pixels, -STORED.astype(int))
    grey = dicom(tmp_path / "d.dcm", STORED.astype(np.uint8), RescaleIntercept=None)
    assert read_scan([grey]).pixels.dtype == np.uint8


def test_prone_slice_is_turned_and_one_without_position_is_not(tmp_path):
    prone = dicom(tmp_path / "a.dcm", STORED, ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])
    scan = read_scan([prone], mask=True)
    np.testing.assert_array_equal(scan.pixels, STORED[::-1, ::-1])
    assert scan.turned
    bare = dicom(tmp_path / "b.dcm", STORED, ImagePositionPatient=None)
    scan = read_scan([bare], mask=True)
    np.testing.assert_array_equal(scan.pixels, STORED)
    assert (scan.affine, scan.spacing_mm) == (None, (0.7, 0.5))


@pytest.mark.parametrize("upwards", [True, False])
def test_series_is_sorted_by_position_whatever_the_names(tmp_path, upwards):
    files = []
    for number in range(4):
        z = 2.5 * number if upwards else -2.5 * number
        path = tmp_path / f"{(7 * number + 3) % 10}"  # names in another order; no suffix
        files.append(dicom(path, STORED + 100 * number, ImagePositionPatient=[1, 2, z]))
    assert [format_of(file) for file in files] == [(file.name, "DICOM") for file in files]
    scan = read_scan(sorted(files), "images/case")
    numbers = range(4) if upwards else reversed(range(4))
    expected = np.stack([STORED.astype(int) + 100 * number - 1024 for number in numbers], -1)
    np.testing.assert_array_equal(scan.pixels, expected)
    lowest = 0 if upwards else -7.5
    np.testing.assert_allclose(scan.affine @ [0, 0, 3, 1], [1, 2, lowest + 7.5, 1])
    assert scan.spacing_mm == pytest.approx((0.7, 0.5))


def test_coronal_series_gives_axial_slices(tmp_path):
    """Stored rows run down, columns to the left, slices to the back."""
    files = [
        dicom(
            tmp_path / f"{y}.dcm",
            STORED + 100 * y,
            ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
            ImagePositionPatient=[0, 3 * y, 0],
        )
        for y in range(2)
    ]
    scan = read_scan(files, mask=True)
    assert scan.pixels.shape == (2, 4, 3)
    assert scan.spacing_mm == pytest.approx((3.0, 0.5))
    for y, x, z in np.ndindex(2, 4, 3):
        assert scan.pixels[y, x, z] == STORED[2 - z, x] + 100 * y
    with pytest.raises(InputError, match="not an axial one"):
        read_scan(files[:1])


def test_dicom_and_nifti_of_one_volume_agree(tmp_path):
    files = [
        dicom(tmp_path / f"{z}.dcm", STORED + 50 * z, ImagePositionPatient=[-10, -20, 2.0 * z])
        for z in range(3)
    ]
    series = read_scan(files)
    lps = np.diag([0.5, 0.7, 2.0, 1.0])
    lps[:3, 3] = -10, -20, 0
    stored = series.pixels.transpose(1, 0, 2)  # x first
    same = read_scan([nifti(tmp_path / "a.nii", stored, TO_DICOM @ lps)])
    np.testing.assert_array_equal(same.pixels, series.pixels)
    assert distance_mm(same, series) < 1e-4
    lps[0, 3] += 4
    moved = read_scan([nifti(tmp_path / "b.nii", stored, TO_DICOM @ lps)])
    assert distance_mm(moved, series) == pytest.approx(4, abs=1e-4)


def test_series_that_is_none(tmp_path):
    def series(name, **second):
        (tmp_path / name).mkdir()
        first = dicom(tmp_path / name / "1.dcm", STORED, ImagePositionPatient=[0, 0, 0])
        tags = {"ImagePositionPatient": [0, 0, 2]} | second
        stored = tags.pop("stored", STORED)
        return [first, dicom(tmp_path / name / "2.dcm", stored, **tags)]

    for number, (tags, message) in enumerate(
        (
            ({"SeriesInstanceUID": "1.2.4"}, r"2\.dcm has another series than"),
            ({"PixelSpacing": [0.7, 0.6]}, "another spacing"),
            ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "another orientation"),
            (
                {"ImagePositionPatient": [0, 0, 0], "stored": STORED + 1},
                r"case/1\.dcm and images/case/2\.dcm are two slices at one position with different",
            ),
            (
                {"ImagePositionPatient": [0, 1, 0]},
                r"case/1\.dcm and images/case/2\.dcm are two slices at one position",
            ),
            ({"ImagePositionPatient": None}, "slices without ImagePositionPatient"),
            ({"stored": STORED[:2]}, "another size"),
        )
    ):
        with pytest.raises(InputError, match=message):
            read_scan(series(str(number), **tags), "images/case")
    noise = {"PixelSpacing": [0.70000001, 0.5], "ImageOrientationPatient": [1, 4e-5, 0, 0, 1, 0]}
    assert read_scan(series("noise", **noise)).pixels.shape == (3, 4, 2)
    gap = series("gap")
    gap += [dicom(tmp_path / "gap/3.dcm", STORED, ImagePositionPatient=[0, 0, 4])]
    assert read_scan(gap).notes == ()
    gap += [dicom(tmp_path / "gap/4.dcm", STORED, ImagePositionPatient=[0, 0, 9])]
    assert read_scan(gap).notes == (
        "slices lie 2 to 5 mm apart: are some missing? A mask in NIfTI is placed with their mean "
        "distance, 3 mm",
    )


def test_a_slice_that_is_stored_twice_counts_once(tmp_path):
    files = [
        dicom(tmp_path / f"{name}.dcm", STORED + int(z), ImagePositionPatient=[0, 0, z])
        for name, z in (("a", 0), ("b", 2), ("copy of a", 0), ("c", 4), ("d", 6), ("e", 6.0001))
    ]
    scan = read_scan(files, "images/case")
    expected = np.stack([STORED.astype(int) + z - 1024 for z in (0, 2, 4, 6)], -1)
    np.testing.assert_array_equal(scan.pixels, expected)
    np.testing.assert_allclose(scan.affine @ [0, 0, 3, 1], [0, 0, 6, 1])
    assert scan.notes == ("2 slices are stored twice and count once",)
    assert read_scan(files[1:2] + files[3:5]).notes == ()


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (["RescaleIntercept"], "no RescaleIntercept, so"),
        (["RescaleSlope"], "no RescaleSlope, so"),
        (["RescaleSlope", "RescaleIntercept"], "no RescaleIntercept or RescaleSlope, so"),
    ],
)
def test_ct_needs_rescaling(tmp_path, fields, named, empty):
    """An absent intercept may be -1024; only a person knows."""
    path = tmp_path / "a.dcm"
    file = dicom(path, STORED, **dict.fromkeys(fields, "" if empty else None))
    option = r"set --config\.dataset\.options\.rescale_optional=True$"
    with pytest.raises(InputError, match=rf"a\.dcm has {named} its values .*{option}"):
        read_scan([file])
    intercept = 0 if "RescaleIntercept" in fields else -1024
    scan = read_scan([file], rescale_required=False)
    np.testing.assert_array_equal(scan.pixels, STORED.astype(int) + intercept)
    np.testing.assert_array_equal(read_scan([file], mask=True).pixels, STORED)
    tags = dict.fromkeys(fields)
    with pytest.raises(InputError, match=named):
        read_scan([dicom(path, STORED, Modality=None, **tags)])
    other = read_scan([dicom(path, STORED, Modality="MR", **tags)])
    np.testing.assert_array_equal(other.pixels, STORED.astype(int) + intercept)
    assert other.notes == ("Modality is MR: are these Hounsfield units?",)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_series_is_rescaled_as_a_whole(tmp_path, modality):
    files = []
    for z in range(3):
        tags = {"RescaleSlope": None, "RescaleIntercept": None} if z == 1 else {}
        place = {"ImagePositionPatient": [0, 0, z], "Modality": modality}
        files.append(dicom(tmp_path / f"{z}.dcm", STORED + z, **place, **tags))
    message = r"case/1\.dcm has no RescaleSlope and RescaleIntercept but images/case/0\.dcm has"
    for some in (files, files[1::-1]):
        with pytest.raises(InputError, match=message):
            read_scan(some, "images/case", rescale_required=False)
    assert read_scan(files[::2], "images/case").pixels.shape == (3, 4, 2)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("RescaleSlope", b"0   "),
        ("RescaleSlope", b"1\\2 "),
        ("RescaleSlope", b"one "),
        ("RescaleIntercept", b"nan "),
        ("RescaleIntercept", b"-inf"),
    ],
)
def test_rescaling_that_is_no_number(tmp_path, field, text, capfd):
    file = dicom(tmp_path / "a.dcm", STORED, **{field: "77.5"})
    file.write_bytes(file.read_bytes().replace(b"77.5", text))
    with pytest.raises(InputError, match=rf"a\.dcm has a {field} that is no usable number; cor"):
        read_scan([file])
    assert capfd.readouterr().err == ""


def test_dicom_that_cannot_be_used(tmp_path, capfd):
    whole = dicom(tmp_path / "a.dcm", STORED).read_bytes()
    for length in (0, 100, 200, len(whole) - 60, len(whole) - 1):
        (tmp_path / "b.dcm").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"b\.dcm (cannot be read|has no pixels)"):
            read_scan([tmp_path / "b.dcm"])
    for tags, message in (
        ({"PhotometricInterpretation": "MONOCHROME1"}, "1 frames of MONOCHROME1"),
        ({"NumberOfFrames": 2, "data": bytes(48)}, "2 frames"),
        ({"PixelSpacing": [0, 0]}, "pixel spacing of 0 x 0 mm"),
        ({"PixelSpacing": 0.7}, r"the PixelSpacing 0\.7; expected 2 numbers"),
        ({"ImagePositionPatient": [1, 2]}, r"the ImagePositionPatient \[1\.0, 2\.0\]; expected 3"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1]}, r"OrientationPatient \[.*; expected 6 num"),
        ({"ImageOrientationPatient": [0] * 6}, "OrientationPatient that is not a pair of perpend"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.9, 0.1, 0]}, "is not a pair of perpendicular"),
    ):
        with pytest.raises(InputError, match=message):
            read_scan([dicom(tmp_path / "c.dcm", STORED, **tags)])
    mr = read_scan([dicom(tmp_path / "d.dcm", STORED, Modality="MR")])
    assert mr.notes == ("Modality is MR: are these Hounsfield units?",)
    assert capfd.readouterr().err == ""


def test_headers_that_are_no_dicom(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    whole = dicom(tmp_path / "a.dcm", STORED).read_bytes()
    unknown = whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0", 1)
    frames = dicom(tmp_path / "b.dcm", STORED, NumberOfFrames=1).read_bytes()
    frames = frames.replace(b"(\0\x08\0IS\x02\0001 ", b"(\0\x08\0IS\x02\0x ")
    assert b"x " in frames
    data = pydicom.encaps.encapsulate([b"\0" * 64])
    large = {"Rows": 9000, "Columns": 9000}
    rle = dicom(tmp_path / "c.dcm", STORED, syntax=pydicom.uid.RLELossless, data=data, **large)
    huge = dicom(tmp_path / "d.dcm", STORED, Rows=65535, Columns=65535)
    short = dicom(tmp_path / "e.dcm", STORED, **large)
    colour = dicom(tmp_path / "f.dcm", STORED, SamplesPerPixel=3)
    for content, message in (
        (whole[132:], "cannot be read: it has no DICM at byte 128, .*which dcmconv"),
        (
            unknown,
            r"has the transfer syntax 1\.2\.840\.10008\.9\.9\.9, which pydicom does not know",
        ),
        (frames, "cannot be read: it is truncated, damaged or not DICOM"),
        (rle.read_bytes(), "declares 162,000,000 bytes of pixels but .* compressed bytes are"),
        (huge.read_bytes(), "a size of 65535 x 65535; expected at most 134,217,728 pixels"),
        (short.read_bytes(), "declares 162,000,000 bytes of pixels but 24 bytes are there"),
        (colour.read_bytes(), "has 3 samples per pixel; expected one"),
    ):
        (tmp_path / "x.dcm").write_bytes(content)
        with pytest.raises(InputError, match=rf"^\S*x\.dcm .*{message}"):
            read_scan([tmp_path / "x.dcm"])


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) for name in ("libjpeg", "gdcm")), reason="has a decoder"
)
def test_twelve_bit_jpeg_without_decoder_says_what_to_install():
    """Pillow is a decoder of JPEG, but of 8 bits only."""
    file = pytest.importorskip("pydicom").data.get_testdata_file("JPGExtended.dcm", download=False)
    if file is None:
        pytest.skip("not in this pydicom")
    with pytest.raises(InputError, match="JPEG Extended.* no decoder .*pip install pylibjpeg"):
        read_scan([file])


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) for name in ("libjpeg", "gdcm")), reason="has a decoder"
)
def test_compressed_without_decoder_says_what_to_install(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    frame = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xc3"])
    file = dicom(tmp_path / "a.dcm", STORED, syntax=pydicom.uid.JPEGLosslessSV1, data=frame)
    with pytest.raises(InputError, match=r"JPEG Lossless.* no decoder .*pip install pylibjpeg"):
        read_scan([file])
