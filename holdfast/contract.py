"""The contract: observation, action, costs and period that a policy is trained and run under.

A contract is frozen, is read strictly, and has one canonical JSON text. The text's SHA-256 names
the contract in the bundle and in every log, and a run compares it before it starts.
"""

from __future__ import annotations

import hashlib
import json
import keyword
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

import numpy as np

from holdfast import expressions, plain
from holdfast.errors import ContractError
from holdfast.expressions import CostExpression, SignalSpec
from holdfast.plain import shown
from holdfast.schema import (
    ASCENDING,
    NAME,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Range,
    check,
    later,
    read,
    to_plain,
)
from holdfast.signals import (
    BUDGET_LEFT,
    CATALOGUE,
    OWN_SIGNALS,
    TRANSFORMS,
    Array,
    Signal,
)

FORMAT = 2
"""Format 1 named cost functions of this package where format 2 has expressions."""

MAX_HISTORY = 100

CONTROL_PERIOD = Range(1e-6, 60.0)
"""Control periods of a robot, s."""

MAX_COSTS, MAX_CHANNELS, MAX_SIGNALS = 64, 1000, 1000
"""A file may hold no longer lists, so that it is read in a bounded time."""

MAX_SIZE = 100_000
"""Values of a signal, or of a channel; more than this is no robot's."""


def _require(condition: bool, message: str, place: tuple[str | int, ...] = ()) -> None:
    if not condition:
        raise ContractError(message, place)


@dataclass(frozen=True)
class DeclaredSignal:
    """A signal that the catalogue lacks, or one of the catalogue with the range of its sensor.

    Attributes:
        name: letters, digits and _.
        size: how many values it has. unit: SI. frame: "odom", "base", or "" where it has none.
        low, high: what its sensor can say, in `unit`; None: no bound. A value beyond is taken for
            the bound, in training and on the robot alike.
    """

    name: str
    size: Annotated[int, Range(1, MAX_SIZE)]
    unit: str
    frame: str = ""
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        where = f"signal '{shown(self.name)}'"
        check(self, ContractError, where)
        _require(
            self.name.isidentifier() and self.name.isascii() and not keyword.iskeyword(self.name),
            f"{where}: its name should be made of letters, digits and _, begin with a letter and "
            "be no word of Python",
        )
        _require(
            self.name not in OWN_SIGNALS,
            f"{where}: the name is taken; choose another",
        )
        _require(
            self.low is None or self.high is None or 0.0 < self.high - self.low < math.inf,
            f"{where}: low {self.low} should be below high {self.high}",
        )
        if known := CATALOGUE.get(self.name):
            same = (self.unit, self.frame) == (known.unit, known.frame)
            _require(
                same and known.size in (None, self.size),
                f"{where}: should be as the catalogue has it: size {known.size or 'any'}, unit "
                f"'{known.unit}', frame '{known.frame}'",
            )


@dataclass(frozen=True)
class ObservationChannel:
    """A piece of the observation: `scale · transform(signal) + offset`, clipped to ±`clip`.

    Attributes:
        size: how many values it has: those of the transformed signal, times `history`.
        unit: of the transformed signal, before `scale` and `offset`.
        clip: the largest magnitude; None: not clipped.
        history: of how many periods, the oldest first; before an episode's first period there
            are the values of that one.
    """

    name: str
    size: Annotated[int, Range(1, MAX_SIZE)]
    unit: str
    signal: str
    transform: str = "identity"
    scale: float = 1.0
    offset: float = 0.0
    clip: Annotated[float, POSITIVE] | None = None
    history: Annotated[int, Range(1, MAX_HISTORY)] = 1

    def __post_init__(self) -> None:
        where = f"observation channel '{self.name}'"
        check(self, ContractError, where)
        _require(self.scale != 0.0, f"{where}: scale should not be 0")

    @property
    def signal_size(self) -> int:
        """Number of the signal's values, before the transform."""
        return self.size // (TRANSFORMS[self.transform][1] * self.history)


