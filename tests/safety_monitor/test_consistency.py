import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_rig import CONTRACT, LIMITS, Rig, codes, limits, seen

from holdfast.safety_monitor import Agreement, Check, State
from holdfast.safety_monitor.checks.consistency import Consistency

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True, database=None)
STRICT = Agreement(0.0, 0.0, 0.0, 1e9, 0.25, 0.25, 0.0, 0.0, 0.25)
ANGLE = st.floats(-4.0, 4.0)


def told(consistency, at_s, **signals):
    """Return the codes after a reading in which everything is stamped `at_s`, or as said."""
    stamps, values = {}, {}
    for name, value in signals.items():
        if name.endswith("_at_s"):
            stamps[name.removesuffix("_at_s")] = value
        else:
            values[name] = value
            stamps.setdefault(name, at_s)
    told = seen(at_s, values, stamps)
    consistency.judge(told)
    assert all((r.check, r.state) == (Check.ENVELOPE, State.STOPPED) for r in told.reasons)
    return [reason.code for reason in told.reasons]


def made(**changes):
    return Consistency(Agreement(**{**vars(STRICT), **changes}), LIMITS.motion)


def straight(consistency, at_s, x=0.0, y=0.0, speed=1.0, angle=0.0):
    """A robot that drives along an angle at 1 m/s, seen with an error along and across its way."""
    c, s = math.cos(angle), math.sin(angle)
    position = [(at_s + x) * c - y * s, (at_s + x) * s + y * c]
    return told(consistency, at_s, position=position, heading=[angle], forward_speed=[speed])


OFF_M, OFF_RAD = ["position_inconsistent"], ["heading_inconsistent"]


@pytest.mark.parametrize("angle", [0.0, 1.0, math.pi / 2, 3.0, -2.0])
@pytest.mark.parametrize(
    ("x", "y"), [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0), (0.6, -1.0), (1.0, 0.8)]
)
def test_a_jump_stops_at_once(angle, x, y):
    for size, expected in ((0.2499, []), (0.2501, OFF_M)):
        consistency = made()
        assert straight(consistency, 0.0, angle=angle) == []
        assert straight(consistency, 0.25, angle=angle) == []
        assert straight(consistency, 0.5, x * size, y * size, angle=angle) == expected
        # It stays off: the position is still not where the speeds lead.
        assert straight(consistency, 0.75, x * size, y * size, angle=angle) == expected


@pytest.mark.parametrize("at_s", [0.25, 0.125])
def test_a_pose_that_is_not_newer_is_not_judged(at_s):
    consistency = made()
    for newest_s in (0.0, 0.25):
        assert straight(consistency, newest_s) == []
    stale = {"position_at_s": at_s, "heading_at_s": at_s, "yaw_rate": [0.0]}
    far = {"position": [9.0, 9.0], "heading": [2.0], "forward_speed": [1.0]}
    assert told(consistency, 0.25, **far, **stale) == []
    assert straight(consistency, 0.5) == []


def test_the_newer_of_two_speeds_counts():
    """The lateral speed has a source of its own, and the forward speed's is slow."""
    consistency = made()
    for step in range(17):
        at_s, lateral = step / 16, float(step > 0)
        y = max(0.0, at_s - 1 / 32)
        speeds = {"forward_speed": [0.0], "forward_speed_at_s": 0.0, "lateral_speed": [lateral]}
        assert told(consistency, at_s, position=[0.0, y], heading=[0.0], **speeds) == []


def test_what_is_at_the_limit_is_allowed():
    consistency = made()
    for at_s, x, expected in ((0.0, 0.0, []), (0.5, 0.25, []), (1.0, 0.2501, OFF_M)):
        assert straight(consistency, at_s, x) == expected


