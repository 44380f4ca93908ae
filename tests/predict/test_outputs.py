"""Masks lie where their scans do, as nibabel, SimpleITK, Pillow and pydicom read them."""

import gzip

import numpy as np
import pytest
from PIL import Image

from prnet_jax.data.volumes import read_scan
from prnet_jax.predict.dicomseg import write_segmentation
from prnet_jax.predict.inputs import Input
from prnet_jax.predict.outputs import suffix_of, write_mask, write_prob
from tests.data.scans import dicom

RNG = np.random.default_rng(0)
HU = RNG.integers(-1000, 400, (6, 5, 4)).astype(np.int16)


def above(scan):
    """A mask that can be told from the pixels, wherever they are."""
    return scan.pixels > -300


def written(tmp_path, files, form):
    """Input, scan and the path of the mask of `above`."""
    source = Input(files[0].name, "result", tuple(files), form)
    scan = read_scan(files)
    path = tmp_path / "out" / f"result{suffix_of(source)}"
    write_mask(path, source, scan, above(scan))
    return source, scan, path


AFFINES = {
    "upright": np.diag([0.7, 0.8, 2.5, 1.0]),
    "flipped": np.diag([-0.7, -0.8, 2.5, 1.0]),
    "coronal": np.array([[0.7, 0, 0, 5], [0, 0, 2.5, 6], [0, -0.8, 0, 7], [0, 0, 0, 1.0]]),
    "oblique": np.array([[0.7, 0.1, 0, 5], [-0.1, 0.8, 0.2, 6], [0, -0.1, 2.5, 7], [0, 0, 0, 1.0]]),
}


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 2), (0, 0)])
def test_nifti_has_the_geometry_of_its_scan(tmp_path, name, suffix, codes):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(HU, AFFINES[name])
    image.header.set_qform(AFFINES[name], codes[0])
    image.header.set_sform(AFFINES[name], codes[1])
    file = tmp_path / f"a{suffix}"
    image.to_filename(file)
    _, _, path = written(tmp_path, [file], "NIfTI")
    assert path.name == f"result{suffix}"
    before, after = nibabel.load(file), nibabel.load(path)
    np.testing.assert_array_equal(after.affine, before.affine)
    for field in ("qform_code", "sform_code", "pixdim", "xyzt_units"):
        np.testing.assert_array_equal(after.header[field], before.header[field])
    assert after.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(after.dataobj), HU > -300)