@dataclass(frozen=True)
class ActionChannel:
    """One action value: its limits in `unit`, and its largest change, in `unit` per second."""

    name: str
    unit: str
    low: float
    high: float
    max_rate_per_s: Annotated[float, POSITIVE]

    def __post_init__(self) -> None:
        where = f"action channel '{self.name}'"
        check(self, ContractError, where)
        _require(self.low < self.high, f"{where}: low {self.low} should be below high {self.high}")
        _require(
            self.low <= 0.0 <= self.high,
            f"{where}: limits [{self.low}, {self.high}] should include 0, the stopping action",
        )


@dataclass(frozen=True)
class Cost:
    """A cost of signals, its limits, and the discounts of training.

    Attributes:
        name: the cost's name in reports; unique in the contract.
        expression: the cost of one step, in the language of docs/reference/COSTS.md.
        limit: d, the bound on the expected undiscounted sum per episode.
        episode_cap: cost at which the monitor stops an episode; a deployment may lower it, never
            raise it.
        gamma, lam: discount and GAE lambda used in training.
        at_most: largest cost of one step; None if it has no known bound, as in a simulation that
            has costs of its own. Such a policy moves no robot.
        limit_range: lowest and highest limit that the policy was trained for; None: `limit` alone.
            `holdfast.bundle.limit_range` puts one of them in force.
    """

    name: str
    expression: str
    limit: Annotated[float, NOT_NEGATIVE]
    episode_cap: float
    gamma: Annotated[float, SHARE]
    lam: Annotated[float, SHARE]
    at_most: Annotated[float, POSITIVE] | None = 1.0
    limit_range: Annotated[tuple[Annotated[float, POSITIVE], float], ASCENDING] | None = later(None)

    def __post_init__(self) -> None:
        where = f"cost '{self.name}'"
        check(self, ContractError, where)
        _require(
            self.episode_cap >= self.limit,
            f"{where}: episode_cap {self.episode_cap} should be at least the limit {self.limit}",
        )
        low, high = self.limit_range or (self.limit, self.limit)
        _require(
            low <= self.limit <= high,
            f"{where}: limit should be in limit_range [{low:g}, {high:g}], received {self.limit:g}",
        )


@dataclass(frozen=True)
class Recovery:
    """The fallback controller: its name in the monitor, and its parameters."""

    name: str
    parameters: Mapping[str, float]

    def __post_init__(self) -> None:
        check(self, ContractError, f"recovery '{self.name}'")