@pytest.mark.parametrize("rate", [0.125, 0.25, 1.0])
@pytest.mark.parametrize("along", [True, False])
def test_a_drift_adds_up(rate, along):
    consistency, seen = made(), None
    for step in range(100):
        at_s, off_m = step / 16, rate * step / 16
        if straight(consistency, at_s, *((off_m, 0.0) if along else (0.0, off_m))):
            seen = at_s
            break
    assert seen == 0.25 / rate + 1 / 16


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("angle", [0.0, 2.0])
def test_a_share_of_the_way_is_forgiven_along_it_and_not_across_it(sign, angle):
    along, across = made(distance_share=0.125), made(distance_share=0.125)
    for step in range(200):
        off_m = sign * 0.12 * step / 16
        assert straight(along, step / 16, x=off_m, angle=angle) == []
        if step * 0.12 / 16 > 0.26:
            assert straight(across, step / 16, y=off_m, angle=angle) == OFF_M
        else:
            straight(across, step / 16, y=off_m, angle=angle)


def test_beyond_the_share_the_rest_adds_up():
    consistency = made(distance_share=0.125)
    seen = [straight(consistency, step / 16, x=0.25 * step / 16) for step in range(34)]
    assert seen.index(OFF_M) == 33  # 0.125 m/s of it remain: 0.25 m after 2 s


@pytest.mark.parametrize("axis", ["x", "y"])
def test_creep_is_forgiven_in_every_direction(axis):
    for speed in (0.0, 1.0):
        consistency = made(creep_m_s=0.0625)
        for step in range(100):
            at_s, off_m = step / 16, 0.0625 * step / 16
            position = [at_s * speed, 0.0]
            position["xy".index(axis)] += off_m
            signals = {"position": position, "linear_velocity": [speed, 0.0]}
            assert told(consistency, at_s, **signals) == []


@pytest.mark.parametrize("angle", [0.0, 1.0, -2.5])
@pytest.mark.parametrize(
    ("along_m", "across_m", "x", "y", "expected"),
    [
        (0.5, 0.25, 0.49, 0.24, []),
        (0.5, 0.25, -0.49, -0.24, []),
        (0.5, 0.25, 0.51, 0.0, OFF_M),
        (0.5, 0.25, 0.0, 0.26, OFF_M),
        (0.25, 0.5, 0.24, 0.49, []),
        (0.25, 0.5, -0.26, 0.0, OFF_M),
        (0.25, 0.5, 0.0, -0.51, OFF_M),
    ],
)
def test_along_and_across_have_bounds_of_their_own(angle, along_m, across_m, x, y, expected):
    consistency = made(along_m=along_m, across_m=across_m)
    assert straight(consistency, 0.0, angle=angle) == []
    assert straight(consistency, 0.25, x, y, angle=angle) == expected


def base(consistency, at_s, x=0.0, y=0.0, heading=0.0, speed=0.0):
    """Return the codes of what a base with wheels says."""
    signals = {"position": [x, y], "heading": [heading], "forward_speed": [speed]}
    return told(consistency, at_s, **signals)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("angle", [0.0, 1.0, -2.5])
@pytest.mark.parametrize("floor_m_s2", [1.0, 2.0, 4.0])
def test_wheels_that_spin_move_the_robot_after_all(sign, angle, floor_m_s2):
    """The wheels turn at 1 m/s at once. A floor of a m/s² has moved it by at² / 2 after t."""
    consistency = made(floor_m_s2=floor_m_s2, along_m=0.0625, across_m=0.001)
    assert base(consistency, 0.0, heading=angle) == []
    seen = next(
        step / 32
        for step in range(1, 99)
        if base(consistency, step / 32, heading=angle, speed=sign)
    )
    assert 0.0 <= seen - math.sqrt(2.0 * 0.0625 / floor_m_s2) <= 2 / 32


