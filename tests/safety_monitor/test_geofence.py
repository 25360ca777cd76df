import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import ConfigError
from holdfast.safety_monitor import Geofence

SQUARE = ((0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0))
HOLE = ((1.0, 1.0), (2.0, 1.0), (2.0, 2.0), (1.0, 2.0))
# An L: the square without its upper right quarter.
CORNER = ((0.0, 0.0), (4.0, 0.0), (4.0, 2.0), (2.0, 2.0), (2.0, 4.0), (0.0, 4.0))


@pytest.mark.parametrize("turned", [SQUARE, SQUARE[::-1], SQUARE[2:] + SQUARE[:2]])
def test_inside_outside_and_on_the_edge(turned):
    fence = Geofence(turned, ())
    for x, y in itertools.product((0.0, 1e-9, 2.0, 4.0 - 1e-9, 4.0), repeat=2):
        assert fence.allows(x, y)
    for x, y in itertools.product((-1e-9, 2.0, 4.0 + 1e-9, -99.0, 99.0), repeat=2):
        assert fence.allows(x, y) is (x == y == 2.0)


def test_in_line_with_an_edge_but_beyond_it_is_outside():
    fence = Geofence(SQUARE, ())
    for x, y in itertools.product((0.0, 4.0), (-1.0, 5.0)):
        assert not fence.allows(x, y)
        assert not fence.allows(y, x)


@pytest.mark.parametrize("turned", [(0, 1, 2), (1, 2, 0), (2, 1, 0)])
def test_slanted_edges(turned):
    corners = ((0.0, 0.0), (8.0, 2.0), (2.0, 8.0))
    fence = Geofence(tuple(corners[i] for i in turned), ())
    for x, y, inside in (
        (4.0, 1.0, True),  # on the lower edge
        (4.0, 1.001, True),
        (4.0, 0.999, False),
        (1.0, 4.0, True),  # on the left edge
        (1.001, 4.0, True),
        (0.999, 4.0, False),
        (5.0, 5.0, True),  # on the upper edge
        (4.999, 5.0, True),
        (5.001, 5.0, False),
        (7.0, 7.0, False),
        (8.0, 2.0, True),
        (8.001, 2.0, False),
    ):
        assert fence.allows(x, y) is inside, (x, y)


def test_a_notch_is_outside():
    fence = Geofence(CORNER, ())
    assert fence.allows(1.0, 3.0)
    assert fence.allows(3.0, 1.0)
    assert fence.allows(2.0, 2.0)
    assert not fence.allows(2.01, 2.01)
    assert not fence.allows(3.0, 3.0)


def test_keep_out_takes_its_edge_with_it():
    fence = Geofence(SQUARE, (HOLE,))
    assert fence.allows(0.999, 1.5)
    assert fence.allows(2.001, 2.001)
    for x, y in ((1.0, 1.5), (1.5, 1.5), (2.0, 2.0)):
        assert not fence.allows(x, y)


def test_every_keep_out_counts():
    other = tuple((x + 2.0, y) for x, y in HOLE[:3])
    fence = Geofence(SQUARE, (HOLE, other))
    assert not fence.allows(1.5, 1.5)
    assert not fence.allows(3.9, 1.5)
    assert fence.clearance_m((3.0, 3.0, 3.0, 3.0)) == 1.0
    assert fence.clearance_m((3.8, 1.0, 3.8, 1.0)) == 0.0


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ((2.0, 2.0, 2.0, 2.0), 2.0),
        ((1.0, 2.0, 3.0, 2.0), 1.0),
        ((2.0, 3.0, 2.0, 1.5), 1.0),
        ((2.0, 2.0, 4.0, 2.0), 0.0),
        ((2.0, 2.0, 9.0, 2.0), 0.0),
        ((-5.0, 2.0, 9.0, 2.0), 0.0),
        ((0.5, 0.5, 3.5, 3.5), 0.5),
        ((3.0, 3.0, 5.0, 5.0), 0.0),
        ((5.0, 0.0, 5.0, 9.0), 1.0),
        ((7.0, 8.0, 9.0, 9.0), 5.0),
    ],
)
def test_clearance_of_a_path(path, expected):
    fence = Geofence(SQUARE, ())
    assert fence.clearance_m(path) == expected
    assert fence.clearance_m((*path[2:], *path[:2])) == expected


def test_clearance_counts_the_polygon_s_own_corners():
    # The way passes the notch's corner at (2, 2) on the diagonal from (1, 2) to (2, 1).
    fence = Geofence(CORNER, ())
    assert fence.clearance_m((1.0, 2.0, 2.0, 1.0)) == pytest.approx(math.sqrt(0.5), rel=1e-15)


@pytest.mark.parametrize("x", [0.5, 3.5, 1.75, 2.25, -0.5, 4.5])
def test_an_edge_is_near_a_point_up_to_and_with_the_distance_that_is_asked_for(x):
    gap = min(abs(x), abs(4.0 - x))
    for fence in (Geofence(SQUARE, ()), Geofence(tuple((y, x) for x, y in SQUARE), ())):
        for point in ((x, 2.0), (2.0, x)):
            assert fence.gap_m(*point, gap) == gap
            assert fence.gap_m(*point, gap + 0.125) == gap
            assert fence.gap_m(*point, gap - 0.125) == math.inf


