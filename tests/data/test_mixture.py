"""Several data sets read as one."""

import numpy as np
import pytest
from PIL import Image

from prnet_jax.config import default_config
from prnet_jax.data.mixture import Joined, share_a_source
from prnet_jax.data.pipeline import open_splits, splits_hash
from prnet_jax.data.prepare import dataset_options, prepare
from prnet_jax.errors import InputError
from prnet_jax.evaluate.choices import Choices

BOTH = "image_folder+finding_lungs"


@pytest.fixture(scope="module")
def manual_dir(tmp_path_factory):
    """Six pictures for image_folder and four for finding_lungs, each with values of its own."""
    folder = tmp_path_factory.mktemp("mixture")
    for name in ("images", "masks", "2d_images", "2d_masks"):
        (folder / name).mkdir()
    body = np.zeros((32, 32), np.uint8)
    body[8:20, 8:20] = 1

    def write(i, image, mask):
        hu = np.where(body, 200 + i, 1000).astype(np.int16)
        Image.fromarray((hu - 1024).astype(np.int16).astype(np.int32)).save(folder / image)
        Image.fromarray(body * 255).save(folder / mask)

    for i in range(6):
        write(i, f"images/p{i}.tif", f"masks/p{i}.tif")
    for i in range(4):
        write(10 + i, f"2d_images/ID_000{i}_Z_0001.tif", f"2d_masks/ID_000{i}_Z_0001.tif")
    return folder


def slices_of(name, manual_dir, data_dir, **options):
    config = default_config("prnet").dataset
    config.image_size = 32
    builder = prepare(name, data_dir, manual_dir, **options)
    return builder, open_splits(builder, config)


def test_each_keeps_its_splits(manual_dir, tmp_path):
    parts = [slices_of(name, manual_dir, tmp_path) for name in BOTH.split("+")]
    builder, both = slices_of(BOTH, manual_dir, tmp_path)
    assert builder.info.full_name == "+".join(part.info.full_name for part, _ in parts)
    for split, slices in both.items():
        first, second = (of_part[split] for _, of_part in parts)
        assert slices.ids == first.ids + second.ids
        for i, expected in [(0, first[0]), (len(slices) - 1, second[len(second) - 1])]:
            assert slices[i]["id"] == expected["id"]
            np.testing.assert_array_equal(slices[i]["image"], expected["image"])
    assert len(both["train"]) + len(both["validation"]) + len(both["test"]) == 10
    assert splits_hash(both) not in {splits_hash(of_part) for _, of_part in parts}


def test_an_option_reaches_those_that_have_it(manual_dir, tmp_path):
    options = dataset_options(BOTH)
    assert {"label", "include_leaking", "fold"} <= options.keys()
    builder, _ = slices_of(BOTH, manual_dir, tmp_path, fold="1/3", include_leaking=True)
    first, second = builder.info.full_name.split("+")
    assert "fold1of3" in first and "leaking" not in first and "fold1of3_leaking" in second
    with pytest.raises(InputError, match="image_folder.finding_lungs has no option 'foldd'"):
        prepare(BOTH, tmp_path, manual_dir, foldd="1/3")


def test_names_are_checked(manual_dir, tmp_path):
    with pytest.raises(InputError, match="no data set 'lungs'"):
        prepare("image_folder+lungs", tmp_path, manual_dir)
    with pytest.raises(InputError, match="names one twice"):
        prepare("image_folder+image_folder", tmp_path, manual_dir)


def test_grey_values_and_hu_are_not_mixed(manual_dir, tmp_path):
    grey = tmp_path / "grey"
    for name in ("images", "masks", "2d_images", "2d_masks"):
        (grey / name).mkdir(parents=True)
    for source in manual_dir.glob("2d_*/*"):
        (grey / source.relative_to(manual_dir)).write_bytes(source.read_bytes())
    picture = np.zeros((32, 32), np.uint8)
    picture[8:20, 8:20] = 200
    for i in range(6):
        Image.fromarray(picture + np.uint8(i)).save(grey / f"images/p{i}.png")
        Image.fromarray(picture // 200 * 255).save(grey / f"masks/p{i}.png")
    with pytest.raises(InputError, match="some hold HU and some grey values"):
        slices_of(BOTH, grey, tmp_path / "records")


def test_whether_patients_can_be_the_same():
    assert share_a_source("finding_lungs+lung_phantom", "finding_lungs")
    assert not share_a_source("image_folder", "finding_lungs+lung_phantom")


def test_the_folder_of_an_evaluation_names_all():
    choices = Choices(dataset=BOTH, split="all")
    records = "image_folder/default-1/1.0.0+finding_lungs/leaking-2/1.2.0"
    expected = "image_folder-default-1+finding_lungs-leaking-2_all"
    assert choices.folder_name("lung_phantom", records) == expected


def test_joined_sequences():
    joined = Joined([[1, 2], [], [3]])
    assert [joined[i] for i in range(3)] == list(joined) == [1, 2, 3] and len(joined) == 3
    for outside in (-1, 3):
        with pytest.raises(IndexError):
            joined[outside]
    assert len(Joined([])) == 0
