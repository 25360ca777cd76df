"""Collect experience from a batch of copies, and turn it into samples for a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.contract import Contract
from holdfast.policy.gae import advantages
from holdfast.policy.networks import Critic, GaussianPolicy, Normaliser
from holdfast.signals import EPISODE_LEFT, Array
from holdfast.sim.batch import Batch


@dataclass(frozen=True)
class Rollout:
    """T steps of N copies, and what their finished episodes returned.

    Attributes:
        observation, final_observation: (T, N, n); u: (T, N, actions), in [-1, 1] units.
        reward: (T, N); costs: (T, N, costs); terminated, ended: (T, N).
        returns: (episodes,), cost_returns: (episodes, costs): undiscounted sums; lengths.
    """

    observation: NDArray[np.float32]
    final_observation: NDArray[np.float32]
    u: NDArray[np.float32]
    reward: Array
    costs: Array
    terminated: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    returns: Array
    cost_returns: Array
    lengths: Array


class Collector:
    """Runs a policy in a batch of copies.

    Args:
        batch: the copies; theirs are the start states' seeds.
        generator: draws the actions.
    """

    def __init__(self, batch: Batch, generator: torch.Generator) -> None:
        self.batch, self.generator = batch, generator

    @torch.no_grad()
    def collect(self, policy: GaussianPolicy, normaliser: Normaliser, steps: int) -> Rollout:
        """Run `steps` control periods in every copy, each from a fresh episode."""
        batch, contract = self.batch, self.batch.contract
        copies, k = batch.copies, len(contract.costs)
        n, a = contract.observation_size, contract.action_size
        observations = np.empty((steps, copies, n), np.float32)
        finals = np.empty((steps, copies, n), np.float32)
        us = np.empty((steps, copies, a), np.float32)
        rewards, costs = np.empty((steps, copies)), np.empty((steps, copies, k))
        terminated, ended = np.empty((2, steps, copies), bool)
        noise = torch.randn((steps, copies, a), generator=self.generator)
        std = torch.exp(policy.log_std)
        observation = batch.reset()
        for t in range(steps):
            observations[t] = observation
            mean = policy(normaliser(torch.from_numpy(observations[t])))
            us[t] = (mean + std * noise[t]).numpy()
            step = batch.step(contract.action_center + contract.action_half_range * us[t])
            observation, finals[t] = step.observation, step.final_observation
            rewards[t], costs[t] = step.reward, step.costs
            terminated[t], ended[t] = step.terminated, step.terminated | step.truncated
        totals = _episode_sums(np.concatenate((rewards[..., None], costs), axis=-1), ended)
        return Rollout(
            observations, finals, us, rewards, costs, terminated, ended,
            totals[:, 0], totals[:, 1:-1], totals[:, -1],
        )  # fmt: skip


def _episode_sums(values: Array, ended: NDArray[np.bool_]) -> Array:
    """Return sums of values (T, N, m) over finished episodes, with their lengths: (E, m + 1)."""
    with_length = np.concatenate((values, np.ones((*ended.shape, 1))), axis=-1)
    running, rows = np.zeros_like(with_length[0]), []
    for value, over in zip(with_length, ended, strict=True):
        running += value
        rows.append(running[over])
        running[over] = 0.0
    return np.concatenate(rows)


def ends_with_episode(contract: Contract) -> bool:
    """Return whether the observation shows the time left, so that nothing follows its end."""
    return any(channel.signal == EPISODE_LEFT for channel in contract.observation)


def discounts(contract: Contract, gamma: float, lam: float) -> tuple[Array, Array]:
    """Return γ and λ of each of the critics' outputs, given the reward's."""
    costs = contract.costs
    gammas = np.array([gamma, *(cost.gamma for cost in costs), *(1.0 for _ in costs)])
    lams = np.array([lam, *(2 * [cost.lam for cost in costs])])
    return gammas, lams


@dataclass(frozen=True)
class Estimates:
    """Advantages (T, N, outputs), the critics' targets and values, in the critics' order."""

    advantage: Array
    target: Array
    value: Array


@torch.no_grad()
def estimate(
    rollout: Rollout,
    critic: Critic,
    normaliser: Normaliser,
    contract: Contract,
    gamma: float,
    lam: float,
) -> Estimates:
    """Return GAE estimates of the reward (γ, λ), of each cost (its own γ, λ), and of each cost
    undiscounted (1, its λ).

    An episode that ran out of time is bootstrapped with the critics' value, unless the
    observation shows the time left: then the value after the last step is 0 by definition.
    """

    def values(observations: NDArray[np.float32]) -> Array:
        flat = torch.from_numpy(observations.reshape(-1, observations.shape[-1]))
        result: Array = critic(normaliser(flat)).double().numpy()
        return result.reshape(*observations.shape[:-1], -1)

    value = values(rollout.observation)
    # V(s') is V of the next row, but for the last row and where an episode ended.
    following = np.concatenate((value[1:], values(rollout.final_observation[-1:])))
    inner = rollout.ended.copy()
    inner[-1] = False
    if inner.any():
        following[inner] = values(rollout.final_observation[inner])
    over = rollout.ended if ends_with_episode(contract) else rollout.terminated
    following[over] = 0.0
    gains = np.concatenate((rollout.reward[..., None], rollout.costs, rollout.costs), axis=-1)
    gammas, lams = discounts(contract, gamma, lam)
    advantage = advantages(gains, value, following, rollout.ended, gammas, lams)
    return Estimates(advantage, advantage + value, value)


def fit_critic(
    critic: Critic,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    target: Tensor,
    steps: int,
    minibatch: int,
    generator: torch.Generator,
) -> None:
    """Fit the critics to targets (B, outputs) at normalised observations x (B, n)."""
    critic.follow(target)
    scaled = (target - critic.mean) / critic.std
    minibatch = min(minibatch, len(x))
    for _ in range(steps):
        rows = torch.randint(len(x), (minibatch,), generator=generator)
        loss = ((critic.scaled(x[rows]) - scaled[rows]) ** 2).sum(-1).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def explained_variance(value: Array, target: Array) -> list[float]:
    """Return 1 − Var(target − value)/Var(target) per output."""
    axes: Sequence[int] = (0, 1)
    spread = np.maximum(target.var(axis=tuple(axes)), 1e-12)
    return [float(v) for v in 1.0 - (target - value).var(axis=tuple(axes)) / spread]
