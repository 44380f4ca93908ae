"""The builder on made-up folders, with each defect, and on the real crops."""

import collections
import pathlib
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from prnet_jax.data import leakage, splits
from prnet_jax.data.prepare import prepare
from prnet_jax.data.readers import read_png
from prnet_jax.datasets.lidc_nodules import integrity
from prnet_jax.datasets.lidc_nodules import lidc_nodules_dataset_builder as module
from prnet_jax.datasets.lidc_nodules.layout import Layout, patient_of
from prnet_jax.errors import InputError
from tests.data.real import LIDC, needs_lidc
from tests.datasets.prepared import read

IDS = [
    f"LIDC-IDRI-{patient:04d}_nodule-{nodule}_slice-{number}"
    for patient in range(1, 6)
    for nodule in range(1 + (patient == 1))
    for number in range(2)
]
FIRST = "LIDC-IDRI-0001/nodule-0"


def image_and_masks(id: str) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(IDS.index(id))
    image = generator.integers(0, 256, (16, 12)).astype(np.uint8)
    return image, generator.random((4, 16, 12)) < 0.5


def write(folder: pathlib.Path, name: str, pixels: np.ndarray) -> None:
    file = folder / f"{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


@pytest.fixture
def folder(tmp_path):
    """Five patients, six nodules of two slices, in Kaggle's layout."""
    path = tmp_path / "manual" / "LIDC-IDRI-slices"
    for id in IDS:
        patient, nodule, name = id.split("_")
        image, masks = image_and_masks(id)
        write(path, f"{patient}/{nodule}/images/{name}", image)
        for reader, mask in enumerate(masks):
            write(path, f"{patient}/{nodule}/mask-{reader}/{name}", mask.astype(np.uint8) * 255)
    return path


@pytest.mark.parametrize(("readers_needed", "parent"), [(2, False), (3, True)])
def test_records_hold_what_the_files_hold(folder, tmp_path, readers_needed, parent, capsys):
    manual_dir = folder.parent if parent else folder
    found = read(
        prepare("lidc_nodules", tmp_path / "data", manual_dir, readers_needed=readers_needed)
    )
    assert sorted(found) == sorted(IDS)
    split_of_patient = collections.defaultdict(set)
    for record in found.values():
        split_of_patient[record["patient"]].add(record["split"])
    assert all(len(names) == 1 for names in split_of_patient.values())
    assert len(split_of_patient) == 5
    for id, record in found.items():
        image, masks = image_and_masks(id)
        np.testing.assert_array_equal(record["pixels"], image)
        for reader in range(4):
            np.testing.assert_array_equal(record[f"reader_{reader}"], masks[reader])
        votes = masks[0].astype(int) + masks[1] + masks[2] + masks[3]
        np.testing.assert_array_equal(record["mask"], votes >= readers_needed)
        assert (record["unit"], record["patient"]) == ("grey", id[:14])
        assert np.isnan(record["spacing"]).all()
    text = capsys.readouterr().out
    for line in (
        "pairs             12 of 12 images and 48 masks",
        "sizes             16x12: 12",
        "mask values       {0, 255}: 48",
        "patients          5, nodules: 6",
        "readers who mark  4: 12",
        f"mask              marked by {readers_needed} or more of 4 readers",
        "split             3 train / 1 validation / 1 test patients, random, seed 0",
        "defects           none",
    ):
        assert line in text
    assert "tensorflow" not in sys.modules


def test_consensus_by_hand():
    readings = np.array([[[0, 1, 1, 1]], [[0, 0, 1, 1]], [[0, 0, 0, 1]], [[0, 0, 0, 1]]])
    for needed, expected in ((1, [0, 1, 1, 1]), (2, [0, 0, 1, 1]), (3, [0, 0, 0, 1])):
        np.testing.assert_array_equal(module.consensus(readings > 0, needed)[0], expected)


def test_reader_dice_by_hand():
    readings = [
        np.array([[[1, 1, 0]], [[1, 0, 0]], [[0, 0, 0]], [[0, 0, 0]]], bool),
        np.zeros((4, 1, 3), bool),
    ]
    # Pairs: 0-1 has 2*1/3; 0-2, 0-3, 1-2, 1-3 have one blank mask; 2-3 has two.
    dice = integrity.reader_dice(readings)
    assert dice["both"] == (pytest.approx(2 / 3), 1)
    assert dice["either"] == (pytest.approx(2 / 15), 5)
    assert np.isnan(integrity.reader_dice([])["both"][0])


