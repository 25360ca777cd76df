"""Samples of a behaviour policy, and the surrogates that they make of a changed one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from holdfast.policy.models.gaussian import GaussianPolicy, Linearisation
from holdfast.policy.models.layers import ROWS


@dataclass(frozen=True)
class Samples:
    """What an update is computed from: B steps of a behaviour policy, m costs.

    Attributes:
        x: (B, n) normalised observations. u: (B, actions) sampled actions, in [-1, 1] units.
        log_prob: (B,) of u under the behaviour policy; the importance ratio's denominator.
        advantages: (B, 1 + m), of the reward, in units that the algorithm may choose, then of
            each cost, in its own: their scale against the excess is what a constrained step
            depends on.
        weight: (B,) 1 for steps that count, 0 for masked ones.
        together: how many rows, one after another, belong together.
    """

    x: Tensor
    u: Tensor
    log_prob: Tensor
    advantages: Tensor
    weight: Tensor
    together: int = 1

    def __len__(self) -> int:
        return len(self.x)

    def parts(self) -> Iterator[Samples]:
        """Yield the same in pieces of about `ROWS`, what belongs together in one."""
        size = max(1, ROWS // self.together) * self.together
        tensors = [torch.split(getattr(self, name), size) for name in _TENSORS]
        named = (dict(zip(_TENSORS, part, strict=True)) for part in zip(*tensors, strict=True))
        return (dataclasses.replace(self, **part) for part in named)

    def rows(self, index: Tensor) -> Samples:
        """Return some of them, in the order of the index."""
        return Samples(*(getattr(self, name)[index] for name in _TENSORS))

    def pursuing(self, advantage: Tensor) -> Samples:
        """Return them with another advantage (B,) in the reward's place, scaled to variance 1."""
        scaled = advantage / (advantage.std() + 1e-8)
        others = self.advantages[:, 1:]
        return dataclasses.replace(self, advantages=torch.cat((scaled[:, None], others), dim=1))

    def sums(self, ratio: Tensor) -> Tensor:
        """Return the surrogates (1 + m,) of importance ratios ρ (B,), times the sum of `weight`:
        Σ ρA."""
        return (ratio * self.weight) @ self.advantages

    def factors(self, ratio: Tensor) -> Tensor:
        """Return what each ∇log π(u|s) counts for in the gradients of `sums`, (B, 1 + m): ρA."""
        return (ratio * self.weight)[:, None] * self.advantages


_TENSORS = ("x", "u", "log_prob", "advantages", "weight")


@torch.no_grad()
def surrogates(policy: GaussianPolicy, samples: Samples) -> tuple[Tensor, Tensor]:
    """Return E[ρA] of the reward and of each cost, (1 + m,), and the means (B, actions).

    ρ = π(u|s)/π_behaviour(u|s), the importance ratio. Samples may have another estimator of it
    (`Samples.sums`).
    """
    mean = policy.means(samples.x)
    ratio = torch.exp(policy.log_prob(mean, samples.u) - samples.log_prob)
    return samples.sums(ratio) / samples.weight.sum(), mean


@torch.no_grad()
def surrogate_gradients(
    policy: GaussianPolicy, samples: Samples, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `surrogates`, and the gradients (count, P) of the first ones."""
    values = torch.zeros(samples.advantages.shape[1], dtype=samples.x.dtype)
    gradients = torch.zeros(count, sum(p.numel() for p in policy.parameters())).to(values)
    means = []
    for part in samples.parts():
        here = Linearisation(policy, part.x)
        ratio = torch.exp(policy.log_prob(here.mean, part.u) - part.log_prob)
        values += part.sums(ratio)
        gradients += here.score(part.u, part.factors(ratio)[:, :count])
        means.append(here.mean)
    total = samples.weight.sum()
    return values / total, gradients / total, torch.cat(means)
