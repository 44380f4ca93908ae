"""The builder on made-up folders of every format, with each defect; and beside finding_lungs."""

import io
import itertools
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from prnet_jax.data import records, splits
from prnet_jax.data.prepare import prepare
from prnet_jax.datasets.image_folder import image_folder_dataset_builder as module
from prnet_jax.datasets.image_folder import inspection, pairs
from prnet_jax.errors import InputError

REAL = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "finding_lungs"
SHAPE = (12, 10)
DEPTH = 4


def picture(number: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(number)
    hu = generator.integers(-1000, 400, SHAPE).astype(np.int16)
    return hu, generator.random(SHAPE) < 0.3


def volume(number: int) -> tuple[np.ndarray, np.ndarray]:
    """As it is shown: [H, W, D]; the lowest slice has no mask."""
    generator = np.random.default_rng(100 + number)
    hu = generator.integers(-1000, 400, (*SHAPE, DEPTH)).astype(np.int16)
    mask = generator.random(hu.shape) < 0.3
    mask[..., 0] = False
    return hu, mask


def save(file: pathlib.Path, pixels: np.ndarray, shift_mm: float = 0.0) -> None:
    """Writes pixels as they are shown in the format of the suffix; NIfTI with x to the right."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npy":
        np.save(file, pixels)
    elif file.suffix == ".npz":
        np.savez(file, pixels)
    elif file.name.endswith((".nii", ".nii.gz")):
        nibabel = pytest.importorskip("nibabel")
        affine = np.diag([0.5, 0.7, 3.0, 1.0])
        affine[0, 3] = shift_mm
        stored = np.atleast_3d(pixels).transpose(1, 0, 2)[::-1, ::-1]
        if stored.dtype == bool:
            stored = stored.astype(np.uint8)
        nibabel.Nifti1Image(stored, affine).to_filename(file)
    elif file.suffix in (".tif", ".tiff") and pixels.dtype == np.int16:
        Image.fromarray(pixels.view(np.uint16)).save(file, tiffinfo={339: 2})
    else:
        Image.fromarray(pixels).save(file)


def save_series(
    folder: pathlib.Path, hu: np.ndarray, patient: str = "", prefix: str = "IM"
) -> None:
    """DICOM files of stored = HU + 1024, the upper slices first by name."""
    pydicom = pytest.importorskip("pydicom")
    folder.mkdir(parents=True, exist_ok=True)
    for z in range(hu.shape[2]):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        data.Modality, data.PatientID, data.SeriesInstanceUID = "CT", patient, "1.2.3"
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelRepresentation, data.RescaleSlope, data.RescaleIntercept = 0, 1, -1024
        data.Rows, data.Columns = hu.shape[:2]
        data.PixelSpacing, data.ImageOrientationPatient = [0.7, 0.5], [1, 0, 0, 0, 1, 0]
        # Where save() puts a NIfTI: its upper left pixel is the last of both stored axes.
        data.ImagePositionPatient = [-0.5 * (hu.shape[1] - 1), -0.7 * (hu.shape[0] - 1), 3.0 * z]
        data.PixelData = (hu[..., z] + 1024).astype(np.uint16).tobytes()
        data.save_as(folder / f"{prefix}{99 - z:04d}", enforce_file_format=True)


@pytest.fixture
def folder(tmp_path):
    """Six pairs of TIFF and PNG: case_0 to case_5."""
    for number in range(6):
        hu, mask = picture(number)
        save(tmp_path / f"own/images/case_{number}.tif", hu)
        save(tmp_path / f"own/masks/case_{number}.png", np.uint8(255) * mask)
    return tmp_path / "own"


def build(folder: pathlib.Path, **options) -> tfds.core.DatasetBuilder:
    data_dir = folder.parent / "data"
    return prepare("image_folder", data_dir=data_dir, manual_dir=folder, **options)


def read(builder: tfds.core.DatasetBuilder) -> dict[str, dict]:
    """All records by id, with their split, decoded."""
    skip = {name: tfds.decode.SkipDecoding() for name in ("image", "mask")}
    return {
        record["id"].decode(): {
            "split": split,
            "patient": record["patient_id"].decode(),
            "unit": record["unit"].decode(),
            "pixels": records.decode_hu(record["image"]),
            "mask": records.decode_mask(record["mask"]),
            "spacing": record["spacing_mm"],
        }
        for split in splits.SPLITS
        for record in builder.as_data_source(split, decoders=skip)
    }


def inspect(folder: pathlib.Path, **options) -> inspection.Inspection:
    return inspection.inspect(folder, inspection.Choices(**options))


FORMATS = (".tif", ".npy", ".npz", ".png")


@pytest.mark.parametrize(
    ("image_suffix", "mask_suffix"), [*itertools.product(FORMATS, FORMATS), (".nii.gz", ".nii.gz")]
)
def test_pictures_come_back_exactly(tmp_path, image_suffix, mask_suffix):
    """PNG holds no negative values: HU + 1024 with the option that takes it away."""
    shifted = image_suffix == ".png"
    for number in range(3):
        hu, mask = picture(number)
        stored = (hu + 1024).astype(np.uint16) if shifted else hu
        save(tmp_path / f"own/images/deep/er/c{number}{image_suffix}", stored)
        save(tmp_path / f"own/masks/deep/er/c{number}{mask_suffix}", mask)
    table = "id,patient_id\n" + "".join(f"deep/er/c{n},p{n}\n" for n in range(3))
    (tmp_path / "own/metadata.csv").write_text(table)
    found = read(build(tmp_path / "own", hu_offset=-1024 if shifted else 0))
    assert sorted(found) == [f"deep/er/c{number}" for number in range(3)]
    for number in range(3):
        record = found[f"deep/er/c{number}"]
        hu, mask = picture(number)
        np.testing.assert_array_equal(record["pixels"], hu)
        np.testing.assert_array_equal(record["mask"], mask)
        assert (record["unit"], record["patient"]) == ("HU", f"p{number}")
        if image_suffix == ".nii.gz":
            np.testing.assert_allclose(record["spacing"], [0.7, 0.5])
        else:
            assert np.isnan(record["spacing"]).all()


@pytest.mark.parametrize(
    ("images", "masks"),
    [("nii", "nii.gz"), ("series", "nii.gz"), ("series", "series"), ("npy", "npz")],
)
@pytest.mark.parametrize("slices", ["all", "with_mask"])
def test_volumes_become_axial_slices(tmp_path, images, masks, slices, capsys):
    for number in range(3):
        hu, mask = volume(number)
        name = f"case_{number}"
        if images == "series":
            save_series(tmp_path / "own/images" / name, hu)
        else:
            save(tmp_path / f"own/images/{name}.{images}", hu)
        if masks == "series":  # stored values 0 and 1, under names of their own
            save_series(tmp_path / "own/masks" / name, mask.astype(np.int16) - 1024, prefix="SEG")
        else:
            save(tmp_path / f"own/masks/{name}.{masks}", mask)
    found = read(build(tmp_path / "own", slices=slices))
    first = 0 if slices == "all" else 1
    assert sorted(found) == [
        f"case_{number}_z{z:04d}" for number in range(3) for z in range(first, DEPTH)
    ]
    for id, record in found.items():
        number, z = int(id[5]), int(id[-4:])
        hu, mask = volume(number)
        np.testing.assert_array_equal(record["pixels"], hu[..., z])
        np.testing.assert_array_equal(record["mask"], mask[..., z])
        assert record["patient"] == f"case_{number}"
        expected = [np.nan, np.nan] if images == "npy" else [0.7, 0.5]
        np.testing.assert_allclose(record["spacing"], np.float32(expected))
    assert len({(record["patient"], record["split"]) for record in found.values()}) == 3
    text = capsys.readouterr().out
    kept = DEPTH - first
    assert "volumes           3 of 4 to 4 slices" in text
    assert f"{kept} train / {kept} validation / {kept} test (patients 1 / 1 / 1); random by" in text


def test_dicom_slices_one_by_one_and_their_patients(tmp_path):
    """Files with partners are no series; PatientID tells people apart, and is not kept as it is."""
    for number in range(3):
        hu, mask = volume(number)
        save_series(tmp_path / f"own/images/scan_{number}", hu, patient=f"Doe^{number // 2}")
        for z in range(DEPTH):
            file = tmp_path / f"own/masks/scan_{number}/IM{99 - z:04d}.png"
            save(file, mask[..., z])
    found = inspect(tmp_path / "own")
    assert found.report.defects == []
    assert len(found.cases) == 3 * DEPTH
    patient = {case.pair.id: case.patient_id for case in found.cases}
    assert patient["scan_0/IM0099"] == patient["scan_1/IM0098"] != patient["scan_2/IM0099"]
    assert not any("Doe" in name for name in patient.values())
    with pytest.raises(InputError, match="found 2 patients.*column patient_id of metadata.csv"):
        build(tmp_path / "own")


def test_grey_values(tmp_path, capsys):
    for number in range(3):
        grey = np.random.default_rng(number).integers(0, 256, SHAPE).astype(np.uint8)
        save(tmp_path / f"own/images/{number}.png", grey)
        save(tmp_path / f"own/masks/{number}.png", picture(number)[1])
    found = read(build(tmp_path / "own"))
    for number in range(3):
        grey = np.random.default_rng(number).integers(0, 256, SHAPE).astype(np.uint8)
        np.testing.assert_array_equal(found[str(number)]["pixels"], grey)
        assert found[str(number)]["unit"] == "grey"
    assert "grey range        " in capsys.readouterr().out
    with pytest.raises(InputError, match="8-bit picture"):
        build(tmp_path / "own", hu_offset=-1024)


def test_label_picks_one(folder):
    for number in range(6):
        save(folder / f"masks/case_{number}.png", np.full(SHAPE, 1 + number % 2, np.uint8))
    with pytest.raises(InputError, match=r"different labels \(1 in .*, 2 in .*option label"):
        build(folder)
    labels = np.zeros(SHAPE, np.uint8)
    labels[:4], labels[4:6] = 1, 2
    save(folder / "masks/case_3.png", labels)
    with pytest.raises(
        InputError, match=r"case_3\.png holds the labels \{0, 1, 2\}; .*such as label=1"
    ):
        build(folder)
    found = read(build(folder, label=2))
    np.testing.assert_array_equal(found["case_3"]["mask"], labels == 2)
    assert not found["case_0"]["mask"].any()
    assert found["case_1"]["mask"].all()
    with pytest.raises(InputError, match=r"no mask holds the label 7; found \{0, 1, 2\}"):
        build(folder, label=7)


def test_masks_of_one_and_255_are_both_binary(folder):
    save(folder / "masks/case_3.png", picture(3)[1].astype(np.uint8))
    np.testing.assert_array_equal(read(build(folder))["case_3"]["mask"], picture(3)[1])


TABLE = """id,patient_id,split,spacing_row_mm,spacing_column_mm
case_0,ann,train,0.7,0.5
case_1,ann,train,,
case_2,bob,validation,0.6,0.6
case_3,cem,test,1,1
case_4,,train,,
case_5,dan,test,,
"""


def test_table_gives_patients_splits_and_spacing(folder):
    (folder / "metadata.csv").write_text("\ufeff" + TABLE, encoding="utf-8")
    found = read(build(folder))
    assert {id: (r["patient"], r["split"]) for id, r in found.items()} == {
        "case_0": ("ann", "train"),
        "case_1": ("ann", "train"),
        "case_2": ("bob", "validation"),
        "case_3": ("cem", "test"),
        "case_4": ("case_4", "train"),
        "case_5": ("dan", "test"),
    }
    np.testing.assert_allclose(found["case_0"]["spacing"], np.float32([0.7, 0.5]))
    assert np.isnan(found["case_1"]["spacing"]).all()
    by_seed = read(build(folder, split_seed=3))
    drawn = splits.random_split(found, None, 3, {id: r["patient"] for id, r in found.items()})
    assert {id: record["split"] for id, record in by_seed.items()} == drawn


def test_each_patient_is_tested_in_one_fold(folder):
    (folder / "metadata.csv").write_text("id,patient_id\ncase_0,ann\ncase_1,ann\n")
    tested = []
    for fold in range(1, 6):
        found = read(build(folder, fold=f"{fold}/5"))
        tested += [id for id, record in found.items() if record["split"] == "test"]
        assert found["case_0"]["split"] == found["case_1"]["split"]
    assert sorted(tested) == [f"case_{number}" for number in range(6)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id,patient_id", "id,name", "unknown column 'name'; expected id and any of patient_id"),
        ("id,patient_id", "ID,patient_id", "unknown column 'ID'"),
        (",spacing_column_mm", "", "has one of spacing_row_mm and spacing_column_mm"),
        ("case_4", "case_9", "line 6: id 'case_9' is no pair"),
        ("case_4", "case_3", "id 'case_3' is there twice"),
        ("cem,test", "cem,tests", "has the split 'tests'; expected one of train"),
        ("cem,test", "cem,", "has the split ''"),
        ("case_4,,train,,\n", "", "gives no split to 'case_4'"),
        ("case_1,ann,train", "case_1,ann,test", "puts patient 'ann' into two splits"),
        ("bob,validation", "bob,train", "puts no image into validation"),
        ("0.7,0.5", "0.7,five", "has the spacing '0.7' x 'five'"),
        ("0.7,0.5", "0.7,0", "pixel spacing of 0.7 x 0 mm"),
        ("0.7,0.5", "0.7,nan", "pixel spacing of 0.7 x nan mm"),
        ("0.7,0.5", "0.7,", "has the spacing '0.7' x ''"),
        ("0.7,0.5", "0.7,0.5,1", "more cells than columns"),
        (",", ";", "unknown column 'id;patient_id"),
    ],
)
def test_mistakes_in_the_table(folder, old, new, message):
    (folder / "metadata.csv").write_text(TABLE.replace(old, new))
    with pytest.raises(InputError) as error:
        build(folder)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not [path for path in (folder.parent / "data").rglob("*") if path.is_file()]


def no_mask(folder):
    (folder / "masks/case_3.png").unlink()


def no_image(folder):
    (folder / "images/case_3.tif").unlink()


def no_pairs(folder):
    shutil.rmtree(folder / "masks")
    (folder / "masks").mkdir()
    for file in (folder / "images").iterdir():
        file.unlink()


def no_folder(folder):
    shutil.rmtree(folder / "masks")
    (folder / "masks.zip").write_bytes(b"")


def other_size(folder):
    save(folder / "masks/case_3.png", np.zeros((5, 10), np.uint8))


def truncated(folder):
    file = folder / "images/case_3.tif"
    file.write_bytes(file.read_bytes()[:100])


def truncated_mask(folder):
    file = folder / "masks/case_3.png"
    file.write_bytes(file.read_bytes()[:60])


def id_twice(folder):
    save(folder / "images/case_3.npy", picture(3)[0])


def mask_twice(folder):
    no_mask(folder)
    for end in ("mask", "seg"):
        save(folder / f"masks/case_3_{end}.png", picture(3)[1])


def mask_beside_mask(folder):
    save(folder / "masks/case_3_mask.png", picture(3)[1])


def two_images_of_one_id(folder):
    """Exact names pair case_3; what is left would be a second case_3."""
    save(folder / "images/case_3_0000.tif", picture(9)[0])
    mask_beside_mask(folder)


def same_pixels(folder):
    save(folder / "images/case_3.tif", picture(1)[0])


def grey_and_hu(folder):
    save(folder / "images/case_3.tif", np.zeros(SHAPE, np.uint8))


def exchanged(folder):
    save(folder / "images/case_3.tif", picture(3)[1])


def volume_and_picture(folder):
    no_image(folder)
    save(folder / "images/case_3.npy", volume(3)[0])


def four_dimensions(folder):
    no_image(folder)
    save(folder / "images/case_3.npy", np.zeros((2, 3, 4, 5), np.int16))


def only_one_oriented(folder):
    no_image(folder)
    save(folder / "images/case_3.nii.gz", picture(3)[0])


def elsewhere(folder):
    no_image(folder)
    no_mask(folder)
    save(folder / "images/case_3.nii.gz", picture(3)[0])
    save(folder / "masks/case_3.nii.gz", picture(3)[1], shift_mm=12)


def other_spacing(folder):
    elsewhere(folder)
    save(folder / "masks/case_3.nii.gz", picture(3)[1])
    (folder / "metadata.csv").write_text("id,spacing_row_mm,spacing_column_mm\ncase_3,0.7,0.7\n")


def same_id_as_a_slice(folder):
    save(folder / "images/v.npy", volume(3)[0])
    save(folder / "masks/v.npy", volume(3)[1])
    save(folder / "images/v_z0002.npy", picture(9)[0])
    save(folder / "masks/v_z0002.npy", picture(9)[1])


def not_finite(folder):
    no_mask(folder)
    save(folder / "masks/case_3.npy", np.full(SHAPE, np.nan))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_mask, "images/case_3.tif has no mask masks/case_3 of any format; add the mask"),
        (no_image, "masks/case_3.png has no image images/case_3 of any format; add the image"),
        (no_pairs, "has no pair of files images/NAME and masks/NAME (found 0 images, 0 masks)"),
        (no_folder, "holds no folder masks; unpack it"),
        (other_size, "masks/case_3.png is 5x10 but its image images/case_3.tif is 12x10"),
        (truncated, "images/case_3.tif cannot be read"),
        (truncated_mask, "masks/case_3.png cannot be read"),
        (id_twice, "images/case_3.npy and images/case_3.tif have the same id"),
        (mask_twice, "images/case_3.tif and masks/case_3_mask.png and masks/case_3_seg.png fit"),
        (mask_beside_mask, "masks/case_3_mask.png has no image"),
        (
            two_images_of_one_id,
            "images/case_3_0000.tif and masks/case_3_mask.png and images/case_3",
        ),
        (same_pixels, "images/case_3.tif has the same pixels as images/case_1.tif"),
        (grey_and_hu, "images/case_3.tif has 8 bits (grey values) but images/case_0.tif has more"),
        (exchanged, "images/case_3.tif has 1 bit a pixel; expected an image"),
        (
            volume_and_picture,
            "masks/case_3.png is 12x10 but its image images/case_3.npy is 12x10x4",
        ),
        (four_dimensions, "images/case_3.npy has the shape 2x3x4x5"),
        (
            only_one_oriented,
            "images/case_3.nii.gz says how it lies in the patient but masks/case_3",
        ),
        (elsewhere, "masks/case_3.nii.gz lies up to 12 mm away from its image"),
        (other_spacing, "gives 'case_3' a spacing of 0.7 x 0.7 mm but images/case_3.nii.gz states"),
        (same_id_as_a_slice, "have the same id 'v_z0002'"),
        (not_finite, "masks/case_3.npy holds values that are not finite"),
    ],
)
def test_a_defect_is_one_line_and_nothing_is_written(folder, spoil, message, capfd):
    spoil(folder)
    with pytest.raises(InputError) as error:
        build(folder)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (folder.parent / "data").exists()
    assert capfd.readouterr().err == ""


def test_facts_are_no_defects(folder):
    save(folder / "masks/case_0.png", np.zeros(SHAPE, np.uint8))
    save(folder / "masks/case_1.png", np.ones(SHAPE, np.uint8))
    fractions = picture(2)[0] + np.float32(0.25)
    (folder / "images/case_2.tif").unlink()
    save(folder / "images/case_2.npy", fractions)
    (folder / "images/notes.txt").write_text("")
    (folder / "images/.DS_Store").write_bytes(b"")
    for number in (4, 5):  # blank in two people, which gives nothing away
        save(folder / f"images/case_{number}.tif", np.full(SHAPE, -1000, np.int16))
    report = inspect(folder).report
    assert report.defects == []
    assert report.empty_masks == ["masks/case_0.png"]
    assert report.full_masks == ["masks/case_1.png"]
    assert report.facts["rounded"] == "1 images to whole HU, by 0.25 at most (images/case_2.npy)"
    assert report.facts["passed over"] == "1: images/notes.txt"
    assert report.facts["blank slices"] == "2 of one value"
    for number in range(6):
        save(folder / f"images/case_{number}.tif", np.abs(picture(number)[0]))
    (folder / "images/case_2.npy").unlink()
    assert "(nothing below 0, although air is -1000" in str(inspect(folder).report)


@pytest.mark.parametrize(
    ("image", "mask", "id"),
    [
        ("a.png", "a.png", "a"),
        ("a.tif", "a_mask.png", "a"),
        ("sub/a.npy", "sub/a-Segmentation.npy", "sub/a"),
        ("a_0000.nii.gz", "a.nii.gz", "a"),
        ("a_img.png", "a_gt.png", "a"),
        ("a_ct.png", "a_ct_mask.png", "a_ct"),
        ("slice_0000.png", "slice_0000.png", "slice_0000"),
        ("a.b.png", "a.b.nii.gz", "a.b"),
    ],
)
def test_names_that_belong_together(tmp_path, image, mask, id):
    for name, file in (("images", image), ("masks", mask)):
        (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name / file).write_bytes(b"")
    found = pairs.find_pairs(tmp_path)
    assert [(p.id, p.image.name, p.mask.name) for p in found.pairs] == [
        (id, f"images/{image}", f"masks/{mask}")
    ]
    assert found.problems == []


def test_patients_by_folder_and_name():
    for id, patient in (
        ("ann/scan/17", "ann"),
        ("ID_0003_Z_0132", "ID_0003"),
        ("case-slice12", "case"),
        ("case_z0042", "case"),
        ("case_12", "case_12"),
        ("z0042", "z0042"),
    ):
        assert pairs.patient_of(id) == patient


def test_name_of_the_config_tells_options_and_files_apart(folder):
    mark = module.fingerprint_of(folder)
    names = [
        module.make_config(folder, **options).name
        for options in (
            {},
            {"split_seed": 0},
            {"fold": "2/5", "split_seed": 1},
            {"label": 3, "slices": "with_mask"},
            {"hu_offset": -1024},
            {"hu_offset": 1024},
        )
    ]
    assert names == [
        f"{name}-{mark}"
        for name in (
            "default",
            "seed0",
            "seed1_fold2of5",
            "default_label3_with_mask",
            "default_minus1024",
            "default_plus1024",
        )
    ]
    assert module.make_config().name == "default"
    marks = {mark}
    (folder / "metadata.csv").write_text("id,patient_id\ncase_0,ann\n")
    marks.add(module.fingerprint_of(folder))
    save(folder / "masks/case_0.png", picture(0)[1])
    marks.add(module.fingerprint_of(folder))
    save(folder / "images/more.tif", picture(7)[0])
    marks.add(module.fingerprint_of(folder))
    assert len(marks) == 4


@pytest.mark.parametrize(
    "options",
    [{"split_seed": -1}, {"fold": "6/5"}, {"label": 0}, {"label": True}, {"slices": "some"}]
    + [{"hu_offset": 0.5}, {"hu_offset": None}],
)
def test_options_of_the_wrong_kind(options):
    with pytest.raises(InputError, match=next(iter(options))):
        module.make_config(**options)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no {REAL}")
def test_real_slices_give_the_records_of_finding_lungs(tmp_path):
    for number, file in enumerate(sorted((REAL / "2d_images").glob("*.tif"))[:6]):
        suffix = (".tif", ".npy")[number % 2]
        for images, own, kaggle in (
            ("images", "images", "2d_images"),
            ("masks", "masks", "2d_masks"),
        ):
            for target in (tmp_path / "kaggle" / kaggle, tmp_path / "own" / own):
                target.mkdir(parents=True, exist_ok=True)
            source = REAL / kaggle / file.name
            shutil.copy(source, tmp_path / "kaggle" / kaggle)
            if images == "images" and suffix == ".npy":
                with Image.open(io.BytesIO(source.read_bytes())) as image:
                    np.save(tmp_path / "own" / own / f"{file.stem}.npy", np.asarray(image))
            else:
                shutil.copy(source, tmp_path / "own" / own)
    theirs = read(prepare("finding_lungs", tmp_path / "data", tmp_path / "kaggle"))
    ours = read(build(tmp_path / "own"))
    assert ours.keys() == theirs.keys() and len(ours) == 6
    for id, record in theirs.items():
        np.testing.assert_array_equal(ours[id].pop("pixels"), record.pop("pixels"))
        np.testing.assert_array_equal(ours[id].pop("mask"), record.pop("mask"))
        assert np.isnan(ours[id].pop("spacing")).all() and np.isnan(record.pop("spacing")).all()
        assert ours[id] == record
