"""Volumes: how they are turned, in mm and HU by hand; nibabel as an oracle; damaged files."""

import itertools
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from prnet_jax.data.hounsfield import rounded_hu
from prnet_jax.data.scan import upright
from prnet_jax.data.volumes import JPEG_NOTE, format_of, read_numpy, read_scan
from prnet_jax.errors import InputError
from tests.data.scans import nifti

HU = np.random.default_rng(0).integers(-1000, 400, (5, 4, 3)).astype(np.int16)  # x, y, z
TO_DICOM = np.diag([-1.0, -1.0, 1.0, 1.0])


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
    values, change = rounded_hu(scan.pixels, "a")
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
        ("b.npz", "holds the arrays one, two; expected a single one, or one called 'image'"),
        ("c.npy", r"3x16x16, which seems to have the slices first; expected \[H, W, slices\]"),
        ("d.npy", "shape 2x3x4x5"),
        ("e.npy", "holds complex128"),
        ("f.npy", "cannot be read: it is truncated"),
        ("g.npy", "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            read_scan([tmp_path / name])


def test_formats(tmp_path):
    for name, expected in (
        ("a.b.nii.gz", ("a.b", "NIfTI")),
        ("A.PNG", ("A", "PNG")),
        ("a.txt", None),
        ("a.jpg", ("a", "JPEG")),
        ("a.bmp", None),
    ):
        assert format_of(tmp_path / name) == expected
    (tmp_path / "1.2.840").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "README").write_bytes(bytes(200))
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert format_of(tmp_path / "1.2.840") == ("1.2.840", "DICOM")
    assert format_of(tmp_path / "README") is None
    assert format_of(tmp_path / "DICOMDIR") is None
    with pytest.raises(InputError, match=r"has no known format; expected one of \.png"):
        read_scan([tmp_path / "README"])
    Image.fromarray(np.uint8([[7]])).save(tmp_path / "a.png")
    assert read_scan([tmp_path / "a.png"]).pixels.tolist() == [[7]]


def test_formats_that_are_not_read_are_named():
    for name, advice in (
        ("a.hdr", r"half of an ANALYZE or NIfTI pair .*nibabel\.load\('a\.hdr'\)"),
        ("a.IMG", "half of an ANALYZE or NIfTI pair"),
        ("a.mgz", "FreeSurfer"),
        ("a.mhd", "MetaImage"),
        ("a.mha", r"MetaImage: .*SimpleITK\.ReadImage\('a\.mha'\)"),
        ("a.seg.nrrd", "NRRD"),
        ("a.bmp", "convert a.bmp to PNG, TIFF, NumPy, NIfTI or DICOM"),
    ):
        with pytest.raises(InputError, match=f"^{name} has no known format; .*{advice}"):
            read_scan([pathlib.Path(name)])


def test_pictures_are_told_by_content_and_masks_are_no_jpeg(tmp_path):
    grey = np.add.outer(np.arange(0, 160, 5), np.arange(0, 64, 2)).astype(np.uint8)
    for form in ("PNG", "TIFF", "JPEG"):
        for suffix in ("png", "tif", "jpg", "jpeg"):
            file = tmp_path / f"a.{suffix}"
            Image.fromarray(grey).save(file, form)
            scan = read_scan([file])
            np.testing.assert_allclose(scan.pixels.astype(int), grey, atol=6)
            assert scan.notes == ((JPEG_NOTE,) if form == "JPEG" else ())
            if form == "JPEG":
                with pytest.raises(
                    InputError, match="is a JPEG, which changes .*; expected a mask"
                ):
                    read_scan([file], mask=True)
            else:
                np.testing.assert_array_equal(read_scan([file], mask=True).pixels, grey)


def test_options_reach_the_reader_of_the_format(tmp_path):
    image = Image.fromarray(np.uint8([[0, 1, 2]])).convert("P")
    image.putpalette([0, 0, 0, 9, 9, 9, 9, 9, 9])
    for suffix in ("png", "tif"):
        image.save(tmp_path / f"a.{suffix}")
        assert read_scan([tmp_path / f"a.{suffix}"], mask=True).pixels.tolist() == [[0, 1, 2]]
        assert read_scan([tmp_path / f"a.{suffix}"]).pixels.tolist() == [[0, 9, 9]]
    np.save(tmp_path / "a.npy", HU)
    assert read_scan([tmp_path / "a.npy"], axes="DHW").pixels.shape == (4, 3, 5)
