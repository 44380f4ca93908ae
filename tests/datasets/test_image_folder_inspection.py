"""What is reported about a folder before anything is written: each defect, and the facts."""

import pathlib
import re
import shutil

import numpy as np
import pytest

from prnet_jax.data.prepare import dataset_options
from prnet_jax.datasets.image_folder import inspection
from prnet_jax.errors import InputError
from tests.datasets.made_up_folders import (
    SHAPE,
    build,
    picture,
    save,
    save_series,
    six_pairs,
    volume,
)
from tests.datasets.prepared import read


@pytest.fixture
def folder(tmp_path):
    return six_pairs(tmp_path / "own")


def inspect(folder: pathlib.Path, **options) -> inspection.Inspection:
    return inspection.inspect(folder, inspection.Choices(**options))


def test_label_picks_one(folder):
    for number in range(6):
        save(folder / f"masks/case_{number}.png", np.full(SHAPE, 1 + number % 2, np.uint8))
    with pytest.raises(InputError, match=r"different labels \(1 in .*, 2 in .*option label"):
        build(folder)
    labels = np.zeros(SHAPE, np.uint8)
    labels[:4], labels[4:6] = 1, 2
    save(folder / "masks/case_3.png", labels)
    with pytest.raises(
        InputError, match=r"case_3\.png holds the labels \{0, 1, 2\}; .*such as label=1, or, if"
    ):
        build(folder)
    report = inspect(folder, label=2).report
    assert report.facts["labels"] == "{0, 1, 2}; foreground is 2"
    assert report.mask_values == {"{0}": 3, "{0, 2}": 1, "{2}": 2}
    assert report.mask_types == {"uint8": 6}
    found = read(build(folder, label=2))
    np.testing.assert_array_equal(found["case_3"]["mask"], labels == 2)
    assert not found["case_0"]["mask"].any()
    assert found["case_1"]["mask"].all()
    with pytest.raises(InputError, match=r"no mask holds the label 7; found \{0, 1, 2\}"):
        build(folder, label=7)


def test_masks_of_one_255_and_65535_are_all_binary(folder):
    save(folder / "masks/case_2.png", np.uint16(65535) * picture(2)[1])
    save(folder / "masks/case_3.png", picture(3)[1].astype(np.uint8))
    assert "labels" not in inspect(folder).report.facts
    found = read(build(folder))
    for number in range(6):
        np.testing.assert_array_equal(found[f"case_{number}"]["mask"], picture(number)[1])


def test_slices_that_are_not_kept_are_not_compared(tmp_path):
    """Two volumes share a slice on which nothing is marked."""
    for number in range(3):
        hu, mask = volume(number)
        hu[..., 0] = volume(0)[0][..., 0]
        save(tmp_path / f"images/{number}.npy", hu)
        save(tmp_path / f"masks/{number}.npy", mask)
    report = inspect(tmp_path, slices="with_mask").report
    assert (report.defects, report.duplicates, report.sizes["12x10"]) == ([], [], 9)
    assert len(inspect(tmp_path).report.defects) == 1


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


def folder_of_a_split(folder):
    for name, suffix in (("images", "tif"), ("masks", "png")):
        (folder / name / "test").mkdir()
        (folder / name / f"case_3.{suffix}").rename(folder / name / f"test/case_3.{suffix}")


