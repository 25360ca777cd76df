"""Layers and operations that all networks share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

ROWS = 1024
"""Rows that go through a network at a time. They fit into a core's cache, so the time per row and
the memory do not grow with the batch. The number is fixed, so sums round alike on any machine."""


def mlp(sizes: Sequence[int], generator: torch.Generator, last_gain: float = 1.0) -> nn.Sequential:
    """Return Linear and Tanh layers in turn, without a final Tanh; orthogonal, seeded weights."""
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        linear = nn.Linear(fan_in, fan_out)
        last = i == len(sizes) - 2
        nn.init.orthogonal_(linear.weight, last_gain if last else math.sqrt(2.0), generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.Tanh()]
    return nn.Sequential(*layers)


@torch.no_grad()
def absorb(layer: nn.Linear, scale: Tensor, shift: Tensor) -> None:
    """Change a layer to compute of x what it computed of scale · x + shift, (inputs,) each."""
    layer.bias.add_(layer.weight @ shift.to(layer.weight))
    layer.weight.mul_(scale.to(layer.weight))


class InferenceMLP:
    """A copy of linear layers with a tanh after each, which computes y = f(x) in few operations.

    As tanh z = 2σ(2z) − 1, the layers are also a network of sigmoids: h ← σ(2W(2h − 1) + 2b).
    """

    @torch.no_grad()
    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._layers = []
        for i, layer in enumerate(layers):
            weight, bias = 2.0 * layer.weight.T, 2.0 * layer.bias
            self._layers.append((2.0 * weight, bias - weight.sum(0)) if i else (weight, bias))

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x), (B, outputs), of x (B, inputs)."""
        for weight, bias in self._layers:
            x = torch.addmm(bias, x, weight).sigmoid_()
        return x.mul_(2.0).sub_(1.0)


def tanh_(z: Tensor) -> Tensor:
    """Replace z by tanh z = 2σ(2z) − 1, exact to 2e-7 in less than half of torch.tanh's time."""
    return z.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)


def products(a: Tensor, b: Tensor) -> Tensor:
    """Return aᵀb (k, n, m) of a (k, B, n) and b (k, B, m), summed over B.

    BLAS is up to seven times as fast with the narrower factor in front.
    """
    return a.mT @ b if a.shape[-1] <= b.shape[-1] else (b.mT @ a).mT
