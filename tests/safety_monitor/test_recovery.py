import dataclasses
import math

import numpy as np
import pytest
from monitor_rig import CONTRACT, LIMITS, Rig, codes, limits

from holdfast.contract import Recovery
from holdfast.errors import ConfigError, ContractError
from holdfast.safety_monitor import Monitor, State
from holdfast.safety_monitor.recovery import RecoveryController, return_to_point

HOME = {"x_m": 0.0, "y_m": 1.0, "speed_m_s": 0.5, "yaw_rate_rad_s": 1.5, "arrived_m": 0.25}


def with_recovery(name="return_to_point", parameters=None, **changes):
    recovery = Recovery(name, HOME if parameters is None else parameters)
    return dataclasses.replace(CONTRACT, recovery=recovery, **changes)


def heading_for(x, y, heading, **changes):
    values = {"position": [x, y], "heading": [heading]}
    return return_to_point(values, **{**HOME, **changes})


def test_straight_ahead_it_drives():
    assert heading_for(-2.0, 1.0, 0.0) == (0.5, 0.0)
    assert heading_for(0.0, 3.0, -math.pi / 2.0) == pytest.approx((0.5, 0.0))


def test_off_course_it_turns_towards_the_point():
    speed, turn = heading_for(-2.0, 1.0, -0.5)
    assert speed == pytest.approx(0.5 * math.cos(0.5))
    assert turn == pytest.approx(1.5 * 0.5)
    assert heading_for(-2.0, 1.0, 0.5)[1] == pytest.approx(-1.5 * 0.5)
    assert heading_for(-2.0, 1.0, -1.25)[1] == 1.5
    assert heading_for(-2.0, 1.0, 1.25)[1] == -1.5


def test_facing_away_it_turns_on_the_spot_the_shorter_way():
    assert heading_for(-2.0, 1.0, 3.0) == (0.0, -1.5)
    assert heading_for(-2.0, 1.0, -3.0) == (0.0, 1.5)
    assert heading_for(-2.0, 1.0, 2.0 * math.pi - 0.5)[1] == pytest.approx(0.75)


@pytest.mark.parametrize("x", [0.25, -0.25, 0.0])
def test_within_arrived_it_is_done(x):
    assert heading_for(x, 1.0, 0.3) == (0.0, 0.0)
    assert heading_for(0.2501, 1.0, 0.3) != (0.0, 0.0)


def test_without_a_recovery_there_is_none():
    controller = RecoveryController(CONTRACT, None)
    assert controller.signals == ()
    assert controller.act({"position": [0.0, 0.0], "heading": [0.0]}) is None


def test_the_controller_acts_unless_it_is_blind():
    controller = RecoveryController(with_recovery(), None)
    assert controller.signals == ("position", "heading")
    action = controller.act({"position": [-2.0, 1.0], "heading": [0.0]})
    np.testing.assert_array_equal(action, [0.5, 0.0])
    assert controller.act({"position": [-2.0, 1.0]}) is None
    assert controller.act({"heading": [0.0]}) is None


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (with_recovery("go_home"), r"^recovery 'go_home': should be one of return_to_point$"),
        (
            with_recovery(parameters={}),
            "parameters should be x_m, y_m, speed_m_s, yaw_rate_rad_s, arrived_m, received none",
        ),
        (with_recovery(parameters={**HOME, "z_m": 1.0}), "arrived_m, z_m$"),
        (
            with_recovery(parameters={**HOME, "speed_m_s": 0.0}),
            r"speed_m_s should be above 0, received 0\.0",
        ),
        (with_recovery(parameters={**HOME, "arrived_m": -1.0}), "arrived_m should be above 0"),
        (
            with_recovery(action=CONTRACT.action[::-1]),
            "writes forward_speed, yaw_rate; the contract's action is yaw_rate, forward_speed",
        ),
    ],
)
def test_a_recovery_that_cannot_be_used_is_refused(contract, message):
    with pytest.raises(ContractError, match=message):
        RecoveryController(contract, None)
    with pytest.raises(ContractError, match=message):
        Monitor(contract, LIMITS)


def test_a_point_may_lie_anywhere():
    RecoveryController(with_recovery(parameters={**HOME, "x_m": -3.0, "y_m": 0.0}), None)


# The robot's own.

DOCK = {**HOME, "x_m": -3.0}


def test_the_robot_s_own_recovery_goes_before_the_contract_s():
    own = RecoveryController(with_recovery(), Recovery("return_to_point", DOCK))
    at_dock = {"position": [-3.0, 1.0], "heading": [0.0]}
    np.testing.assert_array_equal(own.act(at_dock), [0.0, 0.0])
    assert RecoveryController(with_recovery(), None).act(at_dock)[0] == 0.5


def test_the_robot_s_own_recovery_serves_a_contract_without_one():
    own = RecoveryController(CONTRACT, Recovery("return_to_point", DOCK))
    assert own.signals == ("position", "heading")
    assert own.act({"position": [-5.0, 1.0], "heading": [0.0]})[0] == 0.5


@pytest.mark.parametrize(
    ("recovery", "message"),
    [
        (Recovery("go_home", {}), "should be one of return_to_point"),
        (Recovery("return_to_point", {}), "parameters should be x_m, y_m, speed_m_s"),
        (Recovery("return_to_point", {**HOME, "speed_m_s": 0.0}), "speed_m_s should be above 0"),
    ],
)
def test_a_robot_s_own_recovery_that_cannot_be_used_is_refused(recovery, message):
    with pytest.raises(
        ConfigError, match=rf"^monitor limits\.recovery '{recovery.name}': {message}"
    ):
        Monitor(with_recovery(), limits(recovery=recovery))


