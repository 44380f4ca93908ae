"""Which files make a pair, and what is reported where one has no partner."""

import os
import unicodedata

import pytest

from prnet_jax.datasets.image_folder import pairs
from prnet_jax.errors import InputError


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


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
        ("volume-0.nii", "segmentation-0.nii", "0"),
        ("sub/img_7.png", "sub/mask_7.png", "sub/7"),
        ("case_7.png", "seg-case_7.png", "case_7"),
        ("image_7.png", "7.png", "7"),
        ("IMAGE_7_0000.nii.gz", "label_7.nii.gz", "7"),
        ("ct_7.png", "ct_7_mask.png", "ct_7"),
        ("image_7.png", "image_7.png", "image_7"),
        ("img_0000.nii.gz", "img.nii.gz", "img"),
    ],
)
def test_names_that_belong_together(tmp_path, image, mask, id):
    for name, file in (("images", image), ("masks", mask)):
        write(tmp_path, f"{name}/{file}")
    found = pairs.find_pairs(tmp_path)
    assert [(p.id, p.image.name, p.mask.name) for p in found.pairs] == [
        (id, f"images/{image}", f"masks/{mask}")
    ]
    assert found.problems == []


def test_two_pairs_of_one_number_are_refused(tmp_path):
    write(tmp_path, "images/img_1.png", "images/scan_1.png", "masks/seg_1.png", "masks/mask_1.png")
    (problem,) = pairs.find_pairs(tmp_path).problems
    assert problem.startswith("images/img_1.png and images/scan_1.png and masks/mask_1.png and")


def test_folders_of_the_splits_around_images_and_masks(tmp_path):
    names = ("train/images/ann/1.png", "train/masks/ann/1.png", "Val/image/b_0000.png")
    write(tmp_path, *names, "Val/Labels/b.png", "test/imgs/img_1.png", "test/mask/mask_1.png")
    write(tmp_path, "other/images/c.png", "test/imgs/d.png", "train/masks/f.png")
    found = pairs.find_pairs(tmp_path)
    assert [(pair.id, pair.image.name, pair.mask.name) for pair in found.pairs] == [
        ("Val/b", "Val/image/b_0000.png", "Val/Labels/b.png"),
        ("test/1", "test/imgs/img_1.png", "test/mask/mask_1.png"),
        ("train/ann/1", "train/images/ann/1.png", "train/masks/ann/1.png"),
    ]
    assert [line.partition(" in any")[0] for line in found.problems] == [
        "test/imgs/d.png has no mask test/mask/d",
        "train/masks/f.png has no image train/images/f",
    ]
    write(tmp_path, "validation/images/a.png")
    message = "validation holds no folder masks; it needs images and masks .found images.: rename"
    with pytest.raises(InputError, match=message):
        pairs.find_pairs(tmp_path)


def test_the_folders_images_and_masks_come_first(tmp_path):
    write(tmp_path, "images/a.png", "masks/a.png", "labels/a.png", "train/images/b.png")
    assert [pair.mask.name for pair in pairs.find_pairs(tmp_path).pairs] == ["masks/a.png"]


def test_dicom_files_of_a_split_are_no_volume(tmp_path):
    for name in ("images/train/a.dcm", "images/train/b.dcm", "masks/train/a.dcm"):
        write(tmp_path, name)
    found = pairs.find_pairs(tmp_path)
    assert [pair.id for pair in found.pairs] == ["train/a"]
    for name in ("train/images/a.dcm", "train/images/c/1.dcm", "train/masks/c.nii"):
        write(tmp_path / "own", name)
    found = pairs.find_pairs(tmp_path / "own")
    assert [(pair.id, pair.image.name) for pair in found.pairs] == [("train/c", "train/images/c")]
    assert [line[:31] for line in found.problems] == ["train/images/a.dcm has no mask "]


