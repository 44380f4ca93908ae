"""Files of predictions that could be taken for others: of another image, kind, label or order."""

import types

import numpy as np
import pytest

from prnet_jax.data.volumes import read_scan
from prnet_jax.errors import InputError
from prnet_jax.evaluate import Choices, evaluate_predictions
from prnet_jax.evaluate.predictions import PredictedFiles
from prnet_jax.evaluate.values import as_probability
from prnet_jax.predict.outputs import write_prob
from tests.data.scans import dicom
from tests.datasets.made_up_folders import save

MAP = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
ONE = np.array([[0, 1, 0], [0, 0, 0]], np.uint8)


def found(folder, files, ids, **options):
    """{id: marked pixels} of the files {path: array}."""
    for path, array in files.items():
        save(folder / path, np.asarray(array))
    slices = types.SimpleNamespace(
        ids=list(ids),
        picture=lambda index, native: {"mask": np.zeros(MAP.shape, bool)},
        volumes=types.SimpleNamespace(placed=lambda volume: None),
    )
    probabilities = PredictedFiles(folder, slices, options).probabilities()
    return {ids[index]: (prob >= 0.5).sum() for index, prob in probabilities}


@pytest.mark.parametrize(
    "path, id",
    [
        ("p1/s.npy", "p1/s"),
        ("s.npy", "p1/s"),  # a flat folder
        ("p1/s_mask.npy", "train/p1/s"),
        ("s.npy", "train/p1/s"),
        ("out/p1/s.npy", "p1/s"),
        ("deep/er/s_seg.npy", "s"),
        ("labelsTs/s.npy", "test/s"),  # nnU-Net's name for it
        ("validation/p1/s.npy", "val/p1/s"),
        ("s_z0002.npy", "p1/s_z0002"),
    ],
)
def test_where_the_prediction_of_an_image_may_lie(tmp_path, path, id):
    assert found(tmp_path, {path: ONE}, [id]) == {id: 1}


@pytest.mark.parametrize("path", ["p0/s.npy", "p0/s_mask.npy", "1/s.npy"])
def test_a_file_in_the_folder_of_another_patient_is_no_prediction(tmp_path, path):
    files = {path: ONE, "p2/s.npy": ONE}
    with pytest.raises(InputError, match="has no prediction for 1 of 2 images, such as p1/s:"):
        found(tmp_path, files, ["p2/s", "p1/s"])


def test_a_file_in_the_folder_of_another_split_is_no_prediction(tmp_path):
    with pytest.raises(InputError, match="has no prediction for 1 of 1 images, such as val/s:"):
        found(tmp_path, {"train/s.npy": ONE}, ["val/s"])


def test_the_own_folder_comes_before_a_shorter_name_elsewhere(tmp_path):
    files = {"p0/s.npy": ONE, "p1/s_mask.npy": MAP}
    assert found(tmp_path, files, ["p0/s", "p1/s"]) == {"p0/s": 1, "p1/s": 4}


def test_one_file_for_two_images(tmp_path):
    with pytest.raises(InputError, match=r"s\.npy could be the prediction for both p1/s and p2/s:"):
        found(tmp_path, {"s.npy": ONE}, ["p1/s", "p2/s"])


def test_one_volume_for_two_images(tmp_path):
    volume = np.stack([ONE, MAP, 0 * ONE, ONE], -1)
    slices = [f"p1/v_z{z:04d}" for z in range(4)]
    marked = found(tmp_path, {"v.npy": volume}, slices, axes="HWD")
    assert list(marked.values()) == [1, 4, 0, 1]
    with pytest.raises(InputError, match="for both p1/v_z0000 and p2/v_z0000: put predictions"):
        found(tmp_path, {}, [*slices, "p2/v_z0000"], axes="HWD")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_beyond_0_and_1_by_rounding(dtype):
    above = np.nextafter(dtype(1), dtype(2))
    prob = np.array([[0.003, 0.4, above], [1.0009, 0.6, -1e-9]], dtype)
    expected = np.array([[0.003, 0.4, 1], [1, 0.6, 0]], dtype)
    np.testing.assert_array_equal(as_probability(prob, "x"), expected)
    prob[0, 2] = 1.002  # no rounding
    np.testing.assert_array_equal(as_probability(prob, "x"), prob > 0)


