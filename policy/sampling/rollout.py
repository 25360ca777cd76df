"""Collects rollouts in a batch of copies, and estimates the advantages of their actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.contract import Contract
from holdfast.policy.models.critic import Critic
from holdfast.policy.models.gaussian import GaussianPolicy
from holdfast.policy.models.networks import Normaliser
from holdfast.policy.sampling.gae import advantages
from holdfast.signals import EPISODE_LEFT, Array
from holdfast.sim.batch.batch import Batch


@dataclass(frozen=True)
class Rollout:
    """T steps of N copies.

    Attributes:
        observation: (T, N, n); u: (T, N, actions), in [-1, 1] units.
        log_prob: (T, N), log-probability of u under the policy that drew u.
        reward: (T, N); costs: (T, N, m); terminated, ended: (T, N).
        final_observation: (E, n), the last observation of each episode that ended, in the order
            of `ended`'s true values.
        last_observation: (N, n), after the last step, before any reset.
        limit: (T, N, m), the limits in force.
        disagreement: (T, N), see `Step`.
    """

    observation: NDArray[np.float32]
    u: NDArray[np.float32]
    log_prob: NDArray[np.float32]
    reward: Array
    costs: Array
    terminated: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    final_observation: NDArray[np.float32]
    last_observation: NDArray[np.float32]
    limit: Array
    disagreement: Array

    def episode_sums(self, values: Array, episodes: int) -> Array:
        """Return the sums (N · episodes, k) of values (T, N, k) over each copy's first episodes.

        A mean over all finished episodes would favour short ones: of the episodes that begin late,
        only short ones finish. T must be long enough for each copy to finish `episodes` episodes.
        """
        running, counted = np.zeros(values.shape[1:]), np.zeros(values.shape[1], dtype=int)
        rows = []
        for value, over in zip(values, self.ended, strict=True):
            running += value
            rows.append(running[over & (counted < episodes)])
            running[over] = 0.0
            counted += over
        return np.concatenate(rows)


class Collector:
    """Runs a policy in a batch of copies.

    Args:
        batch: the copies, which draw their own start states.
        generator: draws the actions.
        before: called before each step with the step's number.
    """

    def __init__(
        self,
        batch: Batch,
        generator: torch.Generator,
        before: Callable[[int], None] | None = None,
    ) -> None:
        self.batch, self.generator, self.before = batch, generator, before

    @torch.no_grad()
    def collect(self, policy: GaussianPolicy, normaliser: Normaliser, steps: int) -> Rollout:
        """Run `steps` control periods in every copy, each from a fresh episode."""
        batch, contract = self.batch, self.batch.contract
        copies, m = batch.copies, len(contract.costs)
        n, a = contract.observation_size, contract.action_size
        observations = np.empty((steps, copies, n), np.float32)
        finals = []
        rewards, disagreement = np.empty((2, steps, copies))
        costs, limits = np.empty((2, steps, copies, m))
        terminated, ended = np.empty((2, steps, copies), bool)
        noise = torch.randn((steps, copies, a), generator=self.generator)
        u = noise * torch.exp(policy.log_std)
        mean, observation = policy.frozen(), batch.reset()
        for t in range(steps):
            if self.before is not None:
                self.before(t)
            observations[t], limits[t] = observation, batch.limit
            u[t] += mean(normaliser(torch.from_numpy(observations[t])))
            step = batch.step(contract.action_center + contract.action_half_range * u[t].numpy())
            observation, rewards[t], costs[t] = step.observation, step.reward, step.costs
            disagreement[t] = step.disagreement
            terminated[t], ended[t] = step.terminated, step.terminated | step.truncated
            finals.append(step.final_observation[ended[t]])
        return Rollout(
            observations, u.numpy(), policy.log_prob_of(noise).numpy(), rewards, costs, terminated,
            ended, np.concatenate(finals).astype(np.float32),
            step.final_observation.astype(np.float32), limits, disagreement,
        )  # fmt: skip


def ends_with_episode(contract: Contract) -> bool:
    """Return whether the observation shows the time left; then the value after the end is 0."""
    return any(channel.signal == EPISODE_LEFT for channel in contract.observation)


def discounts(contract: Contract, gamma: float, lam: float) -> tuple[Array, Array]:
    """Return γ and λ of each of the critics' outputs, given γ and λ of the reward."""
    costs = contract.costs
    gammas = np.array([gamma, *(cost.gamma for cost in costs), *(1.0 for _ in costs)])
    lams = np.array([lam, *(2 * [cost.lam for cost in costs])])
    return gammas, lams


@dataclass(frozen=True)
class Estimates:
    """Advantages, targets, values, and values of the next states, (T, N, outputs) each.

    Outputs are in the critics' order. The value of the next state is 0 where the episode ended.
    """

    advantage: Array
    target: Array
    value: Array
    following: Array

    def explained_variance(self) -> list[float]:
        """Return 1 − Var(target − value)/Var(target) per output."""
        spread = np.maximum(self.target.var(axis=(0, 1)), 1e-12)
        return [float(v) for v in 1.0 - self.advantage.var(axis=(0, 1)) / spread]


@torch.no_grad()
def estimate(
    rollout: Rollout,
    shaped: Array,
    critic: Critic,
    normaliser: Normaliser,
    contract: Contract,
    gamma: float,
    lam: float,
) -> Estimates:
    """Return GAE estimates for the reward, for each cost, and for each undiscounted cost.

    γ and λ are the reward's, each cost's own, and 1 with each cost's λ. An episode that ran out of
    time is bootstrapped with the critics' value, unless the observation shows the time left: then
    the value after the last step is 0 by definition.

    Args:
        shaped: discounted costs (T, N, m) with cost shaping and pessimism; without, the rollout's
            costs.
    """

    def values(observations: NDArray[np.float32]) -> Array:
        flat = torch.from_numpy(observations.reshape(-1, observations.shape[-1]))
        result: Array = critic.values(normaliser(flat)).double().numpy()
        return result.reshape(*observations.shape[:-1], -1)

    value = values(rollout.observation)
    # V(s') is V of the next row, except in the last row and where an episode ended.
    following = np.concatenate((value[1:], values(rollout.last_observation)[None]))
    over = rollout.ended if ends_with_episode(contract) else rollout.terminated
    following[over] = 0.0
    cut = rollout.ended & ~over
    if cut.any():
        following[cut] = values(rollout.final_observation[cut[rollout.ended]])
    gains = np.concatenate((rollout.reward[..., None], shaped, rollout.costs), axis=-1)
    gammas, lams = discounts(contract, gamma, lam)
    advantage = advantages(gains, value, following, rollout.ended, gammas, lams)
    return Estimates(advantage, advantage + value, value, following)


def rows(values: Any) -> Tensor:
    """Return values (T, N, k) as float32 (T·N, k)."""
    return torch.from_numpy(values.reshape(-1, values.shape[-1])).float()
