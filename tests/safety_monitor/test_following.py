import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_rig import CONTRACT, Rig, check, codes, limits, seen

from holdfast.contract import ActionChannel
from holdfast.errors import ConfigError
from holdfast.safety_monitor import Check, FollowingLimits, Monitor, State

# How far it has gone, and turned, in another way than it was told.

FOLLOWING = FollowingLimits(
    lag_s=0.25,
    creep_m_s=0.0625,
    creep_rad_s=0.125,
    turn_share=0.1,
    turn_rad_per_m=0.25,
    floor_m_s2=2.0,
    settle_s=0.5,
    most_m=0.25,
    most_rad=0.5,
)
FORWARD, YAW = "forward_speed_strayed", "yaw_rate_strayed"


def follows(**changes):
    return check("following", limits(following=dataclasses.replace(FOLLOWING, **changes)))


def astray(tracking, now_s, forward, yaw, applied=(1.0, 0.0), heading=0.0):
    """Return the codes of a step of a robot that does something else than it was told."""
    values = {"heading": [heading], "forward_speed": [forward], "yaw_rate": [yaw]}
    values = {name: value for name, value in values.items() if value != [None]}
    told = seen(now_s, values, applied=applied)
    tracking.judge(told)
    assert all((r.check, r.state) == (Check.ENVELOPE, State.STOPPED) for r in told.reasons)
    return [reason.code for reason in told.reasons]


def first(tracking, until_s=4.0, after_s=0.0, **told):
    """Return when something is said, of what, in steps of a sixteenth; (None, []) for never."""
    for step in range(int(until_s * 16)):
        if said := astray(tracking, after_s + step / 16, **told):
            return step / 16, said
    return None, []


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("share", "seen_s"), [(0.0, 0.3125), (0.5, 0.625), (1.5, 0.625)])
def test_a_command_that_is_carried_out_by_a_share_leads_astray(sign, share, seen_s):
    """0.5 m/s less 0.0625 are 0.25 m after 0.57 s, and 1 m/s after 0.27 s."""
    told = {"forward": sign * share, "yaw": 0.0, "applied": (sign, 0.0)}
    assert first(follows(), **told) == (seen_s, [FORWARD])


@pytest.mark.parametrize("off_m_s", [0.0625, -0.0625, 0.0, 0.03])
def test_what_is_forgiven_of_the_time_never_adds_up(off_m_s):
    assert first(follows(), forward=1.0 + off_m_s, yaw=0.0) == (None, [])


def test_what_is_at_the_most_is_allowed():
    tracking = follows(creep_m_s=0.0)
    for now_s, said in ((0.0, []), (0.5, []), (0.5 + 1e-6, [FORWARD]), (9.0, [FORWARD])):
        assert astray(tracking, now_s, forward=0.5, yaw=0.0) == said
    tracking = follows(creep_rad_s=0.0, turn_rad_per_m=0.0)
    for now_s, said in ((0.0, []), (0.5, []), (0.5 + 1e-6, [YAW])):
        assert astray(tracking, now_s, forward=1.0, yaw=1.0) == said


def test_a_turn_is_forgiven_of_the_fastest_command_in_force():
    """The robot still obeys the command to go fast, after one to stand."""
    tracking = follows(
        lag_s=0.5, creep_rad_s=0.0, turn_rad_per_m=1.0, floor_m_s2=99.0, most_m=9.0, most_rad=0.25
    )
    for step in range(15):
        applied = (1.0, 0.0) if step < 8 else (0.0, 0.0)
        assert astray(tracking, step / 16, forward=1.0, yaw=0.9, applied=applied) == []
    assert first(tracking, after_s=15 / 16, forward=1.0, yaw=0.9, applied=(0.0, 0.0))[1] == [YAW]


def test_what_jitters_about_its_command_leads_astray_too():
    """It goes nowhere, though it is told to stand: half a metre per second, to and fro."""
    tracking, said_s = follows(), []
    for step in range(16):
        said_s += astray(tracking, step / 16, (-1) ** step * 0.5, 0.0, applied=(0.0, 0.0))
    assert said_s[0] == FORWARD


