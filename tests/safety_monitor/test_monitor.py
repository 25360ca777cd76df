import dataclasses
import math

import numpy as np
import pytest
from monitor_rig import CONTRACT, PERIOD_S, Rig, codes, limits, states

from holdfast.errors import ConfigError, ContractError
from holdfast.safety_monitor import Check, Monitor, Reading, State

MOVING = (State.FALLBACK, State.LIMITED, State.ACTIVE)
STILL = (State.STOPPED, State.READY)


def reset(rig):
    return codes(rig.monitor.reset(rig.now_s, rig.sources))


def arm(rig):
    return codes(rig.monitor.arm(rig.now_s, rig.sources))


# Construction.


def test_it_starts_stopped_and_says_why():
    verdict = Rig().step()
    assert verdict.state is State.STOPPED
    assert codes(verdict.reasons) == {"power_on"}
    assert not verdict.action.any()
    assert not verdict.intervened


def test_what_contradicts_the_contract_is_refused_at_the_start():
    with pytest.raises(ContractError, match="run budget should be"):
        Rig(run_budget={"outside": 7.0})
    with pytest.raises(ConfigError, match="episode budget"):
        Rig(limits(episode_budget={"outside": 7.0}))
    with pytest.raises(ConfigError, match="max_step_gap_s"):
        Rig(limits(max_step_gap_s=0.01))
    other = dataclasses.replace(CONTRACT.costs[0], function="no_such_cost")
    with pytest.raises(ContractError, match="no_such_cost"):
        Monitor(dataclasses.replace(CONTRACT, costs=(other,)), limits())


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
    refusals = rig.monitor.reset(rig.now_s, rig.sources)
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
    refusals = rig.monitor.arm(rig.now_s, rig.sources)
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
        rig.monitor.observe(rig.sources),
        [0.5, -0.25, math.cos(0.75), math.sin(0.75), 0.0, 0.0, 1.0],
    )
    rig.step((0.1, 1.0))
    observed = rig.monitor.observe(rig.sources)
    np.testing.assert_allclose(observed[4:], [0.1, 0.5, 1.0 - 1.0 / 40.0], rtol=1e-15)


def test_what_is_left_of_the_episode_counts_moving_steps_and_ends_at_zero():
    rig = Rig().to_ready()
    rig.step()
    assert rig.monitor.observe(rig.sources)[-1] == 1.0
    rig.monitor.arm(rig.now_s, rig.sources)
    for count in range(1, 43):
        rig.step()
        assert rig.monitor.observe(rig.sources)[-1] == max(0.0, 1.0 - count / 40.0)


def test_an_unusable_signal_is_observed_as_nan():
    rig = Rig()
    for sources in (rig.read(position=None), rig.read(position=[1.0]), {}):
        assert np.isnan(rig.monitor.observe(sources)[:2]).all()
        assert rig.monitor.observe(sources).shape == (7,)


def test_observing_changes_nothing():
    rig = Rig().to_active()
    before = rig.monitor.observe(rig.sources)
    rig.monitor.observe({})
    np.testing.assert_array_equal(rig.monitor.observe(rig.sources), before)
    assert rig.step().state is State.ACTIVE


# Actions.


def test_an_admissible_action_is_no_intervention():
    rig = Rig().to_active()
    verdict = rig.step((9.0, -9.0))
    np.testing.assert_allclose(verdict.action, [0.2, -1.0], rtol=1e-15)
    assert not verdict.intervened
    np.testing.assert_array_equal(rig.monitor.applied, verdict.action)
    np.testing.assert_allclose(rig.step((9.0, -9.0)).action, [0.4, -2.0], rtol=1e-15)


def test_limited_scales_what_the_limits_let_through():
    rig = Rig(limits(release_steps=100)).to_limited()
    for _ in range(10):
        verdict = rig.step((100.0, 1.0))
    assert verdict.state is State.LIMITED
    np.testing.assert_allclose(verdict.action, [0.5, 0.5], rtol=1e-15)
    assert verdict.intervened


