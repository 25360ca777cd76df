"""The interface between training and N simulated copies of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from holdfast.contract import Contract
from holdfast.errors import TrainingError
from holdfast.signals import Array


@dataclass(frozen=True)
class Step:
    """One control period of all copies, N on the leading axis.

    Attributes:
        observation: (N, n), after automatic resets: the input of the next actions.
        final_observation: (N, n), before resets; differs where an episode just ended.
        reward: (N,); costs: (N, costs).
        terminated, truncated: (N,) bool; the task, or the length, ended the episode.
        disagreement: (N,), how far a copy and its alternatives are apart; 0 without alternatives.
    """

    observation: Array
    final_observation: Array
    reward: Array
    costs: Array
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    disagreement: Array


@dataclass(frozen=True)
class Snapshot:
    """The complete state of a batch's copies at one moment, without the generator of resets.

    Attributes:
        rows: named arrays (N, ...), one row per copy, which a batch of the same kind can load.
    """

    rows: Mapping[str, NDArray[Any]]


class Batch(Protocol):
    """Copies of one task in lockstep. A copy is reset when its episode ends.

    Attributes:
        contract: observation, action and costs.
        copies: N.
        rng: generator of resets. After `reset` the generator is the only state of the past.
        limit: (N, costs), the limits in force in each copy's episode.
        restores: whether `snapshot`, `load`, `state` and `restore` work; without, they raise
            TrainingError.
    """

    contract: Contract
    copies: int
    rng: np.random.Generator
    restores: bool

    @property
    def limit(self) -> Array: ...

    def reset(self) -> Array:
        """Start an episode in every copy; return the observations (N, n)."""

    def step(self, action: Array) -> Step:
        """Apply actions (N, actions), physical units, for one control period.

        Raises:
            TrainingError: an action, or its result, is not finite.
        """

    def snapshot(self) -> Snapshot:
        """Return the present state of all copies."""

    def load(self, snapshot: Snapshot, rows: NDArray[np.integer[Any]]) -> Array:
        """Put row rows[i] of a snapshot into copy i, exactly; return the observations (N, n).

        Args:
            snapshot: from a batch of the same task, with any number of copies.
            rows: (N,), in any order, also repeated.
        """

    def state(self) -> dict[str, Any]:
        """Return the batch's complete state, as JSON data."""

    def restore(self, state: dict[str, Any]) -> Array:
        """Restore a state of `state`; return the observations (N, n)."""

    def close(self) -> None:
        """End threads and free resources."""


def require_finite(rows: Array, rule: str) -> None:
    """Raise TrainingError unless all copies' numbers (N, n) are finite.

    Args:
        rule: what should hold, with the task that it should hold for.
    """
    wrong = ~np.isfinite(rows).all(axis=1)
    if wrong.any():
        copy = int(wrong.argmax())
        raise TrainingError(f"{rule}, received {rows[copy].tolist()} in copy {copy}")
