"""What training asks of N simulated copies of a task, whatever simulates them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from holdfast.contract import Contract
from holdfast.signals import Array


@dataclass(frozen=True)
class Step:
    """One control period of all copies, N on the leading axis.

    Attributes:
        observation: (N, n), after automatic resets: what to act on next.
        final_observation: (N, n), before them: differs where an episode just ended.
        reward: (N,); costs: (N, costs).
        terminated, truncated: (N,) bool; the task ended it, or its length did.
    """

    observation: Array
    final_observation: Array
    reward: Array
    costs: Array
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


@dataclass(frozen=True)
class Snapshot:
    """The copies of a batch at one moment: all that their future depends on, but for the
    generator of their resets.

    Attributes:
        rows: named arrays (N, ...), a row per copy; a batch of the same kind reads them.
    """

    rows: Mapping[str, NDArray[Any]]


class Batch(Protocol):
    """Copies of one task in lockstep, each reset by itself when its episode ends.

    Attributes:
        contract: what is observed, commanded and billed.
        copies: N.
        rng: draws what a reset needs. After `reset` nothing else is left of the past.
        restores: whether `snapshot`, `load`, `state` and `restore` work. Those that do not know
            what their copies hold raise TrainingError instead.
    """

    contract: Contract
    copies: int
    rng: np.random.Generator
    restores: bool

    def reset(self) -> Array:
        """Start an episode in every copy; return the observations (N, n)."""

    def step(self, action: Array) -> Step:
        """Apply actions (N, actions), physical units, for one control period.

        Raises:
            TrainingError: an action is not finite, or what came of it is not.
        """

    def snapshot(self) -> Snapshot:
        """Return the copies as they are now."""

    def load(self, snapshot: Snapshot, rows: NDArray[np.integer[Any]]) -> Array:
        """Put row rows[i] of a snapshot into copy i, exactly; return the observations (N, n).

        Args:
            snapshot: of a batch of the same task, with any number of copies.
            rows: (N,), in any order and as often as wanted.
        """

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on, as JSON-able data."""

    def restore(self, state: dict[str, Any]) -> Array:
        """Return to a saved state; return its observations (N, n)."""

    def close(self) -> None:
        """End threads and whatever else is held."""
