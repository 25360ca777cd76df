"""Costs: pure functions of signals that bill the simulator and the robot alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.contract import Contract
from holdfast.errors import ContractError
from holdfast.signals import Array, Signals


@dataclass(frozen=True)
class CostFunction:
    """A cost per step.

    Attributes:
        evaluate: signals shaped (..., size) and keyword parameters to costs shaped (...), as
            numbers or truths.
        signals: what it reads.
        parameters: the names of its keyword parameters.
        largest: the most that one step can cost; infinity where nobody can say.
    """

    evaluate: Callable[..., NDArray[Any]]
    signals: tuple[str, ...]
    parameters: tuple[str, ...]
    largest: float


def corridor(signals: Signals, *, x_limit_m: float) -> NDArray[np.bool_]:
    """Return whether |x| > x_limit_m: a cost of 1 (the Circle cost of Achiam et al. 2017)."""
    x = signals["position"][..., 0][()]  # a number, if it is one robot's: arithmetic is faster
    outside: NDArray[np.bool_] = abs(x) > x_limit_m
    return outside


def bombs(signals: Signals) -> Array:
    """Return 1 where a bomb was taken, else 0 (the Gather cost of Achiam et al. 2017)."""
    return (signals["bombs_taken"][..., 0] > 0.0).astype(np.float64)


def clearance(signals: Signals, *, clearance_m: float) -> Array:
    """Return 1 where something is nearer than clearance_m in any sector of `scan`, else 0."""
    nearest: Array = signals["scan"].min(axis=-1)
    return (nearest < clearance_m).astype(np.float64)


def speeding(signals: Signals, *, speed_m_s: float) -> Array:
    """Return 1 where the robot goes faster than speed_m_s, forwards or backwards, else 0."""
    return (abs(signals["forward_speed"][..., 0]) > speed_m_s).astype(np.float64)


def tilting(signals: Signals, *, tilt_rad: float) -> Array:
    """Return 1 where roll or pitch is beyond tilt_rad, either way, else 0."""
    steepest: Array = abs(signals["tilt"]).max(axis=-1)
    return (steepest > tilt_rad).astype(np.float64)


def reported(signals: Signals, *, index: float) -> Array:
    """Return what a simulation that has costs of its own says of the one with this number."""
    return signals["reported_cost"][..., int(index)]


FUNCTIONS: Mapping[str, CostFunction] = {
    "corridor": CostFunction(corridor, ("position",), ("x_limit_m",), 1.0),
    "bombs": CostFunction(bombs, ("bombs_taken",), (), 1.0),
    "clearance": CostFunction(clearance, ("scan",), ("clearance_m",), 1.0),
    "speeding": CostFunction(speeding, ("forward_speed",), ("speed_m_s",), 1.0),
    "tilting": CostFunction(tilting, ("tilt",), ("tilt_rad",), 1.0),
    "reported": CostFunction(reported, ("reported_cost",), ("index",), math.inf),
}


class Bill:
    """Evaluates all costs of a contract, in its order.

    Raises:
        ContractError: an unknown cost function, or other parameters than it takes.
    """

    def __init__(self, contract: Contract) -> None:
        self._parts: list[tuple[Callable[..., NDArray[Any]], dict[str, float]]] = []
        names: list[str] = []
        for cost in contract.costs:
            function = FUNCTIONS.get(cost.function)
            if function is None:
                raise ContractError(
                    f"cost '{cost.name}': function should be one of {', '.join(FUNCTIONS)}, "
                    f"received '{cost.function}'"
                )
            if set(cost.parameters) != set(function.parameters):
                wanted, received = map(", ".join, (function.parameters, cost.parameters))
                raise ContractError(
                    f"cost '{cost.name}': parameters should be {wanted or 'none'}, "
                    f"received {received or 'none'}"
                )
            self._parts.append((function.evaluate, dict(cost.parameters)))
            names.extend(function.signals)
        self.signals = tuple(dict.fromkeys(names))
        self.largest = tuple(FUNCTIONS[cost.function].largest for cost in contract.costs)

    def step(self, signals: Signals) -> tuple[float, ...]:
        """Return the costs of one step of one robot; as `__call__`, without its arrays."""
        return tuple([float(f(signals, **parameters)) for f, parameters in self._parts])

    def __call__(self, signals: Signals) -> Array:
        """Return the costs of one step, shape (..., costs)."""
        costs = [f(signals, **parameters) for f, parameters in self._parts]
        return np.stack(costs, axis=-1, dtype=np.float64)