def test_limited_keeps_the_rate():
    rig = Rig().to_active()
    for _ in range(6):
        rig.step((1.0, 0.0))
    verdict = rig.step((1.0, 0.0), cost_to_go=np.array([9.0, 0.0]))
    np.testing.assert_allclose(verdict.action, [0.8, 0.0], rtol=1e-15)


def test_limited_intervenes_only_where_it_changes_something():
    rig = Rig().to_limited()
    assert not rig.step((0.0, 0.0)).intervened
    assert not rig.step((9.0, 0.0)).intervened  # the rate binds before the scale does


def test_fallback_ramps_down_and_ends_stopped():
    rig = Rig().to_fallback()
    speeds = [rig.monitor.applied[0]]
    while rig.monitor.state is State.FALLBACK:
        verdict = rig.step(None)
        speeds.append(verdict.action[0])
        assert verdict.intervened
    np.testing.assert_allclose(speeds, [0.8, 0.6, 0.4, 0.2, 0.0, 0.0], atol=1e-15)
    assert codes(verdict.reasons) == {"proposal_stale", "fallback_ended"}


def test_falling_into_fallback_intervenes_even_on_a_proposal_of_zero():
    rig = Rig().to_active()
    old = rig.propose(0.0, 0.0)
    verdicts = [rig.step(old) for _ in range(3)]
    assert [verdict.intervened for verdict in verdicts] == [False, False, True]


def test_fallback_intervenes_only_where_it_changes_something():
    rig = Rig(limits(release_steps=100)).to_fallback()
    assert not rig.step((0.0, 0.0)).intervened
    assert rig.step((1.0, 0.0)).intervened


def test_a_short_silence_is_ridden_through():
    rig = Rig().to_fallback()
    verdicts = [rig.step((1.0, 0.0)) for _ in range(6)]
    assert [verdict.state for verdict in verdicts] == (
        [State.FALLBACK] * 2 + [State.LIMITED] * 3 + [State.ACTIVE]
    )
    assert [codes(verdict.reasons) for verdict in verdicts] == (
        [{"proposal_stale"}] * 2 + [{"released"}] * 3 + [set()]
    )


def test_a_long_silence_stops():
    rig = Rig(limits(fallback_max_s=9.0, proposal_lost_s=0.2)).to_fallback()
    verdict = rig.step(None)
    assert verdict.state is State.STOPPED
    assert states(verdict.reasons) == {"proposal_lost": State.STOPPED}


def test_no_new_proposal_is_the_last_one_repeated():
    for repeated in (True, False):
        rig = Rig().to_active()
        last = rig.propose(1.0, 0.5)
        rig.step(last)
        verdict = rig.step(last if repeated else None)
        assert verdict.state is State.ACTIVE
        np.testing.assert_allclose(verdict.action, [0.4, 0.5], rtol=1e-15)


def test_the_zero_action_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        Rig().step().action[0] = 1.0


# Freshness, as the whole monitor sees it.


def test_stale_readings_make_a_controlled_stop_and_lost_ones_a_halt():
    rig = Rig(limits(max_step_gap_s=9.0)).to_active()
    for _ in range(6):
        rig.step((1.0, 0.0))
    old = rig.sources
    seen = [rig.step((1.0, 0.0), sources=old) for _ in range(11)]
    for age_s, state in (
        (0.2, State.ACTIVE),
        (0.3, State.FALLBACK),
        (0.45, State.FALLBACK),
        (0.55, State.STOPPED),
    ):
        assert seen[round(age_s / PERIOD_S) - 1].state is state
    assert "source_stale" in codes(seen[5].reasons)


def test_every_source_is_judged_on_its_own():
    rig = Rig().to_ready()
    extra = {"lidar": Reading(rig.now_s, 1, {})}
    rig.step(sources={**rig.sources, **extra})
    rig.step(sources={**rig.read(), "lidar": Reading(rig.now_s, 0, {})})
    assert codes(rig.step().reasons) >= {"source_out_of_order"}


