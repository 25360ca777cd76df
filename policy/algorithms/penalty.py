"""Fixed penalties: the reward minus each cost times a constant price.

    maximise J − Σ ν_i J_C,i   by an algorithm for rewards

The usual first attempt, and the baseline that the CPO paper calls fixed penalty optimization. The
algorithm knows no limit: too low a price breaks the limit, too high a price is over-conservative.
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
from holdfast.policy.algorithms.algorithm import Algorithm, BatchEstimate, S, Setup, UpdateResult
from holdfast.policy.algorithms.ppo import PPO, PPOSettings
from holdfast.policy.algorithms.trpo import TRPO, TRPOSettings
from holdfast.policy.sampling.samples import Samples
from holdfast.schema import NOT_NEGATIVE
from holdfast.signals import Array


class Penalised(Algorithm[S]):
    """An algorithm for rewards, applied to the reward minus the costs times their prices.

    Attributes:
        inner: the algorithm for rewards; the settings are its settings too.
    """

    inner: ClassVar[type[Algorithm[Any]]]

    def __init__(self, setup: Setup, settings: S) -> None:
        super().__init__(setup, settings)
        self.pursuit = self.inner(setup, settings)

    @abstractmethod
    def prices(self, estimate: BatchEstimate) -> Array:
        """Return ν (m,), the price of a unit of each cost in units of reward."""

    def update(self, samples: Samples, estimate: BatchEstimate) -> UpdateResult:
        """Maximise with the advantage A − Σ ν_i A_C,i, scaled to variance 1."""
        prices = self.prices(estimate)
        weights = np.append(1.0, -prices / estimate.reward_scale)
        advantage = samples.advantages @ torch.from_numpy(weights).to(samples.advantages)
        result = self.pursuit.update(samples.pursuing(advantage), estimate)
        return dataclasses.replace(result, nu=tuple(prices.tolist()))

    def tensors(self) -> dict[str, Tensor]:
        """See `Algorithm`."""
        return self.pursuit.tensors()

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """See `Algorithm`."""
        self.pursuit.restore(tensors, {})


class FixedPenalty(Penalised[S]):
    """An algorithm for rewards, with prices from the settings.

    Raises:
        TrainingError: the number of prices is not the number of costs.
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

    def prices(self, estimate: BatchEstimate) -> Array:
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
    """TRPO with a fixed penalty."""

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
    """Clipped PPO with a fixed penalty."""

    Settings = PPOPenaltySettings
    inner = PPO

    @property
    def penalty(self) -> tuple[float, ...]:
        """See `FixedPenalty`."""
        return self.settings.penalty
