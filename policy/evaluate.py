"""Measure a policy in simulation: returns with confidence intervals, and what it saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from holdfast.policy.learner import TrainSettings, require_same
from holdfast.policy.networks import Networks
from holdfast.policy.rollout import Collector
from holdfast.signals import Array
from holdfast.sim.tasks import make_batch


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
        returns: (episodes,). cost_returns: (episodes, costs).
        observations: of one episode each, (steps, n). costs: theirs, (steps, costs): what the
            action at each step cost.
    """

    seed: int
    returns: Array
    cost_returns: Array
    observations: tuple[Array, ...]
    costs: tuple[Array, ...]

    def summary(self) -> dict[str, Any]:
        """Return means and intervals as JSON data; the cost is the contract's first."""
        return {
            "episodes": len(self.returns),
            "seed": self.seed,
            "return": interval(self.returns),
            "cost": interval(self.cost_returns[:, 0]),
        }


def evaluate(networks: Networks, settings: TrainSettings, episodes: int, seed: int) -> Evaluation:
    """Run the behaviour policy (actions sampled) for full episodes in the simulation that the
    settings say, randomised as they say.

    Raises:
        ConfigError, TrainingError: the task is not there any more, or has another contract.
    """
    contract = networks.contract
    require_same(settings, contract)
    batch = make_batch(
        settings.task, episodes, seed, contract=contract, randomise=settings.randomise
    )
    collector = Collector(batch, torch.Generator().manual_seed(seed))
    rollout = collector.collect(networks.policy, networks.normaliser, contract.episode_steps)
    batch.close()
    # Of each copy its first episode: all of these end within the horizon, so that none is
    # left out for being long.
    lengths = (rollout.ended.argmax(axis=0) + 1).tolist()
    return Evaluation(
        seed,
        rollout.returns,
        rollout.cost_returns,
        tuple(rollout.observation[:t, i].astype(np.float64) for i, t in enumerate(lengths)),
        tuple(rollout.costs[:t, i] for i, t in enumerate(lengths)),
    )


@torch.no_grad()
def judge_prediction(networks: Networks, evaluation: Evaluation) -> dict[str, Any]:
    """Return, by cost name, how well spent plus cost-to-go foretells an episode's cost.

    That is what the monitor compares with the episode budget. At an episode's start nothing
    is spent; in its middle about half is known. `covered` is the share of episodes that cost
    no more than was foretold: a mean covers about half, whatever its quality.
    """
    costs = networks.contract.costs
    totals = np.stack([episode.sum(axis=0) for episode in evaluation.costs])
    report: dict[str, Any] = {cost.name: {} for cost in costs}
    for place, share in (("start", 0.0), ("middle", 0.5)):
        steps = [int(share * len(episode)) for episode in evaluation.costs]
        spent = np.stack([e[:t].sum(axis=0) for e, t in zip(evaluation.costs, steps, strict=True)])
        seen = np.stack([o[t] for o, t in zip(evaluation.observations, steps, strict=True)])
        x = networks.normaliser(torch.from_numpy(seen.astype(np.float32)))
        ahead = networks.critic(x)[:, 1 + len(costs) :].double().numpy()
        error = spent + np.maximum(ahead, 0.0) - totals
        for k, cost in enumerate(costs):
            report[cost.name][place] = {
                "mean_error": float(error[:, k].mean()),
                "rmse": float(np.sqrt((error[:, k] ** 2).mean())),
                "covered": float((error[:, k] >= 0.0).mean()),
            }
    return report
