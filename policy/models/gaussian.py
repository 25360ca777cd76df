"""The policy: a diagonal Gaussian, with its derivatives in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from holdfast.policy.models.layers import ROWS, InferenceMLP, absorb, mlp, products, tanh_


class GaussianPolicy(nn.Module):
    """π(u|s) = N(tanh(f(s)), diag(σ²)), for actions scaled to [-1, 1].

    The tanh keeps the mean inside the limits, so that one distribution is trained, exported and
    run. `Contract.admissible` clips samples.
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

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers, a tanh after each."""
        return [layer for layer in self.body if isinstance(layer, nn.Linear)]

    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        """Remain the same policy when the normaliser has changed; see `Normaliser.update`."""
        absorb(self.linears[0], scale, shift)

    def forward(self, x: Tensor) -> Tensor:
        """Return means (B, actions) of normalised observations (B, n)."""
        return torch.tanh(self.body(x))

    def frozen(self) -> InferenceMLP:
        """Return a copy of `forward` with the present weights, without derivatives."""
        return InferenceMLP(self.linears)

    def means(self, x: Tensor) -> Tensor:
        """Return the result of `forward` for any number of observations, in parts."""
        mean = self.frozen()
        return torch.cat([mean(part) for part in torch.split(x, ROWS)])

    def log_prob(self, mean: Tensor, u: Tensor) -> Tensor:
        """Return log π(u|s), (B,), summed over dimensions."""
        return self.log_prob_of((u - mean) * torch.exp(-self.log_std))

    def log_prob_of(self, noise: Tensor) -> Tensor:
        """Return log π(u|s) (...) of u = mean + σ·noise, for noise (..., actions)."""
        constant = 0.5 * noise.shape[-1] * math.log(2.0 * math.pi)
        return -0.5 * (noise * noise).sum(-1) - self.log_std.sum() - constant


class Linearisation:
    """A policy's linearisation around its present weights θ, at observations x.

    J = ∂mean/∂θ is never formed. The stored forward pass gives J·v (a tangent carried forward
    through the layers) and Jᵀ·c (a cotangent carried back to the weights), for k vectors at once.
    Vectors (k, P) are in the order of `parameters()`, log σ first.

    Args:
        x: (B, n) normalised observations.
    """

    @torch.no_grad()
    def __init__(self, policy: GaussianPolicy, x: Tensor) -> None:
        self.policy, self.layers = policy, policy.linears
        self.inputs, self.slopes = [], []
        h = x
        for layer in self.layers:
            self.inputs.append(h)
            h = tanh_(torch.addmm(layer.bias, h, layer.weight.T))
            self.slopes.append(1.0 - h * h)
        self.mean = h

    def _push(self, v: Tensor) -> Tensor:
        """Return J·v (k, B, actions) for v (k, weights and biases)."""
        at, dh = 0, None
        for layer, h, slope in zip(self.layers, self.inputs, self.slopes, strict=True):
            n, size = layer.weight.numel(), len(layer.bias)
            dw, db = v[:, at : at + n].view(-1, *layer.weight.shape), v[:, at + n : at + n + size]
            dz = torch.baddbmm(db[:, None], h.expand(len(v), *h.shape), dw.mT)
            if dh is not None:
                dz.view(-1, size).addmm_(dh.view(-1, dh.shape[-1]), layer.weight.T)
            dh = dz.mul_(slope)
            at += n + size
        assert dh is not None
        return dh

    def _pull(self, c: Tensor) -> Tensor:
        """Return Jᵀ·c (k, weights and biases) for cotangents c (k, B, actions)."""
        parts: list[Tensor] = []
        for i in reversed(range(len(self.layers))):
            dz, h = c * self.slopes[i], self.inputs[i]
            parts[:0] = [products(dz, h.expand(len(dz), *h.shape)).flatten(1), dz.sum(1)]
            if i > 0:
                c = dz @ self.layers[i].weight
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def score(self, u: Tensor, weight: Tensor) -> Tensor:
        """Return Σ_b weight_b ∇ log π(u_b|x_b), (k, P), for weights (B, k) of actions (B, actions).

        With z = (u − mean)/σ, ∂log π/∂mean = z/σ and ∂log π/∂log σ = z² − 1.
        """
        inverse = torch.exp(-self.policy.log_std)
        z = (u - self.mean) * inverse
        log_std = weight.T @ (z * z - 1.0)
        return torch.cat((log_std, self._pull(weight.T[:, :, None] * (z * inverse))), dim=1)

    @torch.no_grad()
    def kl_gradient(self, old_mean: Tensor, old_log_std: Tensor) -> Tensor:
        """Return the gradient (P,) of `kl` by θ, with the old policy's mean (B, actions) fixed.

        ∂KL/∂μ' = (μ' − μ)/σ'², ∂KL/∂log σ' = 1 − (σ² + (μ − μ')²)/σ'².
        """
        inverse = torch.exp(-self.policy.log_std)
        shift = (self.mean - old_mean) * inverse
        log_std = 1.0 - torch.exp(2.0 * old_log_std) * inverse**2 - (shift * shift).mean(0)
        weights = self._pull((shift * inverse)[None] / len(shift))
        return torch.cat((log_std, weights[0]))

    @torch.no_grad()
    def reverse_kl_gradient(self, old_mean: Tensor, old_log_std: Tensor, weight: Tensor) -> Tensor:
        """Return the gradient (P,) of Σ_b weight_b KL(new ‖ old)_b by θ, for weights (B,).

        ∂KL/∂μ' = (μ' − μ)/σ², ∂KL/∂log σ' = σ'²/σ² − 1.
        """
        inverse = torch.exp(-2.0 * old_log_std)
        log_std = weight.sum() * (torch.exp(2.0 * self.policy.log_std) * inverse - 1.0)
        weights = self._pull((weight[:, None] * (self.mean - old_mean) * inverse)[None])
        return torch.cat((log_std, weights[0]))

    @torch.no_grad()
    def fisher_sum(self, v: Tensor) -> Tensor:
        """Return Σ_b F_b v (k, P), F_b the Fisher matrix at observation b.

        For a diagonal Gaussian the block of the mean's weights is Jᵀ diag(1/σ²) J, and the block of
        log σ is 2·I. So no second backward pass is needed.
        """
        log_std = self.policy.log_std
        log_std_part, rest = v[:, : len(log_std)], v[:, len(log_std) :]
        weights = self._pull(self._push(rest) * torch.exp(-2.0 * log_std))
        return torch.cat((2.0 * len(self.mean) * log_std_part, weights), dim=1)


class FisherMatrix:
    """F + damping·I, F being a policy's mean Fisher matrix over observations x (B, n)."""

    def __init__(self, policy: GaussianPolicy, x: Tensor, damping: float) -> None:
        self.parts = [Linearisation(policy, part) for part in torch.split(x, ROWS)]
        self.count, self.damping = len(x), damping

    def __call__(self, v: Tensor) -> Tensor:
        """Return the matrix's product with each vector of v (k, P)."""
        total = torch.zeros_like(v)
        for part in self.parts:
            total += part.fisher_sum(v)
        return total / self.count + self.damping * v


def kl(old_mean: Tensor, old_log_std: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the mean over states of KL(old ‖ new), summed over action dimensions."""
    return kl_by_state(old_mean, old_log_std, mean, log_std).mean()


def kl_by_state(old_mean: Tensor, old_log_std: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return KL(old ‖ new) of each state, (B,), summed over action dimensions.

    KL = Σ_i log(σ'_i/σ_i) + (σ_i² + (μ_i − μ'_i)²) / (2σ'_i²) − ½.
    """
    ratio = torch.exp(2.0 * (old_log_std - log_std))
    shift = ((old_mean - mean) * torch.exp(-log_std)) ** 2
    per_dimension = log_std - old_log_std + 0.5 * (ratio + shift) - 0.5
    return per_dimension.sum(-1)


def set_gradient(policy: nn.Module, vector: Tensor) -> None:
    """Store a gradient (P,) in the parameters, where an optimiser reads it."""
    parameters = list(policy.parameters())
    parts = torch.split(vector, [p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter)
