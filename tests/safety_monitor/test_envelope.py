import math

import pytest
from monitor_rig import LIMITS, codes, limits, seen, states

from holdfast.safety_monitor import Check, Geofence, Span, State, Tiers
from holdfast.safety_monitor.judge import When
from holdfast.signals import CATALOGUE

UP = math.inf
SIDEWAYS = limits(lateral_speed_m_s=Tiers(0.75, 1.0))
SECTORS = CATALOGUE["scan"].size


def enveloped(limits=LIMITS, **values):
    told = seen(values=values)
    for judge in limits.judges():
        if judge.when is When.LOOK:
            judge.judge(told)
    reasons = told.reasons
    assert all(reason.check is Check.ENVELOPE for reason in reasons)
    return reasons


@pytest.mark.parametrize(
    ("name", "limited", "stopped"),
    [
        ("forward_speed", 1.25, 1.5),
        ("lateral_speed", 0.75, 1.0),
        ("yaw_rate", 2.5, 3.0),
        ("tilt", 0.25, 0.5),
    ],
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("place", [0, 1])
def test_magnitudes_at_each_limit(name, limited, stopped, sign, place):
    for value, expected in (
        (limited, {}),
        (math.nextafter(limited, UP), {f"{name}_exceeded": State.LIMITED}),
        (stopped, {f"{name}_exceeded": State.LIMITED}),
        (math.nextafter(stopped, UP), {f"{name}_exceeded": State.STOPPED}),
        (1e300, {f"{name}_exceeded": State.STOPPED}),
    ):
        values = [sign * value]
        if name == "tilt":
            values.insert(place, 0.0)
        assert states(enveloped(SIDEWAYS, **{name: values})) == expected


def test_the_text_names_value_unit_and_limit():
    (reason,) = enveloped(tilt=[0.0, -0.3])
    assert reason.text == "tilt 0.300 rad exceeds 0.25"
    (reason,) = enveloped(tilt=[0.3, -0.4])  # the larger of two, once
    assert reason.text == "tilt 0.400 rad exceeds 0.25"
    (reason,) = enveloped(forward_speed=[9.0])
    assert reason.text == "forward_speed 9.000 m/s exceeds 1.5"


def test_limits_that_are_not_set_are_not_checked():
    bare = limits(geofence=None, forward_speed_m_s=None, yaw_rate_rad_s=None, tilt_rad=None)
    far = {"position": [99.0, 99.0], "linear_velocity": [9.0, 9.0]}
    far |= {"joint_position": [99.0], "joint_velocity": [99.0]}
    assert enveloped(bare, forward_speed=[9.0], yaw_rate=[9.0], tilt=[9.0, 9.0], **far) == []


# Joints: the second of three has a position from -1 to 2 rad, the third a velocity.

JOINTED = limits(
    joint_position_rad=(None, Span(-1.0, 2.0, 0.25), None),
    joint_velocity_rad_s=(None, None, Tiers(3.0, 4.0)),
)


def test_joint_positions_at_each_limit():
    for position_rad, expected in (
        (0.5, None),
        (1.75, None),
        (math.nextafter(1.75, UP), State.LIMITED),
        (2.0, State.LIMITED),
        (math.nextafter(2.0, UP), State.STOPPED),
        (99.0, State.STOPPED),
        (-0.75, None),
        (math.nextafter(-0.75, -UP), State.LIMITED),
        (-1.0, State.LIMITED),
        (math.nextafter(-1.0, -UP), State.STOPPED),
        (-99.0, State.STOPPED),
    ):
        found = states(enveloped(JOINTED, joint_position=[99.0, position_rad, -99.0]))
        wanted = {} if expected is None else {"joint_position_exceeded": expected}
        assert found == wanted, position_rad


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_joint_velocities_at_each_limit(sign):
    for velocity_rad_s, expected in (
        (3.0, None),
        (math.nextafter(3.0, UP), State.LIMITED),
        (4.0, State.LIMITED),
        (math.nextafter(4.0, UP), State.STOPPED),
    ):
        found = states(enveloped(JOINTED, joint_velocity=[99.0, -99.0, sign * velocity_rad_s]))
        wanted = {} if expected is None else {"joint_velocity_exceeded": expected}
        assert found == wanted, velocity_rad_s


def test_every_joint_is_judged_and_named():
    both = limits(
        joint_position_rad=(Span(-1.0, 1.0, 0.1),) * 3, joint_velocity_rad_s=(Tiers(1.0, 2.0),) * 3
    )
    said = enveloped(both, joint_position=[0.95, 0.0, -1.5], joint_velocity=[0.0, -1.5, 3.0])
    assert [(reason.code, reason.state, reason.text) for reason in said] == [
        (
            "joint_position_exceeded",
            State.LIMITED,
            "joint_position[0] 0.950 rad is near the end of [-1, 1]",
        ),
        (
            "joint_position_exceeded",
            State.STOPPED,
            "joint_position[2] -1.500 rad is outside of [-1, 1]",
        ),
        (
            "joint_velocity_exceeded",
            State.LIMITED,
            "joint_velocity[1] 1.500 rad/s exceeds 1",
        ),
        (
            "joint_velocity_exceeded",
            State.STOPPED,
            "joint_velocity[2] 3.000 rad/s exceeds 2",
        ),
    ]


def test_joints_without_bounds_are_not_judged():
    both = {"joint_position": [99.0], "joint_velocity": [99.0]}
    positions = limits(joint_position_rad=(Span(-1.0, 1.0, 0.1),))
    assert [*states(enveloped(positions, **both))] == ["joint_position_exceeded"]
    velocities = limits(joint_velocity_rad_s=(Tiers(1.0, 2.0),))
    assert [*states(enveloped(velocities, **both))] == ["joint_velocity_exceeded"]


def test_joints_that_cannot_be_measured_are_not_judged_here():
    assert enveloped(JOINTED, forward_speed=[0.0]) == []


def test_the_geofence_needs_position_and_motion():
    assert enveloped(position=[99.0, 0.0]) == []
    assert enveloped(linear_velocity=[1.0, 0.0]) == []


@pytest.mark.parametrize(("x", "y"), [(5.0001, 0.0), (-4.0001, 0.0), (0.0, 2.0001), (0.0, -3.01)])
def test_outside_the_geofence(x, y):
    (reason,) = enveloped(position=[x, y], linear_velocity=[0.0, 0.0])
    assert (reason.code, reason.state) == ("outside_geofence", State.STOPPED)
    assert reason.text == f"position ({x:.3f}, {y:.3f}) m is outside the geofence"


@pytest.mark.parametrize(("x", "y"), [(5.0, 0.0), (-4.0, 0.0), (0.0, 2.0), (0.0, -3.0)])
def test_on_the_geofence_the_robot_comes_to_a_stop(x, y):
    (reason,) = enveloped(position=[x, y], linear_velocity=[0.0, 0.0])
    assert (reason.code, reason.state) == ("geofence_not_stoppable", State.FALLBACK)
    assert reason.text == (
        f"from ({x:.3f}, {y:.3f}) m the robot could not stop inside the geofence"
    )


def test_stopping_distance_in_numbers():
    # At 1 m/s, 0.25 s of reaction and 2 m/s^2: 0.25 + 0.25 = 0.5 m; the margin is 0.5 m.
    for x, expected in (
        (4.0, {}),
        (4.0001, {"geofence_near": State.LIMITED}),
        (4.4999, {"geofence_near": State.LIMITED}),
        (4.5, {"geofence_not_stoppable": State.FALLBACK}),
        (5.0, {"geofence_not_stoppable": State.FALLBACK}),
    ):
        assert states(enveloped(position=[x, 0.0], linear_velocity=[1.0, 0.0])) == expected
    (reason,) = enveloped(position=[4.25, 1.0], linear_velocity=[1.0, 0.0])
    assert reason.text == "the way to standing still is 0.250 m from the geofence"


def test_stopping_distance_grows_with_the_square_and_points_along_the_motion():
    # At 2 m/s: 0.5 + 1 = 1.5 m, here along -y from -1.5 m to the edge at -3 m.
    assert states(enveloped(position=[0.0, -1.49], linear_velocity=[0.0, -2.0])) == {
        "geofence_near": State.LIMITED
    }
    assert states(enveloped(position=[0.0, -1.5], linear_velocity=[0.0, -2.0])) == {
        "geofence_not_stoppable": State.FALLBACK
    }
    assert enveloped(position=[0.0, -1.5], linear_velocity=[0.0, 2.0]) == []
    # Along a diagonal at 1 m/s, 0.5 m are 0.3 in x and 0.4 in y.
    assert enveloped(position=[4.199, 1.099], linear_velocity=[0.6, 0.8]) == []
    assert codes(enveloped(position=[4.201, 1.0], linear_velocity=[0.6, 0.8])) == {"geofence_near"}
    assert codes(enveloped(position=[4.0, 1.101], linear_velocity=[0.6, 0.8])) == {"geofence_near"}


def test_the_whole_way_counts_not_only_its_end():
    wall = Geofence(
        ((-4.0, -3.0), (5.0, -3.0), (5.0, 2.0), (-4.0, 2.0)),
        (((1.0, -1.0), (1.01, -1.0), (1.01, 1.0), (1.0, 1.0)),),
    )
    through = {"position": [0.8, 0.0], "linear_velocity": [1.0, 0.0]}
    assert codes(enveloped(limits(geofence=wall), **through)) == {"geofence_not_stoppable"}
    within = {"position": [1.005, 0.0], "linear_velocity": [0.0, 0.0]}
    assert codes(enveloped(limits(geofence=wall), **within)) == {"outside_geofence"}


# Obstacles: a disc of 0.25 m, in the middle of a scan.

SEEING = limits(footprint_radius_m=0.25, geofence=None)


def scan(**near):
    """Return ranges that are 9 m but for sectors given as s<number>."""
    ranges = [9.0] * SECTORS
    for sector, range_m in near.items():
        ranges[int(sector[1:])] = range_m
    return ranges


def scanned(ranges, speed=1.0, heading=0.0, limits=SEEING):
    reasons = enveloped(limits, scan=ranges, forward_speed=[speed], heading=[heading])
    return states(reasons)


def test_free_space_is_free():
    assert scanned(scan()) == {}
    assert scanned(scan(s0=1.25)) == {}


def test_obstacle_distance_in_numbers():
    # 0.5 m to stop at 1 m/s, 0.25 m of robot, 0.5 m of margin.
    near, not_stoppable = (
        {"obstacle_near": State.LIMITED},
        {"obstacle_not_stoppable": State.FALLBACK},
    )
    contact = {"obstacle_contact": State.STOPPED}
    for range_m, expected in (
        (math.nextafter(1.25, 0), near),
        (math.nextafter(0.75, 1), near),
        (0.75, not_stoppable),
        (0.25, not_stoppable),
        (math.nextafter(0.25, 0), contact),
        (0.0, contact),
        (-1.0, contact),
    ):
        assert scanned(scan(s0=range_m)) == expected, range_m


def test_contact_counts_on_every_side_and_at_rest():
    for sector in range(SECTORS):
        touched = scanned(scan(**{f"s{sector}": 0.2}), speed=0.0)
        assert touched == {"obstacle_contact": State.STOPPED}


def test_only_what_lies_ahead_counts():
    for sector in range(SECTORS):
        ahead = min(sector, SECTORS - sector) <= 2  # 25 degrees: 0.7 sin(15) < 0.25 < 0.7 sin(25)
        assert bool(scanned(scan(**{f"s{sector}": 0.7}))) is ahead, sector


def test_ahead_is_where_the_robot_moves_whatever_its_heading():
    behind = SECTORS // 2
    for heading in (0.0, 2.0, -3.0, 9.0):
        assert scanned(scan(s0=0.7), -1.0, heading) == {}
        assert scanned(scan(**{f"s{behind}": 0.7}), 1.0, heading) == {}
        back = scanned(scan(**{f"s{behind}": 0.7}), -1.0, heading)
        assert codes_of(back) == "obstacle_not_stoppable"
        assert codes_of(scanned(scan(s0=0.7), 1.0, heading)) == "obstacle_not_stoppable"


def codes_of(found):
    (code,) = found
    return code


def test_a_sideways_velocity_looks_sideways():
    # Heading along y, moving along x: to the robot's right, three quarters around.
    values = {"heading": [math.pi / 2.0], "linear_velocity": [1.0, 0.0]}
    right = 3 * SECTORS // 4
    (reason,) = enveloped(SEEING, scan=scan(**{f"s{right}": 0.7}), **values)
    assert reason.text == "0.450 m are free ahead, the robot needs 0.500 m to stop"
    (reason,) = enveloped(SEEING, scan=scan(**{f"s{right}": 1.0}), **values)
    assert reason.text == "0.750 m are free ahead, 0.500 m of them needed to stop"
    assert enveloped(SEEING, scan=scan(**{f"s{SECTORS // 4}": 0.7}), **values) == []


def test_a_sector_counts_by_the_edge_that_is_nearer_to_the_way():
    # Sector 2 spans 15 to 25 degrees: a thing at its near edge is r sin(15) beside the way.
    edge_m = 0.25 / math.sin(math.radians(15.0))
    fast = limits(footprint_radius_m=0.25, geofence=None, slow_margin_m=2.0)
    assert scanned(scan(s2=edge_m * 0.999), limits=fast) == {"obstacle_near": State.LIMITED}
    assert scanned(scan(s2=edge_m * 1.001), limits=fast) == {}
    # At right angles or behind, nothing is in the way, however broad the sector.
    assert scanned(scan(s9=0.2505), limits=fast) == {"obstacle_not_stoppable": State.FALLBACK}
    assert scanned(scan(s10=0.2505), limits=fast) == {}


def test_beside_something_near_what_lies_ahead_is_still_measured():
    beside = {"s9": 0.5}
    assert scanned(scan(**beside)) == {}
    assert scanned(scan(s0=1.25, **beside)) == {}
    assert scanned(scan(s0=math.nextafter(1.25, 0), **beside)) == {"obstacle_near": State.LIMITED}


def test_the_nearest_thing_decides():
    assert scanned(scan(s0=1.0, s1=0.7)) == {"obstacle_not_stoppable": State.FALLBACK}
    assert scanned(scan(s0=0.7, s35=1.0)) == {"obstacle_not_stoppable": State.FALLBACK}


def test_the_contact_s_text():
    (reason,) = enveloped(SEEING, scan=scan(s5=0.125), forward_speed=[0.0], heading=[0.0])
    assert reason.text == "something is 0.125 m away, within the robot's 0.25 m"


def test_without_a_footprint_or_with_a_signal_missing_nothing_is_seen():
    blocked = {"scan": [0.1] * SECTORS, "forward_speed": [1.0], "heading": [0.0]}
    assert codes(enveloped(SEEING, **blocked)) == {"obstacle_contact"}
    assert enveloped(limits(geofence=None), **blocked) == []
    assert enveloped(SEEING, forward_speed=[1.0], heading=[0.0]) == []
    assert enveloped(SEEING, scan=[0.1] * SECTORS, linear_velocity=[1.0, 0.0]) == []


def test_a_robot_whose_velocity_is_not_known_is_no_matter_for_fence_and_scan():
    """The monitor stops it for what is missing."""
    assert enveloped(SEEING, scan=[0.1] * SECTORS, heading=[0.0]) == []
    assert enveloped(position=[99.0, 0.0]) == []