@pytest.mark.parametrize("lag_s", [0.125, 0.25, 0.375])
def test_the_motion_may_be_that_of_any_command_of_so_long_ago(lag_s):
    tracking = follows(lag_s=lag_s, creep_m_s=0.0, most_m=1e-9)
    assert astray(tracking, 0.0, forward=0.0, yaw=0.0, applied=(0.0, 0.0)) == []
    said_s = next(
        step / 16
        for step in range(1, 40)
        if astray(tracking, step / 16, forward=0.0, yaw=0.0, applied=(1.0, 0.0))
    )
    assert said_s == lag_s + 1 / 16


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_turn_that_was_not_told_leads_astray(sign):
    """0.75 rad/s less 0.125 and less 0.25 for the metre that is told in a second: 0.375."""
    for applied, seen_s in (((1.0, 0.0), 1.375), ((-1.0, 0.0), 1.375), ((0.0, 0.0), 0.8125)):
        told = {"forward": applied[0], "yaw": sign * 0.75, "applied": applied}
        assert first(follows(), **told) == (seen_s, [YAW])


@pytest.mark.parametrize("yaw", [0.374, -0.374])
def test_motors_of_unequal_gain_are_forgiven(yaw):
    assert first(follows(), forward=1.0, yaw=yaw) == (None, [])
    assert first(follows(), forward=0.0, yaw=yaw, applied=(0.0, 0.0))[1] == [YAW]


@pytest.mark.parametrize("settle_s", [0.25, 1.0])
def test_while_wheels_may_slip_and_a_while_after_a_turn_is_not_judged(settle_s):
    """It reverses at once, which takes a floor of 2 m/s² a second, and spins all the while."""
    tracking = follows(settle_s=settle_s)
    assert astray(tracking, 0.0, forward=1.0, yaw=0.0) == []
    seen_s, said = first(tracking, after_s=1 / 16, forward=-1.0, yaw=2.5, applied=(-1.0, 0.0))
    assert said == [YAW]
    # It slips until 15/16 s after; at 2.125 rad/s, 0.25 s later there are 0.5 rad.
    assert seen_s == 14 / 16 + settle_s + 4 / 16


@pytest.mark.parametrize(("share", "expected"), [(1.0, None), (0.5, [FORWARD])])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_robot_may_reverse_as_slowly_as_its_floor_lets_it(share, expected, sign):
    """After 0.25 s of lag it has to change by 2 m/s² from one metre per second to the other."""
    tracking, said_s = follows(creep_m_s=0.0, most_m=0.125), None
    for step in range(40):
        at_s = step / 16
        speed = max(1.0 - 2.0 * share * max(at_s - 0.25, 0.0), -1.0)
        applied = (sign if step == 0 else -sign, 0.0)
        said_s = said_s or astray(tracking, at_s, sign * speed, 0.0, applied) or None
    assert said_s == expected


def test_wheels_of_another_size_turn_the_robot_more():
    """0.1 of a commanded turn are forgiven, (`turn_share`)."""
    for turned, expected in ((2.32, []), (1.68, []), (2.5, [YAW]), (1.5, [YAW])):
        told = {"forward": 0.0, "yaw": turned, "applied": (0.0, 2.0)}
        assert first(follows(), until_s=9.0, **told)[1] == expected


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(
    ("share", "seen_s"),
    [(0.75, None), (1.25, None), (0.625, 4.0625), (1.375, 4.0625), (0.5, 1.375)],
)
def test_motors_that_are_weaker_or_stronger_are_forgiven_a_share(sign, share, seen_s):
    """0.25 of a commanded way (`way_share`) and 0.0625 m/s, so that 0.0625 m/s are left of 0.375,
    and 0.1875 m/s of 0.5."""
    told = {"forward": sign * share, "yaw": 0.0, "applied": (sign, 0.0)}
    expected = (seen_s, [FORWARD] if seen_s else [])
    assert first(follows(way_share=0.25), until_s=9.0, **told) == expected


def test_what_is_forgiven_of_a_way_is_a_share_of_the_fastest_command_in_force():
    tracking = follows(way_share=0.25, floor_m_s2=99.0)
    assert astray(tracking, 0.0, forward=0.0, yaw=0.0, applied=(-2.0, 0.0)) == []
    assert astray(tracking, 0.25, forward=-2.5, yaw=0.0, applied=(0.0, 0.0)) == []
    (way,) = tracking._ways
    assert way.off_m == 0.0


def test_while_wheels_may_slip_their_speed_is_judged():
    tracking = follows()
    assert astray(tracking, 0.0, forward=1.0, yaw=0.0) == []
    assert first(tracking, after_s=1 / 16, forward=-1.0, yaw=0.0) == (0.125, [FORWARD])


