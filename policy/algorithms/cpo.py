"""Constrained policy optimization (Achiam et al. 2017), under any number of limits.

    maximise gᵀx   subject to   c_i + b_iᵀx ≤ 0,   ½ xᵀHx ≤ δ

The step is exact (`holdfast.policy.optimise.dual`); a line search on the real surrogates follows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from holdfast.policy.algorithms.algorithm import Algorithm, BatchEstimate, Setup, UpdateResult
from holdfast.policy.algorithms.trpo import TRPOSettings
from holdfast.policy.models.gaussian import GaussianPolicy
from holdfast.policy.optimise.dual import TINY, Case, Dual, solve_dual
from holdfast.policy.optimise.trust_region import StepSettings, Trial, TrustRegion
from holdfast.policy.sampling.samples import Samples
from holdfast.schema import NOT_NEGATIVE, SHARE
from holdfast.signals import Array

NO_STEP = "no step of the line search met KL, reward and costs"


@dataclass(frozen=True)
class CPOSettings(TRPOSettings):
    """Options of CPO that are not in the paper; slack 0 and correction 0 are the paper's rule.

    Attributes:
        slack: tolerance of the line search's cost check, as a share of the limit d. The paper's
            exact check may make steps at the boundary shrink or fail.
        correction: rate of the running mean of (realised − promised) cost change that is
            added to the excess J_C − d; where the limit binds, an integral of the excess.
    """

    slack: Annotated[float, NOT_NEGATIVE] = 0.1
    correction: Annotated[float, SHARE] = 0.2

    @classmethod
    def paper(cls) -> CPOSettings:
        """See `OwnSettings`."""
        return cls(step=StepSettings(delta=0.01), slack=0.0, correction=0.0)


class CPO(Algorithm[CPOSettings]):
    """One constrained step per batch, at the corrected excess of each cost."""

    Settings = CPOSettings
    meets_limit = True

    def __init__(self, setup: Setup, settings: CPOSettings) -> None:
        super().__init__(setup, settings)
        self.tracker = CostTracker(settings.correction, self.costs)

    def update(self, samples: Samples, estimate: BatchEstimate) -> UpdateResult:
        """See `Algorithm`."""
        result = cpo_step(
            self.policy,
            samples,
            self.tracker.excess(estimate.cost, estimate.limit),
            estimate.limit,
            estimate.length,
            self.settings.step,
            self.settings.slack,
        )
        self.tracker.follow(estimate, result)
        shortfall = {"shortfall": tuple(self.tracker.shortfall.tolist())}
        nu = tuple(estimate.reward_scale * value for value in result.nu)
        return dataclasses.replace(result, nu=nu, more={**result.more, **shortfall})

    def data(self) -> dict[str, Any]:
        """See `Algorithm`."""
        return self.tracker.state()

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """See `Algorithm`."""
        self.tracker.restore(data)


class CostTracker:
    """The excess J_C − d that a step is given, corrected by what earlier steps fell short of.

    A step changes the cost by more than its linear model b·x promises: the step fits the noise of
    the batch, the surrogate curves, and the visited states change too. The running mean of
    (realised − promised) change is the size of this error. Added to the excess, it makes the next
    step aim that much lower:

        s ← s + rate (J_C − J_C,before − promised − s),   a step aims at d − s

    A step that ends on its limit promises −(J_C,before − d + s). The rule is then
    s ← s + rate (J_C − d), an integral of the excess, and the mean cost settles at d whatever the
    errors are. A step that cannot reach its aim (in recovery) promises less, so s remains the error
    of a step and does not wind up. No step aims above d.
    """

    def __init__(self, rate: float, costs: int) -> None:
        self.rate, self.shortfall = rate, np.zeros(costs)
        self.last: tuple[Array, Array] | None = None  # J_C, and its promised change

    def excess(self, cost: Array, limit: Array) -> Array:
        """Return the excess (m,) to aim at, given the batch's mean cost returns (m,)."""
        if self.last is not None and np.isfinite(cost).all():  # or it would stay in the mean
            before, promised = self.last
            error = cost - before - promised
            self.shortfall = self.shortfall + self.rate * (error - self.shortfall)
            self.shortfall = np.maximum(self.shortfall, 0.0)
        return cost - limit + self.shortfall

    def follow(self, estimate: BatchEstimate, result: UpdateResult) -> None:
        """Store J_C and its promised change after an update; nothing if no step was accepted."""
        self.last = None
        if result.accepted is not None:
            promised = np.array(result.more["cost_promised"])
            self.last = (estimate.cost, estimate.length * promised)

    def state(self) -> dict[str, Any]:
        """Return the tracker's state, as JSON data."""
        last = None if self.last is None else [part.tolist() for part in self.last]
        return {"shortfall": self.shortfall.tolist(), "last": last}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state` returned."""
        self.shortfall = np.array(state["shortfall"])
        if state["last"] is not None:
            before, promised = state["last"]
            self.last = np.array(before), np.array(promised)


def cpo_step(
    policy: GaussianPolicy,
    samples: Samples,
    excess: Array,
    limit: Array,
    episode_steps: float,
    settings: StepSettings,
    slack: float,
    trusted: Callable[[], bool] | None = None,
) -> UpdateResult:
    """Change the policy by one constrained step, or leave the policy exactly as it was.

    The surrogates are means per step while a limit is a sum per episode: a change Δ of
    E[ρA_C] changes the episode's cost by T·Δ. So the excess J_C − d and the slack are divided
    by T, which puts c in the units of bᵀx.

    Args:
        excess: (m,), J_C − d per episode, as corrected by the caller; must be finite.
        limit: (m,), d; the slack is a share of d. episode_steps: T.
        trusted: a further condition on the changed policy, tested last.
    """
    c = excess / episode_steps
    region = TrustRegion(policy, samples, 1 + len(c), settings)
    if not (region.finite and np.isfinite(c).all()):
        return _rejected("a gradient, a cost or the batch is not finite")
    natural = region.natural()
    products = (region.gradients @ natural.T).double().numpy()
    try:
        dual = solve_dual(products[0, 0], products[1:, 0], products[1:, 1:], c, settings.delta)
    except ValueError as error:
        return _rejected(str(error))
    factors = torch.from_numpy(np.append(dual.reward_factor, dual.cost_factors)).to(natural)
    acceptance = _Acceptance(dual, products, c, slack * limit / episode_steps)

    def accept(trial: Trial) -> bool:
        return acceptance(trial) and (trusted is None or trusted())

    found = region.search(factors @ natural, accept)
    if found is None:
        return _rejected(NO_STEP, dual.case.value)
    tries, trial = found
    gain, *rises = trial.change.tolist()
    promised = dual.reward_factor * products[1:, 0] + products[1:, 1:] @ dual.cost_factors
    more = {"cost_promised": tuple(promised.tolist())}
    nu = tuple(dual.nu.tolist())
    return UpdateResult(
        dual.case.value, trial.kl, gain, tuple(rises), dual.lam, nu, tries, more=more
    )


class _Acceptance:
    """The conditions of the line search on a trial, beside its KL.

    In recovery, the largest violation of a limit, in units of the trust region's reach, has to
    shrink. Otherwise no cost may end above its limit by more than the slack; a cost above its
    limit may not rise by more than the slack; and the reward may not fall, unless the step
    trades reward for a limit that is broken now.
    """

    def __init__(self, dual: Dual, products: Array, c: Array, slack: Array) -> None:
        self.recovering, self.c = dual.case is Case.RECOVERY, c
        self.allowed = np.maximum(-c, 0.0) + slack
        square = products.diagonal()[1:]  # √ of it is each cost's reach in the region
        self.nearness = np.where(square > TINY, 1.0 / np.sqrt(np.maximum(square, TINY)), 0.0)
        promised = dual.reward_factor * products[0, 0] + products[0, 1:] @ dual.cost_factors
        self.least_gain = min(0.0, promised)

    def __call__(self, trial: Trial) -> bool:
        change = trial.change.double().numpy()
        gain, rise = change[0], change[1:]
        if self.recovering:
            return bool(((self.c + rise) * self.nearness).max() < (self.c * self.nearness).max())
        return bool(gain >= self.least_gain and (rise <= self.allowed).all())


def _rejected(reason: str, case: str = "rejected") -> UpdateResult:
    return UpdateResult(case, accepted=None, reason=reason)
