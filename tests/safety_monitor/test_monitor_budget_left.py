"""The signal `budget_left`: the contract's limit less what the episode has cost before."""

import dataclasses

import numpy as np
from monitor_rig import CONTRACT, Rig, arm

from holdfast.contract import ObservationChannel

TOLD = dataclasses.replace(
    CONTRACT,
    observation=(*CONTRACT.observation, ObservationChannel("left", 2, "1", "budget_left")),
)


def left(rig):
    return rig.look().observation[-2:].tolist()


def test_the_budget_falls_by_what_was_billed_before():
    rig = Rig(contract=TOLD).to_ready()
    rig.x_m = 1.5
    assert left(rig) == [2.0, 1.0]
    arm(rig)
    rig.step()  # an episode's first state costs nothing
    assert left(rig) == [2.0, 1.0]
    told = []
    for _ in range(3):
        rig.tick()
        told.append(left(rig))
        verdict = rig.monitor.step(rig.look(), rig.propose())
        assert verdict.costs == (1.0, 0.0)
    assert told == [[2.0, 1.0], [1.0, 1.0], [0.0, 1.0]]
    assert left(rig) == [-1.0, 1.0]


def test_each_episode_begins_with_the_whole_budget():
    rig = Rig(contract=TOLD).to_active()
    rig.x_m = 2.5
    for _ in range(3):
        rig.step()
    assert left(rig) == [0.0, -1.0]
    rig.monitor.disarm()
    assert left(rig) == [0.0, -1.0]
    rig.monitor.begin_episode(rig.now_s)
    assert left(rig) == [2.0, 1.0]


def test_the_observation_is_in_the_contracts_order():
    rig = Rig(contract=TOLD)
    rig.step()
    assert rig.look().observation.shape == (9,)
    np.testing.assert_array_equal(rig.look().observation[-3:], [1.0, 2.0, 1.0])
