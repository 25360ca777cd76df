import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_rig import CONTRACT, Rig, check, codes, limits, seen

from holdfast.errors import ConfigError
from holdfast.safety_monitor import Check, State
from holdfast.safety_monitor.checks.tracking import Commands

# Off by more than 0.375 m/s or 0.75 rad/s for over 0.25 s: LIMITED; for over 0.5 s: STOPPED. It
# may follow any command of the last 0.25 s.
LIMITS = limits()
APPLIED = [0.5, -1.0]


def off(tracking, now_s, forward=0.5, yaw=-1.0, applied=APPLIED, limited=False):
    values = {}
    if forward is not None:
        values["forward_speed"] = [forward]
    if yaw is not None:
        values["yaw_rate"] = [yaw]
    told = seen(now_s, values, applied=applied, state=LIMITED if limited else State.ACTIVE)
    tracking.judge(told)
    assert all(reason.check is Check.ENVELOPE for reason in told.reasons)
    return [(reason.code, reason.state) for reason in told.reasons]


FORWARD, YAW = "forward_speed_not_tracking", "yaw_rate_not_tracking"
LIMITED, STOPPED = State.LIMITED, State.STOPPED


@pytest.mark.parametrize(
    ("forward", "yaw", "limited", "codes"),
    [
        (0.875, -0.25, False, []),
        (0.125, -1.75, False, []),
        (0.876, -1.0, False, [FORWARD]),
        (0.124, -1.0, False, [FORWARD]),
        (0.5, -0.249, False, [YAW]),
        (0.5, -1.751, False, [YAW]),
        (9.0, 9.0, False, [FORWARD, YAW]),
        (None, -1.0, False, [FORWARD]),
        (math.nan, -1.0, False, [FORWARD]),
        (0.6875, -0.625, True, []),
        (0.3125, -1.375, True, []),
        (0.688, -1.0, True, [FORWARD]),
        (0.312, -1.0, True, [FORWARD]),
        (0.5, -0.624, True, [YAW]),
        (0.5, -1.376, True, [YAW]),
    ],
)
def test_how_far_is_too_far(forward, yaw, limited, codes):
    tracking = check("tracking")
    assert off(tracking, 0.0, forward, yaw, limited=limited) == []
    expected = [(code, LIMITED) for code in codes]
    assert off(tracking, 0.3, forward, yaw, limited=limited) == expected


def test_how_long_is_too_long():
    tracking = check("tracking")
    for now_s, expected in (
        (8.0, []),
        (8.25, []),
        (math.nextafter(8.25, 9), [(FORWARD, LIMITED)]),
        (8.5, [(FORWARD, LIMITED)]),
        (8.501, [(FORWARD, STOPPED)]),
    ):
        assert off(tracking, now_s, forward=-1.0) == expected


def test_a_moment_on_track_absolves_a_quarter_of_itself():
    tracking = check("tracking")
    off(tracking, 0.0, forward=-1.0)
    off(tracking, 0.25, forward=-1.0)
    assert off(tracking, 0.5) == []  # 0.1875 s are left
    assert off(tracking, 0.5625, forward=-1.0) == []
    assert off(tracking, 0.625, forward=-1.0) == [(FORWARD, LIMITED)]
    for now_s in (1.0, 1.5, 9.0):
        assert off(tracking, now_s) == []
    assert off(tracking, 9.25, forward=-1.0) == []  # nothing was left, and no more than that
    assert off(tracking, 9.2501, forward=-1.0) == [(FORWARD, LIMITED)]


def test_what_is_off_stays_off_while_the_time_runs_out():
    tracking = check("tracking")
    off(tracking, 0.0, forward=-1.0)
    assert off(tracking, 0.4, forward=-1.0) == [(FORWARD, LIMITED)]
    assert off(tracking, 0.5) == [(FORWARD, LIMITED)]


