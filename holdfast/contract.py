"""The contract: observation, action, costs and period that a policy is trained and run under.

A contract is frozen, is read strictly, and has one canonical JSON text. The text's SHA-256 names
the contract in the bundle and in every log, and a run compares it before it starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, TypeVar

import numpy as np

from holdfast import plain
from holdfast.errors import ContractError
from holdfast.plain import shown
from holdfast.schema import NAME, NOT_NEGATIVE, POSITIVE, SHARE, Range, check, read, to_plain
from holdfast.signals import APPLIED_ACTION, CATALOGUE, EPISODE_LEFT, TRANSFORMS, Array

FORMAT = 1

T = TypeVar("T")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ContractError(message)


@dataclass(frozen=True)
class ObservationChannel:
    """A part of the observation: `size` values in `unit`, a transform of one signal."""

    name: str
    size: int
    unit: str
    signal: str
    transform: str = "identity"

    @property
    def signal_size(self) -> int:
        """Number of the signal's values, before the transform."""
        return self.size // TRANSFORMS[self.transform][1]


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
    """A cost function of signals, its limits, and the discounts of training.

    Attributes:
        name: the cost's name in reports; unique in the contract.
        function: name of the function in `holdfast.safety_monitor.costs`.
        parameters: keyword arguments of the function.
        limit: d, the bound on the expected undiscounted sum per episode.
        run_budget: cost at which the monitor stops an episode; a deployment may lower it, never
            raise it.
        gamma, lam: discount and GAE lambda used in training.
    """

    name: str
    function: str
    parameters: Mapping[str, float]
    limit: Annotated[float, NOT_NEGATIVE]
    run_budget: float
    gamma: Annotated[float, SHARE]
    lam: Annotated[float, SHARE]

    def __post_init__(self) -> None:
        where = f"cost '{self.name}'"
        check(self, ContractError, where)
        _require(
            self.run_budget >= self.limit,
            f"{where}: run_budget {self.run_budget} should be at least the limit {self.limit}",
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
    period_s: Annotated[float, POSITIVE]
    episode_steps: Annotated[int, Range(1)]
    observation: tuple[ObservationChannel, ...]
    action: tuple[ActionChannel, ...]
    costs: tuple[Cost, ...]
    recovery: Recovery | None = None
    format: int = field(default=FORMAT)

    def __post_init__(self) -> None:
        _require(
            self.format == FORMAT,
            f"contract: format should be {FORMAT}, received {self.format}",
        )
        check(self, ContractError, "contract")
        for text in _texts(to_plain(self)):
            _require(
                text.isprintable(),
                f"contract: names should be printable, received '{shown(text)}'",
            )
        for kind in ("observation", "action", "costs"):
            names = [item.name for item in getattr(self, kind)]
            _require(bool(names), f"contract: {kind} should list at least one entry")
            _require(
                len(set(names)) == len(names),
                f"contract: {kind} names should be unique, received {', '.join(names)}",
            )
        sizes: dict[str, int] = {}
        for channel in self.observation:
            self._check_observation(channel)
            size = sizes.setdefault(channel.signal, channel.signal_size)
            _require(
                channel.signal_size == size,
                f"observation channel '{channel.name}': signal '{channel.signal}' should have the "
                f"{size} values that another channel says, received {channel.signal_size}",
            )

    def _check_observation(self, channel: ObservationChannel) -> None:
        where = f"observation channel '{channel.name}'"
        _require(
            channel.transform in TRANSFORMS,
            f"{where}: transform should be one of {', '.join(TRANSFORMS)}, "
            f"received '{channel.transform}'",
        )
        size: int | None
        if channel.signal == APPLIED_ACTION:
            size, unit = len(self.action), "1"
        elif channel.signal == EPISODE_LEFT:
            size, unit = 1, "1"
        else:
            _require(
                channel.signal in CATALOGUE,
                f"{where}: signal should be one of {', '.join(CATALOGUE)}, "
                f"{APPLIED_ACTION}, {EPISODE_LEFT}; received '{channel.signal}'",
            )
            size, unit = CATALOGUE[channel.signal].size, CATALOGUE[channel.signal].unit
        _, factor, transformed_unit = TRANSFORMS[channel.transform]
        unit = transformed_unit or unit
        if size is None:  # the robot defines the size: any whole number
            size = max(channel.size // factor, 1)
        _require(
            channel.size == size * factor,
            f"{where}: size should be {size * factor}, received {channel.size}",
        )
        _require(
            channel.unit == unit, f"{where}: unit should be '{unit}', received '{channel.unit}'"
        )

    # Sizes and limits, as arrays.

    @cached_property
    def observation_size(self) -> int:
        return sum(channel.size for channel in self.observation)

    @property
    def action_size(self) -> int:
        return len(self.action)

    @cached_property
    def signals(self) -> tuple[str, ...]:
        """Signals that the observation needs from the robot, in the contract's order."""
        names = (channel.signal for channel in self.observation)
        return tuple(dict.fromkeys(name for name in names if name in CATALOGUE))

    def signal_size(self, name: str) -> int | None:
        """Return the number of a catalogue signal's values; None if it depends on the robot and no
        channel observes the signal."""
        size = CATALOGUE[name].size
        if size is None:
            listed = (c.signal_size for c in self.observation if c.signal == name)
            return next(listed, None)
        return size

    @property
    def action_names(self) -> tuple[str, ...]:
        return tuple(channel.name for channel in self.action)

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
        return read(Contract, data, "contract", ContractError, complete=True)


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


def strict(cls: type[T], data: Any, where: str) -> T:
    """Build a frozen dataclass from plain data; every key must be there and known.

    Raises:
        ContractError: names the place, what was found and what would be right.
    """
    return read(cls, data, where, ContractError, complete=True)
