"""`holdfast train --demonstrations`: training begins at a clone of logged behaviour, safe or not.

The policy is cloned from logs by maximum likelihood, then trained under the limit.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.contract import Contract
from holdfast.errors import LogError
from holdfast.log.episodes import LoggedEpisode, episodes, runs
from holdfast.log.reader import Log
from holdfast.policy.models.gaussian import GaussianPolicy
from holdfast.policy.models.networks import Networks
from holdfast.safety_monitor.costs import CostModel
from holdfast.signals import Array
from holdfast.sim.tasks.task import Task

LEAST_STEPS, LEAST_EPISODES = 256, 2
"""Least number of usable steps and episodes; at least one episode is held out."""

HELD_OUT = 0.2
"""Share of the episodes that are held out of the fit, to decide when to stop."""

LEAST_STD = 0.1
"""Smallest standard deviation of the cloned policy, in units of half the action range, so that CPO
can still explore."""

RATE, MINIBATCH = 1e-3, 128
"""Adam's learning rate, and samples per step."""

PASSES, PATIENCE = 200, 10
"""Most passes over the demonstrations, and most passes without a gain on the held-out episodes."""


@dataclass(frozen=True)
class Demonstration:
    """One logged episode of K actions.

    Attributes:
        observation: (K, n); u: (K, actions), proposed actions, scaled to [-1, 1].
        usable: (K,), the monitor did not change the action.
        reward, costs: sums over the episode; costs (costs,) by the task's cost functions.
        completed: the episode ran its full length.
    """

    observation: NDArray[np.float32]
    u: Array
    usable: NDArray[np.bool_]
    reward: float
    costs: Array
    completed: bool


@dataclass(frozen=True)
class Demonstrations:
    """The episodes of several logs, and the logs' names and hashes."""

    episodes: tuple[Demonstration, ...]
    logs: tuple[Mapping[str, str], ...]

    @property
    def usable_steps(self) -> int:
        return sum(int(episode.usable.sum()) for episode in self.episodes)

    def summary(self, contract: Contract) -> dict[str, Any]:
        """Return counts, and mean return and costs per episode, as JSON data."""
        episodes = self.episodes
        costs = np.mean([episode.costs for episode in episodes], axis=0).tolist()
        names = [cost.name for cost in contract.costs]
        return {
            "logs": [dict(entry) for entry in self.logs],
            "episodes": len(episodes),
            "unfinished": sum(not episode.completed for episode in episodes),
            "steps": self.usable_steps,
            "overridden": sum(int((~episode.usable).sum()) for episode in episodes),
            "return": float(np.mean([episode.reward for episode in episodes])),
            "costs": dict(zip(names, costs, strict=True)),
        }


def read(paths: Sequence[Path], contract: Contract, task: Task) -> Demonstrations:
    """Read demonstrations of a task from logs of any behaviour.

    Args:
        task: gives the rewards.

    Raises:
        LogError: a path is no log, a run is given twice, a log is of another task, or the logs
            hold too few usable steps.
    """
    shown: list[Demonstration] = []
    logs, cost_model = [], CostModel(contract)
    for run in runs(paths):
        _require_fit(run, contract)
        for episode in episodes(run, task):
            if episode.obeyed and len(episode):
                shown.append(_demonstration(run, episode, contract, cost_model))
        logs.append({"run": run.info.run, "sha256": run.sha256()})
    demonstrations = Demonstrations(tuple(shown), tuple(logs))
    steps, usable = demonstrations.usable_steps, sum(e.usable.any() for e in shown)
    if shown and not steps:
        raise LogError("the monitor overrode every logged step; nothing is left to learn from")
    if steps < LEAST_STEPS or usable < LEAST_EPISODES:
        raise LogError(
            f"demonstrations should be at least {LEAST_STEPS} steps in {LEAST_EPISODES} episodes "
            f"that the monitor did not override, received {steps} in {usable}"
        )
    return demonstrations


def _require_fit(run: Log, contract: Contract) -> None:
    """Raise unless a log has the contract's robot, task, timing, observation and action.

    Limits, budgets and discounts may differ, as demonstrations may break the limits.
    """
    for name in ("robot", "task", "period_s", "episode_steps", "observation", "action"):
        theirs, ours = getattr(run.info.contract, name), getattr(contract, name)
        if theirs != ours and isinstance(ours, tuple):
            pairs = zip_longest(theirs, ours, fillvalue="nothing")
            theirs, ours = next((a, b) for a, b in pairs if a != b)
        if theirs != ours:
            raise LogError(
                f"{run.path}: its {name} should be that of {contract.task}, {ours}, "
                f"received {theirs}"
            )


