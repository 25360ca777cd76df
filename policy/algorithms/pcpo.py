"""Projection-based constrained policy optimization (Yang et al. 2020, algorithm 1).

    y = √(2δ / gᵀH⁻¹g) H⁻¹g                                        the step for the reward
    minimise (x − y)ᵀL(x − y)   subject to   c_i + b_iᵀx ≤ 0       its projection on the limits

L is H (a projection in KL divergence) or the identity (in L2). With w ≥ 0 the limits' multipliers,
x = y − Σ w_i L⁻¹b_i; for one limit, w = (c + bᵀy)₊ / bᵀL⁻¹b.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.optimize import nnls

from holdfast.policy.algorithms.algorithm import Algorithm, BatchEstimate, UpdateResult
from holdfast.policy.algorithms.trpo import TRPOSettings
from holdfast.policy.optimise.dual import TINY
from holdfast.policy.optimise.trust_region import TrustRegion
from holdfast.policy.sampling.samples import Samples
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
    """

    projection: Literal["kl", "l2"] = "kl"


class PCPO(Algorithm[PCPOSettings]):
    """TRPO's step, projected on the limits.

    The paper takes the step as it is. Where a limit is broken, the projection may lie far outside
    of the trust region, where the linear models say nothing: then the step is shortened to the
    region's surface. A line search makes the KL divergence itself, not its model, keep to δ.
    """

    Settings = PCPOSettings
    meets_limit = True

    def update(self, samples: Samples, estimate: BatchEstimate) -> UpdateResult:
        """See `Algorithm`. As for CPO, c = (J_C − d)/T is in the units of bᵀx."""
        settings, c = self.settings.step, estimate.excess / estimate.length
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
        nu = tuple((estimate.reward_scale * lam * weights).tolist())
        return UpdateResult(case, trial.kl, gain, tuple(rises), lam, nu, tries)


def projection(s: Array, after: Array) -> Array:
    """Return the multipliers w ≥ 0 (m,) of a projection on limits: the minimum of ½wᵀsw − wᵀe.

    Args:
        s: (m, m), b_iᵀL⁻¹b_j. after: e (m,), c_i + b_iᵀy, excess after the step for the reward.
    """
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
