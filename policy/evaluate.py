"""Measure a policy in simulation: returns with confidence intervals, and what it saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from holdfast.policy.networks import Networks
from holdfast.policy.rollout import Collector
from holdfast.signals import Array
from holdfast.sim.batch import Batch
from holdfast.sim.tasks import make


def interval(values: Array, resamples: int = 2000) -> dict[str, float]:
    """Return the mean of values (n,) with a 95 % bootstrap interval (Efron 1979), seeded.

    Episode costs are skewed, so a normal interval would be wrong at the low end.
    """
    rng = np.random.default_rng(0)
    means = rng.choice(values, (resamples, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


@dataclass(frozen=True)
class Evaluation:
    """Finished episodes of the behaviour policy in simulation.

    Attributes:
        returns: (episodes,). cost_returns: (episodes, costs). observations: (steps, n).
    """

    seed: int
    returns: Array
    cost_returns: Array
    observations: Array

    def summary(self) -> dict[str, Any]:
        """Return means and intervals as JSON data; the cost is the contract's first."""
        return {
            "episodes": len(self.returns),
            "seed": self.seed,
            "return": interval(self.returns),
            "cost": interval(self.cost_returns[:, 0]),
        }


def evaluate(networks: Networks, episodes: int, seed: int) -> Evaluation:
    """Run the behaviour policy (actions sampled) for full episodes in the task's simulation."""
    task = make(networks.contract.task)
    task.contract = networks.contract
    batch = Batch(task, episodes, seed)
    collector = Collector(batch, torch.Generator().manual_seed(seed))
    rollout = collector.collect(
        networks.policy, networks.normaliser, networks.contract.episode_steps
    )
    batch.close()
    n = networks.contract.observation_size
    return Evaluation(
        seed,
        rollout.returns,
        rollout.cost_returns,
        rollout.observation.reshape(-1, n).astype(np.float64),
    )
