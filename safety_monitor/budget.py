"""Budgets: what an episode has cost, what it may cost, and what it is likely to cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from holdfast.contract import Contract
from holdfast.errors import ConfigError, ContractError
from holdfast.safety_monitor.judge import refuse
from holdfast.safety_monitor.messages import (
    FALLBACK,
    LIMITED,
    STOPPED,
    BudgetStatus,
    Reason,
    State,
)
from holdfast.safety_monitor.reasons import EPISODE_CAP_SPENT, SLOWDOWN_BUDGET
from holdfast.safety_monitor.scalar import clamp

ON_PREDICTION: Mapping[str, State | None] = {
    "go_on": None,
    "slow": LIMITED,
    "recover": FALLBACK,
    "stop": STOPPED,
}


@dataclass(frozen=True)
class BudgetLimits:
    """What a predicted cost leads to.

    Attributes:
        episode_coverage: the share of episodes that cost no more than is predicted, at any of
            their steps; of those that the bundle's prediction was calibrated on.
        slowdown_budget: by cost name, what spent and predicted cost together may reach before
            the robot is slowed; None, or a cost that is not named: its episode cap. It is not
            the limit d: d bounds the *expected* cost, so about half the episodes of a policy
            that keeps to d lie above it, and slowing those would punish ordinary luck. The run
            budget is what is promised of every single episode.
        on_prediction: what the robot does when they exceed it: `go_on`, until the episode cap;
            `slow`; `recover`, by its recovery controller; or `stop`. docs/measured/SLOWED.md
            compares them.
    """

    episode_coverage: float
    slowdown_budget: Mapping[str, float] | None = None
    on_prediction: Literal["go_on", "slow", "recover", "stop"] = "go_on"

    def __post_init__(self) -> None:
        if not 0.0 < self.episode_coverage < 1.0:
            raise refuse(
                "budget",
                f"episode_coverage should be between 0 and 1, received {self.episode_coverage}",
            )


class Budget:
    """The accounts of one episode, a value per cost in the contract's order.

    Two clocks run here. The episode cap is hard and deterministic: the robot is stopped as
    soon as one more step could exceed it, so `spent` never does. The slowdown budget degrades
    before that: what is spent plus what is predicted to come may not exceed it unslowed.

    Args:
        largest: the most that one step can cost.
        episode_cap: by cost name; tightens the contract's.
        slowdown_budget: by cost name; the episode cap where it says nothing.
        on_prediction: see `BudgetLimits`.
        margin: by cost, how much more than the critics expect may come; see `Prediction`.

    Raises:
        ContractError: an episode cap of an unknown cost, above the contract's, or below what a
            single step can cost.
        ConfigError: a slowdown budget of an unknown cost, or not in (0, episode cap].
    """

    def __init__(
        self,
        contract: Contract,
        largest: tuple[float, ...],
        episode_cap: Mapping[str, float] | None,
        slowdown_budget: Mapping[str, float] | None,
        margin: tuple[float, ...] | None = None,
        on_prediction: str = "go_on",
    ) -> None:
        self.names = tuple(cost.name for cost in contract.costs)
        self.largest = largest
        episode_cap, slowdown_budget = episode_cap or {}, slowdown_budget or {}
        for kind, budgets, error in (
            ("episode cap", episode_cap, ContractError),
            ("slowdown budget", slowdown_budget, ConfigError),
        ):
            unknown = [name for name in budgets if name not in self.names]
            if unknown:
                raise error(
                    f"{kind}: unknown cost {', '.join(unknown)}; the contract has "
                    f"{', '.join(self.names)}"
                )
        self.cap = tuple(episode_cap.get(cost.name, cost.episode_cap) for cost in contract.costs)
        self.slowdown = tuple(
            slowdown_budget.get(name, run) for name, run in zip(self.names, self.cap, strict=True)
        )
        for cost, run, episode, most in zip(
            contract.costs, self.cap, self.slowdown, self.largest, strict=True
        ):
            if not most <= run <= cost.episode_cap:
                raise ContractError(
                    f"cost '{cost.name}': episode cap should be at least what one step can cost, "
                    f"{most}, and at most the contract's {cost.episode_cap}, received {run}"
                )
            if not 0.0 < episode <= run:
                raise ConfigError(
                    f"cost '{cost.name}': slowdown budget should be above 0 and at most the "
                    f"episode cap {run}, received {episode}"
                )
        self._steps = contract.episode_steps
        self._on_prediction = ON_PREDICTION[on_prediction]
        margin = margin or (0.0,) * len(self.names)
        self._accounts = tuple(
            (i, name, margin[i], self.largest[i], self.slowdown[i], self.cap[i])
            for i, name in enumerate(self.names)
        )
        self.begin()

    def begin(self) -> None:
        """Start an episode: nothing is spent."""
        self.spent = (0.0,) * len(self.names)

    def add(self, costs: Sequence[float]) -> None:
        """Bill one step; each cost within [0, largest]."""
        self.spent = tuple([a + b for a, b in zip(self.spent, costs, strict=True)])

    def judge_run(self, reasons: list[Reason]) -> None:
        """Append a stop for every cost that one more step could take above its episode cap."""
        for i, name, _, most, _, run in self._accounts:
            spent = self.spent[i]
            if spent + most > run:
                reasons.append(EPISODE_CAP_SPENT(cost=name, spent=spent, budget=run, most=most))

    def judge_episode(
        self, cost_to_go: Sequence[float] | None, left: int, reasons: list[Reason]
    ) -> tuple[float, ...]:
        """Append a reason for every cost predicted to exceed its slowdown budget.

        What is to come is the critics' cost-to-go and its margin, see `Prediction`; at least
        0, and at most what `left` steps can cost. A cost-to-go below 0 counts as 0; one that
        is not finite is a doubt, never a small number, and slows a robot that would go on.

        Args:
            left: steps of the episode still to come.

        Returns:
            Spent plus what is to come; NaN where there is no cost-to-go.
        """
        if cost_to_go is None:
            return (math.nan,) * len(self.names)
        predicted = []
        spread = math.sqrt(left / self._steps)
        for i, name, margin, most, budget, _ in self._accounts:
            value = math.nan
            if math.isfinite(cost_to_go[i]):
                to_come = clamp(cost_to_go[i], 0.0, math.inf) + margin * spread
                value = self.spent[i] + clamp(to_come, 0.0, left * most)
            state = self._on_prediction
            if state is None and math.isnan(value):
                state = LIMITED
            # Written so that NaN exceeds the budget.
            if state is not None and not value <= budget:
                reasons.append(SLOWDOWN_BUDGET(state, cost=name, predicted=value, budget=budget))
            predicted.append(value)
        return tuple(predicted)

    def status(self, predicted: tuple[float, ...]) -> BudgetStatus:
        """Return the accounts as they stand."""
        return BudgetStatus(self.spent, predicted, self.cap)
