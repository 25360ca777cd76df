"""Properties of the whole monitor over sequences of inputs that nobody thought of."""

import copy
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monitor_rig import CONTRACT, PERIOD_S, Rig, limits

from holdfast.safety_monitor import Familiarity, Proposal, Reading, State

EXAMPLES = settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
ODD = st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308])
NUMBER = st.floats(-3.0, 3.0) | ODD
MOSTLY_SANE = st.floats(-1.0, 1.0)

STEP = st.fixed_dictionaries(
    {},
    optional={
        "dt_s": st.sampled_from([PERIOD_S, PERIOD_S, PERIOD_S, 0.0, -0.1, 0.3, 5.0, math.nan]),
        "action": st.tuples(NUMBER, NUMBER),
        "silent": st.booleans(),
        "stamp_off_s": st.sampled_from([0.0, 0.0, -0.2, -9.0, 0.1, 9.0, math.nan]),
        "sequence_off": st.sampled_from([0, 0, -1, -50, 50]),
        "hash": st.sampled_from([CONTRACT.hash, "other"]),
        "position": st.tuples(NUMBER, NUMBER),
        "speed": NUMBER,
        "drop": st.sampled_from(["position", "heading", "yaw_rate"]),
        "prediction": st.lists(NUMBER, min_size=2, max_size=2),
        "event": st.sampled_from(["stop", "disarm", "begin_episode"]),
    },
)
STEPS = st.lists(STEP, max_size=25)
SANE = st.lists(st.tuples(MOSTLY_SANE, MOSTLY_SANE), min_size=1, max_size=25)


def play(rig, script):
    """Yield a verdict per scripted step, each with what the monitor was given."""
    for wrong in script:
        event = wrong.get("event")
        if event == "stop":
            rig.monitor.stop("event", "scripted")
        elif event == "disarm":
            rig.monitor.disarm()
        elif event == "begin_episode" and rig.monitor.state <= State.READY:
            rig.monitor.begin_episode(rig.now_s)
        now_s = rig.now_s
        dt_s = wrong.get("dt_s", PERIOD_S)
        rig.tick(dt_s if math.isfinite(dt_s) else 0.0)
        signals = rig.signals()
        if "position" in wrong:
            signals["position"] = np.array(wrong["position"])
        if "speed" in wrong:
            signals["forward_speed"] = np.array([wrong["speed"]])
        signals.pop(wrong.get("drop"), None)
        if "broken" in wrong:
            name, value = wrong["broken"]
            signals[name] = signals[name] * 0.0 + value
        stamp_s = rig.now_s + wrong.get("stamp_off_s", 0.0)
        sequence = rig.sequence + wrong.get("sequence_off", 0)
        sources = {"base": Reading(stamp_s, sequence, signals)}
        action = np.array(wrong.get("action", (0.1, 0.1)))
        proposal = Proposal(stamp_s, sequence, action, wrong.get("hash", CONTRACT.hash))
        if wrong.get("silent"):
            proposal = None
        prediction = wrong.get("prediction")
        look = rig.monitor.look(now_s + dt_s if math.isnan(dt_s) else rig.now_s, sources)
        given = (look, proposal, None if prediction is None else np.array(prediction))
        verdict = rig.monitor.step(*given)
        rig.action = np.array(verdict.action)
        yield given, verdict


@EXAMPLES
@given(STEPS)
def test_no_sequence_of_inputs_moves_a_stopped_robot(script):
    rig = Rig()
    for _, verdict in play(rig, script):
        assert verdict.state is State.STOPPED
        assert not verdict.action.any()
        assert verdict.reasons


@EXAMPLES
@given(STEPS)
def test_no_sequence_of_inputs_moves_a_robot_that_was_not_armed(script):
    rig = Rig().to_ready()
    for _, verdict in play(rig, script):
        assert verdict.state <= State.READY
        assert not verdict.action.any()


@EXAMPLES
@given(st.lists(STEP, min_size=1, max_size=10), STEPS)
def test_once_stopped_always_stopped(first, then):
    rig = Rig().to_active()
    stopped = False
    for _, verdict in play(rig, first + then):
        if stopped:
            assert verdict.state is State.STOPPED
            assert not verdict.action.any()
        stopped = verdict.state is State.STOPPED


@EXAMPLES
@given(STEPS)
def test_the_action_is_always_inside_limits_and_rate(script):
    rig = Rig().to_active()
    previous = rig.monitor.applied
    most = CONTRACT.action_max_step * (1.0 + 1e-12)
    for _, verdict in play(rig, script):
        assert np.isfinite(verdict.action).all()
        assert (verdict.action >= CONTRACT.action_low).all()
        assert (verdict.action <= CONTRACT.action_high).all()
        if rig.monitor.state > State.READY:
            assert (np.abs(verdict.action - previous) <= most).all()
        else:
            assert not verdict.action.any()
        previous = verdict.action


