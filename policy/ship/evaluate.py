"""Evaluation of a policy in simulation: returns with confidence intervals, and observations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from holdfast.contract import Contract
from holdfast.log.intervals import interval
from holdfast.policy.learn.settings import TrainSettings, require_same
from holdfast.policy.models.networks import Networks
from holdfast.policy.sampling.rollout import Collector
from holdfast.safety_monitor.prediction import Prediction, fit_prediction
from holdfast.signals import Array

COVERAGES = (0.5, 0.8, 0.9, 0.95)
"""Nominal coverages of the cost prediction, at which the observed coverage is reported."""

MET_WITHIN = 0.1
"""Share of the limit by which a mean cost may exceed its limit and still meet it: a policy that was
trained to reach its limit is above it in half of all measurements."""


def is_met(mean: float, limit: float) -> bool:
    """Return whether a mean cost per episode meets its limit d."""
    return mean <= (1.0 + MET_WITHIN) * limit


@dataclass(frozen=True)
class Evaluation:
    """Whole episodes of a policy in simulation.

    Attributes:
        names: names of the costs.
        returns: (episodes,). cost_returns: (episodes, costs).
        observations: (steps, n) for each episode. costs: (steps, costs) for each episode, the
            costs of the action at each step.
    """

    seed: int
    names: tuple[str, ...]
    returns: Array
    cost_returns: Array
    observations: tuple[Array, ...]
    costs: tuple[Array, ...]

    def summary(self) -> dict[str, Any]:
        """Return means and intervals, with the costs by name, as JSON data."""
        return {
            "episodes": len(self.returns),
            "seed": self.seed,
            "return": interval(self.returns),
            "costs": {
                name: interval(values)
                for name, values in zip(self.names, self.cost_returns.T, strict=True)
            },
        }


def evaluate(networks: Networks, settings: TrainSettings, episodes: int, seed: int) -> Evaluation:
    """Run full episodes with sampled actions, on the task and with the randomisation of training.

    Each episode draws its limits from the contract's ranges.

    The physics is MuJoCo's, also for a policy that was trained in MuJoCo Warp.

    Raises:
        ConfigError, TrainingError: the task is gone, or has another contract now.
    """
    contract = networks.contract
    require_same(settings, contract)
    batch = settings.task.batch(episodes, seed, contract=contract, randomise=settings.randomise)
    collector = Collector(batch, torch.Generator().manual_seed(seed))
    rollout = collector.collect(networks.policy, networks.normaliser, contract.episode_steps)
    batch.close()
    return _evaluation(
        contract, seed, rollout.observation, rollout.reward, rollout.costs, rollout.ended
    )


def evaluate_actions(
    contract: Contract,
    settings: TrainSettings,
    act: Callable[[int], Array],
    episodes: int,
    seed: int,
) -> Evaluation:
    """Run full episodes with actions that ignore observations, otherwise as `evaluate` does.

    Args:
        act: given a count, returns actions (count, actions), physical units.
    """
    batch = settings.task.batch(episodes, seed, contract=contract, randomise=settings.randomise)
    steps = []
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
    """Return the evaluation of the first episode of each copy in arrays (T, N, ...).

    T is the longest episode, so each first episode is whole, and none is left out for its length.
    """
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


@torch.no_grad()
def predict_costs(networks: Networks, evaluation: Evaluation) -> list[Array]:
    """Return the critics' cost-to-go (steps, costs) for each episode."""
    first = 1 + len(networks.contract.costs)
    return [
        networks.critic.values(networks.normaliser(torch.from_numpy(seen.astype(np.float32))))[
            :, first:
        ]
        .double()
        .numpy()
        for seen in evaluation.observations
    ]


def prediction_errors(
    contract: Contract, cost_to_go: Sequence[Array], costs: Sequence[Array], prediction: Prediction
) -> dict[str, Any]:
    """Return the errors of the predicted episode cost, by cost name, on held-out episodes.

    `covered`: by nominal coverage, the share of episodes whose cost stays within the prediction
    plus margin at all steps. `mean_error` and `rmse`: errors of the predicted cost, at the `start`
    of an episode and in the `middle`, where about half of the cost is known.

    Args:
        cost_to_go, costs: (steps, costs) for each held-out episode.
        prediction: the prediction, calibrated on other episodes.
    """
    shortfalls = fit_prediction(cost_to_go, costs, contract.episode_steps).shortfalls
    known = len(prediction.shortfalls[0])
    margins = {c: prediction.margin(c) for c in COVERAGES if c <= known / (known + 1)}
    report: dict[str, Any] = {}
    for k, cost in enumerate(contract.costs):
        report[cost.name] = {
            "episodes": len(costs),
            "covered": {
                f"{coverage:g}": float(np.mean(np.array(shortfalls[k]) <= margin[k]))
                for coverage, margin in margins.items()
            },
            **{
                place: _errors([a[:, k] for a in cost_to_go], [c[:, k] for c in costs], share)
                for place, share in (("start", 0.0), ("middle", 0.5))
            },
        }
    return report


def _errors(cost_to_go: Sequence[Array], costs: Sequence[Array], share: float) -> dict[str, float]:
    """Return mean and root mean square of predicted minus real cost, over episodes."""
    error = np.array(
        [
            max(ahead[int(share * len(each))], 0.0) - each[int(share * len(each)) :].sum()
            for ahead, each in zip(cost_to_go, costs, strict=True)
        ]
    )
    return {"mean_error": float(error.mean()), "rmse": float(np.sqrt((error**2).mean()))}