def test_facts_about_readers(folder):
    blank = np.zeros((16, 12), np.uint8)
    dot = blank.copy()
    dot[3, 4] = 255
    for reader, mask in enumerate((dot, dot, blank, blank)):
        write(folder, f"{FIRST}/mask-{reader}/slice-0", mask)
        write(folder, f"{FIRST}/mask-{reader}/slice-1", blank)
    report = integrity.inspect(Layout(folder))
    assert report.defects == []
    assert report.facts["readers who mark"] == "0: 1, 2: 1, 4: 10"
    assert report.facts["consensus empty"] == "1 of 4: 1, 2 of 4: 1, 3 of 4: 2, 4 of 4: 2"
    assert len(report.empty_masks) == 6


def no_mask(folder):
    (folder / FIRST / "mask-2/slice-1.png").unlink()


def no_image(folder):
    (folder / FIRST / "images/slice-1.png").unlink()


def no_mask_folder(folder):
    shutil.rmtree(folder / FIRST / "mask-2")


def no_slices(folder):
    for file in folder.rglob("mask-3/*.png"):
        file.unlink()


def other_size(folder):
    write(folder, f"{FIRST}/mask-2/slice-1", np.zeros((12, 12), np.uint8))


def grey_mask(folder):
    values = np.repeat(np.uint8([0, 128, 255]), 64).reshape(16, 12)
    write(folder, f"{FIRST}/mask-2/slice-1", values)


def truncated_image(folder):
    file = folder / FIRST / "images/slice-1.png"
    file.write_bytes(file.read_bytes()[:-40])


def truncated_mask(folder):
    file = folder / FIRST / "mask-2/slice-1.png"
    file.write_bytes(file.read_bytes()[:-30])


def sixteen_bits(folder):
    write(folder, f"{FIRST}/images/slice-1", np.full((16, 12), 700, np.uint16))


def shared_by_patients(folder):
    write(folder, "LIDC-IDRI-0004/nodule-0/images/slice-1", image_and_masks(IDS[1])[0])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_mask, f"{FIRST}/images/slice-1.png has no {FIRST}/mask-2/slice-1.png; add it"),
        (no_image, f"{FIRST}/mask-0/slice-1.png has no {FIRST}/images/slice-1.png; add it"),
        (no_mask_folder, f"{FIRST}/mask-2 is missing; each nodule has images, mask-0, "),
        (no_slices, "has no slice with an image and 4 masks"),
        (other_size, f"{FIRST}/mask-2/slice-1.png is 12x12 but its image {FIRST}/images/slice-1"),
        (grey_mask, f"{FIRST}/mask-2/slice-1.png holds the values {{0, 128, 255}}; a mask holds"),
        (truncated_image, f"{FIRST}/images/slice-1.png cannot be read: it is truncated"),
        (truncated_mask, f"{FIRST}/mask-2/slice-1.png cannot be read: it is truncated"),
        (sixteen_bits, f"{FIRST}/images/slice-1.png is uint16; expected 8-bit grey values"),
        (
            shared_by_patients,
            f"LIDC-IDRI-0004/nodule-0/images/slice-1.png has the same pixels as {FIRST}/images/",
        ),
    ],
)
def test_a_defect_is_one_line_and_nothing_is_written(folder, tmp_path, spoil, message):
    spoil(folder)
    with pytest.raises(InputError) as error:
        prepare("lidc_nodules", tmp_path / "data", folder)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def test_a_missing_folder_is_one_defect(folder):
    no_mask_folder(folder)
    assert len(integrity.inspect(Layout(folder)).defects) == 1


def test_equal_slices_of_one_patient_are_a_fact(folder):
    write(folder, "LIDC-IDRI-0001/nodule-1/images/slice-0", image_and_masks(IDS[0])[0])
    report = integrity.inspect(Layout(folder))
    assert report.defects == []
    names = (f"{FIRST}/images/slice-0.png", "LIDC-IDRI-0001/nodule-1/images/slice-0.png")
    assert report.duplicates == [names]


