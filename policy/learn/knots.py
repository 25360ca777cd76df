"""A range of limits in training: a cost's limit is held at each knot of its range.

    Σ_e w_k(d_e) (C_e − d_e) ≤ 0        for each knot k, over the episodes e with their limits d_e

w_k is 1 at the knot and falls to 0 at the neighbouring ones (`at_knots`). One
mean over all episodes would not do: a policy may overspend small limits, where a cost buys the most
reward, and underspend large ones. To an algorithm each knot is a cost of its own, w_k C, with the
limit w_k d and the advantages w_k A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from holdfast.bundle.limit_range import under
from holdfast.contract import Contract, Cost
from holdfast.signals import Array

SPACING = 1.5
"""Largest ratio of two neighbouring knots."""

WIDEST = 1000.0
"""Largest ratio of a range's ends: 19 knots, and the episodes near each are a 19th of a batch."""


def knots(cost: Cost) -> Array:
    """Return the limits (k,) at which training holds a cost, evenly spaced in the logarithm."""
    if cost.limit_range is None:
        return np.array([cost.limit])
    low, high = cost.limit_range
    return np.geomspace(low, high, 1 + math.ceil(math.log(high / low) / math.log(SPACING)))


def at_knots(cost: Cost, limit: Array) -> Array:
    """Return how much each knot counts at limits (...), as shares (..., k) that sum to 1.

    A share falls from 1 at its knot to 0 at the neighbouring ones, linearly in the logarithm.
    """
    if len(places := knots(cost)) == 1:
        return np.ones((*limit.shape, 1))
    places, hats = np.log(places), np.eye(len(places))
    return np.stack([np.interp(np.log(limit), places, hat) for hat in hats], axis=-1)


def along(contract: Contract) -> list[Contract]:
    """Return the contract under limits from the lowest to the highest of its ranges, at knots."""
    count = max(len(knots(cost)) for cost in contract.costs)
    if count == 1:
        return [contract]
    ranges = [cost.limit_range for cost in contract.costs if cost.limit_range is not None]
    low, high = np.array(ranges).T
    rows: Array = np.geomspace(low, high, count)
    return [under(contract, row) for row in rows.tolist()]


@dataclass(frozen=True)
class Knots:
    """The knots of a contract's costs, K in all; a cost without a range has one.

    Attributes:
        names: of each knot. owner: (K,), the index of each knot's cost.
    """

    contract: Contract
    names: tuple[str, ...]
    owner: Array

    @staticmethod
    def of(contract: Contract) -> Knots:
        """Return the knots of a contract."""
        found = [(i, cost.name, knots(cost)) for i, cost in enumerate(contract.costs)]
        names = (
            name if len(limits) == 1 else f"{name} at {limit:.3g}"
            for _, name, limits in found
            for limit in limits
        )
        owner = np.concatenate([np.full(len(limits), i) for i, _, limits in found])
        return Knots(contract, tuple(names), owner)

    @property
    def several(self) -> bool:
        """Whether a cost has more than one."""
        return len(self.owner) > len(self.contract.costs)

    def shares(self, limit: Array) -> Array:
        """Return how much each knot counts (..., K) at limits (..., costs)."""
        costs = enumerate(self.contract.costs)
        return np.concatenate([at_knots(cost, limit[..., i]) for i, cost in costs], axis=-1)

    def advantages(self, advantages: Tensor, limit: Array) -> Tensor:
        """Return advantages (B, 1 + K) of the reward and each knot, from those of the costs.

        Each knot's are centred over its own episodes.

        Args:
            advantages: (B, 1 + costs). limit: (B, costs), in force at each row.
        """
        share = torch.from_numpy(self.shares(limit)).to(advantages)
        own = advantages[:, 1:][:, torch.from_numpy(self.owner)]
        own = own - (share * own).sum(0) / share.sum(0).clamp_min(1e-8)
        return torch.cat((advantages[:, :1], share * own), dim=1)

    def means(self, values: Array, limit: Array) -> Array:
        """Return Σ w v / Σ w (K, n) over episodes of values (E, n) at limits (E, costs)."""
        share = self.shares(limit)
        total = np.maximum(share.sum(axis=0), 1e-8)
        means: Array = share.T @ values / total[:, None]
        return means
