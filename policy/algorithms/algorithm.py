"""What an algorithm is: it changes a policy by a batch, and remembers what it must."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.models.gaussian import GaussianPolicy
from holdfast.policy.sampling.samples import Samples
from holdfast.signals import Array


@dataclass(frozen=True)
class Measured:
    """What a batch measured of its whole episodes, m costs; with shaping, of the shaped ones.

    Attributes:
        cost: (m,), J_C, their mean undiscounted sums. limit: (m,), d of each.
        length: T, their mean number of steps.
        reward_scale: the reward that an advantage of 1 in `Samples` stands for.
    """

    cost: Array
    limit: Array
    length: float
    reward_scale: float

    @property
    def excess(self) -> Array:
        """J_C − d, (m,)."""
        return self.cost - self.limit


@dataclass(frozen=True)
class Report:
    """What an update did.

    Attributes:
        case: which kind of update it was; CPO's are `holdfast.policy.optimise.dual.Case`.
        kl: KL(old ‖ new), nats, mean over the batch's states.
        reward_change: of the surrogate that was pursued. cost_change: (m,), of the costs';
            means per step.
        lam: λ, the multiplier of the trust region or of the KL divergence.
        nu: (m,), a multiplier of each cost: what a unit of it is worth in units of reward.
        accepted: tries of the line search that failed before this one; None where all did, and
            the parameters are as they were.
        reason: why.
        more: what only this algorithm has to say; a tuple is one of each cost.
    """

    case: str
    kl: float = 0.0
    reward_change: float = 0.0
    cost_change: tuple[float, ...] = ()
    lam: float = 0.0
    nu: tuple[float, ...] = ()
    accepted: int | None = 0
    reason: str = ""
    more: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)


class Algorithm(ABC):
    """Changes a policy by one batch after another.

    Args:
        policy: changed in place.
        generator: draws whatever an update draws.
        costs: m.
    """

    def __init__(
        self,
        policy: GaussianPolicy,
        settings: TrainSettings,
        generator: torch.Generator,
        costs: int,
    ) -> None:
        self.policy, self.settings, self.generator = policy, settings, generator
        self.costs = costs

    @abstractmethod
    def update(self, samples: Samples, measured: Measured) -> Report:
        """Change the policy by a batch of its own.

        Args:
            samples: their advantages centred, the reward's scaled to variance 1.
        """

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold of the algorithm, as tensors: nothing, here."""
        return {}

    def data(self) -> dict[str, Any]:
        """Return the rest of it, as JSON data: nothing, here."""
        return {}

    def restore(  # noqa: B027
        self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]
    ) -> None:
        """Take up what `tensors` and `data` returned."""