def test_a_robot_s_own_recovery_needs_its_signals():
    cost = dataclasses.replace(CONTRACT.costs[0], expression="abs(forward_speed) > 1")
    blind = dataclasses.replace(CONTRACT, observation=CONTRACT.observation[2:], costs=(cost,))
    bare = limits(geofence=None, recovery=Recovery("return_to_point", DOCK))
    assert {"position", "heading"} <= Monitor(blind, bare).required
    assert "position" not in Monitor(blind, limits(geofence=None)).required


# In the monitor.


def recovering(**changes):
    """Return a rig that drives outwards until its policy falls silent."""
    slow = {"proposal_lost_s": 60.0, "fallback_max_s": 20.0, **changes}
    free = tuple(dataclasses.replace(c, expression="abs(position.x) > 99") for c in CONTRACT.costs)
    rig = Rig(limits(**slow), contract=with_recovery(costs=free))
    rig.x_m, rig.y_m, rig.heading_rad = 2.5, 0.0, 0.0
    return rig.to_fallback()


def test_a_silent_policy_s_robot_returns_and_then_stops():
    rig = recovering()
    before = rig.monitor.applied
    while rig.monitor.state is State.FALLBACK:
        verdict = rig.step(None)
        assert verdict.intervened
        assert (np.abs(verdict.action - before) <= CONTRACT.action_max_step + 1e-12).all()
        before = verdict.action
    assert verdict.state is State.STOPPED
    assert "fallback_ended" in codes(verdict.reasons)
    assert math.hypot(rig.x_m, rig.y_m - 1.0) <= 0.3


def test_a_robot_that_cannot_trust_its_senses_only_stops():
    rig = recovering()
    old = rig.sources
    rig.step((1.0, 1.0), sources=old)
    while rig.monitor.state is State.FALLBACK:
        stale = "source_stale" in codes(rig.step(None, sources=old).reasons)
        if stale:
            before = np.abs(rig.monitor.applied)
            rig.step(None, sources=old)
            assert (np.abs(rig.monitor.applied) <= before).all()


def test_a_robot_about_to_leave_the_geofence_only_stops():
    rig = recovering()
    rig.x_m = 4.8
    actions = [rig.step(None).action for _ in range(2)]
    assert abs(actions[1][0]) <= abs(actions[0][0])
    assert not actions[1][1:].any()


def test_what_only_slows_does_not_keep_a_robot_from_returning():
    rig = recovering()
    rig.x_m, rig.heading_rad = 4.6, math.pi
    for _ in range(2):
        verdict = rig.step(None)
        assert "geofence_near" in codes(verdict.reasons)
    assert verdict.action[1] < 0.0  # it turns home, which a controlled stop would not


def test_a_cost_that_is_predicted_leaves_the_recovery_its_way():
    rules = {"on_prediction": "recover", "slowdown_budget": {"outside": 5.0}}
    rig = recovering(**rules)
    for _ in range(10):
        verdict = rig.step((1.0, 0.0), cost_to_go=np.array([9.0, 0.0]))
        assert "slowdown_budget" in codes(verdict.reasons)
        assert verdict.state is State.FALLBACK
    assert verdict.action[1] > 0.0  # it turns home, which a controlled stop would not


def test_the_recovery_ends_after_its_time():
    rig = recovering(fallback_max_s=0.3)
    verdicts = []
    while rig.monitor.state is State.FALLBACK:
        verdicts.append(rig.step(None))
    assert len(verdicts) in {6, 7}
    assert "took longer than 0.3 s" in verdicts[-1].reasons[-1].text


def test_a_fallback_in_which_the_wall_was_near_once_goes_on_to_stop():
    """The wall's reason flickers, and the recovery would drive whenever it is gone."""
    rig = recovering(fallback_max_s=60.0)
    rig.x_m, rig.heading_rad = 4.8, 0.0
    assert "geofence_not_stoppable" in codes(rig.step(None).reasons)
    rig.x_m = 0.0
    before = np.abs(rig.monitor.applied)
    for _ in range(3):
        verdict = rig.step(None)
        assert "geofence_not_stoppable" not in codes(verdict.reasons)
        assert verdict.state is State.FALLBACK
        assert (np.abs(verdict.action) <= before).all()
        assert verdict.action[1] == 0.0
        before = np.abs(verdict.action)


def test_the_next_fallback_may_recover_again():
    rig = recovering(fallback_max_s=60.0)
    rig.x_m, rig.heading_rad = 4.8, 0.0
    rig.step(None)
    rig.x_m = 2.0
    while rig.monitor.state is State.FALLBACK:
        rig.step((0.2, 0.0))
    assert rig.monitor.state is State.LIMITED
    while rig.monitor.state is State.LIMITED:
        rig.step(None)
    assert rig.monitor.state is State.FALLBACK
    assert rig.step(None).action[1] != 0.0  # it turns home


def test_another_arming_may_recover_again():
    rig = recovering(fallback_max_s=60.0)
    rig.x_m, rig.heading_rad = 4.8, 0.0
    rig.step(None)
    assert rig.monitor._ramp_only is True
    rig.monitor.disarm()
    rig.x_m, rig.action[:] = 2.0, 0.0
    rig.step()
    assert rig.monitor.arm(rig.look()) == ()
    assert rig.monitor._ramp_only is False