def line_in_a_name(folder):
    save(folder / "images/a\nb.tif", picture(7)[0])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_mask, "images/case_3.tif has no mask masks/case_3 in any known format; add"),
        (no_image, "masks/case_3.png has no image images/case_3 in any known format; add"),
        (no_pairs, "has no pair of files images/NAME and masks/NAME (found 0 images, 0 masks)"),
        (no_folder, "holds no folder masks; unpack masks.zip, see datasets/image_folder/README.md"),
        (other_size, "masks/case_3.png is 5x10 but its image images/case_3.tif is 12x10"),
        (truncated, "images/case_3.tif cannot be read"),
        (truncated_mask, "masks/case_3.png cannot be read"),
        (id_twice, "images/case_3.npy and images/case_3.tif have the same id"),
        (mask_twice, "images/case_3.tif and masks/case_3_mask.png and masks/case_3_seg.png match"),
        (mask_beside_mask, "masks/case_3_mask.png has no image"),
        (
            two_images_of_one_id,
            "images/case_3_0000.tif and masks/case_3_mask.png and images/case_3",
        ),
        (same_pixels, "images/case_3.tif has the same pixels as images/case_1.tif"),
        (grey_and_hu, "images/case_3.tif has 8 bits (grey values) but images/case_0.tif has more"),
        (exchanged, "images/case_3.tif has 1 bit per pixel; expected an image"),
        (
            volume_and_picture,
            "masks/case_3.png is 12x10 but its image images/case_3.npy is 12x10x4",
        ),
        (four_dimensions, "images/case_3.npy has the shape 2x3x4x5"),
        (
            only_one_oriented,
            "images/case_3.nii.gz states its orientation in the patient but masks/case_3",
        ),
        (elsewhere, "masks/case_3.nii.gz is up to 12 mm away from its image"),
        (other_spacing, "gives 'case_3' a spacing of 0.7 x 0.7 mm but images/case_3.nii.gz states"),
        (same_id_as_a_slice, "have the same id 'v_z0002'"),
        (folder_of_a_split, "images/test/case_3.tif is in a folder 'test', where the patient's"),
        (line_in_a_name, "images/a b.tif has no mask masks/a b in any known format"),
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
    for number in (4, 5):  # blank in two people, which is no leak
        save(folder / f"images/case_{number}.tif", np.full(SHAPE, -1000, np.int16))
    report = inspect(folder).report
    assert report.defects == []
    assert report.empty_masks == ["masks/case_0.png"]
    assert report.full_masks == ["masks/case_1.png"]
    assert report.facts["rounded"] == "1 images to whole HU, by 0.25 at most (images/case_2.npy)"
    assert report.facts["skipped"] == "1: images/notes.txt"
    assert report.facts["blank slices"] == "2 of one value"


def test_files_of_hu_plus_1024(folder, capsys):
    """Refused among files of HU and by themselves, until an option says what is meant."""
    for number in range(3):
        save(folder / f"images/case_{number}.tif", picture(number)[0] + np.int16(1024))
    names = ", ".join(f"images/case_{number}.tif" for number in range(3))
    others = names.replace("0", "3").replace("1", "4").replace("2.", "5.")
    (line,) = inspect(folder).report.defects
    assert f"seem to hold HU + 1024 (3: {names}) and HU (3: {others}): export all in HU" in line
    for number in range(3, 6):
        save(folder / f"images/case_{number}.tif", picture(number)[0] + np.int16(1024))
    with pytest.raises(InputError) as error:
        build(folder)
    assert "set --config.dataset.options.hu_offset=-1024, or" in str(error.value)
    assert "--config.dataset.options.hu_as_stored=True" in str(error.value)
    options = set(re.findall(r"--config\.dataset\.options\.(\w+)=", str(error.value)))
    assert options == {"hu_offset", "hu_as_stored"} <= dataset_options("image_folder").keys()
    assert "(nothing below 0, although air is -1000" in capsys.readouterr().out
    found = read(build(folder, hu_offset=-1024))
    np.testing.assert_array_equal(found["case_3"]["pixels"], picture(3)[0])
    report = inspect(folder, hu_as_stored=True).report
    assert report.defects == []
    assert report.facts["HU as stored"].startswith("the images seem to hold HU + 1024 (6: images")
    found = read(build(folder, hu_as_stored=True))
    np.testing.assert_array_equal(found["case_3"]["pixels"], picture(3)[0] + 1024)
    save(folder / "images/case_3.tif", np.arange(240, 360, dtype=np.int16).reshape(SHAPE))
    assert inspect(folder).report.facts["nothing below 0"] == "1: images/case_3.tif"


def test_dicom_without_rescaling(tmp_path):
    """One patient of three: refused, and where that is waived the values tell."""
    for number in range(3):
        hu, mask = volume(number)
        tags = {"RescaleSlope": None, "RescaleIntercept": None} if number == 1 else {}
        save_series(tmp_path / f"images/p{number}", hu, **tags)
        save(tmp_path / f"masks/p{number}.nii", mask)
    (line,) = inspect(tmp_path).report.defects
    assert line.startswith("images/p1/IM0096 has no RescaleIntercept or RescaleSlope, so its")
    option = re.search(r"--config\.dataset\.options\.(\w+)=True$", line)[1]
    assert option in dataset_options("image_folder")
    (line,) = inspect(tmp_path, **{option: True}).report.defects
    assert "seem to hold HU + 1024 (1: images/p1) and HU (2: images/p0, images/p2)" in line
    assert inspect(tmp_path, **{option: True}, hu_as_stored=True).report.defects == []
