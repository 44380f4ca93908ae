"""Pixels as whole Hounsfield units, and what is refused."""

import numpy as np
import pytest

from prnet_jax.data.hounsfield import as_hu, rounded_hu
from prnet_jax.errors import InputError


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((2, 2), np.uint8), "8-bit picture"),
        (np.full((2, 2), 32768, np.uint16), "uint16 from 32768 to 32768"),
        (np.full((2, 2), -32769, np.int32), "int32 from -32769"),
        (np.full((2, 2), 0.5, np.float32), "float32 from 0.5"),
        (np.array([[0, np.nan]], np.float32), "whole Hounsfield units"),
    ],
)
def test_what_is_not_hu_is_refused(pixels, message):
    with pytest.raises(InputError, match=message):
        as_hu(pixels, "2d_images/a.tif")


def test_rounded_hu():
    values, change = rounded_hu(np.float32([[-1000.0004, 40.4]]), "a")
    np.testing.assert_array_equal(values, [[-1000, 40]])
    assert change == pytest.approx(0.4, abs=1e-5)
    values, change = rounded_hu(np.uint16([[0, 65535]]), "a", offset=-32768)
    assert (values.tolist(), change) == ([[-32768, 32767]], 0)
    values, _ = rounded_hu(np.int16([[-32768, 1074]]), "a", offset=-1024)
    assert values.tolist() == [[-32768, 50]]  # padding
    with pytest.raises(InputError, match="int64 from -40000"):
        rounded_hu(np.int32([[-40000, 1074]]), "a", offset=-1024)
    for pixels, message in (
        (np.float32([[0, 0.25, 1]]), "and seems scaled"),
        (np.float32([[0, np.nan]]), "expected whole Hounsfield units"),
        (np.float32([[0, np.inf]]), "expected whole Hounsfield units"),
        (np.uint16([[65535]]), "uint16 from 65535"),
        (np.uint8([[1]]), "8-bit picture"),
    ):
        with pytest.raises(InputError, match=message):
            rounded_hu(pixels, "a")
    with pytest.raises(InputError, match="8-bit picture"):
        rounded_hu(np.uint8([[1]]), "a", offset=-1024)
    shifted = np.uint16([[31768, 32818, 32868]])
    with pytest.raises(InputError, match="if it holds HU . 32768, set .*options.hu_offset=-32768$"):
        rounded_hu(shifted, "a")
    values, _ = rounded_hu(shifted, "a", offset=-32768)
    assert values.tolist() == [[-1000, 50, 100]]
