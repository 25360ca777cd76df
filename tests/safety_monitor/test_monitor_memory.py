"""What a monitor remembers: nothing of it outlives the mode that it was meant for."""

import dataclasses

import numpy as np
import pytest
from monitor_rig import CONTRACT, MOVING, STILL, Rig, drift_of, limits

from holdfast.safety_monitor import (
    Agreement,
    Evidence,
    Familiarity,
    FollowingLimits,
    Reading,
    State,
)
from holdfast.safety_monitor.judge import Judge

FAMILIAR = Familiarity((0.0,) * 7, ((0.0,) * 7,) * 7, 1.0, 30.0, 0.05, 100, 0)
SLOW = limits(
    trigger_steps=3,
    release_steps=3,
    fallback_max_s=60.0,
    proposal_lost_s=60.0,
    consistency=Agreement(0.0, 0.0, 0.0, 20.0, 60.0, 60.0, 0.0, 0.0, 60.0),
    following=FollowingLimits(0.0, 0.0, 0.0, 0.0, 0.0, 20.0, 0.0, 60.0, 60.0),
    pose_frozen_s=60.0,
    velocity_frozen_s=60.0,
    coasting_s=60.0,
)


def remembered(thing, path=""):
    """Return, by path, everything that an object and what it is made of hold."""
    ours = type(thing).__module__.startswith("holdfast.")
    if ours and not (dataclasses.is_dataclass(thing) or isinstance(thing, State)):
        items = [(f"{path}.{name}".lstrip("."), value) for name, value in vars(thing).items()]
    elif isinstance(thing, dict):
        items = [(f"{path}[{name}]", value) for name, value in thing.items()]
    elif isinstance(thing, tuple):
        items = [
            (type(value).__name__ if isinstance(value, Judge) else f"{path}[{place}]", value)
            for place, value in enumerate(thing)
        ]
    else:
        return {path: repr(thing)}
    held = {path: len(items)}
    for place, value in items:
        held |= remembered(value, place)
    return held


def new():
    return Rig(SLOW, familiarity=FAMILIAR, evidence=Evidence(CONTRACT))


OFF = {"forward_speed": [-0.9], "yaw_rate": [-2.0]}
"""Far from any command that is given here; its wheels slip when they no longer say so."""


def used(state):
    """Return a rig in a state, with something in every place where something can be."""
    rig = new()
    rig.x_m = 1.5  # billed
    rig.to_active()
    drift_of(rig)._whitening = np.eye(7)  # odd
    predicted = np.array([9.0, 0.0])  # slowed
    steps = []

    def step(proposal, cost_to_go=None, age_s=0.0):
        rig.tick()
        sources = rig.read(**OFF if len(steps) < 3 else {})
        steps.append(rig.now_s)
        sources["base"] = dataclasses.replace(sources["base"], stamp_s=rig.now_s - age_s)
        sources["lidar"] = Reading(rig.now_s, rig.sequence, {})
        rig.step(proposal, sources, cost_to_go, dt_s=0.0)

    step((1.0, 0.5), predicted)
    step((1.0, 0.5), predicted)
    if state in {State.LIMITED, State.FALLBACK}:
        step((1.0, 0.5), predicted)
        assert rig.monitor.state is State.LIMITED
    if state is State.FALLBACK:
        rig.now_s += 0.25  # proposal and readings are stale
        step(None, age_s=0.28)
    if state in {State.LIMITED, State.FALLBACK}:
        step((1.0, 0.5))  # clean
    if state is State.READY:
        rig.monitor.disarm()
    if state is State.STOPPED:
        rig.monitor.stop("operator", "a test")
    assert rig.monitor.state is state
    return rig


def differing(one, other):
    """Return the paths at which two monitors remember something else."""
    a, b = remembered(one), remembered(other)
    return {path for path in a.keys() | b.keys() if a.get(path) != b.get(path)}


ACCOUNTS = {"_elapsed", "_budget.spent"}
HEARD = {
    "_freshness._last_s",
    "_freshness._streams",
    "_freshness._proposals._last",
    "_proposal",
    "Coasting._last_s",
    "Coasting._uncommanded_s",
    "_standing._since",
    "_standing._still_s",
}
"""What goes on through an episode, whatever mode it is in."""
UNTIL_ARMED = {
    "_ramp_only",
    "Tracking._last_s",
    "Tracking._commands._commands",
    "Tracking._off_s",
    "Following._last_s",
    "Following._commands._commands",
    "Following._floor._velocity",
    "Following._floor._at_s",
    "Following._ways",
    "Following._slipped_s",
    "Following._off_rad",
    "Consistency._travel._sum",
    "Consistency._travel._rate",
    "Consistency._travel._at_s",
    "Consistency._travel.doubt",
    "Consistency._slip._sum",
    "Consistency._slip._rate",
    "Consistency._slip._at_s",
    "Consistency._slip.doubt",
    "Consistency._floor._velocity",
    "Consistency._floor._at_s",
    "Consistency._turn._sum",
    "Consistency._turn._rate",
    "Consistency._turn._at_s",
    "Consistency._turn.doubt",
    "Consistency._position",
    "Consistency._axes",
    "Consistency._heading",
    "Consistency._off_m",
    "Consistency._off_rad",
    "Frozen._last",
    "Drift.total",
}
"""What only a moving monitor looks at; arming forgets it."""
MODE = {"_ladder.state", "_ladder.moving", "_ladder._since_s"}
LADDER = {"_ladder.causes", "_ladder._clean_steps", "_ladder._slow_steps"}

