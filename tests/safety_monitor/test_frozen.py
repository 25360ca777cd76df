import dataclasses
import math

import pytest
from monitor_rig import CONTRACT, Rig, check, codes, limits, seen

from holdfast.contract import ActionChannel
from holdfast.safety_monitor import Check, Reading, State

BOTH = limits(pose_frozen_s=0.5, velocity_frozen_s=0.25)
POSE = {"position": [1.0, 2.0], "heading": [0.5]}
VELOCITY = {
    **{"forward_speed": [0.5], "lateral_speed": [0.25], "yaw_rate": [0.0]},
    "linear_velocity": [0.5, 0.0],
}
DRIVE = [0.5, 0.0]


def told(frozen, at_s, signals, applied=DRIVE, **stamps):
    told = seen(at_s, signals, stamps, applied)
    frozen.judge(told)
    assert all((r.check, r.state) == (Check.ENVELOPE, State.STOPPED) for r in told.reasons)
    return [reason.code for reason in told.reasons]


@pytest.mark.parametrize(
    ("signals", "code", "after_s"),
    [(POSE, "pose_frozen", 0.5), (VELOCITY, "velocity_frozen", 0.25)],
)
def test_how_long_is_too_long(signals, code, after_s):
    frozen = check("frozen", BOTH)
    for at_s in (0.0, after_s / 2, after_s):
        assert told(frozen, at_s, signals) == []
    assert told(frozen, math.nextafter(after_s, 9.0), signals) == [code]
    assert told(frozen, 9.0, signals) == [code]


@pytest.mark.parametrize("signals", [POSE, VELOCITY])
def test_one_signal_that_changes_in_its_last_bit_is_enough(signals):
    for name in signals:
        frozen, value = check("frozen", BOTH), signals[name][-1]
        for step in range(40):
            value = math.nextafter(value, 9.0)
            changed = {**signals, name: [*signals[name][:-1], value]}
            assert told(frozen, step / 16, changed) == []


def test_a_change_starts_the_time_again():
    frozen = check("frozen", BOTH)
    other = {**POSE, "heading": [0.25]}
    for at_s, signals in ((0.0, POSE), (0.5, POSE), (0.625, other), (1.125, other)):
        assert told(frozen, at_s, signals) == []
    assert told(frozen, 1.25, other) == ["pose_frozen"]


@pytest.mark.parametrize(
    ("applied", "moves"),
    [
        ([0.0, 0.0], False),
        ([0.0625, 0.125], False),
        ([-0.0625, -0.125], False),
        ([0.063, 0.0], True),
        ([-0.063, 0.0], True),
        ([0.0, 0.126], True),
        ([0.0, -0.126], True),
    ],
)
def test_a_robot_that_is_told_to_stand_may_stand(applied, moves):
    frozen = check("frozen", BOTH)
    told(frozen, 0.0, POSE, applied)
    assert told(frozen, 1.0, POSE, applied) == (["pose_frozen"] if moves else [])


def test_only_the_time_of_motion_counts():
    frozen = check("frozen", BOTH)
    told(frozen, 0.0, POSE)
    assert told(frozen, 0.375, POSE) == []
    assert told(frozen, 9.0, POSE, [0.0, 0.0]) == []
    assert told(frozen, 9.125, POSE) == []
    assert told(frozen, 9.25, POSE) == ["pose_frozen"]


def test_only_newer_readings_count():
    frozen = check("frozen", BOTH)
    for now_s in (0.0, 1.0, 2.0, 3.0):
        assert told(frozen, now_s, POSE, position=0.0, heading=0.0) == []
    assert told(frozen, 4.0, POSE, position=0.5, heading=0.25) == []
    assert told(frozen, 4.0, POSE, position=0.25, heading=0.25) == []  # goes back: no time
    assert told(frozen, 4.0, POSE, position=0.25, heading=0.375) == ["pose_frozen"]


def test_signals_of_which_one_falls_silent_are_compared_anew():
    frozen = check("frozen", BOTH)
    told(frozen, 0.0, POSE)
    told(frozen, 0.5, POSE)
    assert told(frozen, 0.75, {"position": POSE["position"]}) == []
    assert told(frozen, 1.0, {}) == []


@pytest.mark.parametrize(
    ("channel", "judged"),
    [
        (ActionChannel("velocity_x", "m/s", -1.0, 1.0, 9.0), True),
        (ActionChannel("steering", "rad", -1.0, 1.0, 9.0), False),
        (ActionChannel("torque", "N m", -1.0, 1.0, 9.0), False),
    ],
)
def test_only_speeds_are_commands_to_move(channel, judged):
    contract = dataclasses.replace(
        CONTRACT, action=(channel,), observation=CONTRACT.observation[:1]
    )
    frozen = check("frozen", BOTH, contract)
    told(frozen, 0.0, POSE, [0.5])
    assert told(frozen, 1.0, POSE, [0.5]) == (["pose_frozen"] if judged else [])


def test_each_kind_is_judged_where_the_limits_say_so():
    for changes, expected in (
        ({"pose_frozen_s": 0.5}, ["pose_frozen"]),
        ({"velocity_frozen_s": 0.5}, ["velocity_frozen"]),
    ):
        frozen = check("frozen", limits(**changes))
        told(frozen, 0.0, {**POSE, **VELOCITY})
        assert told(frozen, 1.0, {**POSE, **VELOCITY}) == expected


def test_forgetting_starts_the_time_again():
    frozen = check("frozen", BOTH)
    told(frozen, 0.0, POSE)
    told(frozen, 0.5, POSE)
    frozen.forget()
    assert told(frozen, 0.75, POSE) == []
    assert told(frozen, 1.25, POSE) == []


def test_the_text():
    frozen = check("frozen", BOTH)
    assert told(frozen, 0.0, POSE) == []
    last = seen(0.75, POSE, applied=DRIVE)
    frozen.judge(last)
    text = "position and heading have not changed for 0.75 s of motion"
    assert [reason.text for reason in last.reasons] == [text]


@pytest.mark.parametrize(
    ("kept", "code"),
    [
        (("position", "heading"), "pose_frozen"),
        (("forward_speed", "yaw_rate"), "velocity_frozen"),
        (("position", "heading", "forward_speed", "yaw_rate", "tilt"), "velocity_frozen"),
    ],
)
def test_a_monitor_stops_what_is_frozen(kept, code):
    rig = Rig(BOTH.without("geofence")).to_active()
    for step in range(6):
        rig.step((0.9, 0.125 * (step % 2)))
    held = {name: rig.sources["base"].signals[name] for name in kept}
    for step in range(11):
        rig.tick()
        signals = {**rig.signals(), **held}
        sources = {"base": Reading(rig.now_s, rig.sequence, signals)}
        verdict = rig.step((0.9, 0.125 * (step % 2)), sources, dt_s=0.0)
        if verdict.state is State.STOPPED:
            break
    assert verdict.state is State.STOPPED
    assert code in codes(verdict.reasons)
