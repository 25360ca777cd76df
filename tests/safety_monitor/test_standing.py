import pytest
from monitor_rig import LIMITS, seen

from holdfast.safety_monitor.standing import Standing

RESTS = {"linear_velocity": [0.0, 0.0], "yaw_rate": [0.0]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"linear_velocity": [0.0625, 0.0]}, True),
        ({"linear_velocity": [-0.0625, 0.0]}, True),
        ({"linear_velocity": [0.0, 0.0626]}, False),
        ({"linear_velocity": [0.05, 0.05]}, False),
        ({"linear_velocity": [-0.07, 0.0]}, False),
        ({"linear_velocity": None}, False),
        ({"yaw_rate": [0.125]}, True),
        ({"yaw_rate": [-0.125]}, True),
        ({"yaw_rate": [0.126]}, False),
        ({"yaw_rate": [-0.126]}, False),
        ({"yaw_rate": None}, False),
        ({"yaw_rate": None, "angular_velocity": [9.0, 9.0, 0.125]}, True),
        ({"yaw_rate": None, "angular_velocity": [0.0, 0.0, -0.125]}, True),
        ({"yaw_rate": None, "angular_velocity": [0.0, 0.0, 0.126]}, False),
        ({"yaw_rate": None, "angular_velocity": [0.0, 0.0, -0.126]}, False),
        ({"yaw_rate": [0.0], "angular_velocity": [0.0, 0.0, 9.0]}, True),
        ({"yaw_rate": None, "heading": [0.0]}, False),  # it was not watched yet
        ({"linear_velocity": None, "forward_speed": [0.0], "heading": [1.0]}, True),
        ({"linear_velocity": None, "forward_speed": [0.07], "heading": [1.0]}, False),
        # What is known of the velocity is known of sideways motion too.
        ({"linear_velocity": [0.0, 0.4], "forward_speed": [0.0], "heading": [0.0]}, False),
    ],
)
def test_what_stands(changes, expected):
    values = {name: value for name, value in {**RESTS, **changes}.items() if value is not None}
    assert Standing(LIMITS.motion).stands(seen(values=values)) is expected


def watched(*headings, every_s=0.125):
    """Return whether a robot stands whose yaw rate is not known, after each heading."""
    standing, stood = Standing(LIMITS.motion), []
    for step, heading in enumerate(headings):
        values = {"linear_velocity": [0.0, 0.0]}
        if heading is not None:
            values["heading"] = [heading]
        told = seen(step * every_s, values)
        standing.listen(told)
        stood.append(standing.stands(told))
    return stood


def test_a_heading_that_stays_tells_that_a_robot_does_not_turn():
    assert watched(*[1.0] * 6) == [False] * 4 + [True] * 2
    noise = [3.14, -3.14, 3.13, -3.13, 3.14, -3.14]
    assert watched(*noise) == [False] * 4 + [True] * 2
    # 0.125 rad/s for half a second are 0.0625 rad.
    assert watched(0.0, 0.0625, 0.0, -0.0625, 0.0) == [False] * 4 + [True]
    assert watched(0.0, 0.063, 0.063, 0.063, 0.063, 0.063) == [False] * 5 + [True]
    assert not any(watched(*[0.02 * step for step in range(40)]))
    assert watched(0.0, *[-0.063] * 5) == [False] * 5 + [True]
    assert not any(watched(*[-0.02 * step for step in range(40)]))


def test_a_turn_begins_the_wait_again():
    assert watched(*[0.0] * 5, 1.0, *[1.0] * 4) == [False] * 4 + [True] + [False] * 4 + [True]


def test_a_heading_that_is_missing_begins_the_wait_again():
    assert watched(*[0.0] * 5, None, *[0.0] * 4)[5:] == [False] * 5


def test_a_heading_that_is_said_again_tells_nothing():
    standing = Standing(LIMITS.motion)
    told = seen(1.0, {"linear_velocity": [0.0, 0.0], "heading": [0.0]})
    for _ in range(20):
        standing.listen(told)
    assert not standing.stands(told)
