"""Judge: the protocol of a check, and what the limits of several checks share.

A check is one file with a frozen dataclass, its limits, which is a block of a robot's `monitor`
section, and with a subclass of `Judge`, which `checks/__init__.py` lists by the block's name.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from holdfast.contract import Contract
from holdfast.errors import ConfigError
from holdfast.safety_monitor.look import WHERE, Seen


class When(Enum):
    """When a check is asked.

    LOOK: at every look, also before a reset or an arming; it remembers nothing.
    STEP: at every step, in every state. MOTION: at every step in a state that moves the robot.
    """

    LOOK = 1
    STEP = 2
    MOTION = 3


class Judge(ABC):
    """One check of the monitor. It is made with its limits, and with those of the motion.

    Attributes:
        block: the class of its limits.
        when: when it is asked.
        signals: without which it cannot judge, so that the robot may not move without them.
    """

    block: ClassVar[type[Any]]
    when: ClassVar[When]
    signals: tuple[str, ...] = ()

    @abstractmethod
    def __init__(self, limits: Any, motion: Motion) -> None: ...

    def require(self, contract: Contract) -> None:  # noqa: B027  not every check has something to say
        """Prepare for a contract.

        Raises:
            ConfigError: limits that the contract makes impossible to keep or to check.
        """

    @abstractmethod
    def judge(self, seen: Seen) -> None:
        """Append to `seen.reasons` what is wrong."""

    def forget(self) -> None:  # noqa: B027  not every check remembers
        """Start anew: an episode begins, or a robot that stood was armed."""


def refuse(where: str, message: str) -> ConfigError:
    """Return the error of limits that will not do; `where` is the block."""
    return ConfigError(f"{WHERE}.{where}: {message}")


def require_above_0(limits: object, where: str, names: Iterable[str]) -> None:
    """Raise ConfigError unless each of these limits is finite and above 0, or None."""
    for name in names:
        value = getattr(limits, name)
        if value is not None and not (math.isfinite(value) and value > 0.0):
            raise refuse(where, f"{name} should be finite and above 0, received {value}")


def require_at_least_0(limits: object, where: str, names: Iterable[str]) -> None:
    """Raise ConfigError unless each of these limits is finite and at least 0."""
    for name in names:
        value = getattr(limits, name)
        if not (math.isfinite(value) and value >= 0):
            raise refuse(where, f"{name} should be finite and at least 0, received {value}")


def require_one(limits: object, where: str) -> None:
    """Raise ConfigError unless at least one of these limits is set: a block that checks nothing
    would look like a check."""
    if all(value is None for value in vars(limits).values()):
        raise refuse(where, f"should set {' or '.join(vars(limits))}; leave it out to check none")


@dataclass(frozen=True)
class Tiers:
    """Two bounds on one magnitude: above `limited` the robot is slowed, above `stopped` stopped."""

    limited: float
    stopped: float

    def require_order(self, where: str, name: str) -> None:
        """Raise ConfigError unless both are above 0, and in order."""
        if not (math.isfinite(self.stopped) and 0.0 < self.limited <= self.stopped):
            raise refuse(
                where,
                f"{name} should be finite with 0 < limited <= stopped, received limited "
                f"{self.limited} and stopped {self.stopped}",
            )


@dataclass(frozen=True)
class Motion:
    """How the robot moves: what several checks have to know.

    Attributes:
        deceleration_m_s2, reaction_time_s: stopping distance is v * reaction_time +
            v^2 / (2 deceleration). If it leads to the geofence's edge or into an obstacle, a
            controlled stop follows.
        slow_margin_m: coming nearer than this to either on the way to a stop means LIMITED.
        standing_speed_m_s, standing_yaw_rate_rad_s: at most this is standing still.
        limited_scale: in LIMITED, proposals are multiplied by this.
    """

    deceleration_m_s2: float
    reaction_time_s: float
    slow_margin_m: float
    standing_speed_m_s: float
    standing_yaw_rate_rad_s: float
    limited_scale: float

    def __post_init__(self) -> None:
        above_0 = ("deceleration_m_s2", "standing_speed_m_s", "standing_yaw_rate_rad_s")
        require_above_0(self, "motion", above_0)
        require_at_least_0(self, "motion", ("reaction_time_s", "slow_margin_m"))
        if not 0.0 < self.limited_scale < 1.0:
            raise refuse(
                "motion",
                f"limited_scale should be between 0 and 1, received {self.limited_scale}",
            )

    def require(self, contract: Contract) -> None:
        """Check it against a contract.

        Raises:
            ConfigError: the robot should stop faster than the contract lets a command change.
        """
        for channel in contract.action:
            speed = channel.name in ("forward_speed", "lateral_speed")
            if speed and self.deceleration_m_s2 > channel.max_rate_per_s:
                raise refuse(
                    "motion",
                    f"deceleration_m_s2 {self.deceleration_m_s2} should be at most the rate at "
                    f"which the contract lets {channel.name} change, {channel.max_rate_per_s}",
                )

    def stopping_s(self, speed_m_s: float) -> float:
        """Return the stopping distance v t + v^2 / (2 a), as the time that v would take for it."""
        return self.reaction_time_s + speed_m_s / (2.0 * self.deceleration_m_s2)
