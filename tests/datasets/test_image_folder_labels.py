"""Labels as people's tools write them, and which of them become the foreground."""

import json

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from prnet_jax.config import make_config
from prnet_jax.data.prepare import dataset_options
from prnet_jax.datasets.image_folder import image_folder_dataset_builder as module
from prnet_jax.datasets.image_folder import inspection, labels
from prnet_jax.errors import InputError
from prnet_jax.run import directory
from tests.data.scans import nifti
from tests.datasets.made_up_folders import SHAPE, build, picture, save
from tests.datasets.prepared import read

SQUARE = np.zeros(SHAPE, np.uint8)
SQUARE[2:6, 3:8] = 1  # 20 of 120 pixels


def folder_of(folder, *masks, suffix=".png"):
    for number, mask in enumerate(masks):
        save(folder / f"images/case_{number}.npy", picture(number)[0])
        save(folder / f"masks/case_{number}{suffix}", mask)
    return folder


def report_of(folder, **options):
    return inspection.inspect(folder, inspection.Choices(**options)).report


def sizes_of(folder, **options):
    """The pixels of each mask's foreground."""
    found = inspection.inspect(folder, inspection.Choices(**options))
    assert found.report.defects == []
    return [inspection.read_mask(case.pair, found.choices)[1].sum() for case in found.cases]


def scaled_nifti(file, kind):
    affine = np.diag([-0.7, -0.7, 2.0, 1.0])
    mask = np.repeat(SQUARE[:, :, None], 2, axis=2)
    if kind == "short of 1":
        nifti(file, mask * np.float32(0.999985), affine)
    elif kind == "int16 with a slope":
        nibabel = pytest.importorskip("nibabel")
        image = nibabel.Nifti1Image(mask.astype(np.float64), affine)
        image.set_data_dtype(np.int16)
        image.to_filename(file)
    elif kind == "255 times 1/255":
        nifti(file, mask * np.uint8(255), affine)
        header = bytearray(file.read_bytes())
        header[112:120] = np.array([1 / 255, 0], np.float32).tobytes()  # scl_slope, scl_inter
        file.write_bytes(header)
    else:
        nifti(file, mask, affine)


@pytest.mark.parametrize("options", [{}, {"label": 1}, {"label": "all"}])
def test_a_scaled_one_is_one(tmp_path, options):
    kinds = ("1", "short of 1", "int16 with a slope", "255 times 1/255")
    (tmp_path / "own/images").mkdir(parents=True)
    (tmp_path / "own/masks").mkdir()
    for number, kind in enumerate(kinds):
        hu = np.repeat(picture(number)[0][:, :, None], 2, axis=2)
        hu[0, 0, 1] = 7
        nifti(tmp_path / f"own/images/{number}.nii", hu, np.diag([-0.7, -0.7, 2.0, 1.0]))
        scaled_nifti(tmp_path / f"own/masks/{number}.nii", kind)
    assert sizes_of(tmp_path / "own", **options) == [40] * 4
    assert report_of(tmp_path / "own", **options).mask_values == {"{0, 1}": 8}


def test_values_near_whole_numbers():
    near = np.array([-0.0004, 0.999, 1.0009, 2], np.float32)
    np.testing.assert_array_equal(labels.as_labels(near, "m"), [0, 1, 1, 2])
    assert not np.signbit(labels.as_labels(near, "m")).any()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.97, "case_1.npy holds 0.97; expected 0 and whole labels above it: if these are prob"),
        (1.002, "holds 1.002; expected 0 and whole"),
        (np.int8(-1), "case_1.npy holds the label -1; expected 0 for the background and whole"),
        (-2.0, "holds the label -2"),
        (np.inf, "holds values that are not finite"),
        (np.nan, "holds values that are not finite"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"label": 1}, {"label": "all"}])
def test_values_that_are_no_labels_are_refused(tmp_path, value, message, options):
    mask = SQUARE.astype(np.asarray(value).dtype)
    mask[0, 0] = value
    folder_of(tmp_path / "own", SQUARE, mask, SQUARE, suffix=".npy")
    with pytest.raises(InputError) as error:
        build(tmp_path / "own", **options)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("label", [None, 1, 255, 65535, (1, 255), "all"])
def test_one_and_all_bits_mean_the_same(tmp_path, label):
    masks = (SQUARE * np.uint8(255), SQUARE, SQUARE * np.uint16(65535), SQUARE)
    folder_of(tmp_path / "own", *masks)
    assert sizes_of(tmp_path / "own", label=label) == [20] * 4


def test_the_records_have_the_labels_that_mean_the_same(tmp_path):
    folder_of(tmp_path / "own", SQUARE * np.uint8(255), SQUARE, SQUARE)
    found = read(build(tmp_path / "own", label=1))
    for record in found.values():
        np.testing.assert_array_equal(record["mask"], SQUARE > 0)
    assert len(found) == 3


