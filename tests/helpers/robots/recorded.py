"""Motion of a twin that is told random commands, without a port between."""

from __future__ import annotations

import numpy as np

from holdfast.policy.identification.tracks import Recorded, Track
from holdfast.sim.registry import registered
from holdfast.sim.twin.board import TwinBoard
from holdfast.sim.twin.truth import Truth
from tests.helpers.robots.parameters import parameters


def recorded(task_id, gap, episodes=5, steps=250, share=1.0, every=25, jitter=0.5, seed=0):
    """Return the motion of a twin.

    Args:
        gap: the twin's parameters, as a file has them.
        share: of the action's range that is commanded. every: periods between two new commands.
        jitter: standard deviation of what is added in each period.
    """
    task = registered(task_id).make()
    board = TwinBoard(task, parameters(**gap), seed, True, Truth(task, seed, None))
    rng = np.random.default_rng(seed)
    tracks = [_track(board, task.contract, rng, steps, share, every, jitter)]
    for _ in range(episodes - 1):
        board.replace()
        tracks.append(_track(board, task.contract, rng, steps, share, every, jitter))
    return Recorded(task, tuple(tracks), ("a twin",), ())


def _track(board, contract, rng, steps, share, every, jitter):
    applied = base = np.zeros(contract.action_size)
    actions, said = [], [dict(board.measured_signals())]
    for step in range(steps):
        if step % every == 0:
            base = rng.uniform(-0.6, 0.9, len(base))
        wanted = share * (base + jitter * rng.standard_normal(len(base)))
        applied = contract.admissible(applied[None], wanted[None] * contract.action_half_range)[0]
        board.actuate(tuple(applied))
        board.advance()
        actions.append(applied)
        said.append(dict(board.measured_signals()))
    signals = {name: np.array([one[name] for one in said]) for name in board.measures}
    return Track("twin", np.array(actions), signals, True)
