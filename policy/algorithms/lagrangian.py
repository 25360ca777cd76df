"""Primal-dual optimization: prices that follow how far their limits are exceeded.

    maximise J − Σ ν_i J_C,i   by an algorithm for rewards,   ν_i ← PID(J_C,i − d_i)₊

With the integral alone it is dual ascent: PDO (Chow et al. 2015, as the CPO paper has it) over
TRPO's step, PPO-Lagrangian (Ray et al. 2019) over PPO's. Proportional and derivative terms are
those of Stooke et al. 2020, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from holdfast.policy.algorithms.algorithm import Measured
from holdfast.policy.algorithms.penalty import Penalised
from holdfast.policy.algorithms.ppo import PPO
from holdfast.policy.algorithms.trpo import TRPO
from holdfast.policy.learn.settings import MultiplierSettings
from holdfast.signals import Array


class Lagrangian(Penalised):
    """At the prices that a controller finds."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.multiplier = Multiplier(self.settings.multiplier, self.costs)

    def prices(self, measured: Measured) -> Array:
        """See `Penalised`.

        The controller works without units: at 1, a cost of the whole limit weighs as much as
        one standard deviation of the reward's advantage.
        """
        unit = np.where(measured.limit > 0.0, measured.limit, 1.0)
        prices: Array = self.multiplier.follow(measured.excess / unit) / unit
        return prices * measured.reward_scale

    def data(self) -> dict[str, Any]:
        """See `Algorithm`."""
        return self.multiplier.state()

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """See `Algorithm`."""
        super().restore(tensors, data)
        self.multiplier.restore(data)


class PDO(Lagrangian):
    """Over TRPO's step."""

    inner = TRPO


class PPOLagrangian(Lagrangian):
    """Over PPO's clipped steps."""

    inner = PPO


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
        """Return what the next multiplier depends on, as JSON data."""
        before = None if self.before is None else self.before.tolist()
        return {"integral": self.integral.tolist(), "before": before}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned."""
        self.integral = np.array(state["integral"])
        self.before = None if state["before"] is None else np.array(state["before"])
