import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.safety_monitor.checks.consistency import Floor, Integral, forgive, turn_rad

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@EXAMPLES
@given(
    velocities=st.lists(
        st.tuples(st.floats(-2.0, 2.0), st.floats(-2.0, 2.0)), min_size=1, max_size=30
    ),
    most=st.floats(0.1, 9.0),
)
def test_a_floor_changes_a_velocity_by_no_more_than_it_can_and_gets_there(velocities, most):
    floor = Floor(most)
    before = None
    for step, wheels in enumerate(velocities):
        less = floor.slip(step / 16, wheels)
        now = wheels[0] + less[0], wheels[1] + less[1]
        assert floor.slip(step / 16, wheels) == pytest.approx(less)  # no time, no change
        if before is None:
            assert less == (0.0, 0.0)
        else:
            assert math.dist(now, before) <= most / 16 + 1e-12
            assert math.hypot(*less) <= math.dist(wheels, before) + 1e-12
        before = now
    end_s = len(velocities) / 16 + 6.0 / most
    assert floor.slip(end_s, velocities[-1]) == (0.0, 0.0)


def test_a_floor_does_not_go_back_in_time():
    floor = Floor(1.0)
    assert floor.slip(1.0, (0.0, 0.0)) == (0.0, 0.0)
    assert floor.slip(1.5, (1.0, 0.0)) == (-0.5, 0.0)
    assert floor.slip(1.0, (1.0, 0.0)) == (-0.5, 0.0)
    assert floor.slip(1.75, (1.0, 0.0)) == (-0.25, 0.0)
    assert floor.slip(2.0, (1.0, 0.0)) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("off", "slip", "left"),
    [
        ((1.0, 2.0), (0.0, 0.0), (1.0, 2.0)),
        ((1.0, 2.0), (0.5, 0.0), (0.5, 2.0)),
        ((1.0, 2.0), (4.0, 0.0), (0.0, 2.0)),  # no more than fits
        ((1.0, 2.0), (-0.5, 0.0), (1.0, 2.0)),  # it would have led the other way
        ((1.0, 2.0), (0.5, 1.0), (0.5, 1.0)),
        ((1.0, 2.0), (2.0, 4.0), (0.0, 0.0)),
        ((1.0, 2.0), (-2.0, 1.0), (1.0, 2.0)),
    ],
)
def test_a_slip_is_forgiven_where_it_leads_and_as_far(off, slip, left):
    assert forgive(off, slip) == pytest.approx(left)


def test_an_integral():
    total = Integral(2)
    total.add(1.0, (1.0, 0.0))
    assert total.until(1.0) == (0.0, 0.0)
    assert total.until(1.5) == (0.5, 0.0)
    total.add(2.0, (3.0, -2.0))
    assert total.until(2.0) == (2.0, -1.0)
    assert total.until(1.5) == (0.5, 0.0)
    total.add(2.0, (9.0, 9.0))
    total.add(1.0, (9.0, 9.0))
    assert total.until(2.5) == (3.5, -2.0)


@pytest.mark.parametrize(
    ("before", "after", "turn"),
    [
        (0.0, 1.0, 1.0),
        (3.0, -3.0, math.tau - 6.0),
        (-3.0, 3.0, 6.0 - math.tau),
        (0.0, 7.0, 7.0 - math.tau),
    ],
)
def test_the_shortest_turn(before, after, turn):
    assert turn_rad(before, after) == pytest.approx(turn)
