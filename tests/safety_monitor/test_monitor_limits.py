"""Every limit through the one door: allowed at its value, not one bit beyond.

Each limit is set in `REACHES`: given a value, what state the monitor is led to. The values lie
densely about the limit; the module's own tests look at each check by itself.
"""

import dataclasses
import math

import numpy as np
import pytest
from monitor_rig import CONTRACT, Rig, limits

from holdfast.contract import ActionChannel, ObservationChannel
from holdfast.safety_monitor import Prediction, Proposal, Reading, Span, State, Tiers
from holdfast.safety_monitor.limits import BLOCKS

UP = math.inf
BELOW = (1.0 - 1e-3, 1.0 - 1e-9)
ABOVE = (1.0 + 1e-9, 1.0 + 1e-3, 2.0, 1e6)


def dense(limit, ulps=3):
    """Return values up to the limit, and values beyond it."""
    below, above = [limit], [math.nextafter(limit, UP)]
    for _ in range(ulps):
        below.append(math.nextafter(below[-1], -UP))
        above.append(math.nextafter(above[-1], UP))
    below += [limit * factor for factor in BELOW]
    above += [limit * factor for factor in ABOVE]
    return below, above


def at_zero(rig, **changes):
    """Bring a rig to ACTIVE at time 0, so that times are ages and no bit is lost."""
    rig.now_s = 0.0
    rig.monitor.begin_episode(0.0)
    rig.sequence = 0
    look = rig.look(rig.read())
    rig.monitor.step(look, rig.propose())
    assert rig.monitor.reset(look) == ()
    assert rig.monitor.arm(look) == ()
    return rig


def heard(age_s=0.0, proposal_age_s=0.0, dt_s=None, skipped=0, **set_limits):
    """Return the state after a step at which something is so old, or so many were lost.

    The robot creeps, so that a controlled stop is not complete at once.
    """
    rig = at_zero(Rig(limits(**set_limits)))
    now_s = max(age_s, proposal_age_s, 0.0) if dt_s is None else dt_s
    sequence = 1 + skipped
    signals = {**rig.signals(), "forward_speed": np.array([0.25])}
    sources = {"base": Reading(now_s - age_s, sequence, signals)}
    proposal = Proposal(now_s - proposal_age_s, sequence, np.zeros(2), CONTRACT.hash)
    return rig.monitor.step(rig.monitor.look(now_s, sources), proposal).state


def sensed(rig=None, **signals):
    """Return the state after a step at which something is measured."""
    rig = (rig or Rig()).to_active()
    rig.tick()
    return rig.step(sources=rig.read(**signals), dt_s=0.0).state


JOINTED = dataclasses.replace(
    CONTRACT,
    observation=(
        *CONTRACT.observation,
        ObservationChannel("joints", 2, "rad", "joint_position"),
        ObservationChannel("speeds", 2, "rad/s", "joint_velocity"),
    ),
)


class JointedRig(Rig):
    """With two joints, at rest in the middle."""

    def signals(self):
        return {**super().signals(), "joint_position": np.zeros(2), "joint_velocity": np.zeros(2)}


JOINT_LIMITS = limits(
    joint_position_rad=(None, Span(-1.0, 2.0, 0.5)), joint_velocity_rad_s=(None, Tiers(3.0, 4.0))
)


def jointed(**signals):
    return sensed(JointedRig(JOINT_LIMITS, JOINTED), **signals)


def followed(error=0.75, lasted_s=0.375):
    """Return the state when a speed was off its command, by so much and for so long."""
    wide = limits(max_step_gap_s=1e9, tracking_error={"forward_speed": 0.5}, limited_scale=0.75)
    rig = at_zero(Rig(wide))
    for now_s, sequence in ((0.0, 1), (lasted_s, 2)):
        signals = {**rig.signals(), "forward_speed": np.array([-error])}
        sources = {"base": Reading(now_s, sequence, signals)}
        proposal = Proposal(now_s, sequence, np.zeros(2), CONTRACT.hash)
        verdict = rig.monitor.step(rig.monitor.look(now_s, sources), proposal)
    return verdict.state


def fenced(x_m=0.0, speed_m_s=0.0, **changes):
    """Return the state so far along x and at such a speed along it; the fence is at 5 m."""
    rig = Rig(limits(tracking_error={}, **changes))
    return sensed(rig, position=[x_m, 0.0], forward_speed=[speed_m_s])


