"""The builder on made-up folders, plain, zipped and with each defect, and on the real set.

TFDS's own `DatasetBuilderTestCase` needs TensorFlow.
"""

import csv
import pathlib
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from prnet_jax.data import splits
from prnet_jax.data.folders import Folder
from prnet_jax.data.prepare import prepare
from prnet_jax.data.readers import read_hu, read_tiff
from prnet_jax.datasets.finding_lungs import finding_lungs_dataset_builder as module
from prnet_jax.datasets.finding_lungs import integrity
from prnet_jax.errors import InputError
from tests.data.real import LUNGS, needs_lungs
from tests.datasets.prepared import read

IDS = [f"ID_{i:04d}_Z_{100 + i:04d}" for i in range(6)]


def slice_and_mask(number: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(number)
    hu = generator.integers(-1000, 400, (32, 24)).astype(np.int16)
    hu[0, :2] = -2048, 3071
    return hu, generator.random((32, 24)) < 0.3


def write(folder: pathlib.Path, id: str, hu: np.ndarray | None, mask: np.ndarray | None) -> None:
    for name, pixels in ((integrity.IMAGES, hu), (integrity.MASKS, mask)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        if pixels is None:
            continue
        signed = pixels.dtype == np.int16  # Pillow writes it as unsigned unless told
        image = Image.fromarray(pixels.view(np.uint16) if signed else pixels)
        tags = {"tiffinfo": {339: 2}} if signed else {}
        image.save(folder / name / f"{id}.tif", compression="tiff_adobe_deflate", **tags)


@pytest.fixture
def folder(tmp_path):
    """Six pairs in Kaggle's layout."""
    path = tmp_path / "manual"
    for number, id in enumerate(IDS):
        hu, mask = slice_and_mask(number)
        write(path, id, hu, np.where(mask, 255, 0).astype(np.uint8))
    return path


def zipped(folder: pathlib.Path) -> pathlib.Path:
    target = folder.parent / "zipped"
    for name in (integrity.IMAGES, integrity.MASKS):
        shutil.make_archive(str(target / name), "zip", folder, name)
    return target


@pytest.mark.parametrize("zips", [False, True])
def test_records_hold_what_the_files_hold(folder, tmp_path, zips, capsys):
    manual_dir = zipped(folder) if zips else folder
    builder = prepare("finding_lungs", tmp_path / "data", manual_dir)
    found = read(builder)
    assert sorted(found) == IDS
    for split, number in (("train", 4), ("validation", 1), ("test", 1)):
        assert [record["split"] for record in found.values()].count(split) == number
        assert builder.info.splits[split].num_examples == number
    for number, id in enumerate(IDS):
        hu, mask = slice_and_mask(number)
        np.testing.assert_array_equal(found[id]["pixels"], hu)
        np.testing.assert_array_equal(found[id]["mask"], mask)
        assert (found[id]["unit"], found[id]["patient"]) == ("HU", id[:7])
        assert np.isnan(found[id]["spacing"]).all()
    text = capsys.readouterr().out
    for line in (
        "pairs             6 of 6 images and 6 masks",
        "sizes             32x24: 6",
        "image types       int16: 6",
        "HU range          -2048 to 3071",
        "mask values       {0, 255}: 6",
        "defects           none",
        "random, seed 0: the committed list does not apply (264 of its 264 ids are missing, 6 are",
    ):
        assert line in text
    assert "tensorflow" not in sys.modules


def no_mask(folder):
    (folder / "2d_masks/ID_0003_Z_0103.tif").unlink()


def no_image(folder):
    (folder / "2d_images/ID_0003_Z_0103.tif").unlink()


def no_pairs(folder):
    for file in (folder / "2d_masks").iterdir():
        file.unlink()
    write(folder, "other", None, np.zeros((32, 24), np.uint8))


def no_folder(folder):
    shutil.rmtree(folder / "2d_masks")


def other_size(folder):
    write(folder, IDS[3], None, np.zeros((16, 24), np.uint8))


def grey_values(folder):
    write(folder, IDS[3], None, np.repeat(np.uint8([0, 128, 255]), 256).reshape(32, 24))


def truncated_image(folder):
    file = folder / f"2d_images/{IDS[3]}.tif"
    file.write_bytes(file.read_bytes()[:-200])


def truncated_mask(folder):
    file = folder / f"2d_masks/{IDS[3]}.tif"
    file.write_bytes(file.read_bytes()[:-200])


def windowed_picture(folder):
    write(folder, IDS[3], np.zeros((32, 24), np.uint8), None)


def same_pixels(folder):
    write(folder, IDS[3], slice_and_mask(1)[0], None)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_mask, f"2d_images/{IDS[3]}.tif has no mask 2d_masks/{IDS[3]}.tif; add"),
        (no_image, f"2d_masks/{IDS[3]}.tif has no image 2d_images/{IDS[3]}.tif; add"),
        (no_pairs, "has no pair of an image 2d_images/NAME.tif and a mask"),
        (no_folder, "holds neither a folder 2d_masks nor 2d_masks.zip"),
        (other_size, f"2d_masks/{IDS[3]}.tif is 16x24 but its image is 32x24; a mask must"),
        (grey_values, f"2d_masks/{IDS[3]}.tif holds the values {{0, 128, 255}}; a mask holds 0"),
        (truncated_image, f"2d_images/{IDS[3]}.tif cannot be read: it is truncated"),
        (truncated_mask, f"2d_masks/{IDS[3]}.tif cannot be read: it is truncated"),
        (windowed_picture, f"2d_images/{IDS[3]}.tif is an 8-bit picture"),
        (same_pixels, f"2d_images/{IDS[3]}.tif has the same pixels as 2d_images/{IDS[1]}.tif"),
    ],
)
def test_a_defect_is_one_line_and_nothing_is_written(folder, tmp_path, spoil, message, capfd):
    spoil(folder)
    with pytest.raises(InputError) as error:
        prepare("finding_lungs", tmp_path / "data", folder)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert not list((tmp_path / "data").rglob(f"*{module.Builder.VERSION}*"))
    assert "TIFF" not in capfd.readouterr().err  # libtiff kept quiet