def test_the_monitor_itself_must_not_sleep_while_moving():
    rig = Rig().to_active()
    verdict = rig.step(dt_s=0.51)
    assert codes(verdict.reasons) == {"step_late"}
    rig = Rig().to_ready()
    assert rig.step(dt_s=60.0).reasons == ()
    assert arm(rig) == set()
    assert rig.step().state is State.ACTIVE


def test_arming_starts_the_step_clock():
    rig = Rig().to_ready()
    rig.now_s += 0.1
    arm(rig)
    rig.now_s += 0.45
    assert rig.step(dt_s=0.05).state is State.ACTIVE


def test_a_clock_that_goes_back_is_the_new_clock_afterwards():
    rig = Rig().to_active()
    assert "clock_backwards" in codes(rig.step(dt_s=-1.0).reasons)
    verdict = rig.step()
    assert codes(verdict.reasons) == {
        "clock_backwards",
        "source_out_of_order",
        "proposal_out_of_order",
    }
    rig.step()
    assert reset(rig) == set()


def test_a_clock_that_is_no_number_is_no_baseline():
    rig = Rig().to_active()
    verdict = rig.monitor.step(math.nan, rig.sources, rig.propose())
    assert verdict.state is State.STOPPED
    assert "clock_not_finite" in codes(verdict.reasons)
    rig.now_s -= 1.0
    assert "clock_backwards" in codes(rig.step().reasons)


# Billing.


def outside(rig, x_m=1.5):
    rig.x_m = x_m
    return rig


def test_costs_are_billed_in_moving_states_only_and_not_at_the_first_step():
    rig = outside(Rig().to_ready())
    assert rig.step().costs == (0.0, 0.0)
    arm(rig)
    assert rig.step().costs == (0.0, 0.0)
    verdict = rig.step()
    assert verdict.costs == (1.0, 0.0)
    assert verdict.budget.spent == (1.0, 0.0)
    assert verdict.budget.run_budget == (6.0, 3.0)
    assert all(map(math.isnan, verdict.budget.predicted))
    rig.monitor.disarm()
    assert rig.step().costs == (0.0, 0.0)
    assert rig.step().budget.spent == (1.0, 0.0)


@pytest.mark.parametrize("state", [State.LIMITED, State.FALLBACK])
def test_every_moving_state_is_billed(state):
    rig = outside(Rig().to(state))
    assert rig.step().costs == (1.0, 0.0)


def test_a_repeated_reading_is_billed_every_period():
    rig = outside(Rig().to_active())
    rig.step()
    old = rig.sources
    assert [rig.step(sources=old).costs for _ in range(3)] == [(1.0, 0.0)] * 3


def test_the_last_action_s_cost_is_billed_by_one_more_step():
    rig = Rig().to_active()
    for _ in range(5):
        rig.step()
    verdict = outside(rig).step(None)
    assert verdict.costs == (1.0, 0.0)
    rig.monitor.disarm()
    assert rig.monitor.state is State.READY


def test_arming_again_within_an_episode_goes_on_with_its_accounts():
    rig = outside(Rig().to_active())
    rig.step()
    rig.step()
    rig.monitor.disarm()
    rig.step()
    arm(rig)
    verdict = rig.step()
    assert (verdict.costs, verdict.budget.spent) == ((1.0, 0.0), (2.0, 0.0))


def test_an_episode_begins_with_everything_forgotten():
    rig = outside(Rig().to_active())
    for _ in range(4):
        rig.step()
    rig.monitor.disarm()
    rig.monitor.begin_episode(rig.now_s)
    assert arm(rig) == {"proposal_missing"}
    rig.step()
    assert arm(rig) == set()
    assert rig.monitor.observe(rig.sources)[-1] == 1.0
    verdict = rig.step()
    assert (verdict.costs, verdict.budget.spent) == ((0.0, 0.0), (0.0, 0.0))


def test_an_episode_may_begin_on_another_clock():
    rig = Rig().to_active()
    rig.step()
    rig.monitor.disarm()
    rig.now_s, rig.sequence = 0.0, 0
    rig.monitor.begin_episode(rig.now_s)
    assert rig.step().reasons == ()
    assert rig.monitor.state is State.READY
    assert arm(rig) == set()
    assert rig.step((0.1, 0.0)).state is State.ACTIVE