@dataclass(frozen=True)
class Contract:
    """Robot, task, observation, action, costs and period, in training and in a run.

    Raises:
        ContractError: a field contradicts another field or the signal catalogue.
    """

    robot: Annotated[str, NAME]  # it finds a configuration file, so it must never be a path
    task: str
    period_s: Annotated[float, CONTROL_PERIOD]
    episode_steps: Annotated[int, Range(1)]
    observation: tuple[ObservationChannel, ...]
    action: tuple[ActionChannel, ...]
    costs: tuple[Cost, ...]
    signals: tuple[DeclaredSignal, ...] = ()
    reward: str | None = None
    recovery: Recovery | None = None
    format: int = field(default=FORMAT)

    def __post_init__(self) -> None:
        require_format(self.format)
        check(self, ContractError, "contract")
        for text in _texts(to_plain(self)):
            _require(
                text.isprintable(),
                f"contract: names should be printable, received '{shown(text)}'",
            )
        for kind, most in (
            ("observation", MAX_CHANNELS),
            ("action", MAX_CHANNELS),
            ("costs", MAX_COSTS),
            ("signals", MAX_SIGNALS),
        ):
            _require(
                len(getattr(self, kind)) <= most,
                f"contract: {kind} should list at most {most} entries, received "
                f"{len(getattr(self, kind))}",
                (kind,),
            )
            names = [item.name for item in getattr(self, kind)]
            some = bool(names) or kind == "signals"
            _require(some, f"contract: {kind} should list at least one entry", (kind,))
            _require(
                len(set(names)) == len(names),
                f"contract: {kind} names should be unique, received {', '.join(names)}",
                (kind,),
            )
        self._check_action_units()
        sizes: dict[str, int] = {}
        for i, channel in enumerate(self.observation):
            place = ("observation", i)
            self._check_observation(channel, place)
            size = sizes.setdefault(channel.signal, channel.signal_size)
            _require(
                channel.signal_size == size,
                f"observation channel '{channel.name}': signal '{channel.signal}' should have the "
                f"{size} values that another channel says, received {channel.signal_size}",
                place,
            )
        ranged = any(cost.limit_range is not None for cost in self.costs)
        _require(
            BUDGET_LEFT in sizes or not ranged,
            f"contract: a cost with limit_range needs an observation channel of '{BUDGET_LEFT}'",
            ("observation",),
        )
        _ = self.cost_expressions, self.reward_expression

    def _check_action_units(self) -> None:
        for i, channel in enumerate(self.action):
            signal = self.known_signals.get(channel.name)
            _require(
                signal is None or signal.unit == channel.unit,
                f"action channel '{channel.name}': unit should be '{signal and signal.unit}', as "
                f"the unit of the signal is, received '{shown(channel.unit)}'",
                ("action", i, "unit"),
            )

    def _check_observation(self, channel: ObservationChannel, place: tuple[str | int, ...]) -> None:
        where = f"observation channel '{channel.name}'"
        _require(
            channel.transform in TRANSFORMS,
            f"{where}: transform should be one of {', '.join(TRANSFORMS)}, "
            f"received '{channel.transform}'",
            (*place, "transform"),
        )
        size: int | None
        own = zip(OWN_SIGNALS, (len(self.action), 1, len(self.costs)), strict=True)
        if channel.signal in (sizes := dict(own)):
            size, unit = sizes[channel.signal], "1"
        else:
            known = self.known_signals
            _require(
                channel.signal in known,
                f"{where}: signal should be one of {', '.join((*known, *OWN_SIGNALS))}; received "
                f"'{shown(channel.signal)}'",
                (*place, "signal"),
            )
            size, unit = known[channel.signal].size, known[channel.signal].unit
        _, factor, transformed_unit = TRANSFORMS[channel.transform]
        factor *= channel.history
        unit = transformed_unit or unit
        if size is None:  # the robot defines the size: any whole number
            size = max(channel.size // factor, 1)
        _require(
            channel.size == size * factor,
            f"{where}: size should be {size * factor}, received {channel.size}",
            (*place, "size"),
        )
        _require(
            channel.unit == unit,
            f"{where}: unit should be '{unit}', received '{channel.unit}'",
            (*place, "unit"),
        )

    @property
    def idle_limits(self) -> tuple[str, ...]:
        """A sentence for each limit that no episode can exceed, so that it limits nothing."""
        most = ((c, c.at_most * self.episode_steps) for c in self.costs if c.at_most is not None)
        return tuple(
            f"cost '{cost.name}': limit {cost.limit:g} should be below {cost_of_all:g}, the most "
            f"that an episode of {self.episode_steps} steps can cost; as it is, it limits nothing"
            for cost, cost_of_all in most
            if cost.limit >= cost_of_all
        )

    # Sizes and limits, as arrays.

    @cached_property
    def observation_size(self) -> int:
        return sum(channel.size for channel in self.observation)

    @property
    def action_size(self) -> int:
        return len(self.action)

    @cached_property
    def known_signals(self) -> Mapping[str, Signal | DeclaredSignal]:
        """The catalogue's signals and the contract's own, by name."""
        return {**CATALOGUE, **{signal.name: signal for signal in self.signals}}

    @cached_property
    def observed_signals(self) -> tuple[str, ...]:
        """Signals that the observation needs from the robot, in the contract's order."""
        names = (channel.signal for channel in self.observation)
        return tuple(dict.fromkeys(name for name in names if name in self.known_signals))

    def signal_size(self, name: str) -> int | None:
        """Return the number of a signal's values; None if it depends on the robot and no channel
        observes the signal."""
        size = self.known_signals[name].size if name in self.known_signals else None
        if size is None:
            listed = (c.signal_size for c in self.observation if c.signal == name)
            return next(listed, None)
        return size

    @cached_property
    def signal_specs(self) -> Mapping[str, SignalSpec]:
        """What an expression may read, by name."""
        sizes = {name: self.signal_size(name) for name in self.known_signals}
        specs = expressions.catalogue({name: size for name, size in sizes.items() if size})
        own = (signal for signal in self.signals if signal.name not in CATALOGUE)
        return {**specs, **{s.name: SignalSpec(s.name, s.size, s.unit) for s in own}}

    @cached_property
    def cost_expressions(self) -> tuple[CostExpression, ...]:
        """The costs' expressions, in order."""
        return tuple(
            self._expression(f"cost '{cost.name}'", cost.expression, ("costs", i, "expression"))
            for i, cost in enumerate(self.costs)
        )

    @cached_property
    def reward_expression(self) -> CostExpression | None:
        """The reward's expression; None where the contract says none."""
        return None if self.reward is None else self._expression("reward", self.reward, ("reward",))

    def _expression(self, where: str, text: str, place: tuple[str | int, ...]) -> CostExpression:
        try:
            return CostExpression(text, self.signal_specs)
        except ContractError as error:
            raise ContractError(f"contract: {where}: {error}", place) from None

    @cached_property
    def sensor_ranges(self) -> Mapping[str, tuple[float, float]]:
        """The range of each signal that has one, by name; an open end is infinite."""
        return {
            signal.name: (
                -math.inf if signal.low is None else signal.low,
                math.inf if signal.high is None else signal.high,
            )
            for signal in self.signals
            if signal.low is not None or signal.high is not None
        }

    @property
    def action_names(self) -> tuple[str, ...]:
        return tuple(channel.name for channel in self.action)

    @cached_property
    def limits(self) -> Array:
        """The costs' limits d (costs,)."""
        return np.array([cost.limit for cost in self.costs])

    @cached_property
    def action_low(self) -> Array:
        return np.array([channel.low for channel in self.action])

    @cached_property
    def action_high(self) -> Array:
        return np.array([channel.high for channel in self.action])

    @cached_property
    def action_center(self) -> Array:
        return (self.action_high + self.action_low) / 2.0

    @cached_property
    def action_half_range(self) -> Array:
        return (self.action_high - self.action_low) / 2.0

    @cached_property
    def action_max_step(self) -> Array:
        """Largest change of each action value in one period."""
        return np.array([channel.max_rate_per_s for channel in self.action]) * self.period_s

    def admissible(self, previous: Array, proposed: Array) -> Array:
        """Return the proposed action, clipped to the limits, then to the rates of change.

        The simulator and the monitor both use this function, so a policy is trained under the
        limits that it is run under. All shapes are (..., actions), in physical units.
        """
        step = self.action_max_step
        limited = np.minimum(np.maximum(proposed, self.action_low), self.action_high)
        within: Array = np.minimum(np.maximum(limited, previous - step), previous + step)
        return within

    def normalised(self, action: Array) -> Array:
        """Scale an action from physical units to [-1, 1]."""
        return (action - self.action_center) / self.action_half_range

    # Text and hash.

    def to_json(self) -> str:
        """Return the canonical JSON text: sorted keys, no spaces, no NaN."""
        return json.dumps(to_plain(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical text, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @staticmethod
    def from_json(text: str) -> Contract:
        """Parse a contract.

        Raises:
            ContractError: not JSON, a missing or unknown key, a wrong type or value.
        """
        try:
            data = plain.from_json(text)
        except ValueError as error:
            raise ContractError(f"contract: should be JSON ({error})") from None
        if isinstance(data, dict) and "format" in data:
            require_format(data["format"])  # before its keys, which another format has others of
        return read(Contract, data, "contract", ContractError, complete=True)


def require_format(number: Any) -> None:
    """Raise ContractError unless a contract's format is the one that is read here."""
    _require(
        number == FORMAT,
        f"contract: format should be {FORMAT}, received {shown(repr(number))}; write the "
        "costs of another format as expressions (docs/reference/COSTS.md), and train again",
    )


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
