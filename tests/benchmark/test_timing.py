"""Medians, quartiles, ratios, turns and exponents: plain arithmetic."""

import pytest

from prnet_jax.benchmark.timing import Timing, Turn, alternate, exponent, paired_ratio, turn_of


def test_median_and_quartiles_of_seven():
    timing = Timing((7.0, 1.0, 5.0, 3.0, 2.0, 100.0, 4.0))  # sorted: 1 2 3 4 5 7 100
    assert timing.median == 4.0
    assert timing.quartiles == (2.5, 6.0)


def test_a_single_time_is_its_own_spread():
    assert Timing((3.0,)).quartiles == (3.0, 3.0)


def test_what_drifts_in_both_sides_cancels_in_paired_ratios():
    theirs = Timing((1.0, 2.0, 4.0, 8.0, 16.0))
    ours = Timing((0.5, 1.0, 2.0, 4.0, 8.0))
    assert paired_ratio(ours, theirs) == (0.5, 0.5)
    assert ours.median / theirs.median == 0.5


def test_sides_take_turns():
    order = []

    def side(name, ms):
        def take():
            order.append(name)
            return ms * len(order)

        return take

    found = alternate({"ours": side("ours", 1.0), "torch": side("torch", 10.0)}, 3)
    assert order == ["ours", "torch"] * 3
    assert found["ours"].ms == (1.0, 3.0, 5.0)
    assert found["torch"].ms == (20.0, 40.0, 60.0)


@pytest.mark.parametrize(
    "call_s, turn",
    [
        (5.0, Turn(0, 1)),  # slow: each call counts
        (0.3, Turn(1, 1)),
        (0.05, Turn(1, 4)),  # until 0.2 s have passed
        (1e-7, Turn(1, 1000)),
    ],
)
def test_fast_functions_are_called_more_often(call_s, turn):
    assert turn_of(call_s) == turn


def test_the_exponent_of_a_power_law():
    sizes = [64, 128, 256, 512]
    assert exponent(sizes, [3 * size**2 for size in sizes]) == pytest.approx(2.0)
    assert exponent([1, 2, 4], [5, 5, 5]) == pytest.approx(0.0, abs=1e-12)