@pytest.mark.parametrize("missing", ["forward", "yaw", "heading"])
def test_what_is_not_known_does_not_lead_astray(missing):
    """The monitor stops for a signal that is missing all the same."""
    told = {"forward": 0.0, "yaw": 2.0, "heading": 0.0, missing: None}
    expected = {"forward": [YAW], "yaw": [FORWARD], "heading": [FORWARD, YAW]}[missing]
    assert first(follows(), **told)[1] == expected


def test_good_behaviour_takes_off_what_is_forgiven():
    tracking = follows()
    for step in range(5):
        astray(tracking, step / 16, forward=0.5, yaw=0.5)
    (way,) = tracking._ways
    before_m = way.off_m
    assert astray(tracking, 0.5, forward=1.0, yaw=0.0) == []
    assert way.off_m == before_m - 0.25 * 0.0625
    assert astray(tracking, 9.0, forward=1.0, yaw=0.0) == []
    assert (way.off_m, tracking._off_rad) == (0.0, 0.0)


def test_time_that_goes_back_leads_nowhere():
    tracking = follows()
    for now_s in (5.0, 4.0, math.nan, 4.0):
        assert astray(tracking, now_s, forward=9.0, yaw=9.0) == []


def test_forgetting_begins_where_the_robot_is():
    tracking = follows()
    for step in range(4):
        astray(tracking, step / 16, forward=0.0, yaw=0.0)
    tracking.forget()
    assert first(tracking, after_s=9.0, forward=0.0, yaw=0.0) == (0.3125, [FORWARD])
    tracking.forget()
    assert astray(tracking, 20.0, forward=-1.0, yaw=0.0, applied=(-1.0, 0.0)) == []


def test_the_texts_of_what_leads_astray():
    tracking, values = follows(), {"forward_speed": [0.0], "yaw_rate": [2.0], "heading": [0.0]}
    tracking.judge(seen(0.0, values))
    told = seen(0.5, values)
    tracking.judge(told)
    assert [reason.text for reason in told.reasons] == [
        "yaw_rate has led 0.938 rad away from its commands"
    ]
    told = seen(1.0, {**values, "forward_speed": [2.0]})
    tracking.judge(told)
    assert told.reasons[0].text == "forward_speed has led 0.969 m away from its commands"


@pytest.mark.parametrize(
    ("share", "turned"), [(0.0, 1.0), (0.5, 1.0), (1.0, 0.0), (1.0, -1.0), (1.5, 1.5), (0.0, 0.0)]
)
def test_a_monitor_stops_a_robot_that_turns_as_it_was_not_told(share, turned):
    following = FollowingLimits(0.25, 0.05, 0.05, 0.1, 0.2, 1.5, 0.5, 0.05, 0.1)
    rig = Rig(limits(geofence=None, tracking_error={}, following=following)).to_active()
    for _ in range(12):
        verdict = rig.step((0.4, 1.0))
    assert verdict.state is State.ACTIVE
    for _ in range(20):
        rig.action[0] *= share
        rig.action[1] *= turned
        verdict = rig.step((0.4, 1.0))
        if verdict.state is State.STOPPED:
            break
    assert verdict.state is State.STOPPED
    assert {FORWARD, YAW} & set(codes(verdict.reasons))


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(
    lag=st.integers(0, 5),
    said=st.lists(st.tuples(st.floats(-1.0, 1.0), st.floats(-2.0, 2.0)), min_size=6, max_size=40),
    error=st.floats(-0.0625, 0.0625),
)
def test_a_robot_that_does_late_what_it_was_told_is_never_stopped(lag, said, error):
    tracking, done = follows(lag_s=0.25), [said[0]] * lag + said
    for step, applied in enumerate(said):
        forward, yaw = done[step]
        at_s = step * 0.05
        assert astray(tracking, at_s, forward + error, yaw + error, applied) == []


@pytest.mark.parametrize("field", dataclasses.fields(FollowingLimits), ids=lambda each: each.name)
def test_limits_make_sense(field):
    positive = field.name in ("floor_m_s2", "most_m", "most_rad")
    wrong = (0.0, -1.0) if positive else (-1e-9,)
    right = (1e-9, 9.0) if positive else (0.0, 9.0)
    should = "finite and above 0" if positive else "finite and at least 0"
    for value in (*wrong, math.nan, math.inf):
        with pytest.raises(ConfigError) as caught:
            dataclasses.replace(FOLLOWING, **{field.name: value})
        assert str(caught.value) == (
            f"monitor limits.following: {field.name} should be {should}, received {value}"
        )
    for value in right:
        dataclasses.replace(FOLLOWING, **{field.name: value})