def test_report_counts_all_defects_and_facts(folder):
    no_mask(folder)
    write(folder, IDS[0], None, np.zeros((32, 24), np.uint8))
    write(folder, IDS[1], None, np.ones((32, 24), np.uint8))
    write(folder, IDS[2], None, np.arange(768).reshape(32, 24).astype(np.uint8))
    report = integrity.inspect(folder)
    assert (report.images, report.masks, len(report.pairs)) == (6, 5, 5)
    assert report.images_without_mask == (IDS[3],)
    assert report.empty_masks == [f"2d_masks/{IDS[0]}.tif"]
    assert report.full_masks == [f"2d_masks/{IDS[1]}.tif"]
    assert report.mask_values["{0, 255}"] == 2
    assert report.mask_values["{0, 1, 2, 3, 4, 5, ... 256 in all}"] == 1
    assert len(report.defects) == 2
    with pytest.raises(InputError, match=r"has no mask .* \(2 defects\)$"):
        report.raise_for_defects()
    assert f"1: {IDS[3]} (mask)" in str(report)


def test_values_that_cannot_be_hu_are_pointed_out(folder):
    for number, id in enumerate(IDS):
        write(folder, id, slice_and_mask(number)[0] + np.int16(2048), None)
    report = integrity.inspect(folder)
    assert "0 to 5119 (nothing below 0" in str(report)
    assert [line.partition("(")[0] for line in report.defects] == [
        "the images seem to hold HU + 1024 "
    ]
    with pytest.raises(InputError, match="export them again in HU$"):
        report.raise_for_defects()
    write(folder, IDS[2], slice_and_mask(2)[0], None)
    (line,) = integrity.inspect(folder).defects
    assert line.endswith(f"and HU (1: 2d_images/{IDS[2]}.tif): export all in HU")


