"""The time that a contract's costs take on this machine.

A contract is a file that somebody else may have written, and its costs are computed in the
monitor's process, once per period.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from holdfast.contract import Contract
from holdfast.errors import ContractError
from holdfast.safety_monitor.costs import CostModel

Values = Mapping[str, Sequence[float]]

SHARE = 0.05
"""Largest share of the contract's period for the costs and the reward of one step."""

TRIES = 3
"""How often each is timed; the least time counts, as a busy machine only makes times longer."""


def require_quick_costs(contract: Contract) -> float:
    """Return the time for the costs and the reward of one step, s; it is nearly equal for all
    signals, because an expression neither repeats nor branches.

    Expressions are timed one after another, so that this ends soon where they take long.

    Raises:
        ContractError: they take too long for the contract's period.
    """
    costs, reward = CostModel(contract), contract.reward_expression
    expressions = [*contract.cost_expressions, *([reward] if reward else [])]
    names = {name for expression in expressions for name in expression.signals}
    # Neither 0 nor equal: no side of an `and` is left out for all of them.
    values = {
        name: [0.1 + 0.01 * k for k in range(contract.signal_specs[name].size)] for name in names
    }
    total_s = 0.0
    for expression in expressions:
        total_s += _least_s(expression.step, values)
        _require(total_s, contract)
    whole_s = _least_s(costs.step, values)  # with the ranges of sensors
    _require(whole_s, contract)
    return max(total_s, whole_s)


def _require(step_s: float, contract: Contract) -> None:
    if step_s > SHARE * contract.period_s:
        raise ContractError(
            f"contract: the costs of one step take {step_s:.2g} s here or more; that should be at "
            f"most {SHARE:.0%} of its period of {contract.period_s:g} s"
        )


def _least_s(step: Callable[[Values], object], values: Values) -> float:
    taken = []
    for _ in range(TRIES):
        began_s = time.perf_counter()
        step(values)
        taken.append(time.perf_counter() - began_s)
    return min(taken)
