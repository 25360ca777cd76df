"""Measure a policy in simulation: returns with confidence intervals, and what it saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from holdfast.contract import Contract
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
    """Episodes of the behaviour policy in simulation, whole.

    Attributes:
        names: of the costs.
        returns: (episodes,). cost_returns: (episodes, costs).
        observations: of one episode each, (steps, n). costs: theirs, (steps, costs): what the
            action at each step cost.
    """

    seed: int
    names: tuple[str, ...]
    returns: Array
    cost_returns: Array
    observations: tuple[Array, ...]
    costs: tuple[Array, ...]

    def summary(self) -> dict[str, Any]:
        """Return means and intervals as JSON data, of the costs by name."""
        return {
            "episodes": len(self.returns),
            "seed": self.seed,
            "return": interval(self.returns),
            "costs": {
                name: interval(values)
                for name, values in zip(self.names, self.cost_returns.T, strict=True)
            },
        }


def evaluate(networks: Networks, episodes: int, seed: int) -> Evaluation:
    """Run the behaviour policy (actions sampled) for full episodes in the task's simulation."""
    contract = networks.contract
    batch = make_batch(contract.task, episodes, seed, contract=contract)
    collector = Collector(batch, torch.Generator().manual_seed(seed))
    rollout = collector.collect(networks.policy, networks.normaliser, contract.episode_steps)
    batch.close()
    return _evaluation(
        contract, seed, rollout.observation, rollout.reward, rollout.costs, rollout.ended
    )


def evaluate_actions(
    contract: Contract, act: Callable[[int], Array], episodes: int, seed: int
) -> Evaluation:
    """Run actions that look at nothing for full episodes in the task's simulation.

    Args:
        act: given how many, returns that many actions (count, actions), physical units.
    """
    batch, steps = make_batch(contract.task, episodes, seed, contract=contract), []
    observations = [batch.reset()]
    for _ in range(contract.episode_steps):
        steps.append(batch.step(act(episodes)))
        observations.append(steps[-1].observation)
    batch.close()
    return _evaluation(
        contract,
        seed,
        np.stack(observations[:-1]),
        np.stack([step.reward for step in steps]),
        np.stack([step.costs for step in steps]),
        np.stack([step.terminated | step.truncated for step in steps]),
    )


def _evaluation(
    contract: Contract,
    seed: int,
    observation: NDArray[np.floating[Any]],
    reward: Array,
    costs: Array,
    ended: NDArray[np.bool_],
) -> Evaluation:
    """Take from arrays (T, N, ...) the first episode of each copy: all of these end within the
    horizon, so that none is left out for being long."""
    parts = [(slice(0, t + 1), i) for i, t in enumerate(ended.argmax(axis=0).tolist())]
    billed = tuple(costs[part] for part in parts)
    return Evaluation(
        seed,
        tuple(cost.name for cost in contract.costs),
        np.array([reward[part].sum() for part in parts]),
        np.stack([episode.sum(axis=0) for episode in billed]),
        tuple(observation[part].astype(np.float64) for part in parts),
        billed,
    )


def judge_prediction(networks: Networks, evaluation: Evaluation) -> dict[str, Any]:
    """Return, by cost name, how well spent plus cost-to-go foretells an episode's cost.

    That is what the monitor compares with the episode budget. At an episode's start nothing
    is spent; in its middle about half is known. `covered` is the share of episodes that cost
    no more than was foretold: a mean covers about half, whatever its quality.
    """
    costs = networks.contract.costs
    totals = evaluation.cost_returns
    report: dict[str, Any] = {cost.name: {} for cost in costs}
    for place, share in (("start", 0.0), ("middle", 0.5)):
        steps = [int(share * len(episode)) for episode in evaluation.costs]
        spent = np.stack([e[:t].sum(axis=0) for e, t in zip(evaluation.costs, steps, strict=True)])
        seen = np.stack([o[t] for o, t in zip(evaluation.observations, steps, strict=True)])
        x = networks.normaliser(torch.from_numpy(seen.astype(np.float32)))
        ahead = networks.critic.values(x)[:, 1 + len(costs) :].double().numpy()
        error = spent + np.maximum(ahead, 0.0) - totals
        for k, cost in enumerate(costs):
            report[cost.name][place] = {
                "mean_error": float(error[:, k].mean()),
                "rmse": float(np.sqrt((error[:, k] ** 2).mean())),
                "covered": float((error[:, k] >= 0.0).mean()),
            }
    return report
