"""A base that goes to any side: the monitor judges where it goes, not where its front points."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_rig import CONTRACT, LIMITS, PERIOD_S, Rig, arm, check, codes, limits, reset, seen

from holdfast.contract import Cost, ObservationChannel
from holdfast.safety_monitor import Agreement, FollowingLimits, Geofence, Proposal, State, Tiers
from holdfast.safety_monitor.standing import Standing

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True, database=None)
SPEEDS = ("forward_speed", "lateral_speed")
QUARTERS = {math.pi / 2.0: (0.0, 1.0), -math.pi / 2.0: (0.0, -1.0), math.pi: (-1.0, 0.0)}
"""Cosine and sine of quarters of a turn, without what π is rounded by."""
SIDES = [*QUARTERS]


def contract(rate_per_s=4.0):
    """Return a contract of a base whose speed is billed above 0.5 m/s, in any direction."""
    forward = dataclasses.replace(CONTRACT.action[0], max_rate_per_s=rate_per_s)
    sideways = dataclasses.replace(forward, name="lateral_speed")
    fast = Cost("fast", "hypot(forward_speed, lateral_speed) > 0.5", 2.0, 1e3, 0.99, 0.95)
    return dataclasses.replace(
        CONTRACT,
        episode_steps=400,
        observation=(
            ObservationChannel("heading", 2, "1", "heading", "cos_sin"),
            ObservationChannel("applied_action", 3, "1", "applied_action"),
        ),
        action=(forward, sideways, CONTRACT.action[1]),
        costs=(fast,),
    )


SQUARE = ((-2.0, -2.0), (3.0, -2.0), (3.0, 2.5), (-2.0, 2.5))
WALLS = limits(
    geofence=Geofence(SQUARE, ()),
    lateral_speed_m_s=Tiers(1.25, 1.5),
    tracking_error={"forward_speed": 0.375, "lateral_speed": 0.375, "yaw_rate": 0.75},
    consistency=Agreement(0.1, 0.0, 0.01, 1e9, 0.2, 0.15, 0.1, 0.01, 0.2),
    following=FollowingLimits(0.1, 0.02, 0.05, 0.1, 0.1, 5.0, 0.3, 0.3, 0.5),
    pose_frozen_s=0.5,
    coasting_s=0.5,
    footprint_radius_m=0.25,
)
ANY_DIRECTION = dataclasses.replace(
    WALLS, checks=WALLS.without("tracking", "envelope", "following", "frozen").checks
)
"""Without what bounds each speed by itself, as the contract bounds each command."""

SECTORS = 36
SECTOR_RAD = math.tau / SECTORS


class Base(Rig):
    """A base in a room, whose front points `turned_rad` away from where it is told to go.

    What is wrong with its sensors is in `lie`: it is told, and may change, the true signals.
    """

    def __init__(self, limits=WALLS, turned_rad=0.0, heading_rad=0.0, rate_per_s=4.0):
        self.turned_rad = turned_rad
        self.lie = lambda signals: signals
        self.action = np.zeros(3)
        self.wall_m = math.inf
        Rig.__init__(self, limits, contract(rate_per_s))
        self.heading_rad = heading_rad + turned_rad
        self.action = np.zeros(3)
        self.sources = self.read()

    def signals(self):
        if self.action.size != 3:  # the rig's own
            self.action = np.zeros(3)
        forward, lateral, turn = self.action
        scan = np.full(SECTORS, 9.0)
        # The nearest thing lies ahead on the way; its distance is wall_m.
        scan[round(-self.turned_rad / SECTOR_RAD) % SECTORS] = min(9.0, self.wall_m)
        return self.lie(
            {
                "position": np.array([self.x_m, self.y_m]),
                "heading": np.array([self.heading_rad]),
                "forward_speed": np.array([forward]),
                "lateral_speed": np.array([lateral]),
                "yaw_rate": np.array([turn]),
                "tilt": np.zeros(2),
                "scan": scan,
            }
        )

    def along(self, speed):
        """Return the forward and the lateral speed of a speed in its direction of motion."""
        cos, sin = QUARTERS.get(
            self.turned_rad, (math.cos(self.turned_rad), math.sin(self.turned_rad))
        )
        return speed * cos, -speed * sin

    def propose(self, speed=0.0, turn=0.0):
        """Propose to go at a speed in the base's direction of motion, in its own axes."""
        action = np.array([*self.along(speed), turn])
        return Proposal(self.now_s, self.sequence, action, self.contract.hash)

    def tick(self, dt_s=PERIOD_S):
        self.now_s += dt_s
        self.sequence += 1
        forward, lateral, turn = self.action
        self.heading_rad += turn * dt_s
        c, s = math.cos(self.heading_rad), math.sin(self.heading_rad)
        self.x_m += (forward * c - lateral * s) * dt_s
        self.y_m += (forward * s + lateral * c) * dt_s
        self.wall_m -= math.hypot(forward, lateral) * dt_s
        self.sources = self.read()

    def slides(self, speed):
        """Read the sensors of a base that moves at a speed, whatever it was told."""
        forward, lateral = self.along(speed)
        return self.read(forward_speed=[forward], lateral_speed=[lateral])


