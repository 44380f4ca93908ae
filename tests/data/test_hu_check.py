"""HU told from HU + 1024 and the like, for each file and for all."""

import re

import numpy as np
import pytest

from prnet_jax.data.hu_check import HuCheck
from prnet_jax.data.readers import read_hu
from tests.data.real import LUNGS, needs_lungs


def chest(number: int = 0) -> np.ndarray:
    """A body of fat and muscle with two lungs and a little bone in air, int [64, 64]."""
    generator = np.random.default_rng(number)
    hu = np.full((64, 64), -1000)
    for (rows, columns), value in (
        ((slice(12, 52), slice(8, 56)), -100),
        ((slice(15, 49), slice(11, 53)), 50),
        ((slice(20, 42), slice(14, 28)), -850),
        ((slice(20, 42), slice(36, 50)), -850),
        ((slice(42, 47), slice(30, 34)), 600),
    ):
        hu[rows, columns] = value
    return hu + generator.integers(-20, 21, hu.shape)


def padded(hu: np.ndarray, value: int, noise: int = 0) -> np.ndarray:
    hu = hu.copy()
    hu[:6] = value + np.random.default_rng(1).integers(-noise, noise + 1, (6, 64))
    return hu


def finding(*files: np.ndarray, hu_offset: int | None = 0) -> str:
    check = HuCheck(hu_offset)
    for number, values in enumerate(files):
        check.add(f"f{number}", np.asarray(values, np.int16))
    return ": ".join(filter(None, check.finding()))


ADD = (
    r"--config\.dataset\.options\.hu_offset=-1024, or minus what.* was added to HU; or, if .* set "
)
AS_STORED = r"--config\.dataset\.options\.hu_as_stored=True$"


@pytest.mark.parametrize(
    "shifted",
    [
        chest() + 1024,
        chest() + 1000,
        np.maximum(chest() + 1000, 0),
        padded(chest() + 1024, -2000),
        padded(chest() + 1024, -1024),
        padded(chest() + 1024, -32768),
        padded(chest() + 1024, -1400, noise=150),  # as some scanners fill the corners
        np.stack([chest(1), chest(2)], -1) + 1024,
        np.random.default_rng(0).integers(0, 4096, (32, 32)),
    ],
)
def test_hu_plus_1024_is_told_whatever_the_padding(shifted):
    found = finding(shifted, shifted)
    assert re.search(
        r"seem to hold HU \+ 1024 \(2: f0, f1\), not HU, .* set " + ADD + AS_STORED, found
    )
    mixed = finding(chest(), shifted)
    assert mixed.startswith(
        "expected HU in all images, but they seem to hold HU + 1024 (1: f1) and"
    )
    assert "HU (1: f0): export all in HU; or, if the values are meant" in mixed


def test_hu_is_accepted():
    """Whole slices, whatever the padding, and crops of lung, muscle, bone or air alone."""
    lung, muscle = chest()[20:40, 15:27], np.abs(chest()[16:19, 12:50])
    bone = chest()[42:47, 30:34]
    blank = np.full((8, 8), -1000)
    files = [chest(), np.maximum(chest(), -1000), padded(chest(), -2000), padded(chest(), -3024)]
    files += [padded(chest(), -2400, noise=150), lung, muscle, blank, 0 * blank, chest()[:10]]
    assert finding(*files) == ""
    for file in (lung, muscle, blank, 0 * blank, bone - 600):
        assert finding(file) == ""


def test_slices_of_hu_plus_1024_in_a_volume_of_hu():
    volume = np.stack([chest(0), chest(1), chest(2) + 1024, chest(3)], -1)
    assert "seem to hold HU + 1024 (1: f0 z0002) and HU (1: f0): export all" in finding(volume)


def test_files_of_which_nothing_tells():
    """Lung alone in HU + 1024 could be contrast medium: named beside HU, refused by themselves."""
    crop = chest()[20:40, 15:27] + 1200
    check = HuCheck(0)
    check.add("sound", chest())
    check.add("crop", crop)
    assert (check.finding(), check.not_below_0) == (("", ""), ["crop"])
    found = finding(crop, crop)
    assert found.startswith("the images hold nothing below 0, not HU, where air is -1000; they may")
    assert "hold HU + 1024 (2: f0, f1): set --config.dataset.options.hu_offset=-1024" in found
    assert finding(crop, crop - 400) == ""
    assert finding(np.full((8, 8), 1000), np.full((8, 8), 1001)) == ""
    assert finding(np.arange(256).reshape(16, 16)) == ""  # grey values saved in 16 bits


def test_an_offset_that_does_not_fit():
    low = chest() - 1024
    found = finding(low, low, hu_offset=-1024)
    assert "seem to hold HU (2: f0, f1), so hu_offset=-1024 does not make HU" in found
    assert "set --config.dataset.options.hu_offset=0; or," in found
    found = finding(low, chest(), hu_offset=-1024)
    assert "hold HU (1: f0) and HU + 1024 (1: f1): export all in HU and leave out hu_off" in found
    assert "hold HU - 1024 (1: f0), not HU, " in finding(low)
    assert "set --config.dataset.options.hu_offset=1024," in finding(low)
    assert "hold HU + 1048 (1: f0), so hu_offset=-24" in finding(chest() + 1024, hu_offset=-24)


def test_a_data_set_without_the_options_names_none():
    for files in ([chest() + 1024], [chest() + 1024, chest()], [chest()[20:40, 15:27] + 1200]):
        found = finding(*files, hu_offset=None)
        assert "in HU" in found.rpartition(": ")[2] and "options" not in found


@needs_lungs
def test_real_slices():
    files = sorted((LUNGS / "2d_images").glob("*.tif"))[::9]
    slices = [read_hu(file).astype(int) for file in files]
    assert finding(*slices) == ""
    shifted = [np.maximum(hu + 1024, 0) for hu in slices]
    assert f"HU + 1024 ({len(files)}: f0" in finding(*shifted)
    low = [hu - 1024 for hu in slices]
    assert f"HU ({len(files)}: f0" in finding(*low, hu_offset=-1024)
