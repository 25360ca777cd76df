import math

import pytest
from monitor_rig import LIMITS, Rig, codes, limits

from holdfast.safety_monitor import Check, State
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
    assert Standing(LIMITS).stands(values) is expected


def watched(*headings, every_s=0.125):
    """Return whether a robot stands whose yaw rate is not known, after each heading."""
    standing, seen = Standing(LIMITS), []
    for step, heading in enumerate(headings):
        values = {"linear_velocity": [0.0, 0.0]}
        if heading is not None:
            values["heading"] = [heading]
        standing.listen(values, {"heading": step * every_s})
        seen.append(standing.stands(values))
    return seen


def test_a_heading_that_stays_tells_that_a_robot_does_not_turn():
    assert watched(*[1.0] * 6) == [False] * 4 + [True] * 2
    noise = [3.14, -3.14, 3.13, -3.13, 3.14, -3.14]
    assert watched(*noise) == [False] * 4 + [True] * 2
    # 0.125 rad/s for half a second are 0.0625 rad.
    assert watched(0.0, 0.0625, 0.0, -0.0625, 0.0) == [False] * 4 + [True]
    assert watched(0.0, 0.063, 0.063, 0.063, 0.063, 0.063) == [False] * 5 + [True]
    assert not any(watched(*[0.02 * step for step in range(40)]))


def test_a_turn_begins_the_wait_again():
    assert watched(*[0.0] * 5, 1.0, *[1.0] * 4) == [False] * 4 + [True] + [False] * 4 + [True]


def test_a_heading_that_is_missing_begins_the_wait_again():
    assert watched(*[0.0] * 5, None, *[0.0] * 4)[5:] == [False] * 5


def test_a_heading_that_is_said_again_tells_nothing():
    standing = Standing(LIMITS)
    values = {"linear_velocity": [0.0, 0.0], "heading": [0.0]}
    for _ in range(20):
        standing.listen(values, {"heading": 1.0})
    assert not standing.stands(values)


def judged(standing, now_s, moves=True, commanded=False, known=True):
    values = {"linear_velocity": [0.5 * moves, 0.0], "yaw_rate": [0.0]} if known else {}
    reasons = []
    standing.judge(now_s, values, commanded, reasons)
    return reasons


COASTING = limits(coasting_s=0.5)


def test_how_long_a_robot_may_coast():
    standing = Standing(COASTING)
    for now_s in (1.0, 1.25, 1.5):
        assert judged(standing, now_s) == []
    (reason,) = judged(standing, 1.625)
    assert (reason.check, reason.code) == (Check.ENVELOPE, "moves_uncommanded")
    assert reason.state is State.STOPPED
    assert reason.text == "the robot has moved for 0.62 s, though zero is commanded"


@pytest.mark.parametrize("innocent", [{"moves": False}, {"commanded": True}, {"known": False}])
def test_what_is_no_motion_without_a_command(innocent):
    standing = Standing(COASTING)
    for step in range(20):
        assert judged(standing, step * 0.125, **innocent) == []
    assert judged(standing, 2.5) == []
    assert judged(standing, 2.875) == []


def test_one_sample_at_rest_absolves_nothing():
    standing = Standing(COASTING)
    seen = [judged(standing, step / 16, moves=step % 4 != 3) for step in range(20)]
    assert any(seen)


def test_where_nothing_is_asked_nothing_is_said():
    standing = Standing(LIMITS)
    assert not any(judged(standing, now_s) for now_s in range(20))


def test_time_that_goes_back_counts_as_none():
    standing = Standing(COASTING)
    for now_s in (5.0, 4.0, math.nan, 4.1, 4.5):
        assert judged(standing, now_s) == []
    assert judged(standing, 4.75) != []


def test_forgetting_starts_the_time_again():
    standing = Standing(COASTING)
    judged(standing, 0.0)
    judged(standing, 0.5)
    standing.forget()
    assert judged(standing, 1.0) == []
    assert judged(standing, 1.5) == []


# Through the monitor.


@pytest.mark.parametrize("state", [State.STOPPED, State.READY, State.ACTIVE])
@pytest.mark.parametrize("moved", [{"forward_speed": [0.25]}, {"yaw_rate": [0.5]}])
def test_a_robot_that_somebody_else_moves_is_noticed_in_every_state(state, moved):
    rig = Rig(COASTING).to(state)
    rig.step()
    seen = []
    for _ in range(12):
        rig.tick()
        seen.append(rig.step(sources=rig.read(**moved), dt_s=0.0))
    assert "moves_uncommanded" not in codes(seen[8].reasons)
    assert seen[8].state is state
    assert seen[11].state is State.STOPPED
    assert "moves_uncommanded" in codes(seen[11].reasons)
    if state is not State.STOPPED:
        assert "moves_uncommanded" in codes(rig.step().reasons)  # why it is STOPPED still


def test_a_robot_that_coasts_out_is_not_accused():
    rig = Rig(COASTING).to_active()
    for _ in range(8):
        rig.step((1.0, 0.0))
    rig.monitor.disarm()
    for step in range(20):
        rig.tick()
        speed = max(0.9 - 2.0 * 0.05 * step, 0.0)
        verdict = rig.step(sources=rig.read(forward_speed=[speed]), dt_s=0.0)
    assert verdict.state is State.READY