def test_probabilities_as_scaled_integers_of_nifti(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    prob = np.full((4, 5, 2), 0.02, np.float32)
    prob[1, 2] = 1
    image = nibabel.Nifti1Image(prob, np.eye(4))
    image.set_data_dtype(np.int16)
    image.to_filename(tmp_path / "v.nii.gz")
    read = read_scan([tmp_path / "v.nii.gz"], mask=True).pixels
    assert 1 < read.max() < 1 + 1e-6
    assert (as_probability(read, "x") >= 0.5).sum() == 2


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_whole_numbers_with_too_many_values_for_labels(dtype):
    values = np.arange(129).astype(dtype)  # 128 labels, of which TotalSegmentator has 117
    np.testing.assert_array_equal(as_probability(values, "x"), values > 0)
    values = np.arange(130).astype(dtype)
    with pytest.raises(InputError, match="x holds 129 values from 1 to 129, as grey levels or"):
        as_probability(values, "x")


def test_our_own_probabilities_of_a_picture(tmp_path):
    """They are 16-bit PNGs, in which 0.4 would be above 0."""
    prob = np.linspace(0, 1, 200, dtype=np.float32).reshape(10, 20)
    write_prob(tmp_path / "a.png", None, None, prob)
    with pytest.raises(InputError, match=r"a\.png holds 199 values .* floats from 0 to 1 \(NumPy"):
        found(tmp_path, {}, ["a"])


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("label, marked", [(None, 4), ("all", 4), (1, 1), (2, 3), ((1, 2), 4)])
def test_chosen_labels_of_a_label_map(tmp_path, label, marked, dtype):
    assert found(tmp_path, {"a.npy": MAP.astype(dtype)}, ["a"], label=label) == {"a": marked}


def test_a_mask_of_one_value_counts_whole_whatever_label_is_chosen(tmp_path):
    files = {"a.npy": ONE, "b.png": 255 * ONE, "c.npy": ONE * np.float32(1), "d.npy": 0 * ONE}
    expected = {"a": 1, "b": 1, "c": 1, "d": 0}
    assert found(tmp_path, files, list(expected), label=3) == expected


def test_all_files_are_label_maps_if_some_hold_several_labels(tmp_path):
    """Slices of a label map may hold one of its labels, or others only."""
    fraction = np.array([[0, 0.7, 0.2], [0.9, 0, 0]], np.float32)
    files = {"a.npy": ONE, "b.npy": 2 * ONE, "c.npy": MAP, "d.npy": MAP + 2, "e.npy": fraction}
    files["f.npy"] = ONE * np.float32(1)  # 1.0 is a label among labels
    of_1 = {"a": 1, "b": 0, "c": 1, "d": 0, "e": 2, "f": 1}
    of_2 = {"a": 0, "b": 1, "c": 3, "d": 2, "e": 2, "f": 0}
    assert found(tmp_path, files, list(of_1), label=1) == of_1
    assert found(tmp_path, files, list(of_2), label=2) == of_2


def test_255_is_1_in_a_file_of_its_own(tmp_path):
    files = {"a.npy": MAP, "b.png": 255 * ONE, "c.png": 85 * MAP}  # 85 and 170
    assert found(tmp_path, files, ["a", "b", "c"], label=1) == {"a": 1, "b": 1, "c": 0}


def test_label_maps_without_a_chosen_label(tmp_path):
    with pytest.raises(InputError, match=r"the labels \{0, 1, 2, 4\}; expected 3, the option"):
        found(tmp_path, {"a.npy": MAP, "b.npy": 4 * ONE}, ["a", "b"], label=3)


def disc(size=24):
    """A square picture and its mask, which differ from their transposes."""
    hu = np.random.default_rng(0).integers(-1000, 400, (size, size)).astype(np.int16)
    mask = np.zeros((size, size), np.uint8)
    mask[3:9, 2:20] = 1
    return hu, mask


def score(tmp_path, **others):
    """The mean DSC of `theirs`, scored against `data`."""
    choices = Choices(
        dataset="image_folder",
        manual_dir=tmp_path / "data",
        data_dir=tmp_path / "records",
        split="all",
        out=tmp_path / "scores",
        **others,
    )
    return evaluate_predictions(tmp_path / "theirs", choices)["metrics"]["dsc"]["mean"]


def test_the_masks_of_the_data_are_perfect_predictions_of_a_chosen_label(tmp_path, capsys):
    hu, mask = disc()
    mask[12:20, 2:20] = 2
    for path, array in {"images/a.npy": hu, "masks/a.png": mask}.items():
        save(tmp_path / "data" / path, array)
    save(tmp_path / "theirs/a.png", mask)
    assert score(tmp_path, options={"label": 1}) == 1.0
    assert "labels     1 of the predictions count\n" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".nii.gz", ".png", ".npy"])
def test_a_single_slice_that_was_turned(tmp_path, suffix):
    """nibabel's order is columns first, and nothing in a PNG or NumPy file says so."""
    hu, mask = disc()
    save(tmp_path / "data/images/a.nii.gz", hu)
    save(tmp_path / "data/masks/a.nii.gz", mask)
    turned = suffix == ".nii.gz"  # by `save`
    save(tmp_path / f"theirs/a{suffix}", mask if turned else np.ascontiguousarray(mask.T))
    if turned:
        assert score(tmp_path) == 1.0
        return
    with pytest.raises(InputError, match=r"images/a\.nii\.gz states its orientation in the patie"):
        score(tmp_path)
    assert not (tmp_path / "scores").exists()


def test_a_turned_prediction_of_a_picture_without_orientation(tmp_path):
    hu, mask = disc()
    save(tmp_path / "data/images/a.tif", hu)
    save(tmp_path / "data/masks/a.png", mask)
    save(tmp_path / "theirs/a.nii.gz", mask)
    with pytest.raises(
        InputError, match=r"a\.nii\.gz states its orientation in the patient but im"
    ):
        score(tmp_path)


def test_a_dicom_slice_that_is_stored_upright_takes_a_picture(tmp_path):
    hu, mask = disc()
    dicom(tmp_path / "data/images/a.dcm", (hu + 1024).astype(np.uint16))
    for path in ("data/masks/a.png", "theirs/a.png"):
        save(tmp_path / path, mask)
    assert score(tmp_path) == 1.0
