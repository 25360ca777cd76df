"""Consistency, through the monitor."""

import dataclasses

from monitor_rig import CONTRACT, Rig, codes, limits

from holdfast.safety_monitor import Agreement, State

STRICT = Agreement(0.0, 0.0, 0.0, 1e9, 0.25, 0.25, 0.0, 0.0, 0.25)


def test_a_monitor_stops_what_disagrees_and_begins_anew_when_armed():
    rig = Rig(limits(consistency=STRICT, geofence=None)).to_active()
    rig.step((0.5, 0.0))
    rig.x_m += 0.3
    verdict = rig.step((0.5, 0.0))
    assert verdict.state is State.STOPPED
    assert "position_inconsistent" in codes(verdict.reasons)
    for _ in range(3):
        rig.step()
    rig.x_m -= 9.0  # somebody carries it away
    rig.step()
    assert rig.monitor.reset(rig.look()) == ()
    assert rig.monitor.arm(rig.look()) == ()
    assert rig.step((0.5, 0.0)).state is State.ACTIVE


def test_a_position_that_nobody_else_needs_is_looked_at():
    speeding = dataclasses.replace(CONTRACT.costs[0], expression="abs(forward_speed) > 9.0")
    contract = dataclasses.replace(
        CONTRACT, costs=(speeding,), observation=CONTRACT.observation[1:]
    )
    rig = Rig(limits(consistency=STRICT, geofence=None), contract=contract).to_active()
    assert "position" not in rig.monitor.required
    rig.step((0.5, 0.0))
    rig.y_m += 0.3
    assert "position_inconsistent" in codes(rig.step((0.5, 0.0)).reasons)
