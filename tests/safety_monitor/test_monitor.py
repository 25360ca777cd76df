import dataclasses
import math

import numpy as np
import pytest
from monitor_rig import MOVING, STILL, Rig, arm, codes, limits, states

from holdfast.errors import ConfigError, ContractError
from holdfast.safety_monitor import Check, Reading, State

# Construction.


def test_it_starts_stopped_and_says_why():
    verdict = Rig().step()
    assert verdict.state is State.STOPPED
    assert codes(verdict.reasons) == {"power_on"}
    assert not verdict.action.any()
    assert not verdict.intervened


def test_what_contradicts_the_contract_is_refused_at_the_start():
    with pytest.raises(ContractError, match="episode cap should be"):
        Rig(episode_cap={"outside": 7.0})
    with pytest.raises(ConfigError, match="slowdown budget"):
        Rig(limits(slowdown_budget={"outside": 7.0}))
    with pytest.raises(ConfigError, match="max_step_gap_s"):
        Rig(limits(max_step_gap_s=0.01))


# Every state x every event.


@pytest.mark.parametrize("state", State)
def test_stop_from_every_state(state):
    rig = Rig().to(state)
    rig.monitor.stop("e_stop", "the red button")
    assert rig.monitor.state is State.STOPPED
    assert not rig.monitor.applied.any()
    verdict = rig.step()
    assert verdict.state is State.STOPPED
    cause = next(reason for reason in verdict.reasons if reason.code == "e_stop")
    assert (cause.check, cause.state, cause.text) == (Check.EVENT, State.STOPPED, "the red button")


@pytest.mark.parametrize("state", State)
def test_disarm_from_every_state(state):
    rig = Rig().to(state)
    rig.monitor.disarm()
    assert rig.monitor.state is (State.READY if state in MOVING else state)
    assert not rig.monitor.applied.any()
    assert rig.step().reasons == () or state is State.STOPPED


@pytest.mark.parametrize("state", State)
def test_begin_episode_from_every_state(state):
    rig = Rig().to(state)
    if state in MOVING:
        with pytest.raises(RuntimeError, match=f"begin_episode in {state.name}; disarm or stop"):
            rig.monitor.begin_episode(rig.now_s)
    else:
        rig.monitor.begin_episode(rig.now_s)
    assert rig.monitor.state is state


@pytest.mark.parametrize("state", State)
def test_reset_from_every_state(state):
    rig = Rig().to(state)
    refusals = rig.monitor.reset(rig.look())
    if state in STILL:
        assert refusals == ()
        assert rig.monitor.state is State.READY
    else:
        (refusal,) = refusals
        assert (refusal.code, refusal.check) == ("wrong_state", Check.EVENT)
        assert refusal.text == f"the monitor should be STOPPED for this; it is {state.name}"
        assert rig.monitor.state is state


@pytest.mark.parametrize("state", State)
def test_arm_from_every_state(state):
    rig = Rig().to(state)
    refusals = rig.monitor.arm(rig.look())
    if state is State.READY:
        assert refusals == ()
        assert rig.monitor.state is State.ACTIVE
    else:
        assert [refusal.text for refusal in refusals] == [
            f"the monitor should be READY for this; it is {state.name}"
        ]
        assert rig.monitor.state is state


@pytest.mark.parametrize("state", State)
def test_a_clean_step_from_every_state(state):
    rig = Rig().to(state)
    verdict = rig.step((0.25, 0.5))
    assert verdict.state is state
    assert verdict.action.any() == (state in MOVING)


@pytest.mark.parametrize("state", State)
def test_a_not_finite_signal_from_every_state(state):
    rig = Rig().to(state)
    rig.tick()
    verdict = rig.step(sources=rig.read(yaw_rate=[math.nan]))
    assert verdict.state is State.STOPPED
    assert "signal_not_finite" in codes(verdict.reasons)
    assert not verdict.action.any()
    assert verdict.intervened is (state in MOVING)
    assert rig.step().state is State.STOPPED


@pytest.mark.parametrize("state", State)
def test_stale_proposals_from_every_state(state):
    rig = Rig().to(state)
    old = rig.propose()
    for _ in range(3):
        verdict = rig.step(old)
    assert states(verdict.reasons)["proposal_stale"] is State.FALLBACK
    assert verdict.state is min(state, State.FALLBACK) or verdict.state is State.STOPPED


@pytest.mark.parametrize("state", [State.READY, *MOVING])
def test_a_prediction_from_every_state(state):
    rig = Rig().to(state)
    verdict = rig.step((0.25, 0.0), cost_to_go=np.array([9.0, 0.0]))
    assert verdict.state is min(state, State.LIMITED)
    assert verdict.budget.predicted == (9.0, 0.0)


# Observation.


