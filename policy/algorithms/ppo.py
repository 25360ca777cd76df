"""Proximal policy optimization, clipped (Schulman et al. 2017, section 3).

Adam, over minibatches, on E[min(ρA, clip(ρ, 1 − ε, 1 + ε) A)].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from holdfast.policy.algorithms.algorithm import Algorithm, Measured, Report
from holdfast.policy.models import checkpoint
from holdfast.policy.models.gaussian import Linearisation, kl, set_gradient
from holdfast.policy.sampling.samples import Samples, surrogates


class PPO(Algorithm):
    """Epochs of gradient steps, until the policy has gone as far as it may."""

    case = "clip"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.optimiser = torch.optim.Adam(
            self.policy.parameters(), lr=self.settings.ppo.policy_rate, fused=True
        )

    def update(self, samples: Samples, measured: Measured) -> Report:
        """See `Algorithm`."""
        before, old_mean = surrogates(self.policy, samples)
        old_log_std = self.policy.log_std.detach().clone()
        if not bool(torch.isfinite(before).all()):
            return Report("rejected", accepted=None, reason="the batch is not finite")
        epochs, divergence, after = 0, 0.0, before
        while epochs < self.settings.ppo.epochs and self.may_go_on(divergence):
            order = torch.randperm(len(samples), generator=self.generator)
            for rows in torch.split(order, self.settings.ppo.policy_minibatch):
                ascent = self.ascent(samples.rows(rows), old_mean[rows], old_log_std)
                set_gradient(self.policy, -ascent)
                self.optimiser.step()
            after, mean = surrogates(self.policy, samples)
            divergence = float(kl(old_mean, old_log_std, mean, self.policy.log_std.detach()))
            epochs += 1
        gain, *rises = (after - before).tolist()
        zeros, more = (0.0,) * len(rises), {"epochs": float(epochs)}
        return Report(self.case, divergence, gain, tuple(rises), nu=zeros, more=more)

    def may_go_on(self, divergence: float) -> bool:
        """Return whether another epoch may follow, at this KL(old ‖ new)."""
        return divergence <= self.settings.ppo.kl_limit

    def ascent(self, samples: Samples, old_mean: Tensor, old_log_std: Tensor) -> Tensor:
        """Return the gradient (P,) of E[min(ρA, clip(ρ, 1 − ε, 1 + ε) A)].

        It is that of ρA where ρA is the smaller; where the clipped term is, a constant, it is 0.
        """
        here = Linearisation(self.policy, samples.x)
        ratio = torch.exp(self.policy.log_prob(here.mean, samples.u) - samples.log_prob)
        advantage, clip = samples.advantages[:, 0], self.settings.ppo.clip
        free = ratio * advantage <= ratio.clamp(1.0 - clip, 1.0 + clip) * advantage
        weight = ratio * advantage * free * samples.weight / samples.weight.sum()
        return here.score(samples.u, weight[:, None])[0]

    def tensors(self) -> dict[str, Tensor]:
        """See `Algorithm`."""
        return checkpoint.adam_tensors(self.optimiser, "policy_adam")

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """See `Algorithm`."""
        checkpoint.restore_adam(self.optimiser, "policy_adam", tensors)
