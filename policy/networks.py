"""The networks: a diagonal-Gaussian policy with its Fisher matrix in closed form, and critics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from holdfast.contract import Contract


def mlp(sizes: Sequence[int], generator: torch.Generator, last_gain: float = 1.0) -> nn.Sequential:
    """Return Linear and Tanh in turn, without a Tanh at the end; orthogonal, seeded weights."""
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        linear = nn.Linear(fan_in, fan_out)
        last = i == len(sizes) - 2
        nn.init.orthogonal_(linear.weight, last_gain if last else math.sqrt(2.0), generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.Tanh()]
    return nn.Sequential(*layers)


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

    def update(self, observations: Tensor) -> None:
        """Take in a batch (B, n)."""
        x = observations.to(torch.float64)
        n, mean, variance = len(x), x.mean(0), x.var(0, unbiased=False)
        total = self.count + n
        delta = mean - self.mean
        square = self.std**2 * self.count + variance * n + delta**2 * self.count * n / total
        self.mean += delta * n / total
        self.std.copy_((square / total).sqrt().clamp_min(1e-3))
        self.count.copy_(total)

    def forward(self, observations: Tensor) -> Tensor:
        """Return (B, n), scaled."""
        scaled = (observations - self.mean.to(observations)) / self.std.to(observations)
        return scaled.clamp(-10.0, 10.0)


class GaussianPolicy(nn.Module):
    """π(u|s) = N(tanh(f(s)), diag(σ²)), of actions scaled to [-1, 1].

    The mean stays inside the limits by construction, so what is exported, run and learned
    from is one and the same distribution; samples are clipped by `Contract.admissible`.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        initial_std: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.body = mlp([observation_size, *hidden, action_size], generator, last_gain=0.1)
        self.log_std = nn.Parameter(torch.full((action_size,), math.log(initial_std)))

    def forward(self, x: Tensor) -> Tensor:
        """Return means (B, actions) of normalised observations (B, n)."""
        return torch.tanh(self.body(x))

    def log_prob(self, mean: Tensor, u: Tensor) -> Tensor:
        """Return log π(u|s), (B,): summed over dimensions."""
        z = (u - mean) * torch.exp(-self.log_std)
        return -0.5 * (z * z + math.log(2.0 * math.pi)).sum(-1) - self.log_std.sum()

    @torch.no_grad()
    def fisher_product(self, x: Tensor, v: Tensor, damping: float) -> Tensor:
        """Return (F + damping·I) v in closed form: no second backward pass.

        For a diagonal Gaussian the Fisher matrix of the mean's parameters is
        F = E[Jᵀ diag(1/σ²) J], J = ∂mean/∂θ, and that of log σ is 2·I. One pass forward carries
        the tangent J·v through the layers, one pass back carries diag(1/σ²)·J·v to the weights.

        Args:
            x: (B, n) normalised observations.
            v: (P,) in the order of `parameters()`.
        """
        log_std_part, rest = v[: self.log_std.numel()], v[self.log_std.numel() :]
        linears = [layer for layer in self.body if isinstance(layer, nn.Linear)]
        tangents = []
        for layer in linears:
            n = layer.weight.numel()
            tangents.append((rest[:n].view_as(layer.weight), rest[n : n + len(layer.bias)]))
            rest = rest[n + len(layer.bias) :]

        h, dh = x, torch.zeros_like(x)
        inputs, slopes = [], []
        for i, (layer, (dw, db)) in enumerate(zip(linears, tangents, strict=True)):
            inputs.append(h)
            dz = torch.addmm(db, h, dw.T)
            if i > 0:
                dz += dh @ layer.weight.T
            h = torch.tanh(layer(h))
            slopes.append(1.0 - h * h)
            dh = dz * slopes[-1]

        back = dh * torch.exp(-2.0 * self.log_std) / len(x)
        parts: list[Tensor] = []
        for i in reversed(range(len(linears))):
            dz = back * slopes[i]
            parts[:0] = [(dz.T @ inputs[i]).reshape(-1), dz.sum(0)]
            if i > 0:
                back = dz @ linears[i].weight
        return torch.cat([2.0 * log_std_part, *parts]) + damping * v


def kl(old_mean: Tensor, old_log_std: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the mean over states of KL(old ‖ new), summed over action dimensions.

    KL = Σ_i log(σ'_i/σ_i) + (σ_i² + (μ_i − μ'_i)²) / (2σ'_i²) − ½.
    """
    ratio = torch.exp(2.0 * (old_log_std - log_std))
    shift = ((old_mean - mean) * torch.exp(-log_std)) ** 2
    per_dimension = log_std - old_log_std + 0.5 * (ratio + shift) - 0.5
    return per_dimension.sum(-1).mean()


class Critic(nn.Module):
    """V(s) of the reward, of each cost under its discount, and of each cost undiscounted.

    The first two make advantages; the last is the cost still to come in the episode, which
    the monitor adds to what was spent. One network each, in the units of the returns.
    The networks are stacked, so that all of them take one matrix product per layer. Targets
    are scaled by a mean and standard deviation that follow them, so that one learning rate
    serves returns of 0.1 and of 1000.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: int, outputs: int, hidden: Sequence[int], generator: torch.Generator):
        super().__init__()
        stacks = [
            [layer for layer in mlp([size, *hidden, 1], generator) if isinstance(layer, nn.Linear)]
            for _ in range(outputs)
        ]
        layers = list(zip(*stacks, strict=True))
        self.weights = nn.ParameterList(
            torch.stack([linear.weight.detach().T for linear in layer]) for layer in layers
        )
        self.biases = nn.ParameterList(
            torch.stack([linear.bias.detach()[None] for linear in layer]) for layer in layers
        )
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("std", torch.ones(outputs))

    def scaled(self, x: Tensor) -> Tensor:
        """Return (B, outputs) in the scaled units that are fitted."""
        h = x.expand(len(self.mean), *x.shape)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias, h, weight)
            if i < len(self.weights) - 1:
                h = torch.tanh(h)
        return h[..., 0].T

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs) in the units of the returns."""
        return self.scaled(x) * self.std + self.mean

    @torch.no_grad()
    def follow(self, targets: Tensor) -> None:
        """Move the scale to that of the targets (B, outputs), leaving the function unchanged.

        (PopArt: van Hasselt et al. 2016, equation 9.)
        """
        mean, std = targets.mean(0), targets.std(0).clamp_min(1e-2)
        weight, bias = self.weights[-1], self.biases[-1]
        weight.mul_((self.std / std)[:, None, None])
        bias.copy_(bias * self.std[:, None, None] + (self.mean - mean)[:, None, None])
        bias.div_(std[:, None, None])
        self.mean.copy_(mean)
        self.std.copy_(std)


@dataclass(frozen=True)
class Networks:
    """All that a policy is made of, and the contract that it is for."""

    contract: Contract
    policy: GaussianPolicy
    critic: Critic
    normaliser: Normaliser

    @staticmethod
    def build(
        contract: Contract, hidden: Sequence[int], initial_std: float, generator: torch.Generator
    ) -> Networks:
        """Return new networks with weights drawn from the generator."""
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