CHANGEABLE = {"_applied", *ACCOUNTS, *HEARD, *UNTIL_ARMED, *MODE, *LADDER}
"""All that changes once a monitor is made, but for what its streams hold."""


def top(paths):
    return {path.partition("[")[0] for path in paths} - {"Drift._whitening"}


def test_there_is_nothing_else_to_remember():
    """A field that somebody adds has to be put into these tests."""
    changed = set()
    for state in State:
        changed |= top(differing(used(state).monitor, new().monitor))
    assert changed == CHANGEABLE


@pytest.mark.parametrize("state", State)
def test_an_episode_forgets_all_that_an_earlier_one_left(state):
    rig, fresh = used(state), new()
    if state in MOVING:
        rig.monitor.stop("operator", "the end")
    for one in (rig, fresh):
        one.x_m = one.y_m = one.heading_rad = 0.0
        one.action[:] = 0.0
        one.now_s, one.sequence = 3.0, 0
        one.monitor.begin_episode(one.now_s)
    kept = {"_ladder.state", "_ladder.causes", "_ladder._since_s"}
    assert top(differing(rig.monitor, fresh.monitor)) <= kept
    for one in (rig, fresh):
        one.to_active()
    assert top(differing(rig.monitor, fresh.monitor)) <= {"_ladder._since_s"}  # set by a FALLBACK


@pytest.mark.parametrize("state", State)
def test_a_stop_forgets_what_belonged_to_the_mode_before(state):
    rig = used(state)
    rig.monitor.stop("e_stop", "a button")
    kept = MODE | ACCOUNTS | HEARD | UNTIL_ARMED | {"_ladder.causes"}
    assert top(differing(rig.monitor, new().monitor)) <= kept
    expected = ["operator", "e_stop"] if state is State.STOPPED else ["e_stop"]
    assert [cause.code for cause in rig.monitor._ladder.causes] == expected


@pytest.mark.parametrize("state", [State.READY, *MOVING])
def test_disarming_forgets_what_belonged_to_the_mode_before(state):
    rig = used(state)
    rig.monitor.disarm()
    kept = MODE | ACCOUNTS | HEARD | UNTIL_ARMED
    assert top(differing(rig.monitor, new().monitor)) <= kept | {"_ladder.causes"}
    assert rig.monitor._ladder.causes == ()


@pytest.mark.parametrize("state", STILL)
def test_arming_forgets_what_belonged_to_the_motion_before(state):
    rig = used(state)
    rig.action[:] = 0.0
    rig.step()
    assert rig.monitor.reset(rig.look()) == ()
    assert rig.monitor._ladder.causes == ()
    assert rig.monitor.arm(rig.look()) == ()
    kept = MODE | ACCOUNTS | HEARD | {"_ladder.causes"}
    assert top(differing(rig.monitor, new().monitor)) <= kept


WORSE = [(was, to) for was in MOVING for to in (State.STOPPED, *MOVING) if to < was]


@pytest.mark.parametrize(("was", "to"), WORSE)
def test_going_down_a_rung_counts_anew(was, to):
    rig = used(was)
    ladder = rig.monitor._ladder
    ladder.enter(to)
    assert (ladder._clean_steps, ladder._slow_steps, ladder.causes) == (0, 0, ())


@pytest.mark.parametrize("was", [State.FALLBACK, State.LIMITED])
def test_going_up_a_rung_counts_anew(was):
    rig = used(was)
    rig.x_m = 0.0  # costs nothing
    while rig.monitor.state is was:
        rig.step((0.5, 0.5))
    assert rig.monitor.state == was + 1
    assert rig.monitor._ladder._clean_steps == rig.monitor._ladder._slow_steps == 0


def test_what_a_monitor_was_made_of_never_changes():
    rig = new()
    before = repr(SLOW), CONTRACT.hash
    for state in State:
        used(state)
    assert (repr(SLOW), rig.monitor.contract.hash) == before