def test_a_floor_that_needs_no_slip_forgives_none():
    """It speeds up by 1 m/s², and lies about where it is from the middle on."""
    for floor_m_s2, expected in ((1.01, OFF_M), (0.5, [])):
        consistency = made(floor_m_s2=floor_m_s2, along_m=0.2)
        for step in range(17):
            at_s = step / 16
            x = at_s * at_s / 2.0 if step < 8 else 0.125
            seen = base(consistency, at_s, x=x, speed=at_s)
        assert seen == expected


@pytest.mark.parametrize("turn", [1.0, -1.0])
@pytest.mark.parametrize("floor_m_s2", [1.5, 0.25])
def test_on_a_circle_the_floor_must_turn_the_velocity(turn, floor_m_s2):
    """A circle of 1 m at 1 m/s takes 1 m/s². Without them the base slides straight on."""
    consistency, seen = made(floor_m_s2=floor_m_s2), None
    for step in range(40):
        at_s = step * 0.05
        if base(consistency, at_s, x=at_s, heading=turn * at_s, speed=1.0):
            seen = at_s
            break
    assert seen is not None
    assert (seen <= 0.85) is (floor_m_s2 > 1.0)


@pytest.mark.parametrize("speed", [0.4, -0.4])
@pytest.mark.parametrize("turn", [1.0, -1.0, 2.0])
@pytest.mark.parametrize("lie", ["stuck", "half", "more", "drift", "no speed"])
def test_a_lie_on_a_steady_circle_is_seen_within_a_second(speed, turn, lie):
    honest, lying = (made(floor_m_s2=1.5, along_m=0.1, across_m=0.1) for _ in range(2))
    seen = None
    for step in range(60):
        at_s, radius_m = step * 0.05, speed / turn
        x, y = radius_m * math.sin(turn * at_s), radius_m * (1.0 - math.cos(turn * at_s))
        assert base(honest, at_s, x, y, turn * at_s, speed) == []
        if lie == "no speed":
            told_speed, share = 0.0, 1.0
        else:
            told_speed, share = speed, {"stuck": 0.0, "half": 0.5, "more": 1.5}.get(lie, 1.0)
        drift_m = 0.2 * at_s if lie == "drift" else 0.0
        if base(lying, at_s, share * x + drift_m, share * y, turn * at_s, told_speed):
            seen = seen or at_s
    assert seen is not None
    assert seen <= 1.0


