"""Nothing that is given to a step makes it raise, move the robot on, or keep a wrong account."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monitor_rig import CONTRACT, MOVING, Rig, limits

from holdfast.safety_monitor import Agreement, Proposal, Reading, State

EVERYTHING = limits(
    consistency=Agreement(0.1, 0.1, 0.1, 0.1, 1.0, 1.0, 0.1, 0.1, 1.0),
    pose_frozen_s=1.0,
    velocity_frozen_s=1.0,
    coasting_s=1.0,
)


class Odd:
    """Fails at whatever is asked of it."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    def __lt__(self, other):
        raise RuntimeError("order")

    def __eq__(self, other):
        raise RuntimeError("equality")

    __hash__ = object.__hash__


def _objects(values):
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array


PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.just(-(10**400)),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.lists(st.floats(), max_size=3),
    st.dictionaries(st.text(max_size=2), st.floats(), max_size=2),
    st.builds(Odd),
)
ARRAYS = st.one_of(
    st.lists(st.floats(), max_size=3).map(np.array),
    st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=3).map(np.array),
    st.lists(st.complex_numbers(), max_size=3).map(lambda v: np.array(v, complex)),
    st.lists(st.booleans(), max_size=3).map(lambda v: np.array(v, bool)),
    st.lists(st.text(max_size=2), max_size=3).map(lambda v: np.array(v, str)),
    st.lists(PLAIN, max_size=3).map(_objects),
    st.lists(st.floats(), max_size=3).map(lambda v: np.array(v, np.longdouble) * 10),
    st.just(np.zeros((2, 2))),
    st.just(np.array(1.0)),
    st.just(np.ma.masked_array([1.0, 2.0], mask=[True, False])),
    st.just(np.array([("a", 1.0)], dtype=[("name", "U1"), ("value", "f8")])),
)
ANYTHING = st.one_of(PLAIN, ARRAYS)
SIGNALS = st.dictionaries(
    st.sampled_from(["position", "heading", "forward_speed", "yaw_rate", "tilt", "scan"]), ANYTHING
)
READING = st.one_of(
    st.builds(Reading, ANYTHING, ANYTHING, st.one_of(SIGNALS, ANYTHING)),
    st.builds(Reading, st.just(10.1), st.just(99), SIGNALS),
    ANYTHING,
)
SOURCES = st.one_of(st.dictionaries(st.sampled_from(["base", "lidar"]), READING), ANYTHING)
PROPOSALS = st.one_of(
    st.builds(Proposal, ANYTHING, ANYTHING, ANYTHING, st.one_of(st.just(CONTRACT.hash), ANYTHING)),
    st.builds(Proposal, st.just(10.1), st.just(99), ARRAYS, st.just(CONTRACT.hash)),
    ANYTHING,
)


@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    state=st.sampled_from(State),
    now_s=st.one_of(st.just(10.1), ANYTHING),
    sources=st.one_of(st.none(), SOURCES),
    proposal=st.one_of(st.just("sane"), PROPOSALS),
    cost_to_go=st.one_of(st.none(), ANYTHING),
)
@np.errstate(all="ignore")
def test_a_step_never_raises_and_its_account_is_kept(state, now_s, sources, proposal, cost_to_go):
    rig = Rig(EVERYTHING).to(state)
    rig.tick()
    spent, largest = rig.monitor._budget.spent, rig.monitor._cost_model.largest
    given_sources = rig.sources if sources is None else sources
    given_proposal = rig.propose() if isinstance(proposal, str) else proposal
    verdict = rig.monitor.step(rig.monitor.look(now_s, given_sources), given_proposal, cost_to_go)
    assert np.isfinite(verdict.action).all()
    assert (np.abs(verdict.action) <= np.abs(CONTRACT.action_high)).all()
    if verdict.state in {State.STOPPED, State.READY}:
        assert not verdict.action.any()
    for before, after, cost, most in zip(
        spent, verdict.budget.spent, verdict.costs, largest, strict=True
    ):
        assert after == before + cost
        assert 0.0 <= cost <= most
    assert rig.monitor.state is verdict.state
    observation = rig.monitor.look(rig.now_s, given_sources).observation
    assert observation.shape == (CONTRACT.observation_size,)
    # And it goes on: the next sane step neither raises nor moves what was stopped.
    again = rig.step()
    assert not (verdict.state is State.STOPPED and again.action.any())
    look = rig.monitor.look(now_s, given_sources)
    assert rig.monitor.reset(look) or rig.monitor.state is State.READY


WRONG = [
    np.array([None, None], object),
    np.array(["0.5", "0.5"]),
    np.array([0.5j, 0.5]),
    np.array([True, False]),
    np.array([[0.5, 0.5]]),
    np.array(0.5),
    [0.5, 0.5],
    "0.5",
]


@pytest.mark.parametrize("state", MOVING)
@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_a_prediction_of_another_kind_stops_and_is_billed_once(state, wrong):
    rig = Rig().to(state)
    spent = rig.monitor._budget.spent
    verdict = rig.step(cost_to_go=wrong)
    assert verdict.state is State.STOPPED
    codes = {reason.code for reason in verdict.reasons}
    assert codes & {"cost_to_go_type", "cost_to_go_shape"}
    assert verdict.budget.spent == spent  # it is within both corridors
    assert all(map(math.isnan, verdict.budget.predicted))


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_a_proposal_of_another_kind_stops(wrong):
    rig = Rig().to_active()
    rig.tick()
    proposal = Proposal(rig.now_s, rig.sequence, wrong, CONTRACT.hash)
    verdict = rig.step(proposal, dt_s=0.0)
    assert verdict.state is State.STOPPED
    codes = {reason.code for reason in verdict.reasons}
    assert codes & {"proposal_type", "proposal_shape"}
    assert not verdict.action.any()


def test_what_is_no_reading_shows_as_unknown():
    rig = Rig().to_ready()
    assert np.isnan(rig.look({"base": None}).observation[:4]).all()
    assert np.isnan(rig.look({**rig.sources, "lidar": None}).observation[:4]).all()
    assert np.isnan(rig.monitor.look(rig.now_s, None).observation[:4]).all()
