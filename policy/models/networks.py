"""The networks of a policy: the policy itself, its critics, and the normaliser of their input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from holdfast.contract import Contract
from holdfast.policy.models.critic import Critic
from holdfast.policy.models.gaussian import GaussianPolicy

CLIP = 10.0
"""Largest size of a normalised observation."""

LEAST_STD = 1e-3
"""Least standard deviation by which observations are divided."""


class Normaliser(nn.Module):
    """Running mean and standard deviation of observations (Chan et al. 1983), clipped at ±10."""

    mean: Tensor
    std: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("std", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def update(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Update mean and standard deviation with a batch (B, n).

        Returns:
            scale and shift, (n,) each: the values of an observation were scale · x + shift before,
            and are x now. `absorb` takes them.
        """
        x = observations.to(torch.float64)
        n, mean, variance = len(x), x.mean(0), x.var(0, unbiased=False)
        total = self.count + n
        delta = mean - self.mean
        square = self.std**2 * self.count + variance * n + delta**2 * self.count * n / total
        std = (square / total).sqrt().clamp_min(LEAST_STD)
        scale, shift = std / self.std, delta * n / total / self.std
        self.mean += delta * n / total
        self.std.copy_(std)
        self.count.copy_(total)
        return scale, shift

    def forward(self, observations: Tensor) -> Tensor:
        """Return scaled observations (B, n)."""
        scaled = (observations - self.mean.to(observations)) / self.std.to(observations)
        return scaled.clamp(-CLIP, CLIP)


@dataclass(frozen=True)
class Networks:
    """A policy's networks, and its contract."""

    contract: Contract
    policy: GaussianPolicy
    critic: Critic
    normaliser: Normaliser

    @staticmethod
    def build(
        contract: Contract, hidden: Sequence[int], initial_std: float, generator: torch.Generator
    ) -> Networks:
        """Return new networks, whose weights the generator draws."""
        n, actions = contract.observation_size, contract.action_size
        return Networks(
            contract,
            GaussianPolicy(n, actions, hidden, initial_std, generator),
            Critic(n, 1 + 2 * len(contract.costs), hidden, generator),
            Normaliser(n),
        )

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The networks by the names that checkpoints use."""
        return {"policy": self.policy, "critic": self.critic, "normaliser": self.normaliser}