def test_an_episode_that_begins_on_no_clock_takes_the_next():
    rig = Rig().to_ready()
    rig.monitor.begin_episode(math.nan)
    assert rig.step().reasons == ()


def test_signals_that_cannot_be_billed_cost_the_most():
    for broken in ({"position": None}, {"position": [math.nan, 0.0]}, {"position": [1.0]}):
        rig = Rig().to_active()
        rig.step()
        rig.tick()
        verdict = rig.step(sources=rig.read(**broken))
        assert verdict.costs == (1.0, 1.0)
        assert verdict.state is State.STOPPED


@pytest.mark.parametrize("cost", [-0.5, 1.5, math.nan, math.inf])
def test_a_cost_function_out_of_its_range(cost):
    rig = Rig().to_active()
    rig.step()
    bill = rig.monitor._bill
    rig.monitor._bill = _Replaced(bill, np.array([0.0, cost]))
    verdict = rig.step()
    assert verdict.costs == (1.0, 1.0)
    assert states(verdict.reasons) == {"cost_invalid": State.STOPPED}
    assert verdict.reasons[0].check is Check.BUDGET
    assert verdict.reasons[0].text == f"costs [0.0, {cost}] should be between 0 and [1.0, 1.0]"


class _Replaced:
    """A bill whose functions say something that no cost may."""

    def __init__(self, bill, costs):
        self.signals, self.largest = bill.signals, bill.largest
        self.costs = costs

    def __call__(self, signals):
        return self.costs


@pytest.mark.parametrize("costs", [0.0, 1.0])
def test_costs_at_their_bounds(costs):
    rig = Rig().to_active()
    rig.step()
    rig.monitor._bill = _Replaced(rig.monitor._bill, np.array([costs, costs]))
    assert rig.step().costs == (costs, costs)


def test_the_run_budget_stops_before_it_is_broken():
    rig = outside(Rig(run_budget={"outside": 4.0}).to_active())
    verdicts = [rig.step() for _ in range(5)]
    assert [verdict.state for verdict in verdicts] == [State.ACTIVE] * 4 + [State.STOPPED]
    assert verdicts[-1].budget.spent == (4.0, 0.0)
    assert states(verdicts[-1].reasons) == {"run_budget_spent": State.STOPPED}
    assert rig.step().budget.spent == (4.0, 0.0)
    assert reset(rig) == {"run_budget_spent"}
    rig.monitor.begin_episode(rig.now_s)
    rig.step()
    assert reset(rig) == set()


def test_a_nearly_spent_budget_does_not_disturb_ready_but_refuses_to_arm():
    rig = outside(Rig().to_active())
    for _ in range(6):
        rig.step()
    rig.monitor.disarm()
    rig.x_m = 0.0
    assert rig.step().state is State.READY
    rig.monitor._budget.add((1.0, 0.0))
    assert rig.step().state is State.READY
    assert arm(rig) == {"run_budget_spent"}


def test_a_prediction_of_another_shape():
    rig = Rig().to_active()
    verdict = rig.step(cost_to_go=np.array([1.0]))
    assert states(verdict.reasons) == {"cost_to_go_shape": State.STOPPED}


# Reset and arm.


def test_a_reset_is_refused_while_the_cause_persists():
    rig = Rig()
    rig.x_m = 6.0
    rig.step()
    assert reset(rig) == {"outside_box"}
    rig.x_m = 0.0
    rig.step()
    assert reset(rig) == set()


@pytest.mark.parametrize("event", [reset, arm])
def test_they_need_a_fresh_proposal_of_zero(event):
    def ready():
        rig = Rig().to_ready()
        if event is reset:
            rig.monitor.stop("test", "test")
        return rig

    for proposal in ((0.0, 1e-9), (-1.0, 0.0)):
        rig = ready()
        rig.step(proposal)
        assert event(rig) == {"proposal_not_zero"}
        rig.step()
        assert event(rig) == set()
    rig = ready()
    for _ in range(3):
        rig.step(None)
    assert event(rig) == {"proposal_stale"}
    rig = ready()
    rig.step(dataclasses.replace(rig.propose(), action=np.array([math.nan, 0.0])))
    assert "proposal_not_finite" in codes(rig.monitor.reset(rig.now_s, rig.sources)) | event(rig)


