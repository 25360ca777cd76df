"""A fixed penalty: the reward less a price of each cost that never changes.

    maximise J − Σ ν_i J_C,i   by an algorithm for rewards

What most people do first, and the baseline that the CPO paper calls fixed penalty optimization.
It knows no limit: a price too low breaks it, a price too high makes it over-conservative.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from holdfast.errors import TrainingError
from holdfast.policy.algorithms.algorithm import Algorithm, Measured, Report, S, Setup
from holdfast.policy.algorithms.ppo import PPO, PPOSettings
from holdfast.policy.algorithms.trpo import TRPO, TRPOSettings
from holdfast.policy.sampling.samples import Samples
from holdfast.schema import NOT_NEGATIVE
from holdfast.signals import Array


class Penalised(Algorithm[S]):
    """An algorithm for rewards, on the reward less the costs at their prices.

    Attributes:
        inner: the algorithm for rewards; it reads the same settings.
    """

    inner: ClassVar[type[Algorithm[Any]]]

    def __init__(self, setup: Setup, settings: S) -> None:
        super().__init__(setup, settings)
        self.pursuit = self.inner(setup, settings)

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


class FixedPenalty(Penalised[S]):
    """At the prices of the settings.

    Raises:
        TrainingError: there is not one price for each cost.
    """

    def __init__(self, setup: Setup, settings: S) -> None:
        super().__init__(setup, settings)
        names = [cost.name for cost in setup.networks.contract.costs]
        if len(self.penalty) != len(names):
            raise TrainingError(
                f"penalty should have a price for each cost, {', '.join(names)}; "
                f"received {len(self.penalty) or 'none'}"
            )

    @property
    @abstractmethod
    def penalty(self) -> tuple[float, ...]:
        """The prices."""

    def prices(self, measured: Measured) -> Array:
        """See `Penalised`."""
        return np.array(self.penalty)


@dataclass(frozen=True)
class TRPOPenaltySettings(TRPOSettings):
    """Settings of TRPO with a fixed penalty.

    Attributes:
        penalty: price of each cost in units of reward, in the contract's order.
    """

    penalty: tuple[Annotated[float, NOT_NEGATIVE], ...] = ()


class TRPOPenalty(FixedPenalty[TRPOPenaltySettings]):
    """A fixed penalty in TRPO's step."""

    Settings = TRPOPenaltySettings
    inner = TRPO

    @property
    def penalty(self) -> tuple[float, ...]:
        """See `FixedPenalty`."""
        return self.settings.penalty


@dataclass(frozen=True)
class PPOPenaltySettings(PPOSettings):
    """Settings of PPO with a fixed penalty.

    Attributes:
        penalty: price of each cost in units of reward, in the contract's order.
    """

    penalty: tuple[Annotated[float, NOT_NEGATIVE], ...] = ()


class PPOPenalty(FixedPenalty[PPOPenaltySettings]):
    """A fixed penalty in PPO's clipped steps."""

    Settings = PPOPenaltySettings
    inner = PPO

    @property
    def penalty(self) -> tuple[float, ...]:
        """See `FixedPenalty`."""
        return self.settings.penalty