def test_what_is_skipped_is_named(folder):
    for name in ("nodule-0/images/slice-7.PNG", "nodule-0/mask-4/slice-0.png", "nodule_9/a.png"):
        (folder / "LIDC-IDRI-0001" / name).parent.mkdir(exist_ok=True)
        (folder / "LIDC-IDRI-0001" / name).write_bytes(b"")
    (folder / "LIDC-IDRI-0001/.DS_Store").write_bytes(b"")
    report = integrity.inspect(Layout(folder))
    names = ("nodule_9", "nodule-0/mask-4", "nodule-0/images/slice-7.PNG")
    assert report.facts["skipped"] == "3: " + ", ".join(f"LIDC-IDRI-0001/{n}" for n in names)
    assert report.defects == []


def test_a_folder_without_patients(tmp_path):
    (tmp_path / "LIDC-IDRI-slices").mkdir()
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match="holds no folder LIDC-IDRI-0001 or the like, nor"):
            module.make_config(folder)


def test_too_few_patients(folder):
    for patient in ("0003", "0004", "0005"):
        shutil.rmtree(folder / f"LIDC-IDRI-{patient}")
    with pytest.raises(InputError, match="found 2 patients"):
        prepare("lidc_nodules", folder.parent.parent / "data", folder)


@pytest.mark.parametrize(
    "options",
    [
        {"readers_needed": 0},
        {"readers_needed": 5},
        {"readers_needed": True},
        {"readers_needed": 2.0},
        {"split_seed": "1"},
        {"split_seed": -1},
        {"fold": "6/5"},
    ],
)
def test_options_of_the_wrong_kind(options):
    with pytest.raises(InputError, match=f"^{next(iter(options))} is"):
        module.make_config(**options)


def test_name_of_the_config_tells_options_and_files_apart(folder):
    def fingerprint_of(path):
        return module.make_config(path).name.removeprefix("default-")

    fingerprint = fingerprint_of(folder)
    assert fingerprint_of(folder.parent) == fingerprint
    names = [
        module.make_config(folder, **options).name
        for options in (
            {},
            {"split_seed": 0},
            {"readers_needed": 3},
            {"split_seed": 1, "fold": "2/5", "readers_needed": 1},
        )
    ]
    expected = ("default", "seed0", "readers3", "readers1_seed1_fold2of5")
    assert names == [f"{name}-{fingerprint}" for name in expected]
    assert module.make_config().name == "default"
    file = folder / f"{FIRST}/mask-3/slice-1.png"
    file.write_bytes(file.read_bytes()[:-1])
    other = fingerprint_of(folder)
    file.rename(file.with_name("slice-9.png"))
    assert len({fingerprint, other, fingerprint_of(folder)}) == 3


def test_folds_test_each_patient_once():
    tested = collections.Counter()
    for fold in range(1, 6):
        drawn, source = splits.draw(IDS, None, f"{fold}/5", module.patient_of)
        assert source == f"fold {fold}/5 of seed 0"
        tested.update({patient_of(id) for id in drawn if drawn[id] == "test"})
        assert drawn.keys() == set(IDS)
    assert tested == dict.fromkeys({id[:14] for id in IDS}, 1)
    assert splits.draw(IDS, 1, "", module.patient_of)[1] == "random, seed 1"


@needs_lidc
def test_real_crops(root):
    layout = Layout(LIDC)
    report = integrity.inspect(layout)
    assert report.defects == []
    assert (len(report.pairs), report.masks, len(report.empty_masks)) == (1312, 5248, 1765)
    text = (root / "datasets/lidc_nodules/README.md").read_text()
    printed = [line for line in str(report).splitlines()[1:] if "empty masks" not in line]
    assert len(printed) == 17
    for line in printed:
        assert line in text
    drawn, _ = splits.draw(report.pairs, None, "", module.patient_of)
    patients = {s: len({patient_of(id) for id in drawn if drawn[id] == s}) for s in splits.SPLITS}
    assert patients == {"train": 64, "validation": 8, "test": 8}
    slices = {
        split: [
            (id, patient_of(id), read_png(layout.read(id, "images")).astype(np.int16))
            for id in drawn
            if drawn[id] == split
        ]
        for split in splits.SPLITS
    }
    leaks = leakage.check(slices)
    assert (leaks.number_patients, leaks.number_images, leaks.number_near) == (80, 1312, 0)
