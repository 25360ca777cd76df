"""Environments of Gymnasium's kind that report a cost, as a batch: `gym:MODULE:ID`.

MODULE is imported (or run, if it is a file, FILE.py), and its own `make` is used where it has one,
as safety_gymnasium does, else Gymnasium's. A step returns Gymnasium's five values with the cost in
`info["cost"]`, a number or numbers by name; or Safety-Gymnasium's six.

The contract is made of the spaces. What it observes and bills exists in a simulation alone, so the
safety monitor refuses it: such a policy never moves a robot.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from holdfast.contract import ActionChannel, Contract, Cost, DeclaredSignal, ObservationChannel
from holdfast.errors import ConfigError, ContractError, TrainingError
from holdfast.observer import Observer
from holdfast.safety_monitor.costs import CostModel
from holdfast.signals import EPISODE_LEFT, Array
from holdfast.sim.batch.batch import Snapshot, Step
from holdfast.sim.tasks.task_file import GYM_PREFIX, SUFFIX, run_file

PERIOD_S = 1.0
"""A step counts as a second: no environment of this kind says how long it lasts."""

SEEDS = 2**31


def maker(where: str) -> Callable[[], Any]:
    """Return what makes one more of the environment gym:MODULE:ID.

    Raises:
        ConfigError: there is no such module.
    """
    module_name, _, env_id = where.removeprefix(GYM_PREFIX).rpartition(":")
    if not module_name or not env_id:
        raise ConfigError(f"an environment should be given as gym:MODULE:ID, received '{where}'")
    module = _module(module_name)
    own = getattr(module, "make", gymnasium.make)
    more = {"disable_env_checker": True} if own is gymnasium.make else {}

    def make() -> Any:
        try:
            return own(env_id, **more)
        except Exception as error:
            raise ConfigError(f"{where}: cannot be made ({_told(error)})") from None

    return make


@cache
def _module(name: str) -> ModuleType:
    if name.endswith(SUFFIX):
        return run_file(Path(name))
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ConfigError(
            f"module {name} cannot be imported ({_told(error)}); a file is given as FILE.py"
        ) from None


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def own_contract(where: str) -> Contract:
    """Return the contract that an environment's spaces, time limit and costs make, with limits of
    0: what an episode may cost, only its user can say.

    Raises:
        ConfigError, TrainingError: it lacks one of them, or does not keep its own word.
    """
    env = maker(where)()
    try:
        return _contract(where, env)
    finally:
        env.close()


def _contract(where: str, env: Any) -> Contract:
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        if not isinstance(space, Box):
            raise ConfigError(f"{where}: {name} should be a Box, it is {space}")
    low, high = (np.float64(getattr(env.action_space, end)).ravel() for end in ("low", "high"))
    if not np.isfinite((low, high)).all():
        raise ConfigError(f"{where}: action_space should be bounded, it is {env.action_space}")
    steps = getattr(getattr(env, "spec", None), "max_episode_steps", None)
    if not steps:
        raise ConfigError(
            f"{where}: should be registered with max_episode_steps; a limit is of a whole episode"
        )
    copy = _Copy(where, env)
    if not np.array_equal(copy.reset(0), copy.reset(0)):
        raise ConfigError(f"{where}: reset(seed=0) should give the same start each time")
    costs = copy.step(np.clip(0.0, low, high)).costs
    size = int(np.prod(env.observation_space.shape))
    try:
        return Contract(
            robot="simulation",
            task=GYM_PREFIX + where.rpartition(":")[2],
            period_s=PERIOD_S,
            episode_steps=steps,
            observation=(
                ObservationChannel("observation", size, "1", "observation"),
                ObservationChannel("episode_left", 1, "1", EPISODE_LEFT),
            ),
            action=tuple(
                # From one end to the other within a step: there is no rate to limit.
                ActionChannel(f"action_{i}", "1", least, most, (most - least) / PERIOD_S)
                for i, (least, most) in enumerate(zip(low.tolist(), high.tolist(), strict=True))
            ),
            signals=(DeclaredSignal("reported_cost", len(costs), "1"),),
            costs=tuple(
                Cost(name, f"reported_cost[{i}]", 0.0, 0.0, gamma=0.99, lam=0.95, at_most=None)
                for i, name in enumerate(costs)
            ),
        )
    except ContractError as error:
        raise ConfigError(f"{where}: {error}") from None


@dataclass(frozen=True)
class _Outcome:
    """What a step of one copy led to."""

    observation: Array
    reward: float
    costs: dict[str, float]
    terminated: bool
    truncated: bool


class _Copy:
    """One environment; what it does wrong becomes a sentence."""

    def __init__(self, where: str, env: Any) -> None:
        self._where, self._env = where, env
        self._shape, self._action = env.observation_space.shape, env.action_space
        self.close = env.close

    def reset(self, seed: int) -> Array:
        """Start an episode; return the observation (n,)."""
        try:
            result = self._env.reset(seed=seed)
        except Exception as error:
            self._fail(f"reset(seed={seed}) failed ({_told(error)})")
        if not isinstance(result, tuple) or len(result) != 2:
            self._fail(f"reset should return an observation and an info, received {result!r}")
        observation = self._observation(result[0])
        if (wrong := np.flatnonzero(~np.isfinite(observation))).size:
            self._fail(
                f"reset(seed={seed}) should return a finite observation, received "
                f"{observation[wrong[0]]} at index {wrong[0]}"
            )
        return observation

    def step(self, action: Array) -> _Outcome:
        """Apply an action (actions,)."""
        try:
            given = action.reshape(self._action.shape).astype(self._action.dtype)
            result = self._env.step(given)
        except Exception as error:
            self._fail(f"step failed ({_told(error)})")
        if not isinstance(result, tuple) or len(result) not in (5, 6):
            self._fail(f"step should return 5 values, or 6 with a cost, received {result!r}")
        observation, reward, *cost, terminated, truncated, info = result
        if not cost and "cost" not in info:
            has = ", ".join(map(str, info)) or "nothing"
            self._fail(f"step's info should have 'cost', a number or numbers by name; it has {has}")
        return _Outcome(
            self._observation(observation),
            self._number("reward", reward),
            self._costs(cost[0] if cost else info["cost"]),
            bool(terminated),
            bool(truncated),
        )

    def _costs(self, cost: Any) -> dict[str, float]:
        named = cost if isinstance(cost, Mapping) else {"cost": cost}
        return {str(name): self._number(f"cost '{name}'", value) for name, value in named.items()}

    def _number(self, what: str, value: Any) -> float:
        try:
            return float(np.asarray(value).item())
        except (TypeError, ValueError):
            self._fail(f"{what} should be a number, received {value!r}")

    def _observation(self, values: Any) -> Array:
        if np.shape(values) != self._shape:
            self._fail(
                f"an observation should have the shape {self._shape} of its space, "
                f"received {np.shape(values)}"
            )
        return np.asarray(values, np.float64).ravel()

    def _fail(self, sentence: str) -> NoReturn:
        raise TrainingError(f"{self._where}: {sentence}")


class GymBatch:
    """The `Batch` of copies of an environment, one after another in this process.

    Each episode starts from a seed that the batch's generator draws. Such copies cannot be put
    back in time: `snapshot`, `load`, `state` and `restore` are refused.

    Args:
        where: gym:MODULE:ID.
        contract: its own, whose limits may be others.
        copies: N.
        seed: of all seeds.

    Raises:
        ConfigError: there is no such environment.
    """

    restores = False

    def __init__(self, where: str, contract: Contract, copies: int, seed: int) -> None:
        self.contract, self.copies = contract, copies
        self.rng = np.random.default_rng(seed)
        self._where = where
        make = maker(where)
        self._copies = [_Copy(where, make()) for _ in range(copies)]
        self._names = [cost.name for cost in contract.costs]
        self._observe, self._cost_model = Observer(contract), CostModel(contract)
        self._elapsed = np.zeros(copies, dtype=np.int64)
        self._seen = np.zeros((copies, contract.observation[0].size))

    def reset(self) -> Array:
        """See `Batch`."""
        self._start(np.arange(self.copies))
        return self._observation()

    def _start(self, which: NDArray[np.intp]) -> None:
        for i, seed in zip(which, self.rng.integers(SEEDS, size=len(which)).tolist(), strict=True):
            self._seen[i] = self._copies[i].reset(seed)
        self._elapsed[which] = 0

    def _observation(self) -> Array:
        left = 1.0 - self._elapsed / self.contract.episode_steps
        return self._observe({"observation": self._seen, EPISODE_LEFT: left[:, None]})

    def step(self, action: Array) -> Step:
        """See `Batch`."""
        if not np.isfinite(action).all():
            raise TrainingError(f"{self._where}: actions should be finite, received {action}")
        given = np.clip(action, self.contract.action_low, self.contract.action_high)
        outcomes = [copy.step(row) for copy, row in zip(self._copies, given, strict=True)]
        self._elapsed += 1
        self._seen[:] = [outcome.observation for outcome in outcomes]
        reward = np.array([outcome.reward for outcome in outcomes])
        reported = np.array([self._ordered(outcome.costs) for outcome in outcomes])
        observation = final = self._observation()
        costs = self._cost_model({"reported_cost": reported})
        self._require_sound(final, reward, costs)
        terminated = np.array([outcome.terminated for outcome in outcomes])
        truncated = np.array([outcome.truncated for outcome in outcomes])
        truncated = self._in_time(truncated & ~terminated) & ~terminated
        if (ended := np.flatnonzero(terminated | truncated)).size:
            self._start(ended)
            observation = self._observation()
        return Step(observation, final, reward, costs, terminated, truncated)

    def _require_sound(self, observation: Array, reward: Array, costs: Array) -> None:
        for name, values in (("observation", observation), ("reward", reward), ("cost", costs)):
            if not np.isfinite(values).all():
                raise TrainingError(f"{self._where}: step returned a non-finite {name}")
        if (least := costs.min()) < 0.0:
            raise TrainingError(f"{self._where}: a cost should be at least 0, received {least}")

    def _in_time(self, truncated: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return whose episode's time is over (N,), which has to be so where it was truncated."""
        over = self._elapsed >= self.contract.episode_steps
        if (early := truncated & ~over).any():
            raise TrainingError(
                f"{self._where}: an episode was truncated after {self._elapsed[early].min()} of "
                f"{self.contract.episode_steps} steps; before its time it should be terminated"
            )
        return over

    def _ordered(self, costs: Mapping[str, float]) -> list[float]:
        if costs.keys() != set(self._names):
            raise TrainingError(
                f"{self._where}: costs should be {', '.join(self._names)} at each step as at the "
                f"first, received {', '.join(costs) or 'none'}"
            )
        return [costs[name] for name in self._names]

    def snapshot(self) -> Snapshot:
        """Refused."""
        self._refuse()

    def load(self, snapshot: Snapshot, rows: NDArray[np.integer[Any]]) -> Array:
        """Refused."""
        self._refuse()

    def state(self) -> dict[str, Any]:
        """Refused."""
        self._refuse()

    def restore(self, state: dict[str, Any]) -> Array:
        """Refused."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TrainingError(f"{self._where}: such an environment cannot be put back in time")

    def close(self) -> None:
        """See `Batch`."""
        for copy in self._copies:
            copy.close()
