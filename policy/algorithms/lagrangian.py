"""Primal-dual optimization: each cost's price follows the excess over its limit.

    maximise J − Σ ν_i J_C,i   by an algorithm for rewards,   ν_i ← PID(J_C,i − d_i)₊

The integral term alone is dual ascent: PDO (Chow et al. 2015, as the CPO paper has it) over
TRPO's step, PPO-Lagrangian (Ray et al. 2019) over PPO's. Proportional and derivative terms are
those of Stooke et al. 2020, algorithm 2.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from torch import Tensor

from holdfast.errors import TrainingError
from holdfast.policy.algorithms.algorithm import BatchEstimate, S, Setup
from holdfast.policy.algorithms.penalty import Penalised
from holdfast.policy.algorithms.ppo import PPO, PPOSettings
from holdfast.policy.algorithms.trpo import TRPO, TRPOSettings
from holdfast.schema import NOT_NEGATIVE, check
from holdfast.signals import Array


@dataclass(frozen=True)
class MultiplierSettings:
    """Gains of the PID controller of each cost's Lagrange multiplier.

    Gains have no unit. A gain is the multiplier at an excess as large as the limit itself; at a
    multiplier of 1, a cost of d weighs as much as one standard deviation of the reward's
    advantage. With proportional and derivative gains of 0 the controller is plain dual ascent.

    Attributes:
        kp: gain on the excess over the limit.
        ki: gain on the sum of the excess over iterations.
        kd: gain on the rise of the excess from one iteration to the next.
    """

    kp: Annotated[float, NOT_NEGATIVE] = 0.1
    ki: Annotated[float, NOT_NEGATIVE] = 0.02
    kd: Annotated[float, NOT_NEGATIVE] = 0.1

    def __post_init__(self) -> None:
        check(self, TrainingError)


class Lagrangian(Penalised[S]):
    """An algorithm for rewards, with prices from a PID controller."""

    meets_limit = True

    def __init__(self, setup: Setup, settings: S) -> None:
        super().__init__(setup, settings)
        self.multiplier = Multiplier(self.gains, self.costs)

    @property
    @abstractmethod
    def gains(self) -> MultiplierSettings:
        """Gains of the controller."""

    def prices(self, estimate: BatchEstimate) -> Array:
        """See `Penalised`.

        The controller works without units: at 1, a cost of the whole limit weighs as much as
        one standard deviation of the reward's advantage.
        """
        unit = np.where(estimate.limit > 0.0, estimate.limit, 1.0)
        prices: Array = self.multiplier.follow(estimate.excess / unit) / unit
        return prices * estimate.reward_scale

    def data(self) -> dict[str, Any]:
        """See `Algorithm`."""
        return self.multiplier.state()

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """See `Algorithm`."""
        super().restore(tensors, data)
        self.multiplier.restore(data)


@dataclass(frozen=True)
class PDOSettings(TRPOSettings):
    """Settings of primal-dual optimization.

    Attributes:
        multiplier: gains of the PID controller of each cost's Lagrange multiplier.
    """

    multiplier: MultiplierSettings = field(default_factory=MultiplierSettings)


class PDO(Lagrangian[PDOSettings]):
    """TRPO, with prices from a PID controller."""

    Settings = PDOSettings
    inner = TRPO

    @property
    def gains(self) -> MultiplierSettings:
        """See `Lagrangian`."""
        return self.settings.multiplier


@dataclass(frozen=True)
class PPOLagrangianSettings(PPOSettings):
    """Settings of PPO-Lagrangian.

    Attributes:
        multiplier: gains of the PID controller of each cost's Lagrange multiplier.
    """

    multiplier: MultiplierSettings = field(default_factory=MultiplierSettings)


class PPOLagrangian(Lagrangian[PPOLagrangianSettings]):
    """Clipped PPO, with prices from a PID controller."""

    Settings = PPOLagrangianSettings
    inner = PPO

    @property
    def gains(self) -> MultiplierSettings:
        """See `Lagrangian`."""
        return self.settings.multiplier


class Multiplier:
    """A PID controller of each limit's multiplier (Stooke et al. 2020, algorithm 2).

    With the excess Δ: I ← (I + Δ)₊, ν = (K_P Δ + K_I I + K_D (Δ − Δ_before)₊)₊.
    """

    def __init__(self, settings: MultiplierSettings, costs: int) -> None:
        self.settings = settings
        self.integral = np.zeros(costs)
        self.before: Array | None = None

    def follow(self, excess: Array) -> Array:
        """Return ν (m,) after a batch with this excess (m,)."""
        s = self.settings
        rise = np.maximum(excess - self.before, 0.0) if self.before is not None else 0.0
        self.integral = np.maximum(self.integral + excess, 0.0)
        self.before = excess
        nu: Array = np.maximum(s.kp * excess + s.ki * self.integral + s.kd * rise, 0.0)
        return nu

    def state(self) -> dict[str, Any]:
        """Return the controller's state, as JSON data."""
        before = None if self.before is None else self.before.tolist()
        return {"integral": self.integral.tolist(), "before": before}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state` returned."""
        self.integral = np.array(state["integral"])
        self.before = None if state["before"] is None else np.array(state["before"])