def _demonstration(
    run: Log, episode: LoggedEpisode, contract: Contract, cost_model: CostModel
) -> Demonstration:
    try:
        costs = cost_model(episode.signals)
    except KeyError as missing:
        raise LogError(
            f"{run.path}: lacks the signal {missing}, of which {contract.task} makes a cost"
        ) from None
    u = contract.normalised(episode.proposed)
    # Samples of a Gaussian may lie beyond the limits. Other such actions count as the limit.
    sampled = np.isfinite(episode.log_prob[:, None])
    return Demonstration(
        observation=episode.observation[:-1].astype(np.float32),
        u=np.where(sampled, u, np.clip(u, -1.0, 1.0)),
        usable=~episode.intervened & np.isfinite(u).all(axis=1),
        reward=float(episode.reward.sum()),
        costs=costs.sum(axis=0),
        completed=episode.completed,
    )


def clone(networks: Networks, demonstrations: Demonstrations, seed: int) -> dict[str, Any]:
    """Fit policy and normaliser to demonstrations; return a summary and the fit's quality.

    Args:
        networks: new networks; the critics stay unchanged.
        seed: seed of the held-out choice and of the minibatches.
    """
    generator = torch.Generator().manual_seed(seed)
    episodes = [episode for episode in demonstrations.episodes if episode.usable.any()]
    order = torch.randperm(len(episodes), generator=generator).tolist()
    held_out = max(1, round(HELD_OUT * len(episodes)))
    parts = [[episodes[i] for i in part] for part in (order[:held_out], order[held_out:])]
    (unseen, unseen_u), (seen, seen_u) = (_rows(part) for part in parts)
    networks.normaliser.update(seen)
    nll, passes = _maximise_likelihood(
        networks.policy,
        (networks.normaliser(seen), seen_u),
        (networks.normaliser(unseen), unseen_u),
        generator,
    )
    return {
        **demonstrations.summary(networks.contract),
        "held_out": held_out,
        "nll": nll,
        "passes": passes,
        "std": torch.exp(networks.policy.log_std).tolist(),
    }


def _rows(episodes: Sequence[Demonstration]) -> tuple[Tensor, Tensor]:
    """Return the usable observations (B, n) and actions (B, actions)."""
    observation = np.concatenate([episode.observation[episode.usable] for episode in episodes])
    u = np.concatenate([episode.u[episode.usable] for episode in episodes])
    return torch.from_numpy(observation), torch.from_numpy(u).float()


def _nll(policy: GaussianPolicy, x: Tensor, u: Tensor) -> Tensor:
    """Return the negative log-likelihood, nats per step, mean over samples.

    −log π(u|s) = Σ_i ½((u_i − μ_i(s))/σ_i)² + log σ_i + ½ log 2π.
    """
    return -policy.log_prob(policy(x), u).mean()


def _maximise_likelihood(
    policy: GaussianPolicy,
    seen: tuple[Tensor, Tensor],
    unseen: tuple[Tensor, Tensor],
    generator: torch.Generator,
) -> tuple[float, int]:
    """Minimise `_nll` on the seen rows; keep the weights that are best on the unseen rows.

    Returns:
        The best `_nll` on the unseen rows, and the number of passes that reached it.
    """
    optimiser, (x, u) = torch.optim.Adam(policy.body.parameters(), lr=RATE), seen
    best, reached, weights = math.inf, 0, policy.state_dict()
    for number in range(1, PASSES + 1):
        for rows in torch.split(torch.randperm(len(x), generator=generator), MINIBATCH):
            policy.zero_grad()
            torch.autograd.backward(_nll(policy, x[rows], u[rows]))
            optimiser.step()
        with torch.no_grad():
            # Given the means, the likeliest σ_i² is the mean of (u_i − μ_i(s))².
            std = (u - policy.means(x)).square().mean(0).sqrt()
            policy.log_std.copy_(std.clamp_min(LEAST_STD).log())
            nll = float(_nll(policy, *unseen))
        if nll < best:
            best, reached, weights = nll, number, copy.deepcopy(policy.state_dict())
        elif number - reached >= PATIENCE:
            break
    policy.load_state_dict(weights)
    return best, reached
