"""A record of what truly happened on a twin: one JSON line per episode."""

from __future__ import annotations

import json
from typing import Any, TextIO

from holdfast.safety_monitor.costs import CostModel
from holdfast.signals import Array
from holdfast.sim.tasks.task import Task

BEGIN = b'{"episode": '
"""How each line, and so each file, begins."""


class Truth:
    """Records true positions, rewards and costs, one JSON line per episode.

    A step is an obeyed COMMAND. The step is billed on the true signals one control period later,
    or at the next COMMAND or the episode's end, whichever is first.

    Args:
        task: says rewards and costs.
        seed: the twin's, for the record.
        file: where the episodes go; None: nowhere.
    """

    def __init__(self, task: Task, seed: int, file: TextIO | None) -> None:
        self._task = task
        self._seed = seed
        self._file = file
        self._cost_model = CostModel(task.contract)
        self._episode = 0
        self._start: tuple[float, ...] = ()
        self._steps: list[dict[str, Any]] = []

    def begin(self, signals: dict[str, Array]) -> None:
        """Start an episode with the robot's true signals."""
        self.end()
        self._start = (*signals["position"].tolist(), float(self._task.robot.heading(signals)))

    def step(self, signals: dict[str, Array]) -> None:
        """Bill one step."""
        self._steps.append(
            {
                "position": signals["position"].tolist(),
                "heading": float(self._task.robot.heading(signals)),
                "reward": float(self._task.reward(signals)),
                "costs": self._cost_model(signals).tolist(),
            }
        )

    def end(self) -> None:
        """Write the episode, if it has a step."""
        steps, self._steps = self._steps, []
        if not steps:
            return
        names = [cost.name for cost in self._task.contract.costs]
        costs = {name: [step["costs"][i] for step in steps] for i, name in enumerate(names)}
        record = {
            "episode": self._episode,
            "seed": self._seed,
            "start": self._start,
            "steps": len(steps),
            "reward_sum": sum(step["reward"] for step in steps),
            "cost_sum": {name: sum(values) for name, values in costs.items()},
            "position": [step["position"] for step in steps],
            "heading": [step["heading"] for step in steps],
            "reward": [step["reward"] for step in steps],
            "costs": costs,
        }
        self._episode += 1
        if self._file:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
