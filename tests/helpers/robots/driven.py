"""A twin that is driven by a run plan's file, and what its sensors say as a CSV file."""

from __future__ import annotations

import csv

from holdfast.sim.registry import registered
from holdfast.sim.twin.board import TwinBoard
from holdfast.sim.twin.truth import Truth
from tests.helpers.robots.parameters import parameters

COLUMNS = {
    "position.x": ("position", 0), "position.y": ("position", 1), "heading": ("heading", 0),
    "forward_speed": ("forward_speed", 0), "yaw_rate": ("yaw_rate", 0),
    "joint_position[0]": ("joint_position", 0), "joint_position[1]": ("joint_position", 1),
}  # fmt: skip


def driven(task_id, gap, plan, out, seed=0):
    """Tell a twin the commands of a plan, row by row, and write what it says beside them."""
    task = registered(task_id).make()
    board = TwinBoard(task, parameters(**gap), seed, True, Truth(task, seed, None))
    with plan.open() as file:
        rows = list(csv.DictReader(file))
    with out.open("w") as file:
        written = csv.DictWriter(file, [*rows[0], *COLUMNS])
        written.writeheader()
        for row in rows:
            said = board.measured_signals()
            written.writerow(
                {**row, **{c: repr(float(said[n][i])) for c, (n, i) in COLUMNS.items()}}
            )
            board.actuate(tuple(float(row[f"command.{n}"]) for n in task.contract.action_names))
            board.advance()
    return out
