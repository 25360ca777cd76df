"""Cost shaping: a probable coming cost adds to the present cost (Achiam et al. 2017, section 9).

    C⁺(s, a) = C(s, a) + α P(a cost within T steps | s)

C⁺ is at least C, so a policy that meets the limit in C⁺ meets it in C. The policy learns of a
danger before the cost is billed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from holdfast.errors import TrainingError
from holdfast.policy.models.layers import ROWS, absorb, mlp
from holdfast.schema import NOT_NEGATIVE, Range, check
from holdfast.signals import Array

RATE = 1e-2
"""Adam's learning rate for the predictor."""


@dataclass(frozen=True)
class ShapingSettings:
    """Cost shaping: adds α · P(a cost in the next T steps) to the cost that the limit bounds.

    Reports and bundles contain the cost without it.

    Attributes:
        horizon: T, steps; 0: no shaping.
        shaping: α, the predictor's weight, in cost units.
        predictor_steps: the predictor's fitting steps per iteration.
        predictor_hidden: the predictor's hidden units.
    """

    horizon: Annotated[int, Range(0)] = 0
    shaping: Annotated[float, NOT_NEGATIVE] = 1.0
    predictor_steps: Annotated[int, Range(1)] = 25
    predictor_hidden: Annotated[int, Range(1)] = 32

    def __post_init__(self) -> None:
        check(self, TrainingError)


def cost_within(costs: Array, ended: NDArray[np.bool_], horizon: int) -> NDArray[np.bool_]:
    """Return whether each cost (T, N, m) occurs at steps t to t + horizon − 1 of its episode."""
    result = np.empty(costs.shape, dtype=bool)
    wait = np.full(costs.shape[1:], horizon)
    for t in reversed(range(len(costs))):
        wait[ended[t]] = horizon
        wait = np.where(costs[t] > 0.0, 0, wait + 1)
        result[t] = wait < horizon
    return result


class Predictor(nn.Module):
    """P(a cost within T steps | s) for each cost, by one network per cost with one hidden layer.

    Before the first fit the predictor predicts 0.
    """

    fitted: Tensor

    def __init__(
        self, size: int, costs: int, settings: ShapingSettings, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.settings = settings
        self.networks = nn.ModuleList()
        for _ in range(costs):
            first, _, last = mlp([size, settings.predictor_hidden, 1], generator)
            self.networks.append(nn.Sequential(first, nn.Sigmoid(), last))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        """Remain the same function when the normaliser has changed; see `Normaliser.update`."""
        for network in self.networks:
            absorb(cast(nn.Linear, network.get_submodule("0")), scale, shift)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, m) at normalised observations x (B, n)."""
        return torch.cat([network(x) for network in self.networks], dim=1)

    @torch.no_grad()
    def shaped(self, costs: Array, x: Tensor) -> Array:
        """Return C⁺ (T, N, m) for costs (T, N, m) at x (T·N, n)."""
        if not self.fitted:
            return costs
        likely = torch.cat([torch.sigmoid(self(part)) for part in torch.split(x, ROWS)])
        shaped: Array = costs + self.settings.shaping * likely.double().numpy().reshape(costs.shape)
        return shaped


def fit_predictor(
    predictor: Predictor,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    label: Tensor,
    generator: torch.Generator,
) -> None:
    """Fit by logistic regression to labels (B, m), 0 or 1, at normalised observations x (B, n)."""
    for _ in range(predictor.settings.predictor_steps):
        rows = torch.randint(len(x), (min(ROWS, len(x)),), generator=generator)
        loss = binary_cross_entropy_with_logits(predictor(x[rows]), label[rows])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    predictor.fitted.fill_(True)
