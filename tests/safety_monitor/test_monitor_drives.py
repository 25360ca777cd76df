"""Drives with the whole monitor: it slows, then stops, and never is where it must not be."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monitor_rig import CONTRACT, LIMITS, Rig, codes, limits

from holdfast.safety_monitor import Geofence, State

FREE = dataclasses.replace(
    CONTRACT,
    episode_steps=400,
    costs=tuple(dataclasses.replace(c, expression="abs(position.x) > 99") for c in CONTRACT.costs),
)
"""Nothing costs anything, so that only the envelope stops a robot."""

ROOM_M = 2.0
ROBOT_M = 0.25
SECTORS = 36
RAYS = np.radians(np.arange(0.5, 360.0, 1.0))


class Scanning(Rig):
    """In a square room, whose walls a scan sees: of each sector the nearest of ten rays."""

    def signals(self):
        return {**super().signals(), "scan": self.scan()}

    def scan(self):
        angle = RAYS + self.heading_rad - math.radians(5.0)
        with np.errstate(divide="ignore"):
            along = [
                (np.sign(direction) * ROOM_M - place) / direction
                for direction, place in ((np.cos(angle), self.x_m), (np.sin(angle), self.y_m))
            ]
        return np.minimum(*along).reshape(SECTORS, 10).min(axis=1)


def in_room():
    seeing = limits(footprint_radius_m=ROBOT_M, geofence=None, slow_margin_m=0.3)
    return Scanning(seeing, contract=FREE).to_active()


def seen_on_the_way(rig, proposal):
    """Drive until it stops; return states and codes in the order in which they first came.

    A robot that has slowed may well go on a little.
    """
    seen_states, seen_codes = [], []
    while rig.monitor.state is not State.STOPPED:
        verdict = rig.step(proposal)
        if verdict.state not in seen_states:
            seen_states.append(verdict.state)
        seen_codes += sorted(codes(verdict.reasons) - {"released"} - set(seen_codes))
    return seen_states, seen_codes


LADDER = [State.ACTIVE, State.LIMITED, State.FALLBACK, State.STOPPED]


@pytest.mark.parametrize("heading", [0.0, 0.6, math.pi / 2.0, -2.5])
def test_towards_the_fence_it_slows_then_stops_inside(heading):
    rig = Rig(contract=FREE)
    rig.heading_rad = heading
    seen_states, seen_codes = seen_on_the_way(rig.to_active(), (1.0, 0.0))
    assert seen_states == LADDER
    assert seen_codes == ["geofence_near", "geofence_not_stoppable", "fallback_ended"]
    assert LIMITS.checks["geofence"].allows(rig.x_m, rig.y_m)
    assert not rig.action.any()


@pytest.mark.parametrize("heading", [0.0, 0.6, math.pi / 2.0, -2.5])
def test_towards_a_wall_it_slows_then_stops_before_it(heading):
    rig = in_room()
    rig.heading_rad = heading
    seen_states, seen_codes = seen_on_the_way(rig, (1.0, 0.0))
    assert seen_states == LADDER
    assert seen_codes == ["obstacle_near", "obstacle_not_stoppable", "fallback_ended"]
    assert max(abs(rig.x_m), abs(rig.y_m)) <= ROOM_M - ROBOT_M


EXAMPLES = settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
FAST = st.tuples(st.floats(-9.0, 9.0), st.floats(-9.0, 9.0))
DRIVE = st.lists(st.tuples(FAST, st.integers(1, 20)), min_size=3, max_size=10)
HEADING = st.floats(-math.pi, math.pi)

ISLAND = Geofence(
    ((-2.0, -2.0), (2.0, -2.0), (2.0, 2.0), (-2.0, 2.0)),
    (((0.7, -0.4), (1.2, -0.4), (1.2, 0.4), (0.7, 0.4)),),
)


@EXAMPLES
@given(DRIVE, HEADING)
def test_whatever_is_proposed_the_robot_stays_inside_the_fence(drive, heading):
    rig = Rig(limits(geofence=ISLAND), contract=FREE)
    rig.heading_rad = heading
    rig.to_active()
    for proposal, steps in drive:
        for _ in range(steps):
            verdict = rig.step(proposal)
            assert "outside_geofence" not in codes(verdict.reasons)
            assert ISLAND.allows(rig.x_m, rig.y_m)


@EXAMPLES
@given(DRIVE, HEADING)
def test_whatever_is_proposed_the_robot_touches_no_wall(drive, heading):
    rig = in_room()
    rig.heading_rad = heading
    for proposal, steps in drive:
        for _ in range(steps):
            verdict = rig.step(proposal)
            assert "obstacle_contact" not in codes(verdict.reasons)
            assert max(abs(rig.x_m), abs(rig.y_m)) <= ROOM_M - ROBOT_M + 1e-9
