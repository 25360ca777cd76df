"""Copies of an environment of Gymnasium's kind that reports a cost, as a batch.

A step returns Gymnasium's five values with the cost in `info["cost"]`, a number or numbers by name;
or Safety-Gymnasium's six.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from holdfast.contract import Contract
from holdfast.errors import TrainingError
from holdfast.observer import Observer
from holdfast.safety_monitor.costs import CostModel
from holdfast.signals import BUDGET_LEFT, EPISODE_LEFT, Array
from holdfast.sim.batch.batch import Snapshot, Step, require_finite
from holdfast.sim.batch.budgets import Budgets
from holdfast.sim.batch.gym_signals import SignalReader

SEEDS = 2**31


def told(error: BaseException) -> str:
    """Return an error's type and text in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@dataclass(frozen=True)
class _Outcome:
    """Result of a step of one copy."""

    observation: Array
    reward: float
    costs: dict[str, float]
    terminated: bool
    truncated: bool


class GymCopy:
    """One environment. Its faults become errors of one sentence."""

    def __init__(self, where: str, env: Any) -> None:
        self._where, self._env = where, env
        self._shape, self._action = env.observation_space.shape, env.action_space
        self.close = env.close

    def reset(self, seed: int) -> Array:
        """Start an episode; return the observation (n,)."""
        try:
            result = self._env.reset(seed=seed)
        except Exception as error:
            self._fail(f"reset(seed={seed}) failed ({told(error)})")
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
            self._fail(f"step failed ({told(error)})")
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
    """A `Batch` of environments, which step one after another in this process.

    Signals are read out of each observation by the contract's channels, and costs are computed
    from them; `reported_cost` is a signal too. Actions change no faster than the contract allows.
    Each episode starts from a seed that the batch's generator draws. The state of such copies
    cannot be restored: `snapshot`, `load`, `state` and `restore` raise TrainingError.

    Args:
        where: gym:MODULE:ID, which error messages name.
        make: returns a new environment at each call.
        contract: the environment's contract, perhaps with other limits.
        copies: N.
        seed: seed of the generator.

    Raises:
        ConfigError: `make` fails.
    """

    restores = False

    def __init__(
        self, where: str, make: Callable[[], Any], contract: Contract, copies: int, seed: int
    ) -> None:
        self.contract, self.copies = contract, copies
        self.rng = np.random.default_rng(seed)
        self._where = where
        self._copies = [GymCopy(where, make()) for _ in range(copies)]
        self._names = [cost.name for cost in contract.costs]
        self._observe, self._cost_model = Observer(contract), CostModel(contract)
        self._read = SignalReader(where, contract)
        self._elapsed = np.zeros(copies, dtype=np.int64)
        self._applied = np.zeros((copies, contract.action_size))
        self._budgets = Budgets(contract, copies)
        self._seen = np.zeros((copies, self._read.size))

    @property
    def limit(self) -> Array:
        """See `Batch`."""
        return self._budgets.limit

    def reset(self) -> Array:
        """See `Batch`."""
        self._start(np.arange(self.copies))
        return self._observation()

    def _start(self, which: NDArray[np.intp]) -> None:
        for i, seed in zip(which, self.rng.integers(SEEDS, size=len(which)).tolist(), strict=True):
            self._seen[i] = self._copies[i].reset(seed)
        self._elapsed[which] = 0
        self._applied[which] = 0.0
        self._budgets.begin(which, self.rng)

    def _observation(self) -> Array:
        left = 1.0 - self._elapsed / self.contract.episode_steps
        own = {EPISODE_LEFT: left[:, None], BUDGET_LEFT: self._budgets.left()}
        return self._observe({**self._read(self._seen), **own})

    def step(self, action: Array) -> Step:
        """See `Batch`."""
        require_finite(action, f"{self._where}: actions should be finite")
        given = self._applied = self.contract.admissible(self._applied, action)
        outcomes = [copy.step(row) for copy, row in zip(self._copies, given, strict=True)]
        self._elapsed += 1
        self._seen[:] = [outcome.observation for outcome in outcomes]
        reward = np.array([outcome.reward for outcome in outcomes])
        reported = np.array([self._ordered(outcome.costs) for outcome in outcomes])
        costs = self._cost_model({**self._read(self._seen), "reported_cost": reported})
        self._budgets.follow(costs)
        observation = final = self._observation()
        self._require_sound(final, reward, costs)
        terminated = np.array([outcome.terminated for outcome in outcomes])
        truncated = np.array([outcome.truncated for outcome in outcomes])
        truncated = self._in_time(truncated & ~terminated) & ~terminated
        if (ended := np.flatnonzero(terminated | truncated)).size:
            self._start(ended)
            observation = self._observation()
        none = np.zeros(self.copies)
        return Step(observation, final, reward, costs, terminated, truncated, none)

    def _require_sound(self, observation: Array, reward: Array, costs: Array) -> None:
        for name, values in (("observation", observation), ("reward", reward), ("cost", costs)):
            if not np.isfinite(values).all():
                raise TrainingError(f"{self._where}: step returned a non-finite {name}")
        if (least := costs.min()) < 0.0:
            raise TrainingError(f"{self._where}: a cost should be at least 0, received {least}")

    def _in_time(self, truncated: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which episodes have reached their length (N,).

        Raises:
            TrainingError: an episode was truncated before.
        """
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
        """Raise TrainingError."""
        self._refuse()

    def load(self, snapshot: Snapshot, rows: NDArray[np.integer[Any]]) -> Array:
        """Raise TrainingError."""
        self._refuse()

    def state(self) -> dict[str, Any]:
        """Raise TrainingError."""
        self._refuse()

    def restore(self, state: dict[str, Any]) -> Array:
        """Raise TrainingError."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TrainingError(f"{self._where}: such an environment cannot be put back in time")

    def close(self) -> None:
        """See `Batch`."""
        for copy in self._copies:
            copy.close()
