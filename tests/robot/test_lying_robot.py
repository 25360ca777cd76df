"""A robot that lies is stopped in time: the fault campaign's most dangerous lies, in short.

The full campaign is benchmarks/faults.py, its table docs/measured/FAULTS.md.
"""

from __future__ import annotations

import pytest

from tests.helpers.faults.lies import NONE
from tests.helpers.faults.lying_twin import SEEN_S, SITUATIONS, STANDING_S, Case, Situation, play

BEYOND_M = 1.5

LIES = [
    *((kind, "pose") for kind in ("stuck", "off: unplugged", "wrong: mirrored", "wrong: half")),
    *((kind, "pose") for kind in ("wrong: drifts at 0.2", "wrong: drifts at 0.5", "wrong: jumps")),
    *((kind, "speeds") for kind in ("stuck", "off: unplugged", "wrong: mirrored", "wrong: half")),
    *((kind, "all signals") for kind in ("stuck", "off: unplugged", "wrong: mirrored")),
    *((kind, "all signals") for kind in ("wrong: half", "wrong: drifts at 0.2", "wrong: jumps")),
]


@pytest.mark.parametrize(("kind", "about"), LIES)
def test_a_lie_at_full_speed_is_seen_and_the_robot_stands(kind, about):
    outcome = play(Case(kind, about, "full speed", seed=0))
    if outcome.verdict == "harmless":  # frozen at the speed that it has, for as long as it has it
        assert (kind, about) == ("stuck", "speeds")
        return
    assert outcome.verdict == "stopped", outcome
    assert outcome.motion.in_time, outcome
    assert outcome.seen_s is not None
    assert outcome.seen_s <= SEEN_S, outcome
    assert outcome.motion.standing_s is not None
    assert outcome.motion.standing_s <= STANDING_S, outcome
    assert outcome.motion.beyond_m <= BEYOND_M, outcome


TURNING = [
    *((kind, "position") for kind in ("off: zero", "off: unplugged", "stuck", "wrong: half")),
    *((kind, "position") for kind in ("wrong: half as much again", "wrong: drifts at 0.2")),
    *((kind, "forward_speed") for kind in ("off: zero", "garbage", "wrong: drifts at 0.2")),
    *((kind, "command") for kind in ("wrong: half", "wrong: half as much again", "garbage")),
    *((kind, "command") for kind in ("wrong: drifts at 0.2", "wrong: mirrored")),
    *(("wrong: drifts at 0.2", about) for about in ("heading", "yaw_rate", "pose", "speeds")),
    *((kind, "tilt") for kind in ("garbage", "wrong: jumps")),
]


@pytest.mark.parametrize(("kind", "about"), TURNING)
def test_a_lie_on_a_tight_circle_is_seen_and_the_robot_stands(kind, about):
    outcome = play(Case(kind, about, "turning", seed=3))
    assert outcome.verdict == "stopped", outcome
    assert outcome.motion.in_time, outcome
    assert outcome.motion.standing_s is not None
    assert outcome.motion.standing_s <= STANDING_S, outcome


@pytest.mark.parametrize("gapped", [False, True])
@pytest.mark.parametrize(
    ("first", "then"),
    [
        ((0.4, 1.0), (0.4, 1.0)),
        ((0.7, 1.0), (0.7, 1.0)),
        ((0.0, 0.0), (0.7, -2.0)),
        ((-0.7, 2.0), (0.7, -2.0)),
        ((-1.0, 0.0), (1.0, 0.0)),
        ((1.0, 1.0), (-1.0, -1.0)),
        ((0.2, 2.0), (0.2, 2.0)),
        ((1.0, 0.0), (0.0, -2.0)),
    ],
)
def test_an_honest_robot_is_not_stopped(gapped, first, then, monkeypatch):
    """It circles, sets off, and reverses at full speed; on the gap's floor its wheels slip."""
    monkeypatch.setitem(SITUATIONS, "manoeuvre", Situation(first, then, 1.0, 4.0))
    outcome = play(Case(NONE, "nothing", "manoeuvre", seed=1, gapped=gapped))
    assert outcome.noticed == "", outcome


def test_a_tilt_that_drifts_is_seen_before_it_is_out_of_the_margins():
    outcome = play(Case("wrong: drifts at 0.2", "tilt", "turning", seed=3))
    assert (outcome.verdict, outcome.stopped_by) == ("harmless", "tilt_exceeded")


def test_an_honest_robot_is_stopped_by_its_fence_alone():
    outcome = play(Case(NONE, "nothing", "full speed", seed=0))
    assert outcome.shows_s is None
    assert "geofence" in outcome.stopped_by
    assert outcome.motion.beyond_m == 0.0


def test_frozen_signals_of_a_robot_that_stands_stop_nothing():
    outcome = play(Case("stuck", "all signals", "standing", seed=0))
    assert (outcome.verdict, outcome.stopped_by) == ("harmless", "")