def test_before_anything_was_proposed_a_reset_is_refused():
    rig = Rig()
    verdict = rig.step(None)
    assert states(verdict.reasons) == {
        "proposal_missing": State.FALLBACK,
        "power_on": State.STOPPED,
    }
    missing = verdict.reasons[0]
    assert (missing.check, missing.text) == (Check.FRESH, "nothing was proposed yet")
    assert reset(rig) == {"proposal_missing"}


@pytest.mark.parametrize("event", [reset, arm])
@pytest.mark.parametrize("moving", [{"forward_speed": [0.1]}, {"yaw_rate": [-0.2]}])
def test_they_need_a_standing_robot(event, moving):
    rig = Rig().to_ready()
    if event is reset:
        rig.monitor.stop("test", "test")
    rig.sources = rig.read(**moving)
    assert event(rig) == {"robot_moves"}
    rig.sources = rig.read()
    assert event(rig) == set()


def test_a_refusal_is_said_in_full():
    rig = Rig().to_ready()
    rig.step((0.5, 0.0))
    rig.sources = rig.read(forward_speed=[0.1])
    said = rig.monitor.arm(rig.now_s, rig.sources)
    assert {(reason.check, reason.state) for reason in said} == {(Check.EVENT, State.STOPPED)}
    assert [reason.text for reason in said] == [
        "the newest proposal is [0.5, 0.0], not zero",
        "the robot moves, or does not say that it stands",
    ]


def test_what_only_slows_does_not_refuse():
    rig = Rig().to_ready()
    rig.x_m = 4.9
    rig.step()
    assert arm(rig) == set()
    assert rig.monitor.state is State.ACTIVE
    assert rig.step().state is State.LIMITED


def test_a_refused_event_remembers_nothing():
    rig = Rig().to_ready()
    later = Reading(rig.now_s, rig.sequence + 50, rig.signals())
    assert rig.monitor.arm(rig.now_s, {"base": later}) == ()
    rig = Rig().to_ready()
    rig.monitor.arm(rig.now_s, {"base": dataclasses.replace(later, signals={})})
    assert rig.step().reasons == ()


def test_stop_is_not_forgotten_until_reset():
    rig = Rig().to_active()
    rig.monitor.stop("e_stop", "button")
    for _ in range(50):
        assert "e_stop" in codes(rig.step().reasons)
    assert reset(rig) == set()
    assert rig.step().reasons == ()


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
@pytest.mark.parametrize("garbage", ["sources", "signal", "proposal", "prediction"])
def test_a_failure_inside_stops_the_robot(state, garbage):
    rig = Rig().to(state)
    rig.tick()
    sources, proposal, prediction = rig.sources, rig.propose(0.5, 0.5), None
    if garbage == "sources":
        sources = {"base": None}
    elif garbage == "signal":
        sources = {"base": Reading(rig.now_s, 99, {"position": "here"})}
    elif garbage == "proposal":
        proposal = dataclasses.replace(proposal, action=None)
    else:
        prediction = "none"
    verdict = rig.monitor.step(rig.now_s, sources, proposal, prediction)
    assert verdict.state is State.STOPPED
    assert not verdict.action.any()
    assert verdict.intervened is (state in MOVING)
    failed = next(reason for reason in verdict.reasons if reason.code == "monitor_failed")
    assert (failed.check, failed.state) == (Check.EVENT, State.STOPPED)
    assert failed.text.startswith("the monitor failed: AttributeError: '")
    if state in MOVING and garbage in {"sources", "signal"}:
        assert verdict.costs == (
            rig.monitor._bill.largest if state is not State.ACTIVE else (0.0, 0.0)
        )


def test_a_failure_inside_refuses():
    rig = Rig().to_ready()
    assert "monitor_failed" in codes(rig.monitor.arm(rig.now_s, {"base": None}))
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
