"""The gradient of a policy π from trajectories of another, the behaviour policy b: REINFORCE
(Williams 1992) with importance weights.

    trajectory    E_b[Σ_t w_T ∇log π(a_t|s_t) (Σ_{k≥t} γ^{k−t} r_k − V(s_t))]
    per-decision  E_b[Σ_t ∇log π(a_t|s_t) (Σ_{k≥t} γ^{k−t} w_k r_k − w_t V(s_t))]
    surrogate     E_b[Σ_t ρ_t ∇log π(a_t|s_t) A_t]

ρ_t = π(a_t|s_t)/b(a_t|s_t), w_t = ρ_0 ρ_1 ... ρ_t, and T is the episode's last step. For any b, the
expectation of the first two is the expectation of REINFORCE on π's own trajectories. A reward does
not depend on later actions, so the second (Precup et al. 2000) leaves out the later ratios. The
third is the gradient of E_b[ρA]: it has one ratio and little variance, but at the states that b
visits.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.errors import TrainingError
from holdfast.policy.algorithms.algorithm import (
    Algorithm,
    BatchEstimate,
    Collected,
    OwnSettings,
    Setup,
    UpdateResult,
)
from holdfast.policy.models import checkpoint
from holdfast.policy.models.gaussian import GaussianPolicy, Linearisation, kl, set_gradient
from holdfast.policy.models.layers import ROWS
from holdfast.policy.models.networks import Networks, Normaliser
from holdfast.policy.sampling.gae import advantages
from holdfast.policy.sampling.samples import Samples, surrogates
from holdfast.schema import POSITIVE, SHARE, Range
from holdfast.signals import Array

Weighting = Literal["trajectory", "per-decision", "surrogate"]
Wide = Literal["refuse", "clip"]


@dataclass(frozen=True, kw_only=True)
class Trajectories(Samples):
    """Samples in the order of T steps of N copies, with the data that importance weights need.

    Attributes:
        reward: (T, N). value: (T, N), V(s_t).
        following: (T, N), V(s_{t+1}), 0 where the task ended at s_{t+1}; read at the end of a
            trajectory.
        ended: (T, N), the episode ended after this step.
        gamma: discount of the reward.
    """

    reward: Array
    value: Array
    following: Array
    ended: NDArray[np.bool_]
    gamma: float

    @property
    def last(self) -> NDArray[np.bool_]:
        """Whether a trajectory ends with this step, (T, N): its episode or the rollout ended."""
        last: NDArray[np.bool_] = self.ended.copy()
        last[-1] = True
        return last


@dataclass(frozen=True)
class Weights:
    """Importance weights of trajectories, or of single steps.

    Attributes:
        by_step: (T, N), the weight of each step.
        effective: effective sample size, (Σw)²/Σw² (Kish 1965). count: number of weights.
        clipped: number of weights that were reduced to the largest allowed weight.
    """

    by_step: Array
    effective: float
    count: int
    clipped: int

    @property
    def share(self) -> float:
        """The effective sample size as a share of the sample size."""
        return self.effective / self.count


@dataclass(frozen=True)
class OffPolicySettings(OwnSettings):
    """Settings of learning from trajectories of another policy.

    Attributes:
        behaviour: checkpoint of the policy that acts; training starts from this policy. Default: a
            copy of the learned policy, renewed every `refresh` iterations.
        refresh: iterations between two copies of the learned policy.
        weights: trajectory: the product of all importance ratios of an episode; per-decision: the
            product of the ratios up to each reward; surrogate: the ratio of each step alone.
        wide: refuse: a batch with too wide weights is refused; clip: one step is taken with
            clipped weights.
        min_share: least effective sample size, (Σw)²/Σw², as a share of the sample size, which
            counts episodes (trajectory) or steps.
        max_weight: largest weight (clip).
        gradient_steps: maximum number of steps per batch; they end earlier when the weights become
            too wide.
        gradient_rate: Adam's learning rate.
    """

    behaviour: str = ""
    refresh: Annotated[int, Range(1)] = 3
    weights: Weighting = "per-decision"
    wide: Wide = "refuse"
    min_share: Annotated[float, SHARE] = 0.3
    max_weight: Annotated[float, POSITIVE] = 10.0
    gradient_steps: Annotated[int, Range(1)] = 10
    gradient_rate: Annotated[float, POSITIVE] = 3e-3


class OffPolicy(Algorithm[OffPolicySettings]):
    """Gradient steps on trajectories of the behaviour policy, reweighted before each step."""

    Settings = OffPolicySettings
    takes_demonstrations = False

    def __init__(self, setup: Setup, settings: OffPolicySettings) -> None:
        super().__init__(setup, settings)
        self.own, self.gamma, self.networks = settings, setup.gamma, setup.networks
        if settings.behaviour and not setup.resumed:
            checkpoint.start_from(Path(settings.behaviour), setup.networks)
        self.behaviour = Behaviour(setup.networks, settings)
        self.optimiser = torch.optim.Adam(
            self.policy.parameters(), lr=self.own.gradient_rate, fused=True
        )

    def acting(self) -> tuple[GaussianPolicy, Normaliser]:
        """See `Algorithm`."""
        return self.behaviour.policy, self.behaviour.normaliser

    def samples(self, collected: Collected) -> Samples:
        """See `Algorithm`."""
        rollout, estimates = collected.rollout, collected.estimates
        return Trajectories(
            **vars(collected.samples()),
            reward=rollout.reward,
            value=estimates.value[..., 0],
            following=estimates.following[..., 0],
            ended=rollout.ended,
            gamma=self.gamma,
        )

    def keeps_normaliser(self, result: UpdateResult) -> bool:
        """See `Algorithm`."""
        return not self.behaviour.over(result)

    def renew(self) -> None:
        """See `Algorithm`."""
        self.behaviour.renew(self.networks)

    def update(self, samples: Samples, estimate: BatchEstimate) -> UpdateResult:
        """See `Algorithm`.

        Args:
            samples: `Trajectories`.

        Raises:
            TrainingError: the weights are refused, and the behaviour policy is a fixed checkpoint.
        """
        assert isinstance(samples, Trajectories)
        before, old_mean = surrogates(self.policy, samples)
        old_log_std = self.policy.log_std.detach().clone()
        after, mean, reason = before, old_mean, ""
        used: list[Weights] = []
        while len(used) < self.own.gradient_steps:
            weights = self.weights(samples, mean)
            ascent = self.ascent(samples, weights)
            if not bool(torch.isfinite(before).all() and torch.isfinite(ascent).all()):
                reason = "the batch, or its weights, are not finite"
                break
            wide = weights.share < self.own.min_share
            if wide and not used and self.own.wide == "refuse":
                reason = self._refusal(weights)
            if wide and (used or reason):
                break
            set_gradient(self.policy, -ascent)
            self.optimiser.step()
            after, mean = surrogates(self.policy, samples)
            used.append(weights)
        if not used:
            return UpdateResult("rejected", accepted=None, reason=reason, more=_wide([weights]))
        more = _wide(used) | {
            # The return of the policy before this update, estimated by its weights.
            "weighted_return": float((used[0].by_step * samples.reward).sum() / samples.last.sum()),
            "gradient_steps": float(len(used)),
        }
        divergence = float(kl(old_mean, old_log_std, mean, self.policy.log_std.detach()))
        gain, *rises = (after - before).tolist()
        zeros = (0.0,) * len(rises)
        return UpdateResult(self.own.weights, divergence, gain, tuple(rises), nu=zeros, more=more)

    def _refusal(self, weights: Weights) -> str:
        reason = (
            f"weights are too wide: an effective sample size of {weights.effective:.1f} of "
            f"{weights.count}, {weights.share:.1%}, should be at least {self.own.min_share:.1%}"
        )
        if self.own.behaviour:
            raise TrainingError(
                f"behaviour {self.own.behaviour}: {reason}; give a policy nearer to the one that "
                f"is trained, narrower --weights, or --wide clip"
            )
        return reason

    def weights(self, samples: Trajectories, mean: Tensor) -> Weights:
        """Return the weights of the learned policy, whose means are (B, actions)."""
        log_prob = self.policy.log_prob(mean, samples.u).detach() - samples.log_prob
        log_ratio = log_prob.double().numpy().reshape(samples.ended.shape)
        largest = self.own.max_weight if self.own.wide == "clip" else math.inf
        return weigh(self.own.weights, log_ratio, samples.last, largest)

    def ascent(self, samples: Trajectories, weights: Weights) -> Tensor:
        """Return the estimated gradient (P,) of the mean reward per step."""
        factor = torch.from_numpy(self._factor(samples, weights.by_step)).to(samples.x)
        factor = factor.view(-1, 1) / len(samples)
        total = torch.zeros(sum(p.numel() for p in self.policy.parameters())).to(samples.x)
        rows = zip(
            *(torch.split(part, ROWS) for part in (samples.x, samples.u, factor)), strict=True
        )
        for x, u, part in rows:
            total += Linearisation(self.policy, x).score(u, part)[0]
        return total

    def _factor(self, samples: Trajectories, w: Array) -> Array:
        """Return the factor (T, N) of each ∇log π(a_t|s_t)."""
        if self.own.weights == "surrogate":
            surrogate: Array = w * samples.advantages[:, 0].double().numpy().reshape(w.shape)
            return surrogate
        if self.own.weights == "trajectory":
            return w * self._monte_carlo(samples, np.ones_like(w))
        return self._monte_carlo(samples, w)

    def _monte_carlo(self, samples: Trajectories, w: Array) -> Array:
        """Return Σ_{k≥t} γ^{k−t} w_k r_k − w_t V(s_t), which is GAE at λ = 1.

        Where the rollout cut a trajectory off, w_k γ V(s_{k+1}) estimates the rest.
        """
        value, following = w * samples.value, w * samples.following
        goes_on = ~samples.last[:-1]
        following[:-1][goes_on] = value[1:][goes_on]
        return advantages(w * samples.reward, value, following, samples.ended, samples.gamma, 1.0)

    def tensors(self) -> dict[str, Tensor]:
        """See `Algorithm`."""
        adam = checkpoint.adam_tensors(self.optimiser, "policy_adam")
        return adam | self.behaviour.tensors()

    def data(self) -> dict[str, Any]:
        """See `Algorithm`."""
        return {"behaviour_age": self.behaviour.age}

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """See `Algorithm`."""
        checkpoint.restore_adam(self.optimiser, "policy_adam", tensors)
        self.behaviour.restore(tensors, data["behaviour_age"])


def _wide(used: Sequence[Weights]) -> dict[str, float]:
    """Return the smallest effective sample size, and the largest number of clipped weights."""
    widest = min(used, key=lambda weights: weights.share)
    clipped = max(weights.clipped for weights in used)
    return {
        "effective_size": widest.effective,
        "effective_share": widest.share,
        "clipped": float(clipped),
    }


def weigh(
    kind: str, log_ratio: Array, last: NDArray[np.bool_], largest: float = math.inf
) -> Weights:
    """Return importance weights of one kind (see `OffPolicySettings.weights`).

    Args:
        log_ratio: log ρ, (T, N). last: (T, N), a trajectory ends with this step.
        largest: largest allowed weight; larger weights are reduced to it.
    """
    log_w = log_ratio.copy()
    if kind != "surrogate":
        for t in range(1, len(log_w)):
            log_w[t] += np.where(last[t - 1], 0.0, log_w[t - 1])
    if kind == "trajectory":
        for t in reversed(range(len(log_w) - 1)):
            log_w[t] = np.where(last[t], log_w[t], log_w[t + 1])
    separate = log_w[last] if kind == "trajectory" else log_w.ravel()
    clipped = int((separate > np.log(largest)).sum())
    separate = np.minimum(separate, np.log(largest))
    scaled = np.exp(separate - separate.max())  # the share has no scale; weights may overflow
    effective = float(scaled.sum() ** 2 / (scaled * scaled).sum())
    with np.errstate(over="ignore"):
        by_step = np.exp(np.minimum(log_w, np.log(largest)))
    return Weights(by_step, effective, len(separate), clipped)


class Behaviour:
    """The behaviour policy: a checkpoint's, or a copy of the learned policy a few iterations old.

    Args:
        networks: the networks to copy.

    Attributes:
        age: iterations since the copy.
    """

    def __init__(self, networks: Networks, settings: OffPolicySettings) -> None:
        self.settings = settings
        self.renew(networks)

    def renew(self, networks: Networks) -> None:
        """Copy the learned policy and its normaliser."""
        self.policy = copy.deepcopy(networks.policy).requires_grad_(False)
        self.normaliser = copy.deepcopy(networks.normaliser)
        self.age = 0

    def over(self, result: UpdateResult) -> bool:
        """Return whether a new copy is due. To be called once an iteration.

        A copy whose weights were refused is replaced too, as the next weights would be refused.
        """
        self.age += 1
        stale = self.age >= self.settings.refresh or result.accepted is None
        return stale and not self.settings.behaviour

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint; the age is not among them."""
        return checkpoint.module_tensors(self._modules)

    def restore(self, tensors: Mapping[str, Tensor], age: int) -> None:
        """Continue from the tensors that `tensors` returned."""
        checkpoint.restore_modules(self._modules, tensors)
        self.age = age

    @property
    def _modules(self) -> dict[str, torch.nn.Module]:
        return {"behaviour_policy": self.policy, "behaviour_normaliser": self.normaliser}
