"""The builder on made-up folders of every format: records, splits and names."""

import io
import itertools
import pathlib
import shutil

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags
from PIL import Image

from prnet_jax.config import make_config
from prnet_jax.data.prepare import prepare
from prnet_jax.data.stacks import KeptVolumes
from prnet_jax.datasets.image_folder import image_folder_dataset_builder as module
from prnet_jax.datasets.image_folder.inspection import Case, Choices, inspect
from prnet_jax.datasets.image_folder.metadata import Entry
from prnet_jax.datasets.image_folder.pairs import Pair, patient_of
from prnet_jax.errors import InputError
from prnet_jax.train import train_and_evaluate
from tests.data.real import LUNGS, needs_lungs
from tests.datasets.made_up_folders import (
    DEPTH,
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


FORMATS = (".tif", ".npy", ".npz", ".png")


@pytest.mark.parametrize(
    ("image_suffix", "mask_suffix"), [*itertools.product(FORMATS, FORMATS), (".nii.gz", ".nii.gz")]
)
def test_pictures_come_back_exactly(tmp_path, image_suffix, mask_suffix):
    """PNG holds no negative values: it gets HU + 1024, and the option that subtracts it."""
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
    builder = build(tmp_path / "own", slices=slices)
    found = read(builder)
    # Slices that are left out belong to the volume all the same.
    spacing = None if images == "npy" else pytest.approx(3.0)
    stack = KeptVolumes(builder.info).stack("case_1")
    assert (stack.slices, stack.spacing_mm) == (DEPTH, spacing)
    again = prepare("image_folder", data_dir=tmp_path / "data", slices=slices)  # no manual_dir
    assert KeptVolumes(again.info).stack("case_1") == stack
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
    assert f"{kept} train / {kept} validation / {kept} test (patients 1 / 1 / 1); random" in text


def test_dicom_slices_one_by_one_and_their_patients(tmp_path):
    """Files with partners are not a series; PatientID tells people apart but is stored hashed."""
    for number in range(3):
        hu, mask = volume(number)
        save_series(tmp_path / f"own/images/scan_{number}", hu, patient=f"Doe^{number // 2}")
        for z in range(DEPTH):
            file = tmp_path / f"own/masks/scan_{number}/IM{99 - z:04d}.png"
            save(file, mask[..., z])
    found = inspect(tmp_path / "own", Choices())
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


def test_slices_first_with_the_option(tmp_path):
    for number in range(3):
        hu, mask = volume(number)
        save(tmp_path / f"own/images/{number}.npy", np.moveaxis(hu, -1, 0))
        save(tmp_path / f"own/masks/{number}.npz", np.moveaxis(mask, -1, 0))
    with pytest.raises(InputError, match=r"axes=\"DHW\" \(--config\.dataset\.options\.axes=DHW\)"):
        build(tmp_path / "own")
    found = read(build(tmp_path / "own", axes="DHW"))
    assert len(found) == 3 * DEPTH
    for id, record in found.items():
        hu, mask = volume(int(id[0]))
        np.testing.assert_array_equal(record["pixels"], hu[..., int(id[-4:])])
        np.testing.assert_array_equal(record["mask"], mask[..., int(id[-4:])])


def test_normalised_pictures_are_grey(tmp_path):
    for number in range(3):
        grey = np.random.default_rng(number).integers(0, 256, SHAPE).astype(np.uint8)
        save(tmp_path / f"own/images/{number}.npy", grey / np.float32(255))
        save(tmp_path / f"own/masks/{number}.png", picture(number)[1])
    assert "normalised to 0..1" in inspect(tmp_path / "own", Choices()).report.facts["note"]
    found = read(build(tmp_path / "own"))
    for number in range(3):
        grey = np.random.default_rng(number).integers(0, 256, SHAPE).astype(np.uint8)
        np.testing.assert_array_equal(found[str(number)]["pixels"], grey)
        assert found[str(number)]["unit"] == "grey"
    with pytest.raises(InputError, match="seems scaled"):
        build(tmp_path / "own", hu_offset=-1024)
    signed = np.random.default_rng(1).uniform(-1, 1, SHAPE).astype(np.float32)
    save(tmp_path / "own/images/1.npy", signed)
    with pytest.raises(InputError, match=r"0\.npy is normalised to 0\.\.1.*1\.npy .*one scaling"):
        build(tmp_path / "own")
    save(tmp_path / "own/images/1.npy", picture(1)[0])
    with pytest.raises(
        InputError, match=r"0\.npy is normalised \(grey values\) but .*1\.npy has m"
    ):
        build(tmp_path / "own")


def test_each_patient_is_tested_in_one_fold(folder):
    (folder / "metadata.csv").write_text("id,patient_id\ncase_0,ann\ncase_1,ann\n")
    tested = []
    for fold in range(1, 6):
        found = read(build(folder, fold=f"{fold}/5"))
        tested += [id for id, record in found.items() if record["split"] == "test"]
        assert found["case_0"]["split"] == found["case_1"]["split"]
    assert sorted(tested) == [f"case_{number}" for number in range(6)]


@pytest.mark.parametrize("outside", [True, False])
def test_folders_of_splits_are_the_splits(tmp_path, outside, capsys):
    ids = ("train/a1", "train/a2", "Val/a3", "test/a4", "test/a5")
    for id in ids:
        hu, mask = picture(int(id[-1]))
        above, name = id.split("/")
        for kind, pixels in (("images", hu), ("masks", mask)):
            path = f"{above}/{kind}/{name}" if outside else f"{kind}/{id}"
            save(tmp_path / f"own/{path}.npy", pixels)
    found = read(build(tmp_path / "own"))
    assert {id: (record["patient"], record["split"]) for id, record in found.items()} == {
        "train/a1": ("a1", "train"),
        "train/a2": ("a2", "train"),
        "Val/a3": ("a3", "validation"),
        "test/a4": ("a4", "test"),
        "test/a5": ("a5", "test"),
    }
    np.testing.assert_array_equal(found["test/a5"]["mask"], picture(5)[1])
    assert "(patients 2 / 1 / 2); the folder layout (Val, test, train)\n" in capsys.readouterr().out
    drawn = read(build(tmp_path / "own", split_seed=0))
    assert [r["split"] for r in drawn.values()].count("train") == 3


def splits_of(ids, table=None, **options):
    """What `choose_splits` makes of pictures of these ids and of a table of splits."""
    cases = [Case(Pair(id, None, None), patient_of(id), None, None) for id in ids]
    metadata = {id: Entry("", split) for id, split in (table or {}).items()}
    return module.choose_splits(cases, metadata, module.make_config(**options))


LAYOUT = ("train/a1", "val/a2", "test/a3")


def test_a_table_that_agrees_with_the_folders():
    table = dict(zip(LAYOUT, ("train", "validation", "test"), strict=True))
    assert splits_of(LAYOUT, table) == (table, "the column split of metadata.csv")
    assert splits_of(LAYOUT) == (table, "the folder layout (test, train, val)")
    assert splits_of(LAYOUT, split_seed=1)[1] == "random, seed 1"


@pytest.mark.parametrize(
    ("ids", "table", "message"),
    [
        (
            LAYOUT,
            {"train/a1": "test", "val/a2": "validation", "test/a3": "test"},
            "metadata.csv puts 'train/a1' into test, but its folder says train; correct the table",
        ),
        (
            ("train/a1", "train/a2", "test/a3"),
            None,
            r"the folder layout \(test, train\) puts no image into validation; .* set split_seed=0",
        ),
        (("train/a1", "val/a2", "train/a3"), None, "puts no image into test"),
        (
            (*LAYOUT, "test/a1"),
            None,
            "puts patient 'a1' into two splits: 'train/a1' into train, 'test/a1' into test",
        ),
        (("train/ann/1", "val/b", "test/ann/2", "test/c"), None, "puts patient 'ann' into two"),
        (("train/a_z1", "val/b", "test/a_z2", "test/c"), None, "puts patient 'a' into two"),
        (("a", "b"), None, "found 2 patients; train, validation and test need at least one each"),
    ],
)
def test_splits_that_cannot_be_trained_on(ids, table, message):
    with pytest.raises(InputError, match=message):
        splits_of(ids, table)


@pytest.mark.parametrize(
    ("ids", "splits"),
    [
        (("a",), ["test"]),
        (("a", "b"), ["test", "test"]),
        (("test/a",), ["test"]),
        (("train/a", "train/b", "test/c"), ["train", "train", "test"]),
    ],
)
def test_splits_may_be_empty_where_a_network_is_only_scored(ids, splits):
    assert list(splits_of(ids, evaluate_only=True)[0].values()) == splits
    table = {"a": "train", "b": "test"}
    assert splits_of(("a", "b"), table, evaluate_only=True)[0] == table
    three = ("a", "b", "c")
    assert splits_of(three, evaluate_only=True) == splits_of(three)


def test_records_that_are_only_for_evaluation_are_not_trained_on(tmp_path, tiny_config):
    save(tmp_path / "own/images/a.npy", picture(1)[0])
    save(tmp_path / "own/masks/a.png", picture(1)[1])
    assert build(tmp_path / "own", evaluate_only=True).info.splits.keys() == {"test"}
    data = tiny_config.dataset
    data.name, data.options = "image_folder", make_config("prnet", "own").dataset.options
    data.manual_dir, data.data_dir = str(tmp_path / "own"), str(tmp_path / "data")
    with pytest.raises(InputError, match="the train split of image_folder has no images: these r"):
        train_and_evaluate(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_name_of_the_config_tells_options_and_files_apart(folder):
    def fingerprint():
        return module.make_config(folder).name.removeprefix("default-")

    mark = fingerprint()
    names = [
        module.make_config(folder, **options).name
        for options in (
            {},
            {"split_seed": 0},
            {"fold": "2/5", "split_seed": 1},
            {"label": 3, "slices": "with_mask"},
            {"hu_offset": -1024},
            {"hu_offset": 1024},
            {"axes": "DHW"},
            {"rescale_optional": True, "hu_as_stored": True},
            {"rescale_optional": False, "hu_as_stored": None},
            {"evaluate_only": True},
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
            "default_DHW",
            "default_rescale_optional_hu_as_stored",
            "default",
            "default",
        )
    ]
    assert module.make_config().name == "default"
    marks = {mark}
    (folder / "metadata.csv").write_text("id,patient_id\ncase_0,ann\n")
    marks.add(fingerprint())
    save(folder / "masks/case_0.png", picture(0)[1])
    marks.add(fingerprint())
    save(folder / "images/more.tif", picture(7)[0])
    marks.add(fingerprint())
    assert len(marks) == 4


@pytest.mark.parametrize(
    "options",
    [{"split_seed": -1}, {"fold": "6/5"}, {"label": 0}, {"label": True}, {"slices": "some"}]
    + [{"hu_offset": 0.5}, {"hu_offset": None}, {"axes": "DWH"}, {"axes": 1}]
    + [{"rescale_optional": 1}, {"hu_as_stored": "yes"}, {"evaluate_only": "yes"}],
)
def test_options_of_the_wrong_kind(options):
    with pytest.raises(InputError, match=next(iter(options))):
        module.make_config(**options)


def test_axes_on_the_command_line():
    file = pathlib.Path(__file__).parents[2] / "configs/prnet.py"
    arguments = ["main", f"--config={file}:own", "--config.dataset.options.axes=DHW"]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    values(arguments)
    assert values.config.dataset.options.axes == "DHW"


@needs_lungs
def test_real_slices_give_the_records_of_finding_lungs(tmp_path):
    for number, file in enumerate(sorted((LUNGS / "2d_images").glob("*.tif"))[:6]):
        suffix = (".tif", ".npy")[number % 2]
        for images, own, kaggle in (
            ("images", "images", "2d_images"),
            ("masks", "masks", "2d_masks"),
        ):
            for target in (tmp_path / "kaggle" / kaggle, tmp_path / "own" / own):
                target.mkdir(parents=True, exist_ok=True)
            source = LUNGS / kaggle / file.name
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
