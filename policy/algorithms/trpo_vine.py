"""TRPO's vine procedure (Schulman et al. 2015, section 5.2): several actions are tried from one
restored state.

    L(θ) = 1/N Σ_n L_n(θ),   L_n(θ) = Σ_k ρ_nk(θ) Q̂(s_n, a_nk) / Σ_k ρ_nk(θ)   (equation 16)

The s_n are N states drawn from the steps of a batch (the rollout set), the a_nk are K actions
that the policy π draws at each state, ρ = π_θ/π, and Q̂ is the discounted sum of one rollout from
the restored state. The K rollouts of a state share their random numbers from the second action
on, so that Q̂(s, a) − Q̂(s, a') is due to the first action and not to chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.errors import TrainingError
from holdfast.policy.algorithms.algorithm import Collected, Setup
from holdfast.policy.algorithms.trpo import TRPO, TRPOSettings
from holdfast.policy.models.networks import Networks
from holdfast.policy.sampling.rollout import discounts, ends_with_episode
from holdfast.policy.sampling.samples import Samples
from holdfast.schema import Range
from holdfast.signals import Array
from holdfast.sim.batch.batch import Batch, Snapshot


@dataclass(frozen=True)
class VineSettings(TRPOSettings):
    """Options of branching rollouts (TRPO "vine").

    Attributes:
        states: N, number of states, drawn from a batch's steps, at which branches start.
        branches: K, number of actions sampled at each state.
        branch_steps: maximum number of steps of a branch; the critic estimates the rest. 0:
            branches run to the episode's end.
    """

    states: Annotated[int, Range(1)] = 200
    branches: Annotated[int, Range(2)] = 4
    branch_steps: Annotated[int, Range(0)] = 25


class TRPOVine(TRPO[VineSettings]):
    """TRPO's step on `Branches`.

    Raises:
        TrainingError: rollouts run in shards, or a batch has fewer steps than states are drawn.
    """

    Settings = VineSettings

    def __init__(self, setup: Setup, settings: VineSettings) -> None:
        super().__init__(setup, settings)
        if setup.sharded:
            raise TrainingError(
                "trpo-vine branches from the states of one batch; leave --ray and --shards out"
            )
        if settings.states > setup.steps:
            raise TrainingError(
                f"states should be at most the {setup.steps} steps of a batch, "
                f"received {settings.states}"
            )
        branches = setup.more(settings.states * settings.branches)
        gammas = discounts(setup.networks.contract, setup.gamma, setup.lam)[0][: 1 + setup.costs]
        self.vine = Vine(setup.batch, branches, settings, setup.generator, gammas)
        self.networks = setup.networks

    def before_rollout(self, steps: int) -> None:
        """See `Algorithm`."""
        self.vine.draw(steps)

    def before_step(self, t: int) -> None:
        """See `Algorithm`."""
        self.vine.keep(t)

    def samples(self, collected: Collected) -> Samples:
        """See `Algorithm`: first actions of branches, not the rollout's own steps."""
        branches = self.vine.grow(self.networks)
        self.extra_steps = self.vine.steps
        return branches

    def close(self) -> None:
        """See `Algorithm`."""
        self.vine.close()


@dataclass(frozen=True)
class Branches(Samples):
    """The first actions of branches, in blocks of one state each.

    Attributes:
        advantages: (N·K, 1 + m), Q̂ minus its mean over the state's branches; the mean changes
            L_n by a constant. weight: 1/K, so that the weights of a state sum to 1.
        together: K.
    """

    def sums(self, ratio: Tensor) -> Tensor:
        """Return Σ_n L_n, (1 + m,); see `Samples`."""
        return self._terms(ratio).sum((0, 1))

    def factors(self, ratio: Tensor) -> Tensor:
        """See `Samples`. With p_k = ρ_k/Σρ: ∇L_n = Σ_k p_k (Q̂_k − L_n) ∇log π(a_k|s_n)."""
        terms = self._terms(ratio)
        share = self._share(ratio)
        return (terms - share * terms.sum(1, keepdim=True)).flatten(0, 1)

    def _share(self, ratio: Tensor) -> Tensor:
        """Return p, (N, K, 1)."""
        by_state = ratio.view(-1, self.together, 1)
        return by_state / by_state.sum(1, keepdim=True)

    def _terms(self, ratio: Tensor) -> Tensor:
        """Return p_k Q̂_k, (N, K, 1 + m)."""
        return self._share(ratio) * self.advantages.view(-1, self.together, len(self.advantages.T))


