"""Mistakes that other robots' software has made, each of which must not be made here."""

import math

import numpy as np
import pytest
from monitor_rig import CONTRACT, MOVING, Rig, arm, codes, limits, reset, states

from holdfast.safety_monitor import Proposal, State


@pytest.mark.parametrize("action", [(math.nan, 0.0), (0.0, math.nan), (math.inf, -math.inf)])
def test_a_command_of_nan_with_a_fresh_stamp_does_not_keep_the_old_velocity(action):
    rig = Rig().to_active()
    for _ in range(6):
        rig.step((1.0, 0.0))
    verdict = rig.step(action)
    assert verdict.state is State.STOPPED
    assert not verdict.action.any()
    assert not rig.monitor.applied.any()


@pytest.mark.parametrize("name", ["position", "heading", "forward_speed", "yaw_rate", "tilt"])
def test_a_measurement_of_nan_is_not_merely_dropped(name):
    rig = Rig().to_active()
    rig.step((1.0, 0.0))
    rig.tick()
    broken = [math.nan] * len(rig.signals()[name])
    verdict = rig.step((1.0, 0.0), sources=rig.read(**{name: broken}))
    assert verdict.state is State.STOPPED
    assert rig.step((1.0, 0.0)).state is State.STOPPED


@pytest.mark.parametrize("ahead_s", [0.04, 1.0, 1e9])
def test_a_stamp_from_the_future_does_not_stay_fresh_for_ever(ahead_s):
    rig = Rig().to_active()
    rig.tick()
    future = Proposal(rig.now_s + ahead_s, rig.sequence, np.array([1.0, 0.0]), CONTRACT.hash)
    assert rig.step(future, dt_s=0.0).state is State.STOPPED


def test_a_sender_that_restamps_its_last_word_does_not_look_alive():
    rig = Rig().to_active()
    rig.step((1.0, 0.0))
    stuck = rig.sequence
    rig.tick()
    again = Proposal(rig.now_s, stuck, np.array([1.0, 0.0]), CONTRACT.hash)
    verdict = rig.step(again, dt_s=0.0)
    assert states(verdict.reasons)["proposal_out_of_order"] is State.STOPPED


def test_on_expiry_a_stopping_action_is_said_not_nothing():
    rig = Rig(limits(proposal_lost_s=9.0)).to_fallback()
    speeds = []
    while rig.monitor.state is State.FALLBACK:
        speeds.append(abs(rig.step(None).action[0]))
    assert speeds == sorted(speeds, reverse=True)
    assert speeds[-1] == 0.0
    for _ in range(5):
        verdict = rig.step(None)
        assert verdict.action.shape == (2,)
        assert not verdict.action.any()


class Unforeseen(Exception):
    pass


ERRORS = (
    AssertionError,
    AttributeError,
    FloatingPointError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RuntimeError,
    TypeError,
    Unforeseen,
    ValueError,
    ZeroDivisionError,
)


@pytest.mark.parametrize("state", MOVING)
@pytest.mark.parametrize(
    "error",
    ERRORS,
)
def test_every_kind_of_exception_reaches_the_safe_state(monkeypatch, state, error):
    rig = Rig().to(state)

    def fail(signals, **_):
        raise error("unforeseen")

    monkeypatch.setattr(rig.monitor._cost_model, "step", fail)
    verdict = rig.step((1.0, 0.0))
    assert verdict.state is State.STOPPED
    assert not verdict.action.any()
    assert "monitor_failed" in codes(verdict.reasons)


def test_the_last_observation_is_not_reused_for_ever():
    rig = Rig(limits(tracking_error={})).to_active()
    frozen = rig.sources
    seen = [rig.step((0.1, 0.0), sources=frozen).state for _ in range(20)]
    assert seen[-1] is State.STOPPED
    assert state_counts(seen)[State.ACTIVE] <= 5


def state_counts(seen):
    return {state: seen.count(state) for state in State}


def test_nan_is_not_counted_as_satisfied(monkeypatch):
    rig = Rig().to_active()
    assert rig.step((0.1, 0.0), cost_to_go=np.array([math.nan, 0.0])).state is State.LIMITED
    rig = Rig().to_active()
    rig.step()
    monkeypatch.setattr(rig.monitor._cost_model, "step", lambda values: (math.nan, 0.0))
    verdict = rig.step()
    assert verdict.state is State.STOPPED
    assert verdict.costs == (1.0, 1.0)


def test_nothing_resumes_by_itself_after_a_stop():
    rig = Rig().to_active()
    rig.step((1.0, 0.0))
    rig.tick()
    rig.step((1.0, 0.0), sources=rig.read(tilt=[9.0, 0.0]))
    for _ in range(200):
        assert rig.step((1.0, 0.0)).state is State.STOPPED
    rig.monitor.disarm()
    assert rig.monitor.state is State.STOPPED
    assert arm(rig) == {"wrong_state"}
    assert reset(rig) == {"proposal_not_zero"}
    rig.step()
    assert reset(rig) == set()
    assert rig.monitor.state is State.READY
    assert not rig.step((1.0, 0.0)).action.any()