def test_a_robot_may_follow_any_command_of_its_reaction_time():
    tracking = check("tracking")
    off(tracking, 0.0, applied=[1.0, 0.0], forward=1.0, yaw=0.0)
    off(tracking, 0.125, applied=[0.0, 0.0], forward=1.0, yaw=0.0)
    for now_s in (0.25, 0.3125, 0.374):  # until then 1 m/s was in force a quarter second ago
        off(tracking, now_s, applied=[0.0, 0.0], forward=1.0, yaw=0.0)
        assert tracking._off_s["forward_speed"] == 0.0
    off(tracking, 0.375, applied=[0.0, 0.0], forward=1.0, yaw=0.0)
    assert tracking._off_s["forward_speed"] > 0.0


def test_without_a_reaction_time_only_the_command_in_force_counts():
    commands = Commands(0.0)
    for now_s in (0.0, 1.0, 2.0):
        commands.add(now_s, [now_s])
        assert commands.asked(0) == [now_s]


def test_time_that_goes_back_counts_as_none():
    tracking = check("tracking")
    for now_s in (5.0, 4.0, math.nan, 4.1, 4.2):
        assert off(tracking, now_s, forward=-1.0) == []
    assert tracking._off_s["forward_speed"] == pytest.approx(0.1)


def test_forgetting_starts_the_time_again():
    tracking = check("tracking")
    off(tracking, 0.0, forward=-1.0)
    off(tracking, 0.25, forward=-1.0)
    tracking.forget()
    assert off(tracking, 9.0, forward=-1.0) == []
    assert off(tracking, 9.25, forward=-1.0) == []


def test_forgetting_forgets_the_commands():
    tracking = check("tracking")
    off(tracking, 0.0, applied=[1.0, 0.0], forward=1.0, yaw=0.0)
    tracking.forget()
    off(tracking, 0.0, applied=[0.0, 0.0], forward=1.0, yaw=0.0)
    off(tracking, 0.125, applied=[0.0, 0.0], forward=1.0, yaw=0.0)
    assert tracking._off_s["forward_speed"] == 0.125


def test_only_named_channels_are_tracked():
    tracking = check("tracking", limits(tracking_error={"yaw_rate": 0.75}))
    off(tracking, 0.0, forward=9.0, yaw=9.0)
    assert off(tracking, 9.0, forward=9.0, yaw=9.0) == [(YAW, STOPPED)]


@pytest.mark.parametrize(("low", "high"), [(-1.0, 0.125), (-0.125, 1.0)])
def test_the_largest_command_may_be_to_either_side(low, high):
    forward, yaw = CONTRACT.action
    lopsided = dataclasses.replace(forward, low=low, high=high)
    contract = dataclasses.replace(CONTRACT, action=(lopsided, yaw))
    check("tracking", limits(tracking_error={"forward_speed": 0.49}), contract)
    with pytest.raises(ConfigError, match=r"forward_speed 0.5 should be below 0.5"):
        check("tracking", limits(tracking_error={"forward_speed": 0.5}), contract)


def test_the_text_says_for_how_long():
    tracking = check("tracking")
    tracking.judge(seen(0.0, {}, applied=APPLIED))
    last = seen(0.3, {"yaw_rate": [-1.0]}, applied=APPLIED)
    tracking.judge(last)
    assert [reason.text for reason in last.reasons] == [
        "forward_speed has not followed its command for 0.30 s"
    ]


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(share=st.floats(0.0, 0.5), speed=st.floats(0.9, 1.0))
def test_a_robot_that_does_not_do_what_it_is_told_is_stopped(share, speed):
    """Slowing it down is not what puts it on track: it moves by the same share of its command."""
    rig = Rig(limits(geofence=None, release_steps=10))
    rig.x_m = -0.9  # so that nothing is billed
    rig.to_active()
    for _ in range(30):
        verdict = rig.step((speed, 0.0))
        if verdict.state is State.STOPPED:
            break
        rig.action[0] *= share
    assert verdict.state is State.STOPPED
    assert FORWARD in codes(verdict.reasons)
