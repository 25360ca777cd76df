"""What all networks are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

ROWS = 1024
"""Rows that go through a network at a time: few enough for a core's cache, so that a step costs
the same in any batch, and memory does not grow with it. The same whatever the number of threads,
so that sums round alike."""


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


def tanh_(z: Tensor) -> Tensor:
    """Replace z by tanh z = 2σ(2z) − 1: right to 2e-7, in less than half of torch.tanh's time."""
    return z.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)
