"""A unicycle in the plane that describes its channels, rightly and wrongly."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

PERIOD_S = 0.05
CHANNELS = (
    {"name": "position", "size": 2, "unit": "m", "signal": "position"},
    {"name": "heading", "size": 2, "unit": "1", "signal": "heading", "transform": "cos_sin"},
    {"name": "speed", "size": 1, "unit": "m/s", "signal": "forward_speed", "scale": 2.0},
    {"name": "yaw_rate", "size": 1, "unit": "rad/s", "signal": "yaw_rate"},
)
ACTION = (
    {"name": "forward_speed", "unit": "m/s", "low": -1.0, "high": 1.0, "max_rate_per_s": 4.0},
    {"name": "yaw_rate", "unit": "rad/s", "low": -2.0, "high": 2.0, "max_rate_per_s": 20.0},
)
COST = {"name": "cost", "expression": "abs(position.x) > 0.3"}


def moved(pose: tuple[float, float, float], speed: float, yaw_rate: float) -> Any:
    """Return x, y (m) and yaw (rad) after a period, the speed along the yaw in its middle."""
    x, y, yaw = pose
    middle = yaw + 0.5 * yaw_rate * PERIOD_S
    x += speed * math.cos(middle) * PERIOD_S
    y += speed * math.sin(middle) * PERIOD_S
    return x, y, math.remainder(yaw + yaw_rate * PERIOD_S, math.tau)


class Unicycle(gymnasium.Env[np.ndarray, np.ndarray]):
    """Paid for the way made forward, billed 1 for each step with |x| > 0.3 m.

    Args:
        changes: entries of the description that are another's.
    """

    observation_space = Box(-np.inf, np.inf, (6,), np.float32)
    action_space = Box(np.array([-1.0, -2.0], np.float32), np.array([1.0, 2.0], np.float32))

    def __init__(self, **changes: Any) -> None:
        self._changes = changes

    def describe(self) -> Any:
        if self._changes.get("fails"):
            raise ValueError("no\nidea")
        said = {
            "robot": "unicycle",
            "period_s": PERIOD_S,
            "observation": CHANNELS,
            "action": ACTION,
            "costs": [COST],
        }
        return {**said, **self._changes}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._pose = (0.0, 0.0, self.np_random.uniform(-math.pi, math.pi))
        self._moves = (0.0, 0.0)
        return self._observed(), {}

    def _observed(self) -> np.ndarray:
        x, y, yaw = self._pose
        speed, turns = self._moves
        return np.array([x, y, math.cos(yaw), math.sin(yaw), 2.0 * speed, turns], np.float32)

    def step(self, action: np.ndarray) -> Any:
        speed, turns = self._moves = tuple(action.tolist())
        self._pose = moved(self._pose, speed, turns)
        info = {"cost": float(abs(self._pose[0]) > 0.3)}
        return self._observed(), PERIOD_S * speed, False, False, info


SWAPPED = (CHANNELS[0], CHANNELS[2], CHANNELS[1], CHANNELS[3])
FAULTS: dict[str, dict[str, Any]] = {
    "": {},
    "Fails": {"fails": True},
    "Text": {"observation": "position"},
    "Unknown": {"period": 0.1},
    "Short": {"observation": CHANNELS[:-1]},
    "Swapped": {"observation": SWAPPED},
    "Signal": {"observation": (*CHANNELS[:3], {**CHANNELS[3], "signal": "yawrate"})},
    "Unit": {"observation": (*CHANNELS[:3], {**CHANNELS[3], "unit": "deg/s"})},
    "History": {"observation": (*CHANNELS[:2], *({**c, "history": 2} for c in CHANNELS[2:]))},
    "Action": {"action": ACTION[:1]},
    "Limits": {"action": (ACTION[0], {**ACTION[1], "high": 3.0})},
    "Named": {"costs": [{**COST, "name": "outside"}]},
    "Cost": {"costs": [{**COST, "expression": "abs(position.y) > 0.3"}]},
}
for _name, _changes in FAULTS.items():
    gymnasium.register(
        f"Unicycle{_name}-v0", entry_point=Unicycle, kwargs=_changes, max_episode_steps=40
    )
