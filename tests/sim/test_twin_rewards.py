"""What a twin measures so that its log tells returns."""

import math

import numpy as np
import pytest

from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.registry import resolve
from holdfast.sim.twin.board import TwinBoard
from holdfast.sim.twin.truth import Truth


def board_of(task, lockstep=True):
    made = resolve(task).make()
    return TwinBoard(made, Parameters(), 1, lockstep, Truth(made, 1, None))


@pytest.mark.parametrize(
    ("task", "lockstep", "paid"),
    [
        ("DriveGoal-v0", True, {"goals_reached"}),
        ("DriveGather-v0", True, {"apples_taken"}),
        ("DriveGoal-v0", False, set()),  # no reading is sure to see what one period held
        ("DriveCircle-v0", True, set()),
    ],
)
def test_a_twin_in_lockstep_measures_what_the_reward_reads(task, lockstep, paid):
    board = board_of(task, lockstep)
    assert {"goals_reached", "apples_taken"} & {*board.measures} == paid
    assert len(board.measure()) == sum(size for _, size in board.signals)


def test_a_goal_is_measured_once_in_the_period_that_reached_it():
    board = board_of("DriveGoal-v0")
    seen, goals = [], []
    for _ in range(600):
        x, y = board.measured_signals()["goal"]
        turn = math.atan2(y, x)
        board.actuate((0.5 * max(math.cos(turn), 0.0), max(-1.0, min(1.0, 2.0 * turn))))
        board.advance()
        said = board.measured_signals()
        seen.append(float(said["goals_reached"][0]))
        goals.append(said["goal"])
    assert sum(seen) >= 2.0
    jumps = np.linalg.norm(np.diff(goals, axis=0), axis=1) > 0.2
    np.testing.assert_array_equal(np.array(seen[1:], bool), jumps)