def test_the_observation_is_the_contract_s():
    rig = Rig().to_active()
    rig.x_m, rig.y_m, rig.heading_rad = 0.5, -0.25, 0.75
    rig.tick()
    np.testing.assert_array_equal(
        rig.look().observation,
        [0.5, -0.25, math.cos(0.75), math.sin(0.75), 0.0, 0.0, 1.0],
    )
    rig.step((0.1, 1.0))
    observed = rig.look().observation
    np.testing.assert_allclose(observed[4:], [0.1, 0.5, 1.0 - 1.0 / 40.0], rtol=1e-15)


def test_what_is_left_of_the_episode_counts_moving_steps_and_ends_at_zero():
    rig = Rig().to_ready()
    rig.step()
    assert rig.look().observation[-1] == 1.0
    rig.monitor.arm(rig.look())
    for count in range(1, 43):
        rig.step()
        assert rig.look().observation[-1] == max(0.0, 1.0 - count / 40.0)


def test_an_unusable_signal_is_observed_as_nan():
    rig = Rig()
    for sources in (rig.read(position=None), rig.read(position=[1.0]), {}):
        assert np.isnan(rig.look(sources).observation[:2]).all()
        assert rig.look(sources).observation.shape == (7,)


def test_observing_changes_nothing():
    rig = Rig().to_active()
    before = rig.look().observation
    rig.monitor.look(rig.now_s, {})
    np.testing.assert_array_equal(rig.look().observation, before)
    assert rig.step().state is State.ACTIVE


# Tracking, and failures inside.


def test_a_robot_that_does_not_follow_is_slowed_then_stopped():
    rig = Rig(limits(max_step_gap_s=9.0)).to_active()
    seen = []
    for _ in range(20):
        rig.tick()
        seen.append(rig.step((1.0, 0.0), sources=rig.read(forward_speed=[0.0])).state)
    assert seen[0] is State.ACTIVE
    assert State.LIMITED in seen
    assert seen[-1] is State.STOPPED
    assert "forward_speed_not_tracking" in codes(rig.step().reasons)


def test_tracking_starts_anew_with_every_arming():
    rig = Rig().to_active()
    for _ in range(5):
        rig.step((1.0, 0.0), sources=rig.read(forward_speed=[1.0]))
    rig.step((1.0, 0.0), sources=rig.read(forward_speed=[0.0]))
    rig.monitor.disarm()
    rig.action[:] = 0.0
    rig.step(dt_s=1.0)
    assert arm(rig) == set()
    rig.monitor._applied = np.array([1.0, 0.0])
    assert rig.step((1.0, 0.0), sources=rig.read(forward_speed=[0.0])).reasons == ()


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("garbage", ["sources", "signals", "proposal", "hash"])
def test_a_failure_inside_stops_the_robot(state, garbage):
    rig = Rig().to(state)
    rig.tick()
    sources, proposal, prediction = rig.sources, rig.propose(0.5, 0.5), None
    if garbage == "sources":
        sources = {"base": None}
    elif garbage == "signals":
        sources = {"base": Reading(rig.now_s, 99, [1.0, 2.0])}
    elif garbage == "proposal":
        proposal = "forward"
    else:
        proposal = dataclasses.replace(proposal, contract_hash=7)
    verdict = rig.monitor.step(rig.look(sources), proposal, prediction)
    assert verdict.state is State.STOPPED
    assert not verdict.action.any()
    assert verdict.intervened is (state in MOVING)
    failed = next(reason for reason in verdict.reasons if reason.code == "monitor_failed")
    assert (failed.check, failed.state) == (Check.EVENT, State.STOPPED)
    error = "TypeError" if garbage == "hash" else "AttributeError"
    assert failed.text.startswith(f"the monitor failed: {error}: '")
    if state in MOVING and garbage in {"sources", "signals"}:
        assert verdict.costs == (
            rig.monitor._cost_model.largest if state is not State.ACTIVE else (0.0, 0.0)
        )


def test_of_readings_that_failed_nothing_else_is_judged():
    """What was read before the failure is half a look, and no ground for a verdict."""
    rig = Rig().to_active()
    rig.x_m = 99.0
    rig.tick()
    rig.propose(0.5, 0.5)
    verdict = rig.monitor.step(rig.look({**rig.sources, "broken": None}), None, None)
    assert [reason.code for reason in verdict.reasons] == ["monitor_failed"]


def test_a_failure_inside_refuses():
    rig = Rig().to_ready()
    assert "monitor_failed" in codes(rig.monitor.arm(rig.look({"base": None})))
    assert rig.monitor.state is State.READY


def test_reasons_come_in_the_order_of_the_checks():
    rig = Rig().to_active()
    rig.step()
    rig.tick()
    verdict = rig.step(
        dataclasses.replace(rig.propose(math.nan, 0.0), contract_hash="other"),
        sources=rig.read(tilt=[9.0, 0.0], yaw_rate=None, heading=[math.inf]),
        cost_to_go=np.array([math.nan, 0.0]),
        dt_s=0.6,
    )
    order = [reason.check for reason in verdict.reasons]
    assert order == sorted(order)
    assert set(order) == {
        Check.FINITE,
        Check.FRESH,
        Check.CONTRACT,
        Check.ENVELOPE,
        Check.BUDGET,
    }