def test_folders_of_nnunet(tmp_path):
    write(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTs/b_0000.nii.gz")
    found = pairs.find_pairs(tmp_path)
    assert [(pair.id, pair.mask.name) for pair in found.pairs] == [("a", "labelsTr/a.nii.gz")]
    assert (found.skipped, found.problems) == (["imagesTs (it has no labelsTs)"], [])
    write(tmp_path, "labelsTs/b.nii.gz")
    found = pairs.find_pairs(tmp_path)
    assert [(pair.id, pair.image.name) for pair in found.pairs] == [
        ("test/b", "imagesTs/b_0000.nii.gz"),
        ("train/a", "imagesTr/a_0000.nii.gz"),
    ]


def test_accents_of_two_systems_are_one_name(tmp_path):
    for folder, form in (("images", "NFD"), ("masks", "NFC")):
        write(tmp_path, f"{folder}/" + unicodedata.normalize(form, "Zo\u00eb.png"))
    found = pairs.find_pairs(tmp_path)
    assert ([pair.id for pair in found.pairs], found.problems) == (["Zo\u00eb"], [])


def test_links_are_followed_and_never_lost(tmp_path):
    """A linked patient's folder, a link back to an enclosing folder, a broken link."""
    write(tmp_path, "store/i/a.png", "store/m/a.png", "own/images/b.png", "own/masks/b.png")
    own = tmp_path / "own"
    for name, letter in (("images", "i"), ("masks", "m")):
        os.symlink(tmp_path / "store" / letter, own / name / "ann")
        os.symlink(own / name, own / name / "back")
    found = pairs.find_pairs(own)
    assert ([pair.id for pair in found.pairs], found.problems) == (["ann/a", "b"], [])
    for name in ("images", "masks"):
        os.symlink(tmp_path / "gone.png", own / name / "c.png")
    assert pairs.find_pairs(own).problems == [
        f"{name}/c.png is a broken link; restore the file it points to, or remove the link"
        for name in ("images", "masks")
    ]


@pytest.mark.parametrize(
    ("other", "advice"),
    [
        ("images/sub/a.bmp", "convert images/sub/a.bmp to PNG, TIFF, NumPy, NIfTI or DICOM"),
        (
            "images/sub/a.nrrd",
            "images/sub/a.nrrd is NRRD: convert it to NIfTI, in Python "
            "SimpleITK.WriteImage(SimpleITK.ReadImage('images/sub/a.nrrd'), 'NAME.nii.gz')",
        ),
        ("images/Sub/A.tif", "images/Sub/A.tif differs in capitals: rename one"),
        ("images/sub/ab.tif", "add the image or remove this file"),
    ],
)
def test_what_is_nearly_a_partner_is_named(tmp_path, other, advice):
    write(tmp_path, "masks/sub/a.png", other)
    problem = "masks/sub/a.png has no image images/sub/a in any known format; "
    assert problem + advice in pairs.find_pairs(tmp_path).problems


def test_other_folders_are_named(tmp_path):
    write(tmp_path, "scans/a_0000.nii.gz", "lungs/a.nii.gz")
    message = r"no folder images; it needs images and masks \(found lungs, scans\): rename"
    with pytest.raises(InputError, match=message):
        pairs.find_pairs(tmp_path)
    with pytest.raises(InputError, match="holds no folder images; it needs images and masks: ren"):
        pairs.find_pairs(tmp_path / "nothing")


def test_patients_by_folder_and_name():
    for id, patient in (
        ("ann/scan/17", "ann"),
        ("ID_0003_Z_0132", "ID_0003"),
        ("case-slice12", "case"),
        ("case_z0042", "case"),
        ("case_12", "case_12"),
        ("test/ann/scan/17", "ann"),
        ("Val/case_z0042", "case"),
        ("train/case_12", "case_12"),
        ("z0042", "z0042"),
    ):
        assert pairs.patient_of(id) == patient


def test_folders_named_after_splits():
    ids = ("train/a", "Test/a", "val/ann/a", "test_1/a", "train", "ann/train/a")
    expected = ["train", "test", "validation", "", "", ""]
    assert [pairs.split_of(id) for id in ids] == expected