@EXAMPLES
@given(
    floor=st.floats(0.5, 4.0),
    grip=st.floats(0.0, 1.0),
    wheels=st.lists(st.floats(-1.0, 1.0), min_size=5, max_size=5),
    turns=st.lists(st.floats(-5.0, 5.0), min_size=5, max_size=5),
)
def test_whatever_the_wheels_do_a_body_that_the_floor_moves_is_believed(floor, grip, wheels, turns):
    """The body's velocity is between the wheels' and the floor's, at a share that is drawn."""
    consistency, ground, dt_s = made(floor_m_s2=floor, along_m=1e-6, across_m=1e-6), None, 0.05
    heading, x, y, before = 0.0, 0.0, 0.0, None
    for step in range(100):
        speed = wheels[step // 20]
        heading += turns[step // 20] * dt_s
        ideal = speed * math.cos(heading), speed * math.sin(heading)
        ground = ideal if ground is None else ground
        change = math.dist(ideal, ground)
        share = min(1.0, floor * dt_s / change) if change else 1.0
        ground = tuple([g + share * (i - g) for g, i in zip(ground, ideal, strict=True)])
        body = tuple([g + grip * (i - g) for g, i in zip(ground, ideal, strict=True)])
        if before is not None:
            x += (before[0] + body[0]) / 2.0 * dt_s
            y += (before[1] + body[1]) / 2.0 * dt_s
        before = body
        assert base(consistency, step * dt_s, x, y, heading, speed) == []


@pytest.mark.parametrize("axle_m", [0.125, -0.25])
@pytest.mark.parametrize("turn", [2.0, -2.0])
def test_a_base_swings_about_its_axle(axle_m, turn):
    """It turns on the spot about an axle that lies before or behind its origin."""
    right, wrong = made(axle_m=axle_m, across_m=0.1), made(along_m=0.1, across_m=0.1)
    seen = []
    for step in range(40):
        heading = turn * step / 16
        x, y = -axle_m * math.cos(heading), -axle_m * math.sin(heading)
        assert base(right, step / 16, x, y, heading) == []
        seen += base(wrong, step / 16, x, y, heading)
    assert seen[0] == OFF_M[0]


def test_a_velocity_of_two_components_is_the_origin_s_own():
    consistency = made(axle_m=9.0)
    for step in range(40):
        at_s = step / 16
        signals = {"position": [at_s, 0.0], "linear_velocity": [1.0, 0.0]}
        assert told(consistency, at_s, **signals, heading=[at_s]) == []


@pytest.mark.parametrize("error_m", [0.0624, -0.0624, 0.0626, -0.0626])
def test_between_two_speeds_there_may_have_been_any(error_m):
    """From 0 to 1 m/s in 1/8 s it may have made anything up to 0.125 m."""
    consistency = made(along_m=1e-6)
    assert base(consistency, 0.0) == []
    seen = base(consistency, 0.125, x=0.0625 + error_m, speed=1.0)
    assert seen == (OFF_M if abs(error_m) > 0.0625 else [])
    x = 0.0625 + error_m + 0.125
    assert base(consistency, 0.25, x=x, speed=1.0) == seen  # the doubt was that step's


@pytest.mark.parametrize("error_rad", [0.0624, -0.0624, 0.0626, -0.0626])
def test_between_two_yaw_rates_there_may_have_been_any(error_rad):
    consistency = made(heading_rad=1e-6)
    assert told(consistency, 0.0, heading=[0.0], yaw_rate=[0.0]) == []
    seen = told(consistency, 0.125, heading=[0.0625 + error_rad], yaw_rate=[1.0])
    assert seen == (OFF_RAD if abs(error_rad) > 0.0625 else [])
    heading = 0.0625 + error_rad + 0.125
    assert told(consistency, 0.25, heading=[heading], yaw_rate=[1.0]) == seen


def test_a_robot_that_stands_keeps_the_direction_of_its_way():
    """What is left along the way is not across it because noise points there while it stands."""
    consistency = made(along_m=0.5, creep_m_s=0.0625)
    assert straight(consistency, 0.0) == []
    assert straight(consistency, 0.25, x=0.4) == []
    signals = {"position": [0.65, 0.0], "linear_velocity": [0.0, 0.05]}
    assert told(consistency, 0.5, **signals, heading=[0.0]) == []


def test_the_velocity_counts_where_there_is_one():
    consistency = made()
    for step in range(50):  # it slides to its left, and says so
        at_s = step / 16
        signals = {"position": [0.0, at_s], "linear_velocity": [0.0, 1.0], "forward_speed": [9.0]}
        assert told(consistency, at_s, **signals, heading=[0.0]) == []
    for step in range(50, 60):
        seen = told(
            consistency,
            step / 16,
            **{**signals, "linear_velocity": [0.0, 0.0]},
            heading=[0.0],
            position_at_s=step / 16,
        )
    assert seen == []  # neither moves now
    signals["position"] = [0.0, 9.0]
    assert told(consistency, 4.0, **signals, heading=[0.0]) == OFF_M


@pytest.mark.parametrize("held", ["position", "forward_speed"])
def test_only_newer_readings_count(held):
    """A pose five times a second, or a speed, is no frozen one; each is taken at its own time."""
    consistency = made()
    for step in range(100):
        at_s = step / 16
        stamp_s = (step // 4 * 4) / 16
        x = stamp_s if held == "position" else at_s
        signals = {"position": [x, 0.0], "heading": [0.0], "forward_speed": [1.0]}
        assert told(consistency, at_s, **signals, **{f"{held}_at_s": stamp_s}) == []


def test_a_position_that_is_said_again_is_not_new():
    consistency = made()
    straight(consistency, 0.0)
    straight(consistency, 0.5)
    for speed in (1.0, 1.0, 1.0):
        told(
            consistency,
            5.0,
            position=[0.5, 0.0],
            position_at_s=0.5,
            heading=[0.0],
            forward_speed=[speed],
        )
    assert consistency._off_m == (0.0, 0.0)


@EXAMPLES
@given(angle=ANGLE, yaw_rate=st.floats(-2.0, 2.0), speed=st.floats(-1.0, 1.0), frozen=st.booleans())
def test_a_robot_that_says_the_truth_is_believed_and_a_frozen_pose_is_not(
    angle, yaw_rate, speed, frozen
):
    consistency = made(distance_share=0.0625, creep_rad_s=0.001)
    x = y = 0.0
    seen = []
    for step in range(80):
        at_s, heading = step * 0.05, angle + yaw_rate * step * 0.05
        if not frozen or step < 20:
            pose = {"position": [x, y], "heading": [math.remainder(heading, math.tau)]}
        seen += told(consistency, at_s, **pose, forward_speed=[speed], yaw_rate=[yaw_rate])
        middle = heading + yaw_rate * 0.025
        x, y = x + speed * 0.05 * math.cos(middle), y + speed * 0.05 * math.sin(middle)
    if not frozen:
        assert seen == []
    else:
        assert ("heading_inconsistent" in seen) == (abs(yaw_rate) * 3.0 > 0.2531)
        if abs(speed) > 0.2:
            assert "position_inconsistent" in seen


def turning(consistency, at_s, off=0.0, rate=1.0):
    heading = math.remainder(at_s + off, math.tau)
    return told(consistency, at_s, heading=[heading], yaw_rate=[rate])


def test_a_heading_that_jumps():
    for size, expected in ((0.2499, []), (-0.2499, []), (0.2501, OFF_RAD), (-0.2501, OFF_RAD)):
        consistency = made()
        assert turning(consistency, 0.0) == []
        assert turning(consistency, 0.5, size) == expected
        assert turning(consistency, 1.0, size) == expected


def test_a_heading_at_the_limit_is_allowed():
    consistency = made()
    told(consistency, 0.0, heading=[0.0], yaw_rate=[0.0])
    assert told(consistency, 0.5, heading=[0.25], yaw_rate=[0.0]) == []
    assert told(consistency, 1.0, heading=[0.25 + 1e-9], yaw_rate=[0.0]) == OFF_RAD


def test_a_heading_may_pass_over_half_a_turn():
    consistency = made()
    for step in range(200):
        assert turning(consistency, step / 16) == []


def test_a_share_of_the_turn_and_a_creep_are_forgiven():
    for changes, drift, sees in (
        ({"turn_share": 0.125}, 0.12, False),
        ({"turn_share": 0.125}, -0.12, False),
        ({"turn_share": 0.125}, 0.2, True),
        ({"creep_rad_s": 0.125}, 0.12, False),
        ({"creep_rad_s": 0.125}, -0.2, True),
        ({"turn_share": 0.125, "creep_rad_s": 0.0625}, 0.18, False),
        ({}, 0.12, True),
    ):
        for rate in (1.0, -1.0):
            consistency, seen = made(**changes), []
            for step in range(80):
                at_s = step / 16
                heading = math.remainder((rate + drift) * at_s, math.tau)
                seen.append(told(consistency, at_s, heading=[heading], yaw_rate=[rate]))
            assert (OFF_RAD in seen) is sees, (changes, drift, rate)


def test_a_heading_that_is_said_again_is_not_new():
    consistency = made()
    turning(consistency, 0.0)
    for at_s in (0.25, 0.5, 5.0):
        told(consistency, at_s, heading=[0.0], heading_at_s=0.0, yaw_rate=[1.0])
    assert consistency._off_rad == 0.0


def test_a_heading_that_is_said_again_absolves_of_nothing():
    """Meanwhile the yaw rate may have been any, which is no doubt about the heading."""
    consistency = made()
    turning(consistency, 0.0)
    turning(consistency, 0.5, off=0.25)
    told(consistency, 5.0, heading=[0.75], heading_at_s=0.5, yaw_rate=[-1.0])
    assert consistency._off_rad == 0.25


def test_what_is_not_known_is_not_judged():
    consistency = made()
    for at_s, x in ((0.0, 0.0), (1.0, 9.0), (2.0, -9.0)):
        assert told(consistency, at_s, position=[x, 0.0]) == []
        assert told(consistency, at_s, position=[x, 0.0], forward_speed=[0.0]) == []
        assert told(consistency, at_s, heading=[x], forward_speed=[0.0]) == []
        assert told(consistency, at_s, yaw_rate=[x]) == []


def test_forgetting_begins_where_the_robot_is():
    consistency = made()
    for at_s in (0.0, 0.5):
        straight(consistency, at_s)
        turning(consistency, at_s)
    consistency.forget()
    assert straight(consistency, 1.0, x=9.0, y=9.0) == []
    assert turning(consistency, 1.0, off=2.0) == []
    assert straight(consistency, 1.5, x=9.0, y=9.0) == []
    assert turning(consistency, 1.5, off=2.0) == []


@pytest.mark.parametrize("huge", [1e308, -1e308])
def test_numbers_beyond_reckoning_disagree(huge):
    consistency = made()
    told(consistency, 0.0, position=[-huge, 0.0], heading=[-huge], forward_speed=[0.0])
    said = told(consistency, 0.5, position=[huge, huge], heading=[huge], forward_speed=[0.0])
    assert said == OFF_M
    told(consistency, 1.0, position=[0.0, 0.0], linear_velocity=[huge, huge])
    assert told(consistency, 1.5, position=[0.0, 0.0], linear_velocity=[huge, huge]) == OFF_M


def test_the_texts():
    consistency = made()
    values = {"position": [0.0, 0.0], "heading": [0.0], "forward_speed": [0.0], "yaw_rate": [0.0]}
    consistency.judge(seen(0.0, values))
    last = seen(0.5, {**values, "position": [0.6, -0.8], "heading": [-0.5]})
    consistency.judge(last)
    assert [reason.text for reason in last.reasons] == [
        "position is 0.600 m along the way and 0.800 m across it from where the speeds lead",
        "heading is 0.500 rad from where the yaw rate leads",
    ]


# Through the monitor.


def test_a_monitor_stops_what_disagrees_and_begins_anew_when_armed():
    rig = Rig(limits(consistency=STRICT, geofence=None)).to_active()
    rig.step((0.5, 0.0))
    rig.x_m += 0.3
    verdict = rig.step((0.5, 0.0))
    assert verdict.state is State.STOPPED
    assert "position_inconsistent" in codes(verdict.reasons)
    for _ in range(3):
        rig.step()
    rig.x_m -= 9.0  # somebody carries it away
    rig.step()
    assert rig.monitor.reset(rig.look()) == ()
    assert rig.monitor.arm(rig.look()) == ()
    assert rig.step((0.5, 0.0)).state is State.ACTIVE


def test_a_position_that_nobody_else_needs_is_looked_at():
    speeding = dataclasses.replace(CONTRACT.costs[0], expression="abs(forward_speed) > 9.0")
    contract = dataclasses.replace(
        CONTRACT, costs=(speeding,), observation=CONTRACT.observation[1:]
    )
    rig = Rig(limits(consistency=STRICT, geofence=None), contract=contract).to_active()
    assert "position" not in rig.monitor.required
    rig.step((0.5, 0.0))
    rig.y_m += 0.3
    assert "position_inconsistent" in codes(rig.step((0.5, 0.0)).reasons)
