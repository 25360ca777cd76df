"""Environments of other people's kind: a small one with costs, and its faults."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Walk(gymnasium.Env[np.ndarray, np.ndarray]):
    """A point on a line, pushed along it: paid for its way, billed 1 beyond 1 and 2 beyond 2.

    Args:
        named: report two costs by name.
        fault: what to do wrong, by name.
    """

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, named: bool = False, fault: str = "") -> None:
        self._named, self._fault, self._steps = named, fault, 0
        if fault == "discrete":
            self.action_space = Discrete(3)
        if fault == "unbounded":
            self.action_space = Box(-np.inf, np.inf, (1,))
        if fault == "never still":
            self.action_space = Box(0.5, 1.0, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=None if self._fault == "unseeded" else seed)
        if self._fault == "reset fails":
            raise ValueError("out of\nluck")
        self._state = np.array([self.np_random.uniform(-0.1, 0.1), STARTS.get(self._fault, 0.0)])
        self._steps = 0
        return self._state[0] if self._fault == "reset bare" else (self._shown(), {})

    def _shown(self) -> np.ndarray:
        late = self._steps > 3
        if self._fault == "shape" and late:
            return np.zeros(3)
        return self._state * np.nan if self._fault == "nan" and late else self._state.copy()

    def step(self, action: np.ndarray) -> Any:
        assert action.shape == (1,)
        assert action.dtype == np.float32
        if self._fault == "step fails":
            raise ZeroDivisionError("too far")
        self._steps += 1
        late = self._steps > 3
        self._state += [0.1 * float(action[0]), 1.0]
        x = self._state[0]
        beyond = float(abs(x) > 1.0)
        info: dict[str, Any] = {"cost": beyond}
        if self._named:
            info["cost"] = {"beyond": beyond, "far": 2.0 * (abs(x) > 2.0)}
        if late and self._fault == "renamed":
            info["cost"] = {"other": 0.0}
        if late and self._fault == "forgets":
            del info["cost"]
        if late and self._fault in COSTS:
            info["cost"] = COSTS[self._fault]
        reward = np.inf if late and self._fault == "reward inf" else 0.1 * float(action[0])
        early = self._fault == "early" and self._steps == 7
        fell = abs(x) > 2.5
        return self._shown(), reward, fell, early, info


STARTS = {"reset nan": np.nan, "reset inf": np.inf}
COSTS = {"cost nan": np.nan, "cost negative": -1.0, "cost text": "much", "cost list": [1.0, 2.0]}
FAULTS = (
    *("", "discrete", "unbounded", "never still", "unseeded", "reset fails", "reset bare"),
    *("shape", "nan", "step fails", "renamed", "forgets", *COSTS, "reward inf", "early", *STARTS),
)


class SixTuple(Walk):
    """The same as Safety-Gymnasium's environments are: the cost stands by itself."""

    spec = gymnasium.envs.registration.EnvSpec("SixTuple-v0", max_episode_steps=30)
    """Which Gymnasium's `make` would have given it."""

    def step(self, action: np.ndarray) -> Any:
        if self._fault == "four":
            return super().step(action)[:4]
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, info.pop("cost"), terminated, truncated, info


for _fault in FAULTS:
    gymnasium.register(
        f"Walk{_fault.title().replace(' ', '')}-v0",
        entry_point=Walk,
        kwargs={"fault": _fault},
        max_episode_steps=30,
    )
gymnasium.register("WalkNamed-v0", entry_point=Walk, kwargs={"named": True}, max_episode_steps=30)
gymnasium.register("WalkForever-v0", entry_point=Walk)
