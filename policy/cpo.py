"""One CPO update: the exact step, then a line search on the real surrogates.

Achiam et al. 2017. With g = 0 cost gradient it is TRPO (Schulman et al. 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from holdfast.policy.networks import GaussianPolicy, kl
from holdfast.policy.trust_region import Case, conjugate_gradient, solve_dual


@dataclass(frozen=True)
class StepSettings:
    """How one constrained step is taken.

    Attributes:
        delta: trust region, mean KL(old ‖ new) in nats, summed over action dimensions.
        damping: added to the Fisher matrix's diagonal.
        cg_iterations: conjugate-gradient iterations, at most.
        fisher_share: share of the batch that Fisher products are taken on.
        backtrack: each try of the line search is this times the one before.
        backtracks: tries, at most.
        slack: of the line search's cost check, as a share of the limit d. Not in the paper,
            whose exact check (0) makes most steps at the boundary shrink or fail.
    """

    delta: float = 0.02
    damping: float = 0.1
    cg_iterations: int = 10
    fisher_share: float = 0.2
    backtrack: float = 0.8
    backtracks: int = 12
    slack: float = 0.1


@dataclass(frozen=True)
class Samples:
    """What a step is computed from. B steps, their mean episode T steps long.

    Attributes:
        x: (B, n) normalised observations. u: (B, actions) sampled actions, in [-1, 1] units.
        log_prob: (B,) of u under the behaviour policy; the importance ratio's denominator.
        advantage, cost_advantage: (B,), in units of return; the latter of cost, unscaled.
        weight: (B,) 1 for steps that count, 0 for masked ones.
    """

    x: Tensor
    u: Tensor
    log_prob: Tensor
    advantage: Tensor
    cost_advantage: Tensor
    weight: Tensor

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the steps that count."""
        return (values * self.weight).sum() / self.weight.sum()


@dataclass(frozen=True)
class StepReport:
    """What a step did. `accepted` is None where the parameters were left as they were."""

    case: str
    accepted: int | None
    lam: float
    nu: float
    kl: float
    reward_change: float
    cost_change: float
    reason: str = ""


def surrogates(policy: GaussianPolicy, samples: Samples) -> tuple[Tensor, Tensor, Tensor]:
    """Return E[ρA], E[ρA_C] and the means (B, actions); ρ = π(u|s)/π_behaviour(u|s)."""
    mean = policy(samples.x)
    ratio = torch.exp(policy.log_prob(mean, samples.u) - samples.log_prob)
    return (
        samples.mean(ratio * samples.advantage),
        samples.mean(ratio * samples.cost_advantage),
        mean,
    )


def _gradient(value: Tensor, policy: GaussianPolicy) -> Tensor:
    parts = torch.autograd.grad(value, list(policy.parameters()), retain_graph=True)
    return parameters_to_vector(parts)


def cpo_step(
    policy: GaussianPolicy,
    samples: Samples,
    excess: float,
    limit: float,
    episode_steps: float,
    settings: StepSettings,
    constrained: bool = True,
    trusted: Callable[[], bool] | None = None,
) -> StepReport:
    """Change the policy by one constrained step, or leave it exactly as it was.

    The surrogates are means per step while the limit is a sum per episode: a change Δ of
    E[ρA_C] changes the episode's cost by T·Δ. So the excess J_C − d and the slack are divided
    by T, which puts c in the units of bᵀx.

    Args:
        excess: J_C − d per episode, as corrected by the caller; must be finite.
        limit: d, for the slack. episode_steps: T.
        constrained: False leaves the cost out (TRPO).
        trusted: one more condition on the changed policy, asked last.
    """
    old = parameters_to_vector(policy.parameters()).detach().clone()
    old_log_std = policy.log_std.detach().clone()
    reward_0, cost_0, mean = surrogates(policy, samples)
    old_mean = mean.detach()
    c = excess / episode_steps
    g, b = _gradient(reward_0, policy), _gradient(cost_0, policy)
    reward_0, cost_0 = reward_0.detach(), cost_0.detach()
    if not constrained:
        c, b = -1.0, torch.zeros_like(b)
    known = torch.cat([g, b, torch.tensor([c]), samples.x.sum()[None]])
    if not bool(torch.isfinite(known).all()):
        return _rejected("a gradient, the cost or the batch is not finite")

    stride = max(1, round(1.0 / settings.fisher_share))
    part = samples.x[samples.weight > 0][::stride]

    def product(v: Tensor) -> Tensor:
        return policy.fisher_product(part, v, settings.damping)

    hg = conjugate_gradient(product, g, settings.cg_iterations)
    hb = conjugate_gradient(product, b, settings.cg_iterations)
    q, r, s = float(g @ hg), float(g @ hb), float(b @ hb)
    try:
        dual = solve_dual(q, r, s, c, settings.delta)
    except ValueError as error:
        return _rejected(str(error))
    step = dual.reward_factor * hg + dual.cost_factor * hb
    allowed = max(-c, 0.0) + settings.slack * limit / episode_steps

    for j in range(settings.backtracks):
        vector_to_parameters(old + settings.backtrack**j * step, policy.parameters())
        with torch.no_grad():
            reward, cost, mean = surrogates(policy, samples)
            divergence = float(kl(old_mean, old_log_std, mean, policy.log_std))
        gain, rise = float(reward - reward_0), float(cost - cost_0)
        # A NaN makes every comparison false, and so the try fails.
        if (
            divergence <= settings.delta
            and (gain >= 0.0 or dual.case is Case.RECOVERY)
            and (rise <= allowed or not constrained)
            and (rise < 0.0 or dual.case is not Case.RECOVERY)
            and (trusted is None or trusted())
        ):
            return StepReport(dual.case.value, j, dual.lam, dual.nu, divergence, gain, rise)
    vector_to_parameters(old, policy.parameters())
    return _rejected("no step of the line search met KL, reward and cost", dual.case.value)


def _rejected(reason: str, case: str = "rejected") -> StepReport:
    return StepReport(case, None, 0.0, 0.0, 0.0, 0.0, 0.0, reason)
