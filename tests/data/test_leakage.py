"""Leaks between splits: patients, identical pictures, copies; no false alarm on real sets."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage, stats

from prnet_jax.data import leakage
from prnet_jax.data.preprocess import resize_image
from prnet_jax.data.readers import read_png, read_tiff
from prnet_jax.errors import InputError
from tests.data.real import LIDC, LUNGS, needs_lidc, needs_lungs


def picture(number: int, side: int = 64) -> np.ndarray:
    """Smooth blobs, int16, different for each number."""
    noise = np.random.default_rng(number).normal(size=(side, side))
    smooth = ndimage.gaussian_filter(noise, side / 16, mode="wrap")
    return np.round(1000 * smooth / smooth.std()).astype(np.int16)


def splits_of(numbers=(range(6), range(6, 9), range(9, 12))):
    """Three splits of one picture a patient."""
    names = ("train", "validation", "test")
    return {
        name: [(f"id{i}", f"patient{i}", picture(i)) for i in part]
        for name, part in zip(names, numbers, strict=True)
    }


def jpeg(pixels: np.ndarray, quality: int = 50) -> np.ndarray:
    """An 8-bit JPEG copy; HU are windowed to -1200..600 first."""
    pixels = pixels.astype(np.float32)
    low, high = max(pixels.min(), -1200), min(pixels.max(), 600)
    file = io.BytesIO()
    grey = np.clip((pixels - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    Image.fromarray(grey).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).astype(np.int16)


def noisy(pixels: np.ndarray) -> np.ndarray:
    low, high = np.percentile(pixels, (1, 99))
    noise = np.random.default_rng(0).normal(0, 0.03 * (high - low), pixels.shape)
    return np.round(pixels + noise).astype(np.int16)


def halved(pixels: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(pixels.astype(np.float32))
    small = picture.resize((pixels.shape[1] // 2, pixels.shape[0] // 2), Image.Resampling.BILINEAR)
    return np.round(np.asarray(small)).astype(np.int16)


def dimmed(pixels: np.ndarray) -> np.ndarray:
    return np.round(pixels * 0.5 + 37).astype(np.int16)


COPIES = [jpeg, noisy, halved, dimmed]


def test_nothing_shared():
    leaks = leakage.check({name: iter(slices) for name, slices in splits_of().items()})
    assert (leaks.patients, leaks.identical, leaks.near) == ((), (), ())
    assert str(leaks) == (
        "no patient and no image in two splits (12 patients, 12 images); 0 near-identical pairs"
    )


def test_patient_in_two_splits():
    slices = splits_of()
    slices["test"].append(("other", "patient3", picture(99)))
    slices["test"].append(("another", "patient3", picture(98)))
    slices["validation"].append(("third", "patient0", picture(97)))
    leaks = leakage.find_leaks(slices)
    assert set(leaks.patients) == {
        ("patient3", "train", "test"),
        ("patient0", "train", "validation"),
    }
    message = r"patient patient0 is in two splits, train and validation \(2 such cases\); all"
    with pytest.raises(InputError, match=message) as error:
        leakage.check(slices)
    assert "\n" not in str(error.value)


def test_identical_picture_names_both():
    slices = splits_of()
    slices["test"][1] = ("copy", "patient10", slices["train"][2][2].copy())
    with pytest.raises(InputError, match=r"^copy \(test\) has the same pixels as id2 \(train\); a"):
        leakage.check(slices)
    leaks = leakage.find_leaks(slices)
    assert [(a.id, b.id) for a, b in leaks.identical] == [("id2", "copy")]
    assert "no patient and 1 image in two splits" in str(leaks)


def test_identical_within_a_split_is_no_leak():
    slices = splits_of()
    slices["train"].append(("again", "patient0", slices["train"][0][2]))
    leaks = leakage.check(slices)
    assert (leaks.number_patients, leaks.number_images, leaks.number_near) == (12, 13, 0)


def test_only_the_pairs_that_are_asked_for_are_compared():
    shared = ("id0", "patient0", picture(50))
    slices = {name: [shared] for name in ("first", "second", "third")}
    leaks = leakage.find_leaks(slices, [("second", "third")])
    assert leaks.patients == (("patient0", "second", "third"),)
    assert [(a.split, b.split) for a, b in leaks.identical] == [("second", "third")]
    assert [(a.split, b.split) for a, b, _ in leaks.near] == [("second", "third")]
    leaks = leakage.find_leaks(slices, [])
    assert (leaks.patients, leaks.identical, leaks.number_near) == ((), (), 0)


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_in_another_split_is_a_warning(copy):
    slices = splits_of()
    slices["validation"].append(("copy", "patient20", copy(slices["train"][4][2])))
    leaks = leakage.check(slices)
    ((first, second, value),) = leaks.near
    assert (str(first), str(second), leaks.number_near) == ("id4 (train)", "copy (validation)", 1)
    assert leakage.NEAR <= value <= 1
    text = f"; 1 near-identical pair, look at them: id4 (train) ~ copy (validation) {value:.3f}"
    assert str(leaks).endswith(text)


def test_pairs_are_counted_across_chunks_and_the_closest_listed():
    pixels = picture(0).astype(np.int32)
    noise = np.random.default_rng(1).normal(size=(12, 64, 64))
    copies = [np.round(pixels + 20 * i * noise[i]).astype(np.int16) for i in range(12)]
    slices = {
        "train": [(f"a{i}", f"a{i}", copies[i]) for i in range(7)],
        "test": [(f"b{i}", f"b{i}", copies[i]) for i in range(7, 12)],
    }
    leaks = leakage.find_leaks(slices, listed=3, chunk=2)
    ranks = [stats.rankdata(resize_image(copy, 32)) for copy in copies]
    oracle = {
        (f"a{i}", f"b{j}"): stats.pearsonr(ranks[i], ranks[j])[0]
        for i in range(7)
        for j in range(7, 12)
    }
    assert leaks.number_near == sum(value >= leakage.NEAR for value in oracle.values()) == 35
    best = sorted(oracle, key=oracle.get, reverse=True)[:3]
    assert [(one.id, two.id) for one, two, _ in leaks.near] == best
    for one, two, value in leaks.near:
        assert value == pytest.approx(oracle[one.id, two.id], abs=1e-3)
    assert str(leaks).endswith(", ...")


def test_uniform_pictures_and_empty_splits_are_no_leak():
    flat = {
        "train": [("a", "a", np.zeros((40, 50), np.int16))],
        "test": [("b", "b", np.ones((40, 50), np.int16)), ("c", "c", np.zeros((40, 50), np.int16))],
        "validation": [],
    }
    leaks = leakage.check(flat)
    assert (leaks.number_near, leaks.identical, leaks.number_images) == (0, (), 3)
    assert leakage.check({}).number_images == 0


@given(gain=st.floats(0.5, 3), offset=st.integers(-500, 500), gamma=st.floats(0.7, 1.4))
def test_any_increasing_change_of_intensity_is_found(gain, offset, gamma):
    pixels = picture(5).astype(np.float64)
    low = pixels.min()
    changed = (gain * 1000 * ((pixels - low) / 4000) ** gamma + offset).round().astype(np.int16)
    leaks = leakage.find_leaks({"a": [("x", "x", picture(5))], "b": [("y", "y", changed)]})
    assert leaks.number_near == 1


def real_pictures() -> list[list[tuple[str, str, np.ndarray]]]:
    lungs, crops = (
        sorted((LUNGS / "2d_images").glob("*.tif")),
        sorted(LIDC.glob("*/*/images/*.png")),
    )
    return [
        [(file.stem, file.stem, read_tiff(file)) for file in lungs],
        [(str(file), file.parts[-4], read_png(file).astype(np.int16)) for file in crops],
    ]


@pytest.mark.slow
@needs_lungs
@needs_lidc
def test_real_patients_are_told_apart_and_real_copies_found():
    # Each patient against all others.
    closest = []
    for slices, step in zip(real_pictures(), (40, 150), strict=True):
        patients = sorted({patient for _, patient, _ in slices})
        features = np.stack([leakage.feature(pixels) for *_, pixels in slices]).astype(np.float32)
        owner = np.array([patients.index(patient) for _, patient, _ in slices])
        values = features @ features.T
        closest.append(values[owner[:, None] != owner].max())
        for copy in COPIES:
            originals = {"train": slices[::step]}
            copies = [(f"{id}+", f"{id}+", copy(pixels)) for id, _, pixels in slices[::step]]
            near = leakage.check(originals | {"test": copies}).near
            found = {(one.id, two.id) for one, two, _ in near}
            assert {(id, f"{id}+") for id, *_ in slices[::step]} <= found
    assert closest == pytest.approx([0.943, 0.832], abs=1e-3)
