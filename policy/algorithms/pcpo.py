"""Projection-based constrained policy optimization (Yang et al. 2020, algorithm 1).

    y = √(2δ / gᵀH⁻¹g) H⁻¹g                                        the step for the reward
    minimise (x − y)ᵀL(x − y)   subject to   c_i + b_iᵀx ≤ 0       its projection on the limits

L is H (a projection in KL divergence) or the identity (in L2). With w ≥ 0 the limits' multipliers,
x = y − Σ w_i L⁻¹b_i; for one limit, w = (c + bᵀy)₊ / bᵀL⁻¹b.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from holdfast.policy.algorithms.algorithm import Algorithm, BatchEstimate, Setup, UpdateResult
from holdfast.policy.algorithms.cpo import CostTracker
from holdfast.policy.algorithms.trpo import TRPOSettings
from holdfast.policy.optimise.dual import TINY
from holdfast.policy.optimise.trust_region import StepSettings, TrustRegion
from holdfast.policy.sampling.samples import Samples
from holdfast.schema import SHARE
from holdfast.signals import Array

SOFTNESS = 1e-6
"""Relative softness of several limits, so that limits which exclude each other have a projection:
a compromise between them."""


@dataclass(frozen=True)
class PCPOSettings(TRPOSettings):
    """Settings of projection-based CPO.

    Attributes:
        projection: distance that the projection on the limits makes least: kl is the KL
            divergence, l2 is the Euclidean distance of the parameters.
        correction: rate of the running mean of (realised − promised) cost change that is
            added to the excess J_C − d, as in CPO; 0 is the paper's rule.
    """

    projection: Literal["kl", "l2"] = "kl"
    correction: Annotated[float, SHARE] = 0.2

    @classmethod
    def paper(cls) -> PCPOSettings:
        """See `OwnSettings`."""
        return cls(step=StepSettings(delta=0.01), correction=0.0)


class PCPO(Algorithm[PCPOSettings]):
    """TRPO's step, projected on the limits.

    The paper takes the step as it is. Where a limit is broken, the projection may lie far outside
    of the trust region, where the linear models say nothing: then the step is shortened to the
    region's surface. A line search makes the KL divergence itself, not its model, keep to δ.
    """

    Settings = PCPOSettings
    meets_limit = True

    def __init__(self, setup: Setup, settings: PCPOSettings) -> None:
        super().__init__(setup, settings)
        self.tracker = CostTracker(settings.correction, self.costs)

    def update(self, samples: Samples, estimate: BatchEstimate) -> UpdateResult:
        """See `Algorithm`."""
        excess = self.tracker.excess(estimate.cost, estimate.limit)
        result = self._step(samples, excess / estimate.length)
        self.tracker.follow(estimate, result)
        shortfall = {"shortfall": tuple(self.tracker.shortfall.tolist())}
        nu = tuple(estimate.reward_scale * value for value in result.nu)
        return dataclasses.replace(result, nu=nu, more={**result.more, **shortfall})

    def _step(self, samples: Samples, c: Array) -> UpdateResult:
        """Change the policy, or leave it as it was; c (m,) is the excess per step, as for CPO."""
        settings = self.settings.step
        region = TrustRegion(self.policy, samples, 1 + self.costs, settings)
        if not (region.finite and np.isfinite(c).all()):
            reason = "a gradient, a cost or the batch is not finite"
            return UpdateResult("rejected", accepted=None, reason=reason)
        natural, b = region.natural(), region.gradients[1:]
        q = float(region.gradients[0] @ natural[0])
        length = math.sqrt(2.0 * settings.delta / q) if q > 0.0 else 0.0
        towards = natural[1:] if self.settings.projection == "kl" else b
        after = c + length * (b @ natural[0]).double().numpy()
        weights = projection((b @ towards.T).double().numpy(), after)
        step = length * natural[0] - torch.from_numpy(weights).to(b) @ towards
        square = float(step @ region.metric(step[None])[0])
        if square > 2.0 * settings.delta:
            step *= math.sqrt(2.0 * settings.delta / square)
        case = "projection" if weights.any() else "reward"
        found = region.search(step, lambda trial: True)
        if found is None:
            reason = "no step of the line search met KL"
            return UpdateResult(case, accepted=None, reason=reason)
        tries, trial = found
        gain, *rises = trial.change.tolist()
        lam = 1.0 / length if length else 0.0
        nu, more = tuple((lam * weights).tolist()), {"cost_promised": tuple((b @ step).tolist())}
        return UpdateResult(case, trial.kl, gain, tuple(rises), lam, nu, tries, more=more)

    def data(self) -> dict[str, Any]:
        """See `Algorithm`."""
        return self.tracker.state()

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """See `Algorithm`."""
        self.tracker.restore(data)


def projection(s: Array, after: Array) -> Array:
    """Return the multipliers w ≥ 0 (m,) of a projection on limits: the minimum of ½wᵀsw − wᵀe.

    Args:
        s: (m, m), b_iᵀL⁻¹b_j. after: e (m,), c_i + b_iᵀy, excess after the step for the reward.
    """
    from scipy.optimize import nnls  # takes 0.3 s, and no other algorithm needs it for one limit

    weights = np.zeros(len(after))
    moved = s.diagonal() > TINY  # a cost that no direction changes cannot be lowered
    if not moved.any():
        return weights
    scale = np.sqrt(s.diagonal()[moved])
    gram = s[np.ix_(moved, moved)] / np.outer(scale, scale)
    if len(scale) > 1:
        gram = (gram + gram.T) / 2.0 + SOFTNESS * np.eye(len(scale))
    # With gram = RᵀR, the minimum is that of ‖Rw − R⁻ᵀe‖.
    root = np.linalg.cholesky(gram).T
    target = np.linalg.solve(root.T, after[moved] / scale)
    weights[moved] = nnls(root, target)[0] / scale
    return weights
