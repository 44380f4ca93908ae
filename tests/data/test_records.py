"""The stored form of a slice."""

import numpy as np
import pytest

from prnet_jax.data import records


def test_hu_round_trip_over_all_of_int16():
    hu = np.arange(-32768, 32768, dtype=np.int32).reshape(256, 256)
    back = records.decode_hu(records.encode_hu(hu).read())
    assert back.dtype == np.int16
    np.testing.assert_array_equal(back, hu)
    with pytest.raises(ValueError, match="outside int16"):
        records.encode_hu(hu + 1)


def test_mask_round_trip():
    mask = np.random.default_rng(0).random((7, 5)) > 0.5
    png = records.encode_mask(mask).read()
    np.testing.assert_array_equal(records.decode_mask(png), mask)
    assert records.shape_of(png) == (7, 5)


def test_example():
    hu, mask = np.full((4, 6), -500), np.eye(4, 6, dtype=bool)
    record = records.example("a", "p", hu, None, mask=mask, nodule_mask=~mask)
    masks = ["mask", "nodule_mask"]
    assert list(record) == ["image", "unit", *masks, "id", "patient_id", "spacing_mm"]
    assert record["unit"] == "HU" and np.isnan(record["spacing_mm"]).all()
    np.testing.assert_array_equal(records.decode_mask(record["nodule_mask"].read()), ~mask)
    assert set(records.features(("mask", "nodule_mask"))) == set(record)


def test_grey_values_say_so_and_stay_within_0_to_255():
    grey, mask = np.array([[0, 255]]), np.ones((1, 2), bool)
    assert records.example("a", "p", grey, None, unit="grey", mask=mask)["unit"] == "grey"
    for pixels, unit in ((grey - 1, "grey"), (grey + 1, "grey"), (grey, "mm")):
        with pytest.raises(ValueError, match="a: unit"):
            records.example("a", "p", pixels, None, unit=unit, mask=mask)