class Vine:
    """Draws states while a batch is collected, then runs branches from these states.

    Args:
        batch: the batch of the drawn states.
        branches: another batch of the task, `settings.states` · `settings.branches` copies.
        generator: draws states, actions and the noise that branches share.
        gammas: (1 + m,), discounts of the reward and of each cost.

    Attributes:
        steps: simulated steps of the last branches.
    """

    def __init__(
        self,
        batch: Batch,
        branches: Batch,
        settings: VineSettings,
        generator: torch.Generator,
        gammas: Array,
    ) -> None:
        self.batch, self.branches, self.settings = batch, branches, settings
        self.generator, self.gammas = generator, gammas
        self.steps = 0
        self._drawn = np.empty(0, dtype=np.int64)
        self._kept: list[Snapshot] = []

    def draw(self, steps: int) -> None:
        """Draw states of a batch with `steps` steps per copy, uniformly, none twice."""
        order = torch.randperm(steps * self.batch.copies, generator=self.generator).numpy()
        self._drawn, self._kept = np.sort(order[: self.settings.states]), []

    def keep(self, t: int) -> None:
        """Store the drawn states of step t, before the step is made."""
        at, copies = np.divmod(self._drawn, self.batch.copies)
        here = copies[at == t]
        if len(here):
            rows = self.batch.snapshot().rows
            self._kept.append(Snapshot({name: array[here] for name, array in rows.items()}))

    @torch.no_grad()
    def grow(self, networks: Networks) -> Branches:
        """Run the branches from the stored states.

        Returns:
            Samples of Q̂ = Σ_l γ^l r_l to the episode's end; or to `branch_steps`, plus γ^l V(s_l).
        """
        s, contract, policy = self.settings, networks.contract, networks.policy
        horizon = s.branch_steps or contract.episode_steps
        observation, n = self._restored(), s.states * s.branches
        mean, std = policy.frozen(), torch.exp(policy.log_std)
        first = torch.randn((n, len(std)), generator=self.generator)
        brought, discount = np.zeros((n, len(self.gammas))), np.ones_like(self.gammas)
        going, self.steps = np.ones(n, dtype=bool), 0
        for k in range(horizon):
            seen = networks.normaliser(torch.from_numpy(observation.astype(np.float32)))
            noise = first if k == 0 else self._shared(len(std))
            action = mean(seen) + std * noise
            if k == 0:
                u, x = action, seen
            step = self.branches.step(
                contract.action_center + contract.action_half_range * action.numpy()
            )
            gains = np.concatenate((step.reward[:, None], step.costs), axis=1)
            brought[going] += discount * gains[going]
            discount = discount * self.gammas
            self.steps += int(going.sum())
            ended = step.terminated | step.truncated
            over = ended if ends_with_episode(contract) else step.terminated
            cut = going & ~over & (ended | (k == horizon - 1))
            if cut.any():
                brought[cut] += discount * _values(networks, step.final_observation[cut])
            going &= ~ended
            observation = step.observation
            if not going.any():
                break
        q = brought.reshape(s.states, s.branches, -1)
        advantages = torch.from_numpy(q - q.mean(axis=1, keepdims=True)).flatten(0, 1).float()
        weight = torch.full((n,), 1.0 / s.branches)
        return Branches(x, u, policy.log_prob_of(first), advantages, weight, s.branches)

    def _restored(self) -> Array:
        """Put each stored state into its K branches; return the branches' observations."""
        names = self._kept[0].rows
        rows = {name: np.concatenate([part.rows[name] for part in self._kept]) for name in names}
        k = self.settings.branches
        return self.branches.load(Snapshot(rows), np.repeat(np.arange(self.settings.states), k))

    def _shared(self, actions: int) -> Tensor:
        """Return noise (N·K, actions) that all branches of a state share."""
        noise = torch.randn((self.settings.states, actions), generator=self.generator)
        return noise.repeat_interleave(self.settings.branches, dim=0)

    def close(self) -> None:
        """End the branches' threads."""
        self.branches.close()


def _values(networks: Networks, observation: NDArray[np.floating]) -> Array:
    """Return the critics' discounted values (B, 1 + m) of observations (B, n)."""
    x = networks.normaliser(torch.from_numpy(observation.astype(np.float32)))
    values: Array = networks.critic.values(x).double().numpy()
    return values[:, : 1 + len(networks.contract.costs)]
