import dataclasses
import math

import numpy as np
import pytest
from monitor_rig import CONTRACT, Rig, arm, codes, limits, reset, states

from holdfast.safety_monitor import Check, Reading, State

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
    assert verdict.budget.episode_cap == (6.0, 3.0)
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


def aged(rig, age_s, **extra):
    """Return what is billed for the reading, taken so long ago, of a robot within its corridor."""
    rig.tick()
    base = dataclasses.replace(rig.sources["base"], stamp_s=rig.now_s - age_s)
    return rig.step(sources={"base": base, **extra}, dt_s=0.0).costs


def test_a_reading_that_has_grown_stale_is_billed_the_most():
    roomy = limits(source_max_age_s=0.25, source_lost_s=9.0, max_step_gap_s=9.0)
    for age_s, billed in ((0.0, 0.0), (0.25, 0.0), (0.2500001, 1.0), (0.5, 1.0)):
        rig = Rig(roomy).to_active()
        rig.step()
        rig.now_s += 1.0
        assert aged(rig, age_s) == (billed, billed)


@pytest.mark.parametrize("wrong_s", [math.nan, -9.0])
def test_a_reading_of_which_nobody_knows_the_age_is_billed_the_most(wrong_s):
    rig = Rig().to_active()
    rig.step()
    assert aged(rig, wrong_s) == (1.0, 1.0)


def test_a_reading_that_skipped_some_is_billed_as_it_is():
    rig = outside(Rig().to_active())
    rig.step()
    rig.sequence += 9
    verdict = rig.step()
    assert "source_skipped" in codes(verdict.reasons)
    assert verdict.costs == (1.0, 0.0)


def test_what_bills_nothing_may_be_stale():
    rig = Rig().to_active()
    imu = {"imu": Reading(rig.now_s, 1, {})}
    rig.step(sources={**rig.sources, **imu})
    rig.now_s += 0.3
    assert aged(rig, 0.0, **imu) == (0.0, 0.0)


def test_of_two_stale_readings_one_that_bills_is_enough():
    rig = Rig().to_active()
    imu = {"imu": Reading(rig.now_s, 1, {})}
    rig.step(sources={**rig.sources, **imu})
    rig.now_s += 0.3
    assert aged(rig, 0.3, **imu) == (1.0, 1.0)


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
    assert rig.look().observation[-1] == 1.0
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


def test_the_clock_runs_from_the_beginning_of_the_episode():
    rig = Rig().to_ready()
    rig.monitor.begin_episode(rig.now_s + 5.0)
    assert codes(rig.step().reasons) == {"clock_backwards"}


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
        assert "monitor_failed" not in codes(verdict.reasons)


def test_a_cost_that_lacks_one_of_its_signals_cannot_be_billed():
    changed = dataclasses.replace(CONTRACT.costs[1], expression="0 * tilt.roll + 0 * position.x")
    rig = Rig(
        contract=dataclasses.replace(CONTRACT, costs=(CONTRACT.costs[0], changed))
    ).to_active()
    assert rig.step().costs == (0.0, 0.0)
    rig.tick()
    verdict = rig.step(sources=rig.read(tilt=None))
    assert verdict.costs == (1.0, 1.0)
    assert codes(verdict.reasons) == {"signal_missing"}


def wild(monkeypatch, cost):
    """Return an active rig whose second cost function begins to say whatever it is told to."""
    says = [0.0]
    rig = Rig().to_active()
    monkeypatch.setattr(rig.monitor._cost_model, "step", lambda values: (0.0, says[0]))
    rig.step()
    says[0] = cost
    return rig


@pytest.mark.parametrize("cost", [-0.5, 1.5, math.nan, math.inf])
def test_a_cost_function_out_of_its_range(monkeypatch, cost):
    verdict = wild(monkeypatch, cost).step()
    assert verdict.costs == (1.0, 1.0)
    assert states(verdict.reasons) == {"cost_invalid": State.STOPPED}
    assert verdict.reasons[0].check is Check.BUDGET
    assert verdict.reasons[0].text == f"costs [0.0, {cost}] should be between 0 and [1.0, 1.0]"


@pytest.mark.parametrize("cost", [0.0, 1.0])
def test_costs_at_their_bounds(monkeypatch, cost):
    assert wild(monkeypatch, cost).step().costs == (0.0, cost)


def test_the_episode_cap_stops_before_it_is_broken():
    rig = outside(Rig(episode_cap={"outside": 4.0}).to_active())
    verdicts = [rig.step() for _ in range(5)]
    assert [verdict.state for verdict in verdicts] == [State.ACTIVE] * 4 + [State.STOPPED]
    assert verdicts[-1].budget.spent == (4.0, 0.0)
    assert states(verdicts[-1].reasons) == {"episode_cap_spent": State.STOPPED}
    assert rig.step().budget.spent == (4.0, 0.0)
    assert reset(rig) == {"episode_cap_spent"}
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
    assert arm(rig) == {"episode_cap_spent"}


def test_a_prediction_of_another_shape():
    rig = Rig().to_active()
    verdict = rig.step(cost_to_go=np.array([1.0]))
    assert states(verdict.reasons) == {"cost_to_go_shape": State.STOPPED}