def test_a_nifti_is_compressed_otherwise_than_its_name_says(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    nibabel.Nifti1Image(HU, AFFINES["oblique"]).to_filename(tmp_path / "plain.nii")
    plain = (tmp_path / "plain.nii").read_bytes()
    for name, content in (("a.nii.gz", plain), ("b.nii", gzip.compress(plain))):
        (tmp_path / name).write_bytes(content)
        _, _, path = written(tmp_path, [tmp_path / name], "NIfTI")
        after = nibabel.load(path)
        np.testing.assert_array_equal(after.affine, nibabel.load(tmp_path / "plain.nii").affine)
        np.testing.assert_array_equal(np.asarray(after.dataobj), HU > -300)


def test_scaled_nifti(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(HU.astype(np.float64), np.eye(4))
    image.header.set_data_dtype(np.uint16)
    file = tmp_path / "a.nii"
    image.to_filename(file)
    assert nibabel.load(file).dataobj.slope != 1
    _, scan, path = written(tmp_path, [file], "NIfTI")
    np.testing.assert_array_equal(
        np.asarray(nibabel.load(path).dataobj), scan.as_stored(above(scan))
    )


def test_a_picture_in_a_nifti_keeps_its_axes(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    for shape in ((6, 5), (6, 5, 1), (6, 5, 1, 1)):
        file = tmp_path / "a.nii"
        nibabel.Nifti1Image(HU[..., 0].reshape(shape), np.eye(4)).to_filename(file)
        _, _, path = written(tmp_path, [file], "NIfTI")
        np.testing.assert_array_equal(
            np.asarray(nibabel.load(path).dataobj), HU[..., 0].reshape(shape) > -300
        )


def series(folder, **tags):
    """Files whose names do not follow their positions; a patient lying on the stomach."""
    pydicom = pytest.importorskip("pydicom")
    headers = {
        "SOPClassUID": pydicom.uid.CTImageStorage,
        "StudyInstanceUID": "1.2.3.4",
        "FrameOfReferenceUID": "1.2.5",
        "ImageOrientationPatient": [-1, 0, 0, 0, -1, 0],
        "SliceThickness": 2.5,
        "SeriesNumber": 3,
        **{name: "" for name in ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate")},
        **{name: "" for name in ("StudyTime", "AccessionNumber", "StudyID")},
        "ReferringPhysicianName": "",
    }
    files = []
    for z in range(4):
        stored = (HU[..., z] + 1024).astype(np.uint16)
        place = {"ImagePositionPatient": [-10, -20, 30 + 2.5 * z], "InstanceNumber": z + 1}
        uid = {"SOPInstanceUID": pydicom.uid.generate_uid()}
        file = folder / f"{(7 * z) % 4}.dcm"
        files.append(dicom(file, stored, **{**headers, **place, **uid, **tags}))
    return sorted(files)


def test_a_series_becomes_a_nifti_in_its_place(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    files = series(tmp_path / "ct")
    _, _, path = written(tmp_path, files, "DICOM")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    original, mask = reader.Execute(), sitk.ReadImage(str(path))
    # The mask is stored upright, the series is not: resampling compares places.
    moved = sitk.Resample(mask, original, sitk.Transform(), sitk.sitkNearestNeighbor, 9)
    expected = sitk.GetArrayFromImage(original) > -300
    np.testing.assert_array_equal(sitk.GetArrayFromImage(moved), expected)


def test_dicom_segmentation_refers_to_its_slices(tmp_path):
    pytest.importorskip("highdicom")
    import pydicom

    files = series(tmp_path / "ct")
    source = Input("ct", "result", tuple(files), "DICOM")
    scan = read_scan(files)
    path = tmp_path / "out" / "result.seg.dcm"
    write_segmentation(path, source, scan, above(scan))
    segmentation = pydicom.dcmread(path)
    at = {
        float(pydicom.dcmread(file).ImagePositionPatient[2]): pydicom.dcmread(file).pixel_array
        for file in files
    }
    groups = segmentation.PerFrameFunctionalGroupsSequence
    assert len(groups) == len(at)
    for group, frame in zip(groups, segmentation.pixel_array, strict=True):
        z = float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        np.testing.assert_array_equal(frame, at.pop(z) > -300 + 1024)


@pytest.mark.parametrize("suffix, form", [(".png", "PNG"), (".tif", "TIFF")])
def test_pictures_become_png(tmp_path, suffix, form):
    grey = RNG.integers(0, 256, (6, 5)).astype(np.uint8)
    file = tmp_path / f"a{suffix}"
    Image.fromarray(grey).save(file)
    source, scan, path = written(tmp_path, [file], form)
    assert path.suffix == ".png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), 255 * above(scan).astype(np.uint8))
    prob = RNG.random((6, 5)).astype(np.float32)
    write_prob(path, source, scan, prob)
    np.testing.assert_allclose(np.asarray(Image.open(path)) / 65535, prob, atol=1e-5)


def test_numpy_stays_numpy(tmp_path):
    file = tmp_path / "a.npy"
    np.save(file, HU)
    source, scan, path = written(tmp_path, [file], "NumPy")
    np.testing.assert_array_equal(np.load(path), HU > -300)
    prob = RNG.random(HU.shape).astype(np.float32)
    write_prob(path, source, scan, prob)
    np.testing.assert_array_equal(np.load(path), prob)


def test_numpy_with_slices_first_stays_so(tmp_path):
    file = tmp_path / "a.npy"
    np.save(file, np.moveaxis(HU, -1, 0))
    source = Input("a.npy", "result", (file,), "NumPy")
    scan = read_scan([file], axes="DHW")
    path = tmp_path / "result.npy"
    write_mask(path, source, scan, above(scan))
    np.testing.assert_array_equal(np.load(path), np.moveaxis(HU, -1, 0) > -300)


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    file = tmp_path / "a.npy"
    np.save(file, HU)
    source, scan, path = written(tmp_path, [file], "NumPy")
    before = path.read_bytes()

    def fail(*arguments, **options):
        raise OSError("no space")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="no space"):
        write_mask(path, source, scan, ~above(scan))
    assert path.read_bytes() == before
