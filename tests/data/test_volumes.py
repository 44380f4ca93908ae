"""Volumes: how they are turned, in mm and HU by hand; nibabel as an oracle; damaged files."""

import importlib.util
import itertools
import sys

import numpy as np
import pytest
from PIL import Image

from prnet_jax.data.scan import distance_mm, upright
from prnet_jax.data.volumes import format_of, read_numpy, read_scan, whole_numbers
from prnet_jax.errors import InputError

HU = np.random.default_rng(0).integers(-1000, 400, (5, 4, 3)).astype(np.int16)  # x, y, z
TO_DICOM = np.diag([-1.0, -1.0, 1.0, 1.0])


def nifti(path, pixels, affine):
    nibabel = pytest.importorskip("nibabel")
    nibabel.Nifti1Image(pixels, affine).to_filename(path)
    return path


def dicom(path, stored, **tags):
    """A CT slice as a scanner writes it; a tag of None is left out."""
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = tags.pop("syntax", pydicom.uid.ExplicitVRLittleEndian)
    data.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    data.Rows, data.Columns = stored.shape
    data.BitsAllocated = data.BitsStored = 8 * stored.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    data.PixelData = tags.pop("data", stored.tobytes())
    defaults = {
        "Modality": "CT",
        "PatientID": "p1",
        "SeriesInstanceUID": "1.2.3",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "PixelSpacing": [0.7, 0.5],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [-10, -20, 30],
    }
    for tag, value in (defaults | tags).items():
        if value is not None:
            setattr(data, tag, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def test_nifti_by_hand(tmp_path):
    """x to the right, y to the front, z up: a slice is shown mirrored on both axes."""
    affine = np.diag([0.5, 0.7, 3.0, 1.0])
    scan = read_scan([nifti(tmp_path / "a.nii.gz", HU, affine)])
    assert scan.pixels.shape == (4, 5, 3)
    assert scan.spacing_mm == pytest.approx((0.7, 0.5))
    for row, column, z in np.ndindex(4, 5, 3):
        assert scan.pixels[row, column, z] == HU[4 - column, 3 - row, z]
    # The pixel at the top left lies most to the patient's right and front; DICOM's x is left.
    np.testing.assert_allclose(scan.affine @ [0, 0, 0, 1], [-2.0, -2.1, 0, 1])
    assert (scan.turned, scan.notes) == (True, ())


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_however_a_nifti_is_stored_the_slices_are_the_same(order, signs, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    affine = nibabel.affines.from_matvec(np.diag([0.5, 0.7, 3.0]), [9, -8, 7])
    expected = read_scan([nifti(tmp_path / "a.nii", HU, affine)])
    turn = np.stack([np.array(order), np.array(signs)], 1)
    stored = nibabel.orientations.apply_orientation(HU, turn)
    stored_affine = affine @ nibabel.orientations.inv_ornt_aff(turn, HU.shape)
    scan = read_scan([nifti(tmp_path / "b.nii", stored, stored_affine)])
    np.testing.assert_array_equal(scan.pixels, expected.pixels)
    np.testing.assert_allclose(scan.affine, expected.affine, atol=1e-5)
    assert scan.spacing_mm == pytest.approx(expected.spacing_mm)


@pytest.mark.parametrize("seed", range(20))
def test_oblique_volumes_are_turned_as_nibabel_turns_them(seed):
    nibabel = pytest.importorskip("nibabel")
    from scipy.spatial.transform import Rotation

    generator = np.random.default_rng(seed)
    tilt = Rotation.from_euler("xyz", generator.uniform(-25, 25, 3), degrees=True).as_matrix()
    axes = np.eye(3)[generator.permutation(3)] * generator.choice([-1, 1], 3)
    affine = nibabel.affines.from_matvec(tilt @ axes * [0.5, 0.7, 3.0], generator.normal(size=3))
    scan = upright(HU, TO_DICOM @ affine, "a")
    oracle = nibabel.as_closest_canonical(nibabel.Nifti1Image(HU, affine))
    pixels = np.asarray(oracle.dataobj)[::-1, ::-1].transpose(1, 0, 2)
    np.testing.assert_array_equal(scan.pixels, pixels)
    sizes = nibabel.affines.voxel_sizes(oracle.affine)
    assert scan.spacing_mm == pytest.approx((sizes[1], sizes[0]))
    # Each voxel stays where it was in the patient.
    places = {
        tuple(np.round((TO_DICOM @ affine @ [*i, 1])[:3], 6)): HU[i] for i in np.ndindex(5, 4, 3)
    }
    for index in np.ndindex(scan.pixels.shape):
        place = tuple(np.round((scan.affine @ [*index, 1])[:3], 6) + 0.0)
        assert places[place] == scan.pixels[index]


def test_scaled_nifti_units_and_missing_orientation(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(HU + np.int16(1024), np.diag([5e-4, 7e-4, 3e-3, 1]))
    image.header.set_xyzt_units("meter")
    image.header.set_slope_inter(1, -1024)
    image.to_filename(tmp_path / "a.nii")
    # nibabel writes the values, not the raw numbers, so the slope is put in by hand.
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = np.array([1, -1024], np.float32).tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    scan = read_scan([tmp_path / "a.nii"])
    values, change = whole_numbers(scan.pixels, "a")
    np.testing.assert_array_equal(values, HU[::-1, ::-1].transpose(1, 0, 2))
    assert (values.dtype, change) == (np.int16, 0)
    assert scan.spacing_mm == pytest.approx((0.7, 0.5))
    raw[252:256] = bytes(4)  # qform_code and sform_code
    (tmp_path / "b.nii").write_bytes(raw)
    assert read_scan([tmp_path / "b.nii"]).notes == ("the header states no orientation",)


def test_nifti_that_cannot_be_used(tmp_path):
    good = nifti(tmp_path / "a.nii.gz", HU, np.eye(4))
    (tmp_path / "b.nii.gz").write_bytes(good.read_bytes()[:-30])
    plain = nifti(tmp_path / "c.nii", HU, np.eye(4)).read_bytes()
    for length in (0, 100, 348, len(plain) - 1):
        (tmp_path / "d.nii").write_bytes(plain[:length])
        with pytest.raises(InputError, match=r"d\.nii cannot be read: it is truncated"):
            read_scan([tmp_path / "d.nii"])
    flat = nifti(tmp_path / "e.nii", HU[:1], np.eye(4))
    four = nifti(tmp_path / "f.nii", np.stack([HU, HU], -1), np.eye(4))
    huge = nifti(tmp_path / "g.nii", HU, np.diag([500.0, 1, 1, 1]))
    for file, message in (
        (tmp_path / "b.nii.gz", "cannot be read: it is truncated"),
        (flat, "single slice but not an axial one"),
        (four, "shape 5x4x3x2; expected"),
        (huge, "pixel spacing of 1 x 500 mm; expected 0.01 to 100 mm"),
    ):
        with pytest.raises(InputError, match=message):
            read_scan([file])
    slice = read_scan([nifti(tmp_path / "h.nii", HU[:, :, :1], np.eye(4))])
    np.testing.assert_array_equal(slice.pixels, HU[::-1, ::-1, 0].T)


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
            ({"ImagePositionPatient": [0, 0, 0]}, "two slices at one position"),
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
    assert read_scan(gap).notes == ("slices lie 2 to 5 mm apart: are some missing?",)


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
        ({"ImageOrientationPatient": [0] * 6}, "OrientationPatient that is no pair of perpend"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.9, 0.1, 0]}, "is no pair of perpendicular"),
    ):
        with pytest.raises(InputError, match=message):
            read_scan([dicom(tmp_path / "c.dcm", STORED, **tags)])
    mr = read_scan([dicom(tmp_path / "d.dcm", STORED, Modality="MR")])
    assert mr.notes == ("Modality is MR: are these Hounsfield units?",)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) for name in ("libjpeg", "gdcm")), reason="has a decoder"
)
def test_compressed_without_decoder_says_what_to_install(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    frame = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xc3"])
    file = dicom(tmp_path / "a.dcm", STORED, syntax=pydicom.uid.JPEGLosslessSV1, data=frame)
    with pytest.raises(InputError, match=r"JPEG Lossless.* no decoder .*pip install pylibjpeg"):
        read_scan([file])


@pytest.mark.parametrize(("suffix", "module"), [("nii", "nibabel"), ("dcm", "pydicom")])
def test_missing_library_is_named(tmp_path, monkeypatch, suffix, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"a\.{suffix} needs .* {module}: pip install {module}$"):
        read_scan([tmp_path / f"a.{suffix}"])


def test_numpy_files(tmp_path):
    for pixels in (HU, HU[:, :, 0], HU[:, :, 0] > 0, HU[:, :, 0].astype(np.float32)):
        np.save(tmp_path / "a.npy", pixels)
        scan = read_numpy(tmp_path / "a.npy")
        assert scan.pixels.dtype == pixels.dtype
        np.testing.assert_array_equal(scan.pixels, pixels)
    np.save(tmp_path / "a.npy", HU[:, :, :1])
    assert read_numpy(tmp_path / "a.npy").pixels.shape == (5, 4)
    np.savez(tmp_path / "b.npz", anything=HU)
    np.testing.assert_array_equal(read_scan([tmp_path / "b.npz"]).pixels, HU)
    np.savez_compressed(tmp_path / "c.npz", image=HU, mask=HU > 0)
    np.testing.assert_array_equal(read_scan([tmp_path / "c.npz"]).pixels, HU)
    np.testing.assert_array_equal(read_scan([tmp_path / "c.npz"], key="mask").pixels, HU > 0)


def test_numpy_that_cannot_be_used(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    np.save(tmp_path / "a.npy", np.array([Trap()], object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", one=HU, two=HU)
    np.save(tmp_path / "c.npy", np.zeros((3, 16, 16), np.int16))
    np.save(tmp_path / "d.npy", np.zeros((2, 3, 4, 5)))
    np.save(tmp_path / "e.npy", np.zeros((2, 3), complex))
    np.save(tmp_path / "f.npy", HU)
    (tmp_path / "f.npy").write_bytes((tmp_path / "f.npy").read_bytes()[:-1])
    for name, message in (
        ("a.npy", "holds Python objects, which are never loaded"),
        ("b.npz", "holds the arrays one, two; expected one alone, or one called 'image'"),
        ("c.npy", r"3x16x16, slices first as it seems; expected \[H, W, slices\]"),
        ("d.npy", "shape 2x3x4x5"),
        ("e.npy", "holds complex128"),
        ("f.npy", "cannot be read: it is truncated"),
        ("g.npy", "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            read_scan([tmp_path / name])


def test_whole_numbers():
    values, change = whole_numbers(np.float32([[-1000.0004, 40.4]]), "a")
    np.testing.assert_array_equal(values, [[-1000, 40]])
    assert change == pytest.approx(0.4, abs=1e-5)
    values, change = whole_numbers(np.uint16([[0, 65535]]), "a", offset=-32768)
    assert (values.tolist(), change) == ([[-32768, 32767]], 0)
    for pixels, message in (
        (np.float32([[0, 0.25, 1]]), "scaled as it seems"),
        (np.float32([[0, np.nan]]), "expected whole Hounsfield units"),
        (np.float32([[0, np.inf]]), "expected whole Hounsfield units"),
        (np.uint16([[65535]]), "uint16 from 65535"),
        (np.uint8([[1]]), "8-bit picture"),
    ):
        with pytest.raises(InputError, match=message):
            whole_numbers(pixels, "a")
    with pytest.raises(InputError, match="8-bit picture"):
        whole_numbers(np.uint8([[1]]), "a", offset=-1024)


def test_formats(tmp_path):
    for name, expected in (
        ("a.b.nii.gz", ("a.b", "NIfTI")),
        ("A.PNG", ("A", "PNG")),
        ("a.txt", None),
        ("a.jpg", None),
    ):
        assert format_of(tmp_path / name) == expected
    (tmp_path / "1.2.840").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "README").write_bytes(bytes(200))
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert format_of(tmp_path / "1.2.840") == ("1.2.840", "DICOM")
    assert format_of(tmp_path / "README") is None
    assert format_of(tmp_path / "DICOMDIR") is None
    with pytest.raises(InputError, match=r"of no known format; expected one of \.png"):
        read_scan([tmp_path / "README"])
    Image.fromarray(np.uint8([[7]])).save(tmp_path / "a.png")
    assert read_scan([tmp_path / "a.png"]).pixels.tolist() == [[7]]
