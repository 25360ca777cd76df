"""A fixed penalty: the reward less a price of each cost that never changes.

    maximise J − Σ ν_i J_C,i   by an algorithm for rewards

What most people do first, and the baseline that the CPO paper calls fixed penalty optimization.
It knows no limit: a price too low breaks it, a price too high is timid.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.errors import TrainingError
from holdfast.policy.algorithms.algorithm import Algorithm, Measured, Report
from holdfast.policy.algorithms.ppo import PPO
from holdfast.policy.algorithms.trpo import TRPO
from holdfast.policy.sampling.samples import Samples
from holdfast.signals import Array


class Penalised(Algorithm):
    """An algorithm for rewards, on the reward less the costs at their prices."""

    inner: type[Algorithm]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.pursuit = self.inner(*arguments)

    @abstractmethod
    def prices(self, measured: Measured) -> Array:
        """Return ν (m,), what a unit of each cost is worth in units of reward."""

    def update(self, samples: Samples, measured: Measured) -> Report:
        """Pursue the advantage A − Σ ν_i A_C,i, scaled to variance 1."""
        prices = self.prices(measured)
        weights = np.append(1.0, -prices / measured.reward_scale)
        advantage = samples.advantages @ torch.from_numpy(weights).to(samples.advantages)
        report = self.pursuit.update(samples.pursuing(advantage), measured)
        return dataclasses.replace(report, nu=tuple(prices.tolist()))

    def tensors(self) -> dict[str, Tensor]:
        """See `Algorithm`."""
        return self.pursuit.tensors()

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """See `Algorithm`."""
        self.pursuit.restore(tensors, {})


class FixedPenalty(Penalised):
    """At the prices of the settings.

    Raises:
        TrainingError: they hold none.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if len(self.settings.penalty) != self.costs:
            raise TrainingError(
                f"penalty should have a price for each cost with {self.settings.algorithm}, "
                f"received none"
            )

    def prices(self, measured: Measured) -> Array:
        """See `Penalised`."""
        return np.array(self.settings.penalty)


class TRPOPenalty(FixedPenalty):
    """Over TRPO's step."""

    inner = TRPO


class PPOPenalty(FixedPenalty):
    """Over PPO's clipped steps."""

    inner = PPO
