"""Prediction: what an episode may still cost, calibrated so that a stated share costs no more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from holdfast.errors import BundleError
from holdfast.schema import check
from holdfast.signals import Array

WHERE = "prediction"


@dataclass(frozen=True)
class Prediction:
    """By how much episodes cost more than the cost critics expected.

    With a share s of an episode's steps to come, its cost is predicted as what is spent, the
    critics' cost-to-go and margin * sqrt(s): a sum's spread grows with the root of how many
    terms it has.

    Attributes:
        shortfalls: by cost, in the contract's order: of each episode that nothing was fitted
            to, the margin that would have covered its cost at every step; ascending.
    """

    shortfalls: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        check(self, BundleError, WHERE)
        if any(list(episodes) != sorted(episodes) for episodes in self.shortfalls):
            raise BundleError(f"{WHERE}: the shortfalls of each cost should be ascending")

    def require_size(self, costs: int) -> None:
        """Check that it is of so many costs.

        Raises:
            BundleError: it is not.
        """
        if len(self.shortfalls) != costs:
            raise BundleError(
                f"{WHERE}: should be of {costs} costs, received {len(self.shortfalls)}"
            )

    def margin(self, coverage: float) -> tuple[float, ...]:
        """Return the margin, by cost, that covers at least this share of episodes.

        Split conformal prediction: of n episodes' shortfalls the ceil((n + 1) coverage)-th
        smallest is not exceeded by that of another one with a probability of at least
        `coverage`, whatever their distribution, as long as they are exchangeable (Vovk et al.
        2005). Steps within an episode need not be independent.

        Raises:
            BundleError: it takes more episodes than there are.
        """
        margins = []
        for episodes in self.shortfalls:
            rank = math.ceil((len(episodes) + 1) * coverage)
            if rank > len(episodes):
                raise BundleError(
                    f"{WHERE}: a coverage of {coverage} takes at least "
                    f"{math.ceil(coverage / (1.0 - coverage))} episodes; it was calibrated on "
                    f"{len(episodes)}"
                )
            margins.append(episodes[rank - 1])
        return tuple(margins)


def fit_prediction(cost_to_go: Sequence[Array], costs: Sequence[Array], steps: int) -> Prediction:
    """Calibrate on episodes that the critics were not fitted to.

    Args:
        cost_to_go: the critics', (steps of the episode, costs) each.
        costs: what the action at each step cost, of the same shapes.
        steps: of a whole episode.
    """
    worst = [
        shortfall(ahead, each, steps).max(axis=0)
        for ahead, each in zip(cost_to_go, costs, strict=True)
    ]
    return Prediction(tuple(map(tuple, np.sort(np.stack(worst), axis=0).T.tolist())))


def shortfall(cost_to_go: Array, costs: Array, steps: int) -> Array:
    """Return the margin that would have covered an episode's cost at each step, (steps, costs)."""
    to_come = np.cumsum(costs[::-1], axis=0)[::-1]
    share = 1.0 - np.arange(len(costs)) / steps
    return (to_come - np.maximum(cost_to_go, 0.0)) / np.sqrt(share)[:, None]
