import math

import pytest

from holdfast.safety_monitor.scalar import clamp, finite, run_clock, shrink


@pytest.mark.parametrize("numbers", [[], [0.0], [1e308, 1e308], [-1e308, -1e308, 1.0], [1, 2]])
def test_finite_numbers_even_where_their_sum_is_not(numbers):
    assert finite(numbers)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("others", [[], [0.0], [1e308, 1e308], [-math.inf], [math.nan]])
def test_one_number_that_is_not_finite_is_enough(odd, others):
    assert not finite([odd, *others])
    assert not finite([*others, odd])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-9.0, -1.0), (-1.0, -1.0), (math.nextafter(-1.0, 0.0),) * 2, (0.5, 0.5), (2.0, 2.0)],
)
def test_clamp(value, expected):
    assert clamp(value, -1.0, 2.0) == expected
    assert clamp(math.nextafter(2.0, 3.0), -1.0, 2.0) == 2.0
    assert clamp(9.0, -1.0, 2.0) == 2.0


@pytest.mark.parametrize(
    ("value", "by", "expected"),
    [(3.0, 1.0, 2.0), (-3.0, 1.0, -2.0), (1.0, 1.0, 0.0), (0.5, 1.0, 0.0), (-0.5, 1.0, 0.0)],
)
def test_shrink(value, by, expected):
    assert shrink(value, by) == expected
    assert shrink(value, 0.0) == value
    assert shrink(math.inf, by) == math.inf
    assert math.isnan(shrink(math.nan, by))


def test_a_clock_of_misbehaviour_runs_up_fast_and_down_slowly():
    assert run_clock(1.0, 0.5, True) == 1.5
    assert run_clock(1.0, 0.5, False) == 0.875
    assert run_clock(0.125, 0.5, False) == 0.0
    assert run_clock(0.125, 9.0, False) == 0.0
