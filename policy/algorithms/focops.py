"""First order constrained optimization in policy space (Zhang et al. 2020, algorithm 1).

The best policy within a KL divergence and within the limits is known in closed form, but has no
parameters (theorem 1):

    π*(a|s) ∝ π_old(a|s) exp((A(s, a) − Σ ν_i A_C,i(s, a)) / λ)

Adam lowers the distance KL(π ‖ π*) over states near the old policy (equation 10):

    E[1{KL(π ‖ π_old)_s ≤ δ} (∇KL(π ‖ π_old)_s − (1/λ) ∇ρ (A − Σ ν_i A_C,i))]
    ν_i ← min(ν_max, (ν_i + α (J_C,i − d_i)/d_i)₊)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from holdfast.policy.algorithms.algorithm import BatchEstimate, Setup, UpdateResult
from holdfast.policy.algorithms.ppo import Epochs, EpochSettings
from holdfast.policy.models.gaussian import Linearisation, kl_by_state
from holdfast.policy.sampling.samples import Samples
from holdfast.schema import NOT_NEGATIVE, POSITIVE


@dataclass(frozen=True)
class FOCOPSSettings(EpochSettings):
    """Settings of FOCOPS.

    Multipliers are in units of standard deviations: at a multiplier of 1, a standard deviation of
    the cost's advantage weighs as much as one of the reward's.

    Attributes:
        temperature: λ, which divides the advantage: a large one keeps the policy near the old one.
        nu_rate: α, rise of a multiplier per iteration at an excess as large as the limit.
        nu_max: ν_max, largest multiplier.
    """

    kl_limit: Annotated[float, POSITIVE] = 0.02
    temperature: Annotated[float, POSITIVE] = 1.5
    nu_rate: Annotated[float, NOT_NEGATIVE] = 0.1
    nu_max: Annotated[float, POSITIVE] = 2.0


class FOCOPS(Epochs[FOCOPSSettings]):
    """Steps of the multipliers, then epochs of gradient steps towards the best policy.

    Differences from the paper: the excess is relative to the limit (where d is 0, 1 stands in its
    place), and the learning rate is constant.

    Attributes:
        nu: (m,), the multipliers.
    """

    Settings = FOCOPSSettings
    meets_limit = True
    case = "first_order"

    def __init__(self, setup: Setup, settings: FOCOPSSettings) -> None:
        super().__init__(setup, settings)
        self.nu = np.zeros(self.costs)

    def update(self, samples: Samples, estimate: BatchEstimate) -> UpdateResult:
        """See `Algorithm`."""
        if not np.isfinite(estimate.excess).all():  # it would stay in the multipliers
            return UpdateResult("rejected", accepted=None, reason="a cost is not finite")
        s, unit = self.settings, np.where(estimate.limit > 0.0, estimate.limit, 1.0)
        self.nu = np.clip(self.nu + s.nu_rate * estimate.excess / unit, 0.0, s.nu_max)
        costs = samples.advantages[:, 1:]
        prices = self.nu / (costs.std(0).double().numpy() + 1e-8)
        pursued = samples.advantages[:, 0] - costs @ torch.from_numpy(prices).to(costs)
        together = torch.cat((pursued[:, None], costs), dim=1)
        result = super().update(dataclasses.replace(samples, advantages=together), estimate)
        nu = tuple((estimate.reward_scale * prices).tolist())
        return dataclasses.replace(result, lam=s.temperature, nu=nu)

    def may_go_on(self, divergence: float) -> bool:
        """See `Epochs`."""
        return divergence <= self.settings.kl_limit

    def ascent(self, samples: Samples, old_mean: Tensor, old_log_std: Tensor) -> Tensor:
        """Return minus the gradient (P,) of the distance to the best policy."""
        here, s = Linearisation(self.policy, samples.x), self.settings
        ratio = torch.exp(self.policy.log_prob(here.mean, samples.u) - samples.log_prob)
        log_std = self.policy.log_std.detach()
        near = kl_by_state(here.mean, log_std, old_mean, old_log_std) <= s.kl_limit
        weight = near * samples.weight / samples.weight.sum()
        gain = weight * ratio * samples.advantages[:, 0] / s.temperature
        distance = here.reverse_kl_gradient(old_mean, old_log_std, weight)
        return here.score(samples.u, gain[:, None])[0] - distance

    def data(self) -> dict[str, Any]:
        """See `Algorithm`."""
        return {"nu": self.nu.tolist()}

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """See `Algorithm`."""
        super().restore(tensors, data)
        self.nu = np.array(data["nu"])