def said(reasons):
    """Return codes in which either speed is called speed."""
    return {code.replace(SPEEDS[0], "speed").replace(SPEEDS[1], "speed") for code in codes(reasons)}


LIES = (
    *("", "pose frozen", "all frozen", "pose jumps", "pose drifts"),
    *("speeds zero", "speeds halved", "speeds doubled"),
)


def lying(kind, since):
    """Return a function that falsifies signals from a reading on; the way of a lie is along x."""
    kept, count = {}, itertools.count()

    def lie(signals):
        now = next(count)
        if now < since or not kind:
            kept.update(signals)
            return signals
        frozen = {"pose": ("position", "heading"), "all": tuple(signals)}
        what, how = kind.split()
        if how == "frozen":
            return {**signals, **{name: kept[name] for name in frozen[what]}}
        if what == "speeds":
            share = {"zero": 0.0, "halved": 0.5, "doubled": 2.0}[how]
            return {**signals, **{name: share * signals[name] for name in SPEEDS}}
        off_m = 0.5 if how == "jumps" else 0.02 * (now - since)
        return {**signals, "position": signals["position"] + [off_m, 0.0]}

    return lie


def verdicts(plan, lie, wall_m, heading_rad, **base):
    """Return the verdicts about a base that is driven by a plan: state, codes, costs."""
    rig = Base(heading_rad=heading_rad, **base)
    rig.wall_m = wall_m
    rig.to_active()
    rig.lie = lying(*lie)
    found = []
    for speed, turn, steps in plan:
        for _ in range(steps):
            verdict = rig.step((speed, turn))
            found.append((verdict.state, said(verdict.reasons), verdict.costs))
    return found


PLANS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.21, 0.55, 0.67, 0.83, -0.47]),
        st.sampled_from([0.0, 0.0, 0.31, -0.9]),
        st.integers(5, 30),
    ),
    min_size=1,
    max_size=4,
)
LYING = st.tuples(st.sampled_from(LIES), st.integers(5, 40))


@EXAMPLES
@given(
    plan=PLANS,
    lie=LYING,
    wall_m=st.sampled_from([9.0, 2.37, 1.13]),
    heading_rad=st.floats(-3.0, 3.0),
    turned_rad=st.sampled_from(SIDES),
)
def test_a_base_that_goes_sideways_gets_the_verdicts_of_one_that_goes_ahead(
    plan, lie, wall_m, heading_rad, turned_rad
):
    ahead = verdicts(plan, lie, wall_m, heading_rad)
    assert verdicts(plan, lie, wall_m, heading_rad, turned_rad=turned_rad) == ahead


