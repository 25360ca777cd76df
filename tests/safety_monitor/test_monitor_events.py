import dataclasses
import math

import numpy as np
import pytest
from monitor_rig import Rig, arm, codes, reset, states

from holdfast.safety_monitor import Check, Reading, State

# Reset and arm.


def test_a_reset_is_refused_while_the_cause_persists():
    rig = Rig()
    rig.x_m = 6.0
    rig.step()
    assert reset(rig) == {"outside_geofence"}
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
    assert "proposal_not_finite" in codes(rig.monitor.reset(rig.look())) | event(rig)


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
    said = rig.monitor.arm(rig.look())
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
    assert rig.monitor.arm(rig.look({"base": later})) == ()
    rig = Rig().to_ready()
    rig.monitor.arm(rig.look({"base": dataclasses.replace(later, signals={})}))
    assert rig.step().reasons == ()


def test_stop_is_not_forgotten_until_reset():
    rig = Rig().to_active()
    rig.monitor.stop("e_stop", "button")
    for _ in range(50):
        assert "e_stop" in codes(rig.step().reasons)
    assert reset(rig) == set()
    assert rig.step().reasons == ()