def test_name_of_the_config_tells_options_and_files_apart(folder):
    def fingerprint_of(path):
        return module.make_config(path).name.removeprefix("default-")

    fingerprint = fingerprint_of(folder)
    assert fingerprint_of(zipped(folder)) == fingerprint
    names = [
        module.make_config(folder, **options).name
        for options in (
            {},
            {"split_seed": 0},
            {"split_seed": 1},
            {"fold": "2/5"},
            {"fold": "2/5", "split_seed": 1},
            {"include_leaking": True},
        )
    ]
    expected = ("default", "seed0", "seed1", "fold2of5", "seed1_fold2of5", "default_leaking")
    assert names == [f"{name}-{fingerprint}" for name in expected]
    assert module.make_config().name == "default"
    file = folder / f"2d_masks/{IDS[0]}.tif"
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    file.write_bytes(changed)
    other = fingerprint_of(folder)
    file.rename(file.with_name("renamed.tif"))
    assert len({fingerprint, other, fingerprint_of(folder)}) == 3


@pytest.mark.parametrize(
    "options",
    [{"split_seed": "1"}, {"split_seed": -1}, {"fold": "6/5"}, {"include_leaking": "yes"}],
)
def test_options_of_the_wrong_kind(options):
    with pytest.raises(InputError, match=next(iter(options))):
        module.make_config(**options)


def splits_by(ids, **options):
    return module.choose_splits(ids, module.make_config(**options))


def test_committed_split(root):
    manifest = splits.read_manifest(root / "datasets/finding_lungs/splits.csv")
    counts = [list(manifest.values()).count(name) for name in splits.SPLITS]
    assert counts == [211, 26, 27]
    assert not set(module.LEAKING) & set(manifest)
    others = manifest.keys() - {module.HALF_MASKED}
    drawn = splits.random_split(others, (210, 26, 27), seed=0)
    assert manifest == drawn | {module.HALF_MASKED: "train"}
    everything = [*manifest, *module.LEAKING]
    assert splits_by(everything) == (manifest, "the committed list")
    kept, _ = splits_by(everything, include_leaking=True)
    assert kept == manifest | dict.fromkeys(module.LEAKING, "train")
    seeded, source = splits_by(everything, split_seed=1)
    assert (source, seeded.keys(), seeded != manifest) == ("random, seed 1", manifest.keys(), True)
    assert splits_by(everything, fold="2/5")[0] == splits.kfold(manifest, 2, 5, seed=0)


def test_spoilt_copy_is_refused_and_other_folders_are_not(root):
    ids = sorted(splits.read_manifest(root / "datasets/finding_lungs/splits.csv"))
    for found in (ids[2:], [*ids, "new"]):
        with pytest.raises(InputError, match="does not fit this folder.*split_seed=0"):
            splits_by(found)
        assert splits_by(found, split_seed=0)[0].keys() == set(found)
    drawn, source = splits_by(ids[:60])
    assert "204 of its 264 ids are missing, 0 are new" in source
    assert [list(drawn.values()).count(name) for name in splits.SPLITS] == [48, 6, 6]
    with pytest.raises(InputError, match="found 2 patients"):
        splits_by(["ID_0001_Z_0001", "ID_0001_Z_0002", "x"])


@needs_lungs
def test_real_set_has_no_defects_and_exactly_264_slices():
    report = integrity.inspect(LUNGS)
    assert report.defects == []
    assert dict(report.sizes) == {"512x512": 267}
    assert dict(report.image_types) == {"int16": 267}
    assert dict(report.mask_values) == {"{0, 255}": 267}
    split, source = splits_by(report.pairs)
    assert (len(split), source) == (264, "the committed list")
    assert len({module.patient_of(id) for id in split}) == 264


@needs_lungs
def test_real_areas_and_mean_hu_equal_kaggles_own():
    images, masks = Folder(LUNGS, integrity.IMAGES), Folder(LUNGS, integrity.MASKS)
    with (LUNGS / "lung_stats.csv").open(newline="") as file:
        rows = {row["img_id"].removesuffix(".tif"): row for row in csv.DictReader(file)}
    assert set(rows) == set(images.ids) == set(masks.ids)
    for id, row in rows.items():
        mask = read_tiff(masks.read(id), masks.file(id)) != 0
        hu = read_hu(images.read(id), images.file(id))
        assert mask.sum() == float(row["lung_area_px"])
        assert hu[mask].mean() == pytest.approx(float(row["lung_mean_hu"]), abs=1e-6)