@EXAMPLES
@given(
    plan=PLANS,
    lie=LYING,
    wall_m=st.sampled_from([9.0, 2.37, 1.13]),
    heading_rad=st.floats(-3.0, 3.0),
    sectors=st.integers(0, SECTORS - 1),
)
def test_so_does_one_that_goes_in_any_direction(plan, lie, wall_m, heading_rad, sectors):
    """Where its commands may change at once, so that it goes at the same speed."""
    same = {"limits": ANY_DIRECTION, "rate_per_s": 1e3}
    ahead = verdicts(plan, lie, wall_m, heading_rad, **same)
    turned_rad = sectors * SECTOR_RAD
    assert verdicts(plan, lie, wall_m, heading_rad, turned_rad=turned_rad, **same) == ahead


def test_the_lies_and_walls_above_are_noticed():
    """What the verdicts are compared on does happen."""
    seen_codes = set()
    for kind, wall_m, speed in itertools.product(LIES, (9.0, 1.13), (0.21, 0.83)):
        plan = [(speed, 0.0, 100)]
        for _, reasons, _ in verdicts(plan, (kind, 20), wall_m, 0.0, turned_rad=math.pi / 2.0):
            seen_codes |= reasons
    assert seen_codes >= {
        *("geofence_near", "geofence_not_stoppable", "obstacle_near", "obstacle_not_stoppable"),
        *("position_inconsistent", "pose_frozen"),
        *("speed_not_tracking", "speed_exceeded"),
    }


@pytest.mark.parametrize("turned_rad", [0.0, *SIDES, 0.6, -2.5])
@pytest.mark.parametrize("heading_rad", [0.0, 0.7, math.pi / 2.0])
def test_towards_the_fence_it_slows_then_stops_inside(turned_rad, heading_rad):
    fenced = limits(geofence=Geofence(SQUARE, ()))
    rig = Base(fenced, turned_rad, heading_rad).to_active()
    states = [rig.monitor.state]
    while rig.monitor.state is not State.STOPPED:
        states.append(rig.step((1.0, 0.0)).state)
        assert fenced.checks["geofence"].allows(rig.x_m, rig.y_m)
    assert list(dict.fromkeys(states)) == [
        *(State.ACTIVE, State.LIMITED, State.FALLBACK, State.STOPPED)
    ]


@pytest.mark.parametrize("turned_rad", [0.0, *SIDES, 0.6])
@pytest.mark.parametrize("speed", [0.0624, 0.0626, 0.4])
def test_a_base_that_slides_is_neither_reset_nor_armed(turned_rad, speed):
    refused = {"robot_moves"} if speed > LIMITS.motion.standing_speed_m_s else set()
    for event, made in ((reset, Rig.step), (arm, Rig.to_ready)):
        rig = Base(turned_rad=turned_rad)
        made(rig)
        rig.sources = rig.slides(speed)
        assert event(rig) == refused


@pytest.mark.parametrize("turned_rad", [0.0, *SIDES, 0.6])
def test_a_base_that_slides_though_zero_is_commanded_is_noticed(turned_rad):
    rig = Base(turned_rad=turned_rad).to_ready()
    found = set()
    for _ in range(12):
        rig.tick()
        found |= codes(rig.step(sources=rig.slides(0.4), dt_s=0.0).reasons)
    assert "moves_uncommanded" in found
    assert rig.monitor.state is State.STOPPED


@pytest.mark.parametrize("missing", [*SPEEDS, "heading"])
def test_without_one_of_its_speeds_it_is_not_known_to_stand(missing):
    bare = limits(forward_speed_m_s=None, tracking_error={}, geofence=Geofence(SQUARE, ()))
    rig = Base(bare)
    rig.lie = lambda signals: {name: each for name, each in signals.items() if name != missing}
    verdict = rig.step()
    text = "no source carries linear_velocity, or forward_speed, lateral_speed and heading"
    assert text in [reason.text for reason in verdict.reasons]
    assert {"signal_missing", "robot_moves"} <= reset(rig)


