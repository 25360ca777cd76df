"""Samples of a behaviour policy, and the surrogates of a changed policy."""

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
    """The data of an update: B steps of a behaviour policy, m costs.

    Attributes:
        x: (B, n) normalised observations. u: (B, actions) sampled actions, in [-1, 1] units.
        log_prob: (B,) log-probability of u under the behaviour policy, the importance ratio's
            denominator.
        advantages: (B, 1 + m), of the reward in any unit, then of each cost in the cost's unit: a
            constrained step depends on their scale against the excess.
        weight: (B,) 1 for steps that count, 0 for masked ones.
        together: number of consecutive rows that must not be separated.
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
        """Yield the samples in parts of about `ROWS` rows; `together` rows stay in one part."""
        size = max(1, ROWS // self.together) * self.together
        tensors = [torch.split(getattr(self, name), size) for name in _TENSORS]
        named = (dict(zip(_TENSORS, part, strict=True)) for part in zip(*tensors, strict=True))
        return (dataclasses.replace(self, **part) for part in named)

    def rows(self, index: Tensor) -> Samples:
        """Return the samples of some rows, in the order of the index."""
        return Samples(*(getattr(self, name)[index] for name in _TENSORS))

    def pursuing(self, advantage: Tensor) -> Samples:
        """Return the samples with another reward advantage (B,), scaled to variance 1."""
        scaled = advantage / (advantage.std() + 1e-8)
        others = self.advantages[:, 1:]
        return dataclasses.replace(self, advantages=torch.cat((scaled[:, None], others), dim=1))

    def sums(self, ratio: Tensor) -> Tensor:
        """Return Σ ρA (1 + m,) for importance ratios ρ (B,): the surrogates times Σ `weight`."""
        return (ratio * self.weight) @ self.advantages

    def factors(self, ratio: Tensor) -> Tensor:
        """Return ρA (B, 1 + m), the factor of each ∇log π(u|s) in the gradients of `sums`."""
        return (ratio * self.weight)[:, None] * self.advantages


_TENSORS = ("x", "u", "log_prob", "advantages", "weight")


@torch.no_grad()
def surrogates(policy: GaussianPolicy, samples: Samples) -> tuple[Tensor, Tensor]:
    """Return E[ρA] of the reward and of each cost, (1 + m,), and the means (B, actions).

    ρ = π(u|s)/π_behaviour(u|s) is the importance ratio. A subclass of `Samples` may estimate E[ρA]
    differently (`Samples.sums`).
    """
    mean = policy.means(samples.x)
    ratio = torch.exp(policy.log_prob(mean, samples.u) - samples.log_prob)
    return samples.sums(ratio) / samples.weight.sum(), mean


@torch.no_grad()
def surrogate_gradients(
    policy: GaussianPolicy, samples: Samples, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `surrogates`, and the gradients (count, P) of the first `count` surrogates."""
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
