"""The critics: value functions of the reward and of each cost."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from holdfast.policy.models.layers import ROWS, mlp, products, tanh_


class Critic(nn.Module):
    """V(s) of the reward, of each cost under its discount, and of each cost undiscounted.

    Advantages are computed from the first two. The last is the cost still to come in the episode,
    which the monitor adds to the cost already spent. Each output has a network, in the units of
    the returns. The networks are stacked, so that a layer of all networks is one matrix product.
    Targets are scaled by their running mean and standard deviation, so that one learning rate
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

    @torch.no_grad()
    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        """Remain the same function when the normaliser has changed; see `Normaliser.update`."""
        weight, bias = self.weights[0], self.biases[0]
        bias.add_((weight * shift.to(weight)[:, None]).sum(1, keepdim=True))
        weight.mul_(scale.to(weight)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """Return values (B, outputs) of normalised observations (B, n), in units of the returns."""
        h = x.expand(len(self.mean), *x.shape)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias, h, weight)
            if i < len(self.weights) - 1:
                h = torch.tanh(h)
        return h[..., 0].T * self.std + self.mean

    @torch.no_grad()
    def values(self, x: Tensor) -> Tensor:
        """Return the result of `forward`, computed without derivatives."""
        scaled = torch.cat([self._layers(part)[-1].T for part in torch.split(x, ROWS)])
        return scaled * self.std + self.mean

    def _layers(self, x: Tensor) -> list[Tensor]:
        """Return each layer's input (outputs, B, units), and the scaled values (outputs, B)."""
        *hidden, last = zip(self.weights, self.biases, strict=True)
        layers = [x.expand(len(self.mean), *x.shape)]
        for weight, bias in hidden:
            layers.append(tanh_(torch.baddbmm(bias, layers[-1], weight)))
        weight, bias = last  # one unit: a product and a sum are faster than a matrix product
        layers.append((layers[-1] * weight.mT).sum(-1).add_(bias[..., 0]))
        return layers

    @torch.no_grad()
    def descend(self, x: Tensor, target: Tensor) -> None:
        """Set each parameter's `grad` to the gradient of the mean of Σ (scaled value − target)².

        Args:
            x: (B, n). target: (outputs, B), in scaled units.
        """
        *layers, value = self._layers(x)
        error = (value - target).mul_(2.0 / len(x))[..., None]
        weights, biases = list(self.weights), list(self.biases)
        weights[-1].grad = (layers[-1] * error).sum(1)[..., None]
        biases[-1].grad = error.sum(1, keepdim=True)
        back = error * weights[-1].mT
        for i in reversed(range(len(weights) - 1)):
            back = torch.ops.aten.tanh_backward(back, layers[i + 1])  # (1 − tanh²) · back
            weights[i].grad = products(layers[i], back)
            biases[i].grad = back.sum(1, keepdim=True)
            if i > 0:
                back = torch.bmm(back, weights[i].mT)

    @torch.no_grad()
    def follow(self, targets: Tensor) -> None:
        """Set the scale to the targets' (B, outputs); the function stays unchanged.

        PopArt: van Hasselt et al. 2016, equation 9.
        """
        mean, std = targets.mean(0), targets.std(0).clamp_min(1e-2)
        weight, bias = self.weights[-1], self.biases[-1]
        weight.mul_((self.std / std)[:, None, None])
        bias.copy_(bias * self.std[:, None, None] + (self.mean - mean)[:, None, None])
        bias.div_(std[:, None, None])
        self.mean.copy_(mean)
        self.std.copy_(std)


def fit_critic(
    critic: Critic,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    target: Tensor,
    steps: int,
    minibatch: int,
    generator: torch.Generator,
) -> None:
    """Fit the critics to targets (B, outputs) at normalised observations x (B, n)."""
    critic.follow(target)
    scaled = ((target - critic.mean) / critic.std).T
    minibatch = min(minibatch, len(x))
    for _ in range(steps):
        rows = torch.randint(len(x), (minibatch,), generator=generator)
        critic.descend(x[rows], scaled[:, rows])
        optimiser.step()
