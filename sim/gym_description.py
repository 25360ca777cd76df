"""What an environment of Gymnasium's kind says of its channels, so that a robot can fulfil them.

def describe(env):
    return {
        "robot": "roller",
        "period_s": 0.05,
        "observation": [
            {"name": "position", "size": 2, "unit": "m", "signal": "position"},
            {"name": "heading", "size": 2, "unit": "1", "signal": "heading",
             "transform": "cos_sin"},
        ],
        "action": [
            {"name": "forward_speed", "unit": "m/s", "low": -1.0, "high": 1.0,
             "max_rate_per_s": 4.0},
        ],
        "costs": [{"name": "cost", "expression": "abs(position.x) > 0.9"}],
    }
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Any

import numpy as np

from holdfast.contract import (
    CONTROL_PERIOD,
    ActionChannel,
    Contract,
    Cost,
    DeclaredSignal,
    ObservationChannel,
)
from holdfast.errors import ConfigError, TrainingError
from holdfast.safety_monitor.costs import CostModel
from holdfast.schema import NAME, POSITIVE, read
from holdfast.sim.batch.gym_batch import GymCopy, told
from holdfast.sim.batch.gym_signals import SignalReader, require_readable

SHARE = 0.02
"""Largest share of steps in which a described cost may differ from the reported one: an environment
may compare before it rounds its observation."""

STEPS, HELD = 500, 20
"""Steps over which described and reported costs are compared, and how long a random action is held:
a new one in every step would lead nowhere."""


@dataclass(frozen=True)
class DescribedCost:
    """A cost that the environment reports, as an expression of the described signals.

    Attributes:
        name: as the environment reports it; "cost" where it reports a number alone.
        expression: the cost of one step (docs/reference/COSTS.md).
        at_most: largest cost of one step.
    """

    name: str
    expression: str
    at_most: Annotated[float, POSITIVE] = 1.0


@dataclass(frozen=True)
class Description:
    """Channels of an environment, as its `describe` returns them.

    Attributes:
        robot: the robot's name, by which a run finds its configuration file.
        period_s: the time that a step lasts.
        observation: channels that together are the observation that the environment returns, in
            its order.
        action: channels of the action, in the order and in the units of the action space.
        costs: an expression for each cost that the environment reports.
        signals: signals beyond the catalogue, and ranges of sensors.
    """

    robot: Annotated[str, NAME]
    period_s: Annotated[float, CONTROL_PERIOD]
    observation: tuple[ObservationChannel, ...]
    action: tuple[ActionChannel, ...]
    costs: tuple[DescribedCost, ...]
    signals: tuple[DeclaredSignal, ...] = ()

    def described_costs(self) -> tuple[Cost, ...]:
        """Return the contract's costs, with limits of 0: only the user can say what is allowed."""
        return tuple(
            Cost(
                cost.name,
                cost.expression,
                limit=0.0,
                episode_cap=0.0,
                gamma=0.99,
                lam=0.95,
                at_most=cost.at_most,
            )
            for cost in self.costs
        )


def description_of(where: str, module: ModuleType, env: Any) -> Description | None:
    """Return what an environment, or its module, says of its channels; None if it says nothing.

    Args:
        where: names the environment in errors.
        module: may have a function `describe(env)`.
        env: may have a method `describe()`.

    Raises:
        ConfigError: it fails, or its result is no description.
    """
    own = getattr(module, "describe", None)
    method = getattr(getattr(env, "unwrapped", env), "describe", None)
    try:
        data = own(env) if callable(own) else method() if callable(method) else None
        data = json.loads(json.dumps(data, default=lambda value: value.tolist()))  # plain data
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{where}: describe failed ({told(error)})") from None
    return None if data is None else read(Description, data, f"{where}: describe", ConfigError)


def require_fit(
    where: str, described: Description, env: Any, low: Any, high: Any, reported: Collection[str]
) -> None:
    """Check a description against an environment's spaces and costs.

    Args:
        low, high: bounds of the action space, (actions,).
        reported: names of the costs that the environment reports.

    Raises:
        ConfigError: it is of another observation, other actions or other costs.
    """
    for channel in described.observation:
        try:
            require_readable(channel)
        except TrainingError as error:
            raise ConfigError(f"{where}: describe: {error}") from None
    size = int(np.prod(env.observation_space.shape))
    total = sum(channel.size for channel in described.observation)
    if total != size:
        raise ConfigError(
            f"{where}: describe: observation channels should have {size} values in all, as the "
            f"environment's observation has, received {total}"
        )
    if len(described.action) != len(low):
        raise ConfigError(
            f"{where}: describe: action should list {len(low)} channels, as the action space has "
            f"values, received {len(described.action)}"
        )
    for action, least, most in zip(described.action, low, high, strict=True):
        if action.low < least or action.high > most:
            raise ConfigError(
                f"{where}: describe: action channel '{action.name}': limits [{action.low:g}, "
                f"{action.high:g}] should be inside the action space's [{least:g}, {most:g}]"
            )
    names = [cost.name for cost in described.costs]
    if sorted(names) != sorted(reported):
        raise ConfigError(
            f"{where}: describe: costs should be those that the environment reports, "
            f"{', '.join(reported)}; received {', '.join(names) or 'none'}"
        )


def check_costs(where: str, env: Any, contract: Contract) -> None:
    """Compare described and reported costs over some steps of random actions.

    Raises:
        TrainingError: an expression gives other costs than the environment reports.
    """
    copy, reader = GymCopy(where, env), SignalReader(where, contract)
    cost_model = CostModel(contract)
    rng, over = np.random.default_rng(0), True
    differs = np.zeros(len(contract.costs), dtype=int)
    example = [""] * len(differs)
    for step in range(STEPS):
        if over:
            copy.reset(step)
        if step % HELD == 0:
            action = rng.uniform(contract.action_low, contract.action_high)
        outcome = copy.step(action)
        billed = cost_model(reader(outcome.observation)).tolist()
        over = outcome.terminated or outcome.truncated
        for i, cost in enumerate(contract.costs):
            if not abs(billed[i] - outcome.costs[cost.name]) <= 1e-6:
                differs[i] += 1
                example[i] = f"{billed[i]:g} where it reports {outcome.costs[cost.name]:g}"
    for i, cost in enumerate(contract.costs):
        if differs[i] > SHARE * STEPS:
            raise TrainingError(
                f"{where}: describe: cost '{cost.name}': '{cost.expression}' should give what the "
                f"environment reports; it gives {example[i]}, and differs in {differs[i]} of "
                f"{STEPS} steps"
            )