def test_a_lateral_speed_that_is_always_zero_is_not_believed():
    """As of a driver that leaves the field of its message empty: fresh, finite and false."""
    for checks, code in (
        (limits(tracking_error={"lateral_speed": 0.375}), "lateral_speed_not_tracking"),
        (limits(consistency=WALLS.checks["consistency"], tracking_error={}), INCONSISTENT),
    ):
        rig = Base(checks, math.pi / 2.0).to_active()
        rig.lie = lambda signals: {**signals, "lateral_speed": np.zeros(1)}
        found = set()
        while rig.monitor.state is not State.STOPPED:
            found |= codes(rig.step((0.8, 0.0)).reasons)
        assert code in found
        assert math.hypot(rig.x_m, rig.y_m) < 0.8


INCONSISTENT = "position_inconsistent"


@pytest.mark.parametrize("measured", [{"lateral_speed": [0.0]}, {"linear_velocity": [0.4, 0.0]}])
def test_an_axle_is_none_of_a_base_whose_own_velocity_is_measured(measured):
    """A base that turns about its own origin, and goes straight on: nothing swings."""
    allowed = Agreement(0.0, 0.25, 0.0, 1e9, 0.01, 0.01, 0.25, 9.0, 9.0)
    for signals, expected in ((measured, set()), ({}, {INCONSISTENT})):
        consistency, found = check("consistency", limits(consistency=allowed)), set()
        for step in range(40):
            at_s, heading = step * 0.01, step * 0.05
            values = {"position": [0.4 * at_s, 0.0], "heading": [heading], **signals}
            values["forward_speed"] = [0.4 * math.cos(heading)]
            if "lateral_speed" in signals:
                values["lateral_speed"] = [-0.4 * math.sin(heading)]
            told = seen(at_s, values)
            consistency.judge(told)
            found |= codes(told.reasons)
        assert found == expected


@pytest.mark.parametrize("late", SPEEDS)
def test_two_sources_of_speed_may_speak_at_different_times(late):
    """The velocity is as new as the newer of the two."""
    consistency = check("consistency", limits(consistency=WALLS.checks["consistency"]))
    stamps = dict.fromkeys(SPEEDS, 0.0)
    for step in range(100):
        at_s = step * 0.05
        stamps = dict.fromkeys(SPEEDS, at_s)
        stamps[late] -= 0.04 if step % 2 else 0.02
        values = {"position": [0.4 * at_s, 0.3 * at_s], "heading": [0.0]}
        values |= {"forward_speed": [0.4], "lateral_speed": [0.3]}
        told = seen(at_s, values, stamps)
        consistency.judge(told)
        assert told.reasons == []
    told = seen(at_s + 0.05, {**values, "position": [2.5, 1.7]}, dict.fromkeys(SPEEDS, at_s + 0.05))
    consistency.judge(told)
    assert codes(told.reasons) == {INCONSISTENT}


def test_what_stands_does_not_slide():
    rests = {"forward_speed": [0.0], "lateral_speed": [0.0], "heading": [1.0], "yaw_rate": [0.0]}
    standing = Standing(LIMITS.motion)
    assert standing.stands(seen(values=rests))
    for lateral in (0.07, -0.07, 0.4):
        assert not standing.stands(seen(values={**rests, "lateral_speed": [lateral]}))
    assert not standing.stands(seen(values={**rests, **{name: [0.05] for name in SPEEDS}}))


@pytest.mark.parametrize("heading_rad", [0.0, -0.0, 1.5, 3.0, -2.0])
@pytest.mark.parametrize("sector", range(0, SECTORS, 3))
def test_a_base_that_stands_goes_toward_nothing(heading_rad, sector):
    obstacles = check("obstacles", WALLS)
    for range_m, expected in ((0.26, set()), (0.24, {"obstacle_contact"})):
        scan = [9.0] * SECTORS
        scan[sector] = range_m
        rests = {"forward_speed": [0.0], "lateral_speed": [-0.0], "heading": [heading_rad]}
        told = seen(values={**rests, "scan": scan})
        obstacles.judge(told)
        assert codes(told.reasons) == expected