@EXAMPLES
@given(STEPS)
def test_no_state_above_what_any_reason_allows_and_none_without_a_reason(script):
    rig = Rig().to_active()
    for _, verdict in play(rig, script):
        for reason in verdict.reasons:
            if verdict.state >= State.FALLBACK or reason.state is State.STOPPED:
                assert verdict.state <= reason.state
        if verdict.state not in {State.READY, State.ACTIVE}:
            assert any(reason.state <= verdict.state for reason in verdict.reasons)
        assert len({(r.code, r.text) for r in verdict.reasons}) == len(verdict.reasons)


@EXAMPLES
@given(STEPS, st.floats(1.0, 6.0), st.floats(1.0, 3.0))
def test_spent_never_exceeds_the_episode_cap(script, outside, far_outside):
    budgets = {"outside": outside, "far_outside": far_outside}
    rig = Rig(limits(release_steps=1), episode_cap=budgets).to_active()
    rig.x_m = 2.5
    total = np.zeros(2)
    for _, verdict in play(rig, script + [{}] * 7):
        if "begin_episode" not in {wrong.get("event") for wrong in script}:
            total += verdict.costs
            assert tuple(total) == verdict.budget.spent
        for spent, budget in zip(verdict.budget.spent, (outside, far_outside), strict=True):
            assert spent <= budget


SENSED = ("position", "heading", "forward_speed", "yaw_rate", "tilt")
BROKEN = (math.nan, math.inf, -math.inf)

FAULTS = {
    "not a number": {"action": (math.nan, 0.5)},
    "infinite": {"action": (0.5, math.inf)},
    "negative age": {"stamp_off_s": 0.2},
    "never expiring stamp": {"stamp_off_s": 1e9},
    "stamp not a number": {"stamp_off_s": math.nan},
    "clock ahead": {"dt_s": 60.0},
    "clock back": {"dt_s": -1.0},
    "clock not a number": {"dt_s": math.nan},
    "repeated sequence": {"sequence_off": -1},
    "sequence back": {"sequence_off": -50},
    "sequence far ahead": {"sequence_off": 50},
    "prediction not a number": {"prediction": [math.nan, 0.0]},
    "prediction infinite": {"prediction": [0.0, math.inf]},
    "other contract": {"hash": "other"},
    **{f"{name} missing": {"drop": name} for name in SENSED},
    **{f"{name} {value}": {"broken": (name, value)} for name in SENSED for value in BROKEN},
}


@pytest.mark.parametrize("fault", FAULTS)
@settings(EXAMPLES, max_examples=25)
@given(actions=SANE, where=st.integers(0, 24))
def test_no_fault_yields_a_larger_action_than_its_absence(fault, actions, where):
    where = where % len(actions)
    clean = Rig().to_active()
    faulty = Rig().to_active()
    script = [{"action": action} for action in actions]
    wrong = copy.deepcopy(script)
    wrong[where].update(FAULTS[fault])
    *_, (_, without) = play(clean, script[: where + 1])
    *_, (_, with_fault) = play(faulty, wrong[: where + 1])
    assert (np.abs(with_fault.action) <= np.abs(without.action) + 1e-12).all()
    assert with_fault.state <= without.state


@EXAMPLES
@given(actions=SANE)
def test_a_repeated_proposal_is_as_good_as_none(actions):
    silent, repeating = Rig().to_active(), Rig().to_active()
    old = None
    for index, action in enumerate(actions):
        if index % 3 == 0:
            old = silent.propose(*action)
        silent_verdict = silent.step(old if index % 3 == 0 else None)
        verdict = repeating.step(old)
        assert verdict.state is silent_verdict.state
        np.testing.assert_array_equal(verdict.action, silent_verdict.action)


@EXAMPLES
@given(STEPS)
def test_replay_gives_the_same_verdicts(script):
    rig = Rig().to_active()
    # Replayed from the same start, without the robot that answered: the inputs are enough.
    replayed = Rig().to_active().monitor
    plain = [{k: v for k, v in wrong.items() if k != "event"} for wrong in script]
    for given_inputs, verdict in play(rig, plain):
        again = replayed.step(*copy.deepcopy(given_inputs))
        assert repr(again) == repr(verdict)


def familiar():
    """Everything within two metres is known, anything else odd."""
    eye = tuple(tuple(float(i == j and i < 2) for j in range(7)) for i in range(7))
    return Familiarity((0.0,) * 7, eye, 4.0, 1.0, 0.05, 100, 0)


@EXAMPLES
@given(messy=STEPS, after=STEPS)
def test_an_episode_knows_nothing_of_those_before(messy, after):
    used = Rig(familiarity=familiar()).to_active()
    for _ in play(used, messy):
        pass
    used.monitor.stop("operator", "end of the episode")
    fresh = Rig(familiarity=familiar())
    used.now_s, used.sequence = fresh.now_s, fresh.sequence
    for rig in (used, fresh):
        rig.x_m = rig.y_m = rig.heading_rad = 0.0
        rig.action = np.zeros(2)
        rig.monitor.begin_episode(rig.now_s)
        rig.to_active()
    for (_, first), (_, second) in zip(play(used, after), play(fresh, after), strict=True):
        assert repr(first) == repr(second)
