import dataclasses
import math

import numpy as np
import pytest
from monitor_rig import CONTRACT, PERIOD_S, Rig, arm, codes, limits, reset, states

from holdfast.safety_monitor import Reading, State

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
    rig = Rig(limits(proposal_lost_s=1.0)).to_fallback()
    speeds = [rig.monitor.applied[0]]
    while rig.monitor.state is State.FALLBACK:
        verdict = rig.step(None)
        speeds.append(verdict.action[0])
        assert verdict.intervened
    np.testing.assert_allclose(speeds, [0.8, 0.6, 0.4, 0.2, 0.0, 0.0, 0.0], atol=1e-15)
    assert codes(verdict.reasons) == {"proposal_stale", "fallback_ended"}


def test_falling_into_fallback_intervenes_even_where_it_changes_nothing():
    rig = Rig().to_active()
    for _ in range(6):
        rig.step((1.0, 0.0))
    brake = rig.step((0.0, 0.0))
    verdicts = [brake, *(rig.step(None) for _ in range(4))]
    np.testing.assert_allclose(
        [verdict.action[0] for verdict in verdicts], [0.8, 0.6, 0.4, 0.2, 0.0], atol=1e-15
    )
    assert [verdict.state for verdict in verdicts] == [State.ACTIVE] * 3 + [State.FALLBACK] * 2
    assert [verdict.intervened for verdict in verdicts] == [False] * 3 + [True, False]


def test_fallback_intervenes_only_where_it_changes_something():
    rig = Rig(limits(release_steps=100)).to_fallback()
    assert not rig.step((0.0, 0.0)).intervened
    assert rig.step((1.0, 0.0)).intervened


def test_a_robot_that_coasts_on_does_not_stand_yet():
    rig = Rig(limits(proposal_lost_s=9.0, fallback_max_s=9.0, tracking_error={})).to_fallback()
    while rig.monitor.applied.any():
        rig.step(None)
    for _ in range(5):
        rig.tick()
        assert rig.step(None, sources=rig.read(forward_speed=[0.3])).state is State.FALLBACK
    assert rig.step(None).state is State.STOPPED


def test_a_robot_that_is_still_told_to_move_does_not_stand_yet():
    rig = Rig(limits(proposal_lost_s=9.0, tracking_error={})).to_fallback()
    still = {"forward_speed": [0.0], "yaw_rate": [0.0]}
    while rig.monitor.applied.any():
        rig.tick(0.0)
        assert rig.step(None, sources=rig.read(**still)).state is State.FALLBACK


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


@pytest.mark.parametrize("state", State)
def test_an_action_cannot_be_changed_behind_the_monitor_s_back(state):
    verdict = Rig().to(state).step((0.5, 0.5))
    with pytest.raises(ValueError, match="read-only"):
        verdict.action[0] = 9.0


def test_nor_can_what_was_applied_before_anything_was():
    with pytest.raises(ValueError, match="read-only"):
        Rig().monitor.applied[0] = 9.0


# Freshness, as the whole monitor sees it.


def test_stale_readings_make_a_controlled_stop_and_lost_ones_a_halt():
    rich = tuple(dataclasses.replace(cost, episode_cap=99.0) for cost in CONTRACT.costs)
    contract = dataclasses.replace(CONTRACT, costs=rich)  # what is stale is billed the most
    rig = Rig(limits(max_step_gap_s=9.0), contract=contract).to_active()
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
    verdict = rig.monitor.step(rig.monitor.look(math.nan, rig.sources), rig.propose())
    assert verdict.state is State.STOPPED
    assert "clock_not_finite" in codes(verdict.reasons)
    rig.now_s -= 1.0
    assert "clock_backwards" in codes(rig.step().reasons)
