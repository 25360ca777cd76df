"""The base class of algorithms: settings, sampling, the update, and checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from holdfast.errors import TrainingError
from holdfast.policy.models.gaussian import GaussianPolicy
from holdfast.policy.models.networks import Networks, Normaliser
from holdfast.policy.sampling.rollout import Estimates, Rollout, rows
from holdfast.policy.sampling.samples import Samples
from holdfast.schema import check
from holdfast.signals import Array
from holdfast.sim.batch.batch import Batch


@dataclass(frozen=True)
class BatchEstimate:
    """Means over the whole episodes of a batch, for m costs, with what shaping and pessimism add.

    A cost with a range of limits counts as a cost at each knot of it (`policy.learn.knots`).

    Attributes:
        cost: (m,), J_C, mean undiscounted sum of each cost. limit: (m,), d of each cost.
        length: T, mean number of steps of an episode.
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
class UpdateResult:
    """The result of an update.

    Attributes:
        case: kind of update; for CPO a value of `holdfast.policy.optimise.dual.Case`.
        kl: KL(old ‖ new), nats, mean over the batch's states.
        reward_change: change of the surrogate that was maximised. cost_change: (m,), changes of
            the costs' surrogates. Both are means per step.
        lam: λ, the multiplier of the trust region or of the KL divergence.
        nu: (m,), a multiplier of each cost: the reward that a unit of the cost is worth.
        accepted: number of steps of the line search that failed before the accepted one; None:
            all failed, and the parameters are unchanged.
        reason: why no step was accepted.
        more: further numbers of this algorithm; a tuple has one number per cost.
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


@dataclass(frozen=True)
class OwnSettings:
    """Settings of one algorithm; without fields, the algorithm has none."""

    def __post_init__(self) -> None:
        check(self, TrainingError)

    @classmethod
    def paper(cls: type[S]) -> S:
        """Return the values of the CPO paper."""
        return cls()


S = TypeVar("S", bound=OwnSettings)


@dataclass(frozen=True)
class Setup:
    """Objects that an algorithm may use beside its settings.

    Attributes:
        networks: the policy in them is changed in place.
        generator: random numbers of the algorithm.
        batch: the simulated copies in which rollouts run.
        more: makes another batch of the same task with the given number of copies.
        steps: simulated steps of a rollout, all copies together.
        gamma, lam: discount and GAE λ of the reward.
        costs: m, number of limits: of each cost one, or one at each knot of its range.
        sharded: rollouts run in shards, perhaps on other machines, not in `batch` itself.
        resumed: the networks will be restored from a checkpoint.
    """

    networks: Networks
    generator: torch.Generator
    batch: Batch
    more: Callable[[int], Batch]
    steps: int
    gamma: float
    lam: float
    costs: int
    sharded: bool = False
    resumed: bool = False


@dataclass(frozen=True)
class Collected:
    """A rollout with its normalised observations x (T·N, n) and its estimates."""

    rollout: Rollout
    x: Tensor
    estimates: Estimates

    def samples(self) -> Samples:
        """Return the steps with the advantages of the reward and of each discounted cost."""
        rollout = self.rollout
        advantages = rows(self.estimates.advantage[..., : 1 + rollout.costs.shape[-1]])
        log_prob = torch.from_numpy(rollout.log_prob).flatten()
        return Samples(self.x, rows(rollout.u), log_prob, advantages, torch.ones(len(log_prob)))


class Algorithm(ABC, Generic[S]):
    """An algorithm that changes a policy, batch after batch.

    A new algorithm is one file with a subclass, and one line in `ALGORITHMS`. Every
    algorithm defines `update`; the other methods have defaults for on-policy learning.

    Attributes:
        Settings: class of the algorithm's settings; the command line shows its fields as options.
        meets_limit: the algorithm aims to meet the limits.
        takes_demonstrations: the policy may begin as a clone of logged behaviour.
        extra_steps: simulated steps that sampling took in addition to the last rollout.
    """

    Settings: ClassVar[type[OwnSettings]] = OwnSettings
    meets_limit: ClassVar[bool] = False
    takes_demonstrations: ClassVar[bool] = True
    extra_steps: int = 0

    def __init__(self, setup: Setup, settings: S) -> None:
        self.policy, self.generator = setup.networks.policy, setup.generator
        self.normaliser = setup.networks.normaliser
        self.costs, self.settings = setup.costs, settings

    @abstractmethod
    def update(self, samples: Samples, estimate: BatchEstimate) -> UpdateResult:
        """Change the policy.

        Args:
            samples: from `samples`; advantages are centred, and the reward's have variance 1.
        """

    # Sampling.

    def acting(self) -> tuple[GaussianPolicy, Normaliser]:
        """Return the policy that draws the actions of rollouts: the learned policy itself."""
        return self.policy, self.normaliser

    def before_rollout(self, steps: int) -> None:
        """Prepare for a rollout of `steps` steps per copy."""

    def before_step(self, t: int) -> None:
        """Read the batch before step t of a rollout, where an algorithm needs its states."""

    def samples(self, collected: Collected) -> Samples:
        """Return the samples that `update` changes the policy by."""
        return collected.samples()

    def keeps_normaliser(self, result: UpdateResult) -> bool:
        """Return whether the normaliser must stay as it is after an update.

        A behaviour policy and the learned policy have to read the same scaled observations.
        """
        return False

    def renew(self) -> None:
        """Copy the current policy where an algorithm acts with a copy."""

    def close(self) -> None:
        """End threads."""

    # Checkpoints.

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint must hold of the algorithm."""
        return {}

    def data(self) -> dict[str, Any]:
        """Return the JSON data that a checkpoint must hold of the algorithm."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """Continue from the results of `tensors` and `data`."""
