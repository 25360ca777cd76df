"""Costs: pure functions of signals that bill the simulator and the robot alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.contract import Contract
from holdfast.errors import ContractError
from holdfast.signals import Array, Signals

Values = Mapping[str, Sequence[Any]]
"""Each signal's values in turn: numbers of one robot, or arrays with a number per robot. What is
written for the one holds for the other, and numbers are many times as fast as arrays of one."""


@dataclass(frozen=True)
class CostFunction:
    """A cost per step.

    Attributes:
        evaluate: signals' values and keyword parameters to costs of their shape, as numbers or
            truths.
        signals: what it reads.
        parameters: the names of its keyword parameters.
        largest: the most that one step can cost; infinity where nobody can say.
    """

    evaluate: Callable[..., Any]
    signals: tuple[str, ...]
    parameters: tuple[str, ...]
    largest: float


def corridor(values: Values, *, x_limit_m: float) -> Any:
    """Return whether |x| > x_limit_m: a cost of 1 (the Circle cost of Achiam et al. 2017)."""
    x, _ = values["position"]
    return abs(x) > x_limit_m


def bombs(values: Values) -> Any:
    """Return whether a bomb was taken (the Gather cost of Achiam et al. 2017)."""
    (taken,) = values["bombs_taken"]
    return taken > 0.0


def clearance(values: Values, *, clearance_m: float) -> Any:
    """Return whether something is nearer than clearance_m in any sector of `scan`.

    A sector that is blind (NaN) may hide something, so it counts as near.
    """
    return ~(np.asarray(values["scan"]).min(axis=0) >= clearance_m)


def speeding(values: Values, *, speed_m_s: float) -> Any:
    """Return whether the robot goes faster than speed_m_s, forwards or backwards."""
    (speed,) = values["forward_speed"]
    return abs(speed) > speed_m_s


def tilting(values: Values, *, tilt_rad: float) -> Any:
    """Return whether roll or pitch is beyond tilt_rad, either way."""
    roll, pitch = values["tilt"]
    return (abs(roll) > tilt_rad) | (abs(pitch) > tilt_rad)


def reported(values: Values, *, index: float) -> Any:
    """Return what a simulation that has costs of its own says of the one with this number."""
    return values["reported_cost"][int(index)]


FUNCTIONS: Mapping[str, CostFunction] = {
    "corridor": CostFunction(corridor, ("position",), ("x_limit_m",), 1.0),
    "bombs": CostFunction(bombs, ("bombs_taken",), (), 1.0),
    "clearance": CostFunction(clearance, ("scan",), ("clearance_m",), 1.0),
    "speeding": CostFunction(speeding, ("forward_speed",), ("speed_m_s",), 1.0),
    "tilting": CostFunction(tilting, ("tilt",), ("tilt_rad",), 1.0),
    "reported": CostFunction(reported, ("reported_cost",), ("index",), math.inf),
}


class CostModel:
    """Evaluates all costs of a contract, in its order.

    Raises:
        ContractError: an unknown cost function, or other parameters than it takes.
    """

    def __init__(self, contract: Contract) -> None:
        self._parts: list[tuple[Callable[..., Any], dict[str, float]]] = []
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

    def step(self, values: Values) -> tuple[float, ...]:
        """Return the costs of one step of one robot, of plain numbers."""
        return tuple([float(f(values, **parameters)) for f, parameters in self._parts])

    def __call__(self, signals: Signals) -> Array:
        """Return the costs of one step, shape (..., costs), of signals shaped (..., size) each."""
        values = {name: np.moveaxis(signals[name], -1, 0) for name in self.signals}
        costs = [f(values, **parameters) for f, parameters in self._parts]
        return np.stack(costs, axis=-1, dtype=np.float64)
