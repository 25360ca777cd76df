"""A small policy, and actions that it took: what updates are tested on."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.policy.algorithms.algorithm import Setup
from holdfast.policy.models.gaussian import GaussianPolicy
from holdfast.policy.models.networks import Networks, Normaliser
from holdfast.sim.registry import resolve


def small_policy() -> GaussianPolicy:
    """Return one of 3 observations and 2 actions, in double precision, always the same."""
    return GaussianPolicy(3, 2, (8,), 0.5, torch.Generator().manual_seed(0)).double()


@torch.no_grad()
def behave(
    policy: GaussianPolicy, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return observations x (count, 3), actions u (count, 2) of standard deviation 0.5, their
    deviations from the mean, and their log-probabilities (count,)."""
    x = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    mean = policy(x)
    u = mean + 0.5 * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    return x, u, u - mean, policy.log_prob(mean, u)


def setup_of(policy, seed, steps=1000):
    """Return what an algorithm of a policy is made from; no rollout is made of it."""
    batch = resolve("PointCircle-v0").batch(1, 0)
    networks = Networks(batch.contract, policy, None, Normaliser(batch.contract.observation_size))
    generator = torch.Generator().manual_seed(seed)
    m = len(networks.contract.costs)
    return Setup(networks, generator, batch, lambda copies: batch, steps, 1.0, 1.0, m)