def test_255_is_1_in_a_mask_of_its_own_even_where_others_hold_labels(tmp_path):
    two = SQUARE.copy()
    two[8:10] = 2
    folder_of(tmp_path / "own", SQUARE * np.uint8(255), two, SQUARE)
    for label, sizes in ((1, [20] * 3), (2, [0, 20, 0])):
        assert sizes_of(tmp_path / "own", label=label) == sizes
    assert (
        report_of(tmp_path / "own", label=1).facts["labels"]
        == "{0, 1, 2, 255}; foreground is 1, 255"
    )


@pytest.mark.parametrize(("label", "sizes"), [(1, [20, 20, 0]), (255, [10, 0, 20])])
def test_255_beside_another_label_is_exactly_255(tmp_path, label, sizes):
    """Such as the border of the objects, which is to be ignored."""
    border = SQUARE.copy()
    border[8] = 255
    folder_of(tmp_path / "own", border, SQUARE, SQUARE * np.uint8(255))
    assert sizes_of(tmp_path / "own", label=label) == sizes


LUNGS = SQUARE.copy()  # the right one is 1, the left one 2
LUNGS[2:6, 5:8] = 2


@pytest.mark.parametrize(
    ("label", "size", "text"),
    [
        ((1, 2), 20, "1, 2"),
        ([2, 1, 2], 20, "1, 2"),
        ("all", 20, "all above 0"),
        ((2,), 12, "2"),
        (1, 8, "1"),
    ],
)
def test_several_labels(tmp_path, label, size, text):
    folder_of(tmp_path / "own", LUNGS, LUNGS, LUNGS)
    assert sizes_of(tmp_path / "own", label=label) == [size] * 3
    report = report_of(tmp_path / "own", label=label)
    assert report.defects == []
    assert report.facts["labels"] == "{0, 1, 2}; foreground is " + text


def test_advice_names_what_the_option_takes(tmp_path):
    folder_of(tmp_path / "own", LUNGS, LUNGS, LUNGS)
    with pytest.raises(InputError, match="option label to all, to several, such as label=1,2, or"):
        build(tmp_path / "own")
    with pytest.raises(InputError, match="no mask holds the label 3; found {0, 1, 2}"):
        build(tmp_path / "own", label=(1, 3))
    folder_of(tmp_path / "own", SQUARE, SQUARE * np.uint8(2), SQUARE * np.uint8(3))
    with pytest.raises(
        InputError, match="to one of them, to several, such as label=1,2, or to all"
    ):
        build(tmp_path / "own")


def test_a_mask_without_the_label_has_its_row(tmp_path):
    folder_of(tmp_path / "own", SQUARE, SQUARE * np.uint8(2), SQUARE * np.uint8(3), SQUARE * 0)
    report = report_of(tmp_path / "own", label=(1, 2))
    assert report.facts["other labels only"] == "1: masks/case_2.png"
    assert report.empty_masks == ["masks/case_2.png", "masks/case_3.png"]
    assert "other labels only" not in report_of(tmp_path / "own", label="all").facts


def test_the_foregrounds_share_shows_what_is_inverted(tmp_path):
    folder_of(tmp_path / "own", SQUARE, SQUARE, SQUARE * 0)
    text = "11.1 % of a slice on average, 0.0 to 16.7 %"
    assert report_of(tmp_path / "own").facts["foreground"] == text
    folder_of(tmp_path / "own", 1 - SQUARE, 1 - SQUARE, SQUARE)
    text = "61.1 % of a slice on average, 16.7 to 83.3 % (above half in 2 of 3: is the background"
    assert report_of(tmp_path / "own").facts["foreground"].startswith(text)


@pytest.mark.parametrize("label", [0, -1, True, 1.5, (), (1, 0), (1, "2"), "1,2", "every", {1: 2}])
def test_other_values_of_the_option(label):
    with pytest.raises(InputError, match="^label is .*expected a whole number of 1 or more, sever"):
        module.make_config(label=label)


@pytest.mark.parametrize(
    ("text", "label", "name"),
    [
        ("2", 2, "default_label2"),
        ("1,2", (1, 2), "default_label1and2"),
        ("[2,1]", [2, 1], "default_label1and2"),
        ("all", "all", "default_all_labels"),
        ("None", None, "default"),
    ],
)
def test_the_option_on_the_command_line(text, label, name):
    flag = f"--config.dataset.options.label={text}"
    values = flags.FlagValues()
    config = make_config("prnet", "own")
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=["main", flag])
    values(["main", flag])
    assert values.config.dataset.options.label == label
    stored = json.loads(values.config.to_json())["dataset"]["options"]
    assert module.make_config(**stored).name == name


@pytest.mark.parametrize("label", [None, 3])
def test_a_run_of_an_earlier_version_resumes(tmp_path, label):
    """Its config has one label at most, and no option that was added since."""
    config = make_config("prnet", "own")
    config.dataset.options.label = label
    earlier = json.loads(config.to_json())
    first = {"split_seed": None, "fold": "", "label": label, "slices": "all", "hu_offset": 0}
    assert dataset_options("image_folder").keys() > first.keys()
    earlier["dataset"]["options"] = first
    (tmp_path / "config.json").write_text(json.dumps(earlier))
    directory.check_run(tmp_path, config)
    assert module.make_config(**first).name == ("default" if label is None else "default_label3")