@pytest.mark.parametrize("channel", ["forward_speed", "yaw_rate"])
def test_it_is_for_robots_that_are_commanded_by_speed_and_yaw_rate(channel):
    action = tuple(
        ActionChannel("other", c.unit, c.low, c.high, c.max_rate_per_s) if c.name == channel else c
        for c in CONTRACT.action
    )
    contract = dataclasses.replace(CONTRACT, action=action)
    with pytest.raises(ConfigError, match=r"following: should be left out .* channels are"):
        check("following", limits(following=FOLLOWING), contract)


def test_it_needs_the_signals_that_it_compares():
    asked = limits(
        following=FOLLOWING, forward_speed_m_s=None, yaw_rate_rad_s=None, tracking_error={}
    )
    assert {"forward_speed", "yaw_rate"} <= Monitor(CONTRACT, asked).required


LATERAL = ActionChannel("lateral_speed", "m/s", -1.0, 1.0, 4.0)
POSE = CONTRACT.observation[:2]
SIDEWAYS = dataclasses.replace(CONTRACT, action=(LATERAL, *CONTRACT.action), observation=POSE)


def test_a_base_that_is_commanded_sideways_follows_with_both_speeds():
    asked = limits(following=FOLLOWING, tracking_error={})
    assert {"forward_speed", "lateral_speed", "yaw_rate"} <= Monitor(SIDEWAYS, asked).required
    for applied, speed, strayed in (
        ((0.5, 0.0, 0.0), "lateral_speed", "lateral_speed_strayed"),
        ((0.0, 0.5, 0.0), "forward_speed", FORWARD),
    ):
        for does, expected in ((0.5, set()), (0.0, {strayed})):
            following, found = check("following", asked, SIDEWAYS), set()
            for step in range(40):
                values = {"heading": [0.0], "forward_speed": [0.0], "lateral_speed": [0.0]}
                values |= {"yaw_rate": [0.0], speed: [does]}
                told = seen(step / 16, values, applied=applied)
                following.judge(told)
                found |= codes(told.reasons)
            assert found == expected


@pytest.mark.parametrize(
    ("applied", "strays"),
    [((0.5, 0.0), True), ((0.8, 0.0), False), ((0.0, -0.8), False), ((-0.6, 0.6), False)],
)
def test_motors_of_unequal_gain_turn_a_base_by_its_whole_way(applied, strays):
    """0.125 rad/s are forgiven, and 0.25 rad for each metre of the way in any direction."""
    following, found = check("following", limits(following=FOLLOWING), SIDEWAYS), set()
    lateral, forward = applied
    for step in range(400):
        values = {"heading": [0.0], "forward_speed": [forward], "lateral_speed": [lateral]}
        told = seen(step / 16, {**values, "yaw_rate": [0.3]}, applied=(*applied, 0.0))
        following.judge(told)
        found |= codes(told.reasons)
    assert found == ({YAW} if strays else set())


@pytest.mark.parametrize(("lateral", "turn", "turns"), [(0.8, 0.0, 0.3), (0.0, 2.0, 2.3)])
def test_the_fastest_command_in_force_forgives_the_most(lateral, turn, turns):
    following = check("following", limits(following=FOLLOWING), SIDEWAYS)
    for step in range(400):
        applied = (lateral * (step % 2), 0.0, turn * (step % 2))
        values = {"heading": [0.0], "forward_speed": [0.0], "lateral_speed": [applied[0]]}
        told = seen(step / 16, {**values, "yaw_rate": [turns]}, applied=applied)
        following.judge(told)
        assert told.reasons == []


def test_one_that_fits_no_contract_judges_what_it_can():
    """As the monitor of a log, which is replayed under the limits of its day."""
    turning = dataclasses.replace(CONTRACT, action=CONTRACT.action[1:], observation=POSE)
    found = []
    asked = limits(following=FOLLOWING, tracking_error={})
    rig = Monitor(turning, asked, complain=found.append)
    assert "following: should be left out" in found[0]
    (following,) = [each for each in rig._in_motion if type(each).__name__ == "Following"]
    told = seen(0.0, {"forward_speed": [0.0], "yaw_rate": [0.0]}, applied=(0.0,))
    following.judge(told)
    assert told.reasons == []