def test_what_is_near_an_edge_s_line_alone_is_not_near_the_edge():
    fence = Geofence(SQUARE, ())
    for far in (-1.0, 5.0):
        for side in (0.0, 4.0):
            assert fence.gap_m(side, far, 0.5) == fence.gap_m(far, side, 0.5) == math.inf


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.floats(-1.0, 5.0), st.floats(-1.0, 5.0), st.floats(1e-3, 3.0))
def test_the_nearest_edge_is_found_if_any_is_near(x, y, within):
    for slanted in (CORNER, tuple((0.5 * (x - y), 0.5 * (x + y)) for x, y in CORNER)):
        fence = Geofence(slanted, (HOLE,))
        gap = fence.clearance_m((x, y, x, y))
        if gap > within:
            assert fence.gap_m(x, y, within) > within
        else:
            assert fence.gap_m(x, y, within) == pytest.approx(gap, abs=1e-9)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.tuples(*[st.floats(-1.0, 5.0)] * 4))
def test_a_path_with_clearance_stays_inside(path):
    fence = Geofence(CORNER, (HOLE,))
    x0, y0, x1, y1 = path
    if fence.allows(x0, y0) and fence.clearance_m(path) > 0.0:
        for part in range(33):
            share = part / 32.0
            assert fence.allows(x0 + share * (x1 - x0), y0 + share * (y1 - y0))
    elif fence.allows(x0, y0):
        # Something of an edge is within rounding of the way.
        assert fence.clearance_m(path) == 0.0


@pytest.mark.parametrize(
    "corners",
    [
        (),
        ((0.0, 0.0), (1.0, 0.0)),
        ((0.0, 0.0), (1.0, 0.0), (1.0,)),
        ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0, 1.0)),
    ],
)
def test_a_polygon_has_three_corners_of_two_numbers(corners):
    with pytest.raises(ConfigError, match="keep_in_m: should be at least three corners of x and y"):
        Geofence(corners, ())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_corners_are_finite(value):
    with pytest.raises(ConfigError, match="keep_in_m: corners should be finite"):
        Geofence(((0.0, 0.0), (1.0, 0.0), (1.0, value)), ())


@pytest.mark.parametrize(
    "corners",
    [
        ((0.0, 0.0), (0.0, 0.0), (1.0, 0.0), (1.0, 1.0)),
        ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0)),
    ],
)
def test_a_corner_repeated(corners):
    with pytest.raises(ConfigError, match=r"keep_in_m: corner \(0\.0, 0\.0\) is repeated"):
        Geofence(corners, ())


CROSSING = {
    "bow tie": ((0.0, 0.0), (2.0, 2.0), (2.0, 0.0), (0.0, 2.0)),
    "late loop": ((0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (2.0, -1.0)),
    "corner on an edge": ((0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (2.0, 0.0)),
    "edge over edge": ((0.0, 0.0), (4.0, 0.0), (4.0, 1.0), (3.0, 0.0), (1.0, 0.0), (0.0, 1.0)),
    "spike": ((0.0, 0.0), (4.0, 0.0), (2.0, 0.0), (2.0, 2.0)),
    "spike at the seam": ((2.0, 0.0), (4.0, 0.0), (4.0, 2.0), (1.0, 2.0), (1.0, 0.0), (5.0, 0.0)),
    "line": ((0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (3.0, 0.0)),
    "there and back": ((0.0, 0.0), (4.0, 0.0), (0.0, 0.0), (0.0, 4.0)),
    "too far back": ((0.0, 0.0), (4.0, 0.0), (-1.0, 0.0), (0.0, 4.0)),
    "corner twice": ((0.0, 0.0), (2.0, 0.0), (1.0, 1.0), (2.0, 2.0), (0.0, 2.0), (1.0, 1.0)),
}


@pytest.mark.parametrize("name", CROSSING)
def test_a_polygon_that_crosses_or_touches_itself(name):
    for turned in (CROSSING[name], CROSSING[name][::-1]):
        for start in range(len(turned)):
            corners = turned[start:] + turned[:start]
            with pytest.raises(ConfigError, match="keep_in_m: crosses or touches itself where"):
                Geofence(corners, ())


@pytest.mark.parametrize("last", [(2.0, 2.0), (-1.0, -1.0), (0.5, 0.5)])
def test_a_triangle_is_no_line(last):
    with pytest.raises(ConfigError, match="keep_in_m: its three corners lie on one line"):
        Geofence(((0.0, 0.0), (1.0, 1.0), last), ())
    Geofence(((0.0, 0.0), (1.0, 1.0), (last[0], last[1] + 0.01)), ())


def test_the_refusal_says_where():
    with pytest.raises(ConfigError) as caught:
        Geofence(SQUARE, (HOLE, CROSSING["bow tie"]))
    assert str(caught.value) == (
        "monitor limits.geofence.keep_out_m[1]: crosses or touches itself where the edge from "
        "(0.0, 0.0) to (2.0, 2.0) meets the one from (2.0, 0.0) to (0.0, 2.0)"
    )


@pytest.mark.parametrize(
    "corners",
    [
        SQUARE,
        CORNER,
        ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)),
        ((0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (2.0, 2.0)),  # a corner of 180 degrees
        ((0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (3.9, 0.1)),  # thin, but simple
    ],
)
def test_simple_polygons(corners):
    for turned in (corners, corners[::-1]):
        for start in range(len(turned)):
            Geofence(turned[start:] + turned[:start], ())