def sideways(speed_m_s):
    """Return the state at such a speed to the side."""
    rig = Rig(limits(lateral_speed_m_s=Tiers(1.25, 1.5), geofence=None))
    rig.signals = lambda: {**Rig.signals(rig), "lateral_speed": np.zeros(1)}
    return sensed(rig, lateral_speed=[speed_m_s])


def along_the_fence(x_m):
    """The same, creeping along y, so that a controlled stop is not complete at once."""
    heading = {"heading": [math.pi / 2.0], "forward_speed": [0.25]}
    return sensed(Rig(limits(tracking_error={})), position=[x_m, 0.0], **heading)


SECTORS = 36


def scanned(range_m):
    """Return the state with something so near behind a robot of 0.25 m."""
    seeing = limits(footprint_radius_m=0.25)
    rig = Rig(seeing)
    rig.signals = lambda: {**Rig.signals(rig), "scan": np.full(SECTORS, 9.0)}
    ranges = np.full(SECTORS, 9.0)
    ranges[SECTORS // 2] = range_m
    return sensed(rig, scan=ranges)


def predicted(cost, coverage=0.5):
    rig = Rig(limits(slowdown_budget={"outside": 5.0}, episode_coverage=coverage)).to_active()
    return rig.step(cost_to_go=np.array([cost, 0.0])).state


ACTIVE, LIMITED, FALLBACK, STOPPED = (
    State.ACTIVE,
    State.LIMITED,
    State.FALLBACK,
    State.STOPPED,
)

REACHES = [
    # A limit, its value, the state up to it, how a value is tried, and the state beyond it; of
    # several states, the first is the one next to the limit.
    ("source_max_age_s", 0.25, ACTIVE, lambda v: heard(age_s=v), (FALLBACK, STOPPED)),
    ("source_lost_s", 0.5, FALLBACK, lambda v: heard(age_s=v, max_step_gap_s=9.0), STOPPED),
    ("proposal_max_age_s", 0.125, ACTIVE, lambda v: heard(0.0, v), (FALLBACK, STOPPED)),
    ("proposal_lost_s", 0.375, FALLBACK, lambda v: heard(0.0, v, max_step_gap_s=9.0), STOPPED),
    ("future_tolerance_s", 0.03125, ACTIVE, lambda v: heard(-v), STOPPED),
    ("future_tolerance_s", 0.03125, ACTIVE, lambda v: heard(0.0, -v, 0.0), STOPPED),
    ("max_step_gap_s", 0.5, ACTIVE, lambda v: heard(dt_s=v), STOPPED),
    ("geofence", 5.0, (FALLBACK, LIMITED), along_the_fence, STOPPED),
    ("slow_margin_m", 4.5, ACTIVE, fenced, (LIMITED, FALLBACK, STOPPED)),
    ("reaction_time_s", 4.0, ACTIVE, lambda v: fenced(v, 1.0), (LIMITED, FALLBACK, STOPPED)),
    ("forward_speed_m_s", 1.25, ACTIVE, lambda v: fenced(0.0, -v), (LIMITED, STOPPED)),
    ("forward_speed_m_s", 1.5, LIMITED, lambda v: fenced(0.0, v), STOPPED),
    ("lateral_speed_m_s", 1.25, ACTIVE, lambda v: sideways(-v), (LIMITED, STOPPED)),
    ("lateral_speed_m_s", 1.5, LIMITED, sideways, STOPPED),
    ("yaw_rate_rad_s", 2.5, ACTIVE, lambda v: sensed(yaw_rate=[v]), (LIMITED, STOPPED)),
    ("yaw_rate_rad_s", 3.0, LIMITED, lambda v: sensed(yaw_rate=[-v]), STOPPED),
    ("tilt_rad", 0.25, ACTIVE, lambda v: sensed(tilt=[v, 0.0]), (LIMITED, STOPPED)),
    ("tilt_rad", 0.5, LIMITED, lambda v: sensed(tilt=[0.0, -v]), STOPPED),
    (
        "joint_position_rad",
        1.5,
        ACTIVE,
        lambda v: jointed(joint_position=[0.0, v]),
        (LIMITED, STOPPED),
    ),
    ("joint_position_rad", 2.0, LIMITED, lambda v: jointed(joint_position=[0.0, v]), STOPPED),
    (
        "joint_position_rad",
        0.5,
        ACTIVE,
        lambda v: jointed(joint_position=[0.0, -v]),
        (LIMITED, STOPPED),
    ),
    ("joint_position_rad", 1.0, LIMITED, lambda v: jointed(joint_position=[0.0, -v]), STOPPED),
    (
        "joint_velocity_rad_s",
        3.0,
        ACTIVE,
        lambda v: jointed(joint_velocity=[0.0, -v]),
        (LIMITED, STOPPED),
    ),
    ("joint_velocity_rad_s", 4.0, LIMITED, lambda v: jointed(joint_velocity=[0.0, v]), STOPPED),
    ("tracking_error", 0.5, ACTIVE, lambda v: followed(error=v), (LIMITED, STOPPED)),
    ("tracking_s", 0.25, ACTIVE, lambda v: followed(lasted_s=v), (LIMITED, STOPPED)),
    ("tracking_s", 0.5, LIMITED, lambda v: followed(lasted_s=v), STOPPED),
    ("slowdown_budget", 5.0, ACTIVE, predicted, LIMITED),
]


@pytest.mark.parametrize(("name", "limit", "allowed", "reach", "beyond"), REACHES)
def test_a_value_at_a_limit_is_allowed_and_beyond_it_is_not(name, limit, allowed, reach, beyond):
    below, above = dense(limit)
    for values, expected in ((below, allowed), (above, beyond)):
        states = expected if isinstance(expected, tuple) else (expected,)
        found = [reach(value) for value in values]
        assert found[0] is states[0]
        assert set(found) <= set(states), list(zip(values, found, strict=True))


def test_the_stopping_distance_is_that_of_the_deceleration():
    """At 2 m/s and 4 m/s^2: 0.25 * 2 + 0.5 = 1 m, and half a metre of margin before 5 m."""
    for deceleration_m_s2, stop_m in ((4.0, 1.0), (2.0, 1.5), (1.0, 2.5)):
        changes = {"deceleration_m_s2": deceleration_m_s2, "forward_speed_m_s": None}
        for value in dense(5.0 - stop_m - 0.5)[0]:
            assert fenced(value, 2.0, **changes) is ACTIVE
        assert fenced(math.nextafter(5.0 - stop_m - 0.5, 9.0) + 1e-9, 2.0, **changes) is LIMITED
        assert fenced(5.0 - stop_m - 1e-9, 2.0, **changes) is LIMITED
        assert fenced(5.0 - stop_m, 2.0, **changes) is FALLBACK


def test_something_that_touches_the_robot_stops_it():
    for value in (0.25, math.nextafter(0.25, UP), 0.2501, 0.5, 9.0):
        assert scanned(value) is ACTIVE  # it stands, and nothing is ahead
    for value in (math.nextafter(0.25, 0.0), 0.25 * (1.0 - 1e-9), 0.1, 0.0, -1.0):
        assert scanned(value) is STOPPED


@pytest.mark.parametrize(
    ("name", "signal", "limit"),
    [
        ("standing_speed_m_s", "forward_speed", 0.0625),
        ("standing_yaw_rate_rad_s", "yaw_rate", 0.125),
    ],
)
def test_standing_still_is_what_the_limits_say(name, signal, limit):
    below, above = dense(limit)
    for sign in (1.0, -1.0):
        for values, refused in ((below, False), (above[:-1], True)):
            for value in values:
                rig = Rig(limits(**{name: limit}, forward_speed_m_s=None, yaw_rate_rad_s=None))
                rig.to_ready()
                refusals = rig.monitor.arm(rig.look(rig.read(**{signal: [sign * value]})))
                assert any(reason.code == "robot_moves" for reason in refusals) is refused, value


@pytest.mark.parametrize("most", [0, 1, 3])
def test_messages_that_may_be_lost(most):
    for lost in range(most + 1):
        assert heard(skipped=lost, max_skipped=most) is ACTIVE
    for lost in (most + 1, most + 2, 10**9):
        assert heard(skipped=lost, max_skipped=most) is LIMITED


@pytest.mark.parametrize("trigger", [1, 2, 5])
@pytest.mark.parametrize("release", [1, 2, 5])
def test_steps_that_slow_and_steps_that_free(trigger, release):
    rig = Rig(limits(trigger_steps=trigger, release_steps=release)).to_active()
    too_much, enough = np.array([9.0, 0.0]), np.array([0.0, 0.0])
    slow = [rig.step(cost_to_go=too_much).state for _ in range(trigger)]
    assert slow == [ACTIVE] * (trigger - 1) + [LIMITED]
    free = [rig.step(cost_to_go=enough).state for _ in range(release)]
    assert free == [LIMITED] * (release - 1) + [ACTIVE]


@pytest.mark.parametrize("scale", [1e-9, 0.25, 1.0 - 1e-9])
def test_what_is_slowed_is_slowed_by_that_much(scale):
    changes = {"limited_scale": scale, "release_steps": 99, "tracking_error": {}}
    rig = Rig(limits(**changes)).to_limited()
    for _ in range(9):
        verdict = rig.step((0.75, -1.5))
    np.testing.assert_array_equal(verdict.action, [scale * 0.75, scale * -1.5])


@pytest.mark.parametrize("lasts_s", [0.25, 1.0])
def test_a_controlled_stop_takes_no_longer(lasts_s):
    """The robot coasts on, so that nothing else ends it."""
    for beyond, expected in ((0.0, FALLBACK), (2.0**-40, STOPPED)):
        rig = at_zero(Rig(limits(fallback_max_s=lasts_s, max_step_gap_s=9.0, proposal_lost_s=99.0)))
        for now_s, sequence in ((0.5, 1), (0.5 + lasts_s + beyond, 2)):
            signals = {**rig.signals(), "forward_speed": np.array([0.25])}
            look = rig.monitor.look(now_s, {"base": Reading(now_s, sequence, signals)})
            verdict = rig.monitor.step(look, None)
        assert verdict.state is expected


@pytest.mark.parametrize(("coverage", "margin"), [(0.1, 1.0), (0.5, 5.0), (0.9, 9.0)])
def test_the_prediction_covers_as_much_as_the_limits_say(coverage, margin):
    nine = tuple(map(float, range(1, 10)))
    asked = limits(episode_coverage=coverage, slowdown_budget={"outside": margin})
    free = dataclasses.replace(CONTRACT.costs[0], episode_cap=60.0)
    contract = dataclasses.replace(CONTRACT, costs=(free, CONTRACT.costs[1]))
    for ahead, expected in ((0.0, ACTIVE), (1e-9, LIMITED)):
        prediction = Prediction((nine, (0.0,) * 9))
        rig = Rig(asked, contract=contract, prediction=prediction).to_active()
        assert rig.step(cost_to_go=np.array([ahead, 0.0])).state is expected


ALSO = {
    "max_skipped",
    "deceleration_m_s2",
    "footprint_radius_m",
    "standing_speed_m_s",
    "standing_yaw_rate_rad_s",
    "limited_scale",
    "trigger_steps",
    "release_steps",
    "fallback_max_s",
    "episode_coverage",
    "recovery",  # no number; test_recovery.py
    "on_prediction",  # no number; test_budget.py
    "consistency",  # nine numbers; test_consistency.py
    "following",  # nine numbers; test_following.py
    "pose_frozen_s",  # test_frozen.py
    "velocity_frozen_s",
    "coasting_s",  # test_coasting.py
}


def test_no_limit_is_left_out():
    whole = {"geofence", "consistency", "following", "recovery"}
    names = {f.name for block in BLOCKS.keys() - whole for f in dataclasses.fields(BLOCKS[block])}
    assert {name for name, *_ in REACHES} | ALSO == names | whole


# The contract's limits: a box and rates.


@pytest.mark.parametrize("index", [0, 1])
def test_the_box_and_the_rates_are_the_contract_s(index):
    channel = CONTRACT.action[index]
    step = channel.max_rate_per_s * CONTRACT.period_s
    for sign, end in ((1.0, channel.high), (-1.0, channel.low)):
        for target in (*dense(abs(end))[0], *dense(abs(end))[1]):
            rig = Rig().to_active()
            proposed, previous = np.zeros(2), 0.0
            proposed[index] = sign * target
            for _ in range(8):
                verdict = rig.step(tuple(proposed))
                action = verdict.action[index]
                assert channel.low <= action <= channel.high
                assert abs(action - previous) <= step * (1.0 + 1e-12)
                previous = action
            assert action == sign * min(target, abs(end))


def test_a_box_of_one_direction_holds():
    forward = ActionChannel("forward_speed", "m/s", 0.0, 1.0, 4.0)
    one = dataclasses.replace(CONTRACT, action=(forward, CONTRACT.action[1]))
    rig = Rig(contract=one).to_active()
    for _ in range(4):
        assert rig.step((-1.0, 0.0)).action[0] == 0.0


def test_what_is_billed_is_enough_to_bill():
    """The position alone, of which both costs are made: the step is priced, though more is
    missing."""
    rig = Rig().to_active()
    rig.step()
    rig.x_m = 1.5
    rig.tick()
    alone = rig.read(heading=None, forward_speed=None, yaw_rate=None, tilt=None)
    assert tuple(rig.step(sources=alone).costs) == (1.0, 0.0)
