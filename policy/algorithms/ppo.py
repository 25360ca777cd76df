"""Proximal policy optimization, clipped (Schulman et al. 2017, section 3).

Adam, over minibatches, on E[min(ρA, clip(ρ, 1 − ε, 1 + ε) A)].
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import torch
from torch import Tensor

from holdfast.policy.algorithms.algorithm import (
    Algorithm,
    BatchEstimate,
    OwnSettings,
    Setup,
    UpdateResult,
)
from holdfast.policy.models import checkpoint
from holdfast.policy.models.gaussian import Linearisation, kl, set_gradient
from holdfast.policy.sampling.samples import Samples, surrogates
from holdfast.schema import POSITIVE, Range


@dataclass(frozen=True)
class EpochSettings(OwnSettings):
    """Settings of algorithms that take several passes over a batch.

    Attributes:
        kl_limit: mean KL(old ‖ new) in nats above which no further epoch begins; the
            constraint of ppo-kl; also the largest KL(new ‖ old) of the states that focops uses.
        epochs: passes over a batch, at most.
        policy_minibatch: samples per Adam step on the policy.
        policy_rate: Adam's learning rate for the policy.
    """

    kl_limit: Annotated[float, POSITIVE] = 0.03
    epochs: Annotated[int, Range(1)] = 10
    policy_minibatch: Annotated[int, Range(1)] = 1000
    policy_rate: Annotated[float, POSITIVE] = 1e-3


E = TypeVar("E", bound=EpochSettings)


class Epochs(Algorithm[E]):
    """Epochs of gradient steps, until the KL divergence is large enough.

    Attributes:
        case: name of the kind of update in records.
    """

    case: str

    def __init__(self, setup: Setup, settings: E) -> None:
        super().__init__(setup, settings)
        self.optimiser = torch.optim.Adam(
            self.policy.parameters(), lr=settings.policy_rate, fused=True
        )

    def update(self, samples: Samples, estimate: BatchEstimate) -> UpdateResult:
        """See `Algorithm`."""
        before, old_mean = surrogates(self.policy, samples)
        old_log_std = self.policy.log_std.detach().clone()
        if not bool(torch.isfinite(before).all()):
            return UpdateResult("rejected", accepted=None, reason="the batch is not finite")
        epochs, divergence, after = 0, 0.0, before
        while epochs < self.settings.epochs and self.may_go_on(divergence):
            order = torch.randperm(len(samples), generator=self.generator)
            for rows in torch.split(order, self.settings.policy_minibatch):
                ascent = self.ascent(samples.rows(rows), old_mean[rows], old_log_std)
                set_gradient(self.policy, -ascent)
                self.optimiser.step()
            after, mean = surrogates(self.policy, samples)
            divergence = float(kl(old_mean, old_log_std, mean, self.policy.log_std.detach()))
            epochs += 1
        gain, *rises = (after - before).tolist()
        zeros, more = (0.0,) * len(rises), {"epochs": float(epochs)}
        return UpdateResult(self.case, divergence, gain, tuple(rises), nu=zeros, more=more)

    @abstractmethod
    def may_go_on(self, divergence: float) -> bool:
        """Return whether another epoch may follow, at this KL(old ‖ new)."""

    @abstractmethod
    def ascent(self, samples: Samples, old_mean: Tensor, old_log_std: Tensor) -> Tensor:
        """Return the direction of ascent (P,) of a minibatch's objective."""

    def tensors(self) -> dict[str, Tensor]:
        """See `Algorithm`."""
        return checkpoint.adam_tensors(self.optimiser, "policy_adam")

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """See `Algorithm`."""
        checkpoint.restore_adam(self.optimiser, "policy_adam", tensors)


@dataclass(frozen=True)
class PPOSettings(EpochSettings):
    """Settings of clipped PPO.

    Attributes:
        clip: ε, bound on the importance ratio's distance from 1.
    """

    clip: Annotated[float, POSITIVE] = 0.2


P = TypeVar("P", bound=PPOSettings)


class PPO(Epochs[P]):
    """Ascent of the clipped surrogate."""

    Settings = PPOSettings
    case = "clip"

    def may_go_on(self, divergence: float) -> bool:
        """See `Epochs`."""
        return divergence <= self.settings.kl_limit

    def ascent(self, samples: Samples, old_mean: Tensor, old_log_std: Tensor) -> Tensor:
        """Return the gradient (P,) of E[min(ρA, clip(ρ, 1 − ε, 1 + ε) A)].

        Where ρA is the smaller term, its gradient counts. The clipped term is constant, so its
        gradient is 0.
        """
        here = Linearisation(self.policy, samples.x)
        ratio = torch.exp(self.policy.log_prob(here.mean, samples.u) - samples.log_prob)
        advantage, clip = samples.advantages[:, 0], self.settings.clip
        free = ratio * advantage <= ratio.clamp(1.0 - clip, 1.0 + clip) * advantage
        weight = ratio * advantage * free * samples.weight / samples.weight.sum()
        return here.score(samples.u, weight[:, None])[0]
