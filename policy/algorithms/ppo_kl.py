"""PPO with a constraint on the KL divergence, by dual gradient descent on its multiplier.

    maximise E[ρA]  subject to  KL ≤ δ:   max over θ of E[ρA] − λ KL,   λ ← (λ + α (KL/δ − 1))₊

(Schulman et al. 2017, section 4, with the gradient of the dual in place of their doubling and
halving.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from holdfast.policy.algorithms.algorithm import BatchEstimate, Setup, UpdateResult
from holdfast.policy.algorithms.ppo import Epochs, EpochSettings
from holdfast.policy.models.gaussian import Linearisation
from holdfast.policy.sampling.samples import Samples
from holdfast.schema import NOT_NEGATIVE


@dataclass(frozen=True)
class PPOKLSettings(EpochSettings):
    """Settings of PPO with a KL constraint.

    Attributes:
        kl_rate: α of the dual ascent, λ ← (λ + α (KL/kl_limit − 1))₊.
    """

    kl_rate: Annotated[float, NOT_NEGATIVE] = 0.5


class PPOKL(Epochs[PPOKLSettings]):
    """Epochs of gradient steps on the penalised surrogate, then a step of the multiplier."""

    Settings = PPOKLSettings
    case = "kl_penalty"

    def __init__(self, setup: Setup, settings: PPOKLSettings) -> None:
        super().__init__(setup, settings)
        self.lam = 1.0

    def update(self, samples: Samples, estimate: BatchEstimate) -> UpdateResult:
        """See `Algorithm`."""
        result = dataclasses.replace(super().update(samples, estimate), lam=self.lam)
        s = self.settings
        if result.accepted is not None:
            self.lam = max(0.0, self.lam + s.kl_rate * (result.kl / s.kl_limit - 1.0))
        return result

    def may_go_on(self, divergence: float) -> bool:
        """See `Epochs`; the penalty alone bounds the KL divergence."""
        return True

    def ascent(self, samples: Samples, old_mean: Tensor, old_log_std: Tensor) -> Tensor:
        """Return the gradient (P,) of E[ρA] − λ KL(old ‖ new)."""
        here = Linearisation(self.policy, samples.x)
        ratio = torch.exp(self.policy.log_prob(here.mean, samples.u) - samples.log_prob)
        weight = ratio * samples.advantages[:, 0] * samples.weight / samples.weight.sum()
        gain = here.score(samples.u, weight[:, None])[0]
        return gain - self.lam * here.kl_gradient(old_mean, old_log_std)

    def data(self) -> dict[str, Any]:
        """See `Algorithm`."""
        return {"lam": self.lam}

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """See `Algorithm`."""
        super().restore(tensors, data)
        self.lam = data["lam"]
