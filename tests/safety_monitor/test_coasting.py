import math

import pytest
from monitor_rig import Rig, check, codes, limits, seen

from holdfast.safety_monitor import Check, State


def judged(coasting, now_s, moves=True, commanded=False, known=True):
    values = {"linear_velocity": [0.5 * moves, 0.0], "yaw_rate": [0.0]} if known else {}
    told = seen(now_s, values, applied=(0.5 * commanded, 0.0))
    told.stands = not moves
    coasting.judge(told)
    return told.reasons


COASTING = limits(coasting_s=0.5)


def test_how_long_a_robot_may_coast():
    coasting = check("coasting", COASTING)
    for now_s in (1.0, 1.25, 1.5):
        assert judged(coasting, now_s) == []
    (reason,) = judged(coasting, 1.625)
    assert (reason.check, reason.code) == (Check.ENVELOPE, "moves_uncommanded")
    assert reason.state is State.STOPPED
    assert reason.text == "the robot has moved for 0.62 s, though zero is commanded"


@pytest.mark.parametrize("innocent", [{"moves": False}, {"commanded": True}, {"known": False}])
def test_what_is_no_motion_without_a_command(innocent):
    coasting = check("coasting", COASTING)
    for step in range(20):
        assert judged(coasting, step * 0.125, **innocent) == []
    assert judged(coasting, 2.5) == []
    assert judged(coasting, 2.875) == []


def test_one_sample_at_rest_absolves_nothing():
    coasting = check("coasting", COASTING)
    said = [judged(coasting, step / 16, moves=step % 4 != 3) for step in range(20)]
    assert any(said)


def test_time_that_goes_back_counts_as_none():
    coasting = check("coasting", COASTING)
    for now_s in (5.0, 4.0, math.nan, 4.1, 4.5):
        assert judged(coasting, now_s) == []
    assert judged(coasting, 4.75) != []


def test_forgetting_starts_the_time_again():
    coasting = check("coasting", COASTING)
    judged(coasting, 0.0)
    judged(coasting, 0.5)
    coasting.forget()
    assert judged(coasting, 1.0) == []
    assert judged(coasting, 1.5) == []


# Through the monitor.


@pytest.mark.parametrize("state", [State.STOPPED, State.READY, State.ACTIVE])
@pytest.mark.parametrize("moved", [{"forward_speed": [0.25]}, {"yaw_rate": [0.5]}])
def test_a_robot_that_somebody_else_moves_is_noticed_in_every_state(state, moved):
    rig = Rig(COASTING).to(state)
    rig.step()
    said = []
    for _ in range(12):
        rig.tick()
        said.append(rig.step(sources=rig.read(**moved), dt_s=0.0))
    assert "moves_uncommanded" not in codes(said[8].reasons)
    assert said[8].state is state
    assert said[11].state is State.STOPPED
    assert "moves_uncommanded" in codes(said[11].reasons)
    if state is not State.STOPPED:
        assert "moves_uncommanded" in codes(rig.step().reasons)  # why it is STOPPED still


def test_a_robot_that_coasts_out_is_not_accused():
    rig = Rig(COASTING).to_active()
    for _ in range(8):
        rig.step((1.0, 0.0))
    rig.monitor.disarm()
    for step in range(20):
        rig.tick()
        speed = max(0.9 - 2.0 * 0.05 * step, 0.0)
        verdict = rig.step(sources=rig.read(forward_speed=[speed]), dt_s=0.0)
    assert verdict.state is State.READY
