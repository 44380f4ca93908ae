"""The dates until which a program can be read, and what they are counted from."""

import datetime

import pytest

from prnet_jax.export.validity import validity

TODAY = datetime.date(2026, 8, 31)


def test_counted_from_the_release_where_it_is_known():
    found = validity("0.12.0", TODAY, datetime.date(2026, 7, 10))
    assert found["jaxlib_from"] == "2026-06-19" and found["jaxlib_until"] == "2027-01-10"
    assert found["derived_from"] == "the release of jaxlib 0.12.0, as given"


def test_a_nightly_version_says_its_day():
    found = validity("0.12.1.dev20260801", TODAY)
    assert found["jaxlib_from"] == "2026-07-11" and found["jaxlib_until"] == "2027-02-01"
    assert "date in the version" in found["derived_from"]


def test_otherwise_from_the_day_of_the_export_which_it_says():
    found = validity("0.12.0", TODAY)
    assert found["jaxlib_from"] == "2026-08-10"
    assert found["jaxlib_until"] == "2027-02-28"  # February has no 31st
    assert "does not say when it was released" in found["derived_from"]


@pytest.mark.parametrize(
    ("day", "until"), [((2026, 6, 30), "2026-12-30"), ((2026, 7, 1), "2027-01-01")]
)
def test_half_a_year_over_the_turn_of_the_year(day, until):
    assert validity("1.0", TODAY, datetime.date(*day))["jaxlib_until"] == until
