"""Observations with history: of the episode's own periods, the oldest first, none from before."""

import dataclasses
import math

import numpy as np
import pytest
from monitor_rig import CONTRACT, Rig

from holdfast.contract import ObservationChannel
from holdfast.safety_monitor import Reading, State

HISTORY = dataclasses.replace(
    CONTRACT,
    observation=(
        ObservationChannel("position", 6, "m", "position", history=3),
        ObservationChannel("turn", 4, "1", "heading", "cos_sin", history=2),
        ObservationChannel("sent", 6, "1", "applied_action", history=3),
        ObservationChannel("speed", 1, "m/s", "forward_speed"),
    ),
)


def seen(rig):
    """Return the parts of the observation as rows, a row for each period."""
    position, turn, sent, speed = np.split(rig.look().observation, [6, 10, 16])
    return position.reshape(3, 2), turn.reshape(2, 2), sent.reshape(3, 2), speed


def drive(rig, steps):
    """Drive in a curve; return position, heading and sent action of each period, as they were."""
    were = []
    for _ in range(steps):
        sent = rig.contract.normalised(rig.action)
        rig.step((0.5, 1.0))
        were.append(([rig.x_m, rig.y_m], rig.heading_rad, sent))
    return were


def test_an_episode_s_periods_the_oldest_first():
    rig = Rig(contract=HISTORY).to_active()
    were = drive(rig, 5)
    sent = rig.contract.normalised(rig.action)
    rig.tick()
    position, turn, actions, speed = seen(rig)
    np.testing.assert_array_equal(position, [were[3][0], were[4][0], [rig.x_m, rig.y_m]])
    turns = [[math.cos(a), math.sin(a)] for a in (were[4][1], rig.heading_rad)]
    np.testing.assert_allclose(turn, turns, rtol=1e-15)
    np.testing.assert_array_equal(actions, [were[3][2], were[4][2], sent])
    np.testing.assert_array_equal(speed, rig.action[:1])
    assert len({tuple(row) for row in position.tolist()}) == 3  # it moved all the time


def test_an_episode_s_first_period_was_always_so():
    rig = Rig(contract=HISTORY).to_ready()
    for place in (0.1, 0.2, 0.3):  # carried by hand before it is armed
        rig.x_m = place
        rig.tick()
        np.testing.assert_array_equal(seen(rig)[0], [[place, 0.0]] * 3)
        rig.step()
    assert rig.monitor.arm(rig.look()) == ()
    np.testing.assert_array_equal(seen(rig)[0], [[0.3, 0.0]] * 3)
    rig.step((0.5, 0.0))
    rig.tick()
    first = [0.3, 0.0]
    np.testing.assert_array_equal(seen(rig)[0], [first, first, [rig.x_m, 0.0]])


@pytest.mark.parametrize("begins", [True, False])
def test_no_period_of_another_episode_is_seen(begins):
    rig = Rig(contract=HISTORY).to_active()
    drive(rig, 4)
    rig.monitor.disarm()
    rig.action = np.zeros(2)
    if begins:
        rig.monitor.begin_episode(rig.now_s)
        rig.tick()
        assert len({tuple(row) for row in seen(rig)[0].tolist()}) == 1  # as soon as it has begun
    rig.step()
    rig.step()
    assert rig.monitor.arm(rig.look()) == ()
    assert rig.monitor.state is State.ACTIVE
    np.testing.assert_array_equal(seen(rig)[0], [[rig.x_m, rig.y_m]] * 3)
    np.testing.assert_array_equal(seen(rig)[2], np.zeros((3, 2)))


def test_to_look_twice_is_to_look_once():
    rig = Rig(contract=HISTORY).to_active()
    drive(rig, 3)
    rig.tick()
    once, again = rig.look().observation, rig.look().observation
    np.testing.assert_array_equal(once, again)


def test_a_source_may_write_into_its_array():
    rig = Rig(contract=HISTORY).to_active()
    reading = rig.read()["base"]
    for place in (0.1, 0.2, 0.3):
        rig.tick()
        reading.signals["position"][:] = place, 0.0
        sources = {"base": Reading(rig.now_s, rig.sequence, reading.signals)}
        observation = rig.look(sources).observation
        rig.monitor.step(rig.look(sources), rig.propose())
    np.testing.assert_array_equal(observation[:6:2], [0.1, 0.2, 0.3])


def test_no_more_is_kept_than_is_shown():
    for contract, periods in ((HISTORY, 2), (CONTRACT, 0)):
        rig = Rig(contract=contract).to_active()
        drive(rig, 5)
        kept = [set(signals) for signals in rig.monitor._earlier]
        assert kept == [{"position", "heading", "applied_action"}] * periods
