"""What the run loop needs of a robot, whatever carries its messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from holdfast.safety_monitor.messages import Reading
from holdfast.signals import Array


@dataclass(frozen=True)
class Identity:
    """What a robot says of itself when it is connected.

    Attributes:
        robot: the name that contracts use.
        hardware_id: this very unit.
        actions: names of the action channels, in the device's order.
        action_low, action_high: the device's own limits, physical units, in that order.
        watchdog_s: the device stops when no valid command arrived for this long.
        sources: the robot's independent message streams by name, each with its own stamps and
            sequence numbers, and the signals that each carries with their sizes.
        lockstep: device time advances only with commands; it is then the clock of the run.
        self_placing: `reset` puts the robot at its next start pose (a twin); otherwise a
            person does, and the run loop asks for it.
    """

    robot: str
    hardware_id: str
    actions: tuple[str, ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    watchdog_s: float
    sources: Mapping[str, Mapping[str, int]]
    lockstep: bool
    self_placing: bool

    @property
    def signals(self) -> tuple[str, ...]:
        """All that it measures."""
        return tuple(name for names in self.sources.values() for name in names)


class Robot(Protocol):
    """A connected robot. Every method may raise `LinkError`; none blocks without a limit."""

    identity: Identity

    def now_s(self) -> float:
        """The run's clock: the device's in lockstep, else the host's monotonic clock."""

    def clock_offset_s(self) -> float:
        """Unix time minus the run's clock, as far as that is meant to show it."""

    def wait(self, until_s: float) -> None:
        """Return at `until_s` on the run's clock; in lockstep, as soon as the device got there."""

    def readings(self) -> Mapping[str, Reading]:
        """Return each source's newest reading, stamped on the run's clock; its age may be
        anything, and a source that never spoke is left out."""

    def faults(self) -> tuple[str, ...]:
        """What the device says is wrong now, a sentence each; empty if it may move."""

    def arm(self) -> None:
        """Allow motion, if the device agrees."""

    def send(self, action: Array, valid_for_s: float) -> None:
        """Command an action that the monitor let through."""

    def disarm(self) -> None:
        """Stop and forbid motion. Needs no reset."""

    def stop(self) -> None:
        """Emergency stop: latched by the device until `reset`."""

    def reset(self) -> None:
        """Clear a latched stop and the odometry; leads to disarmed, never to motion."""

    def close(self) -> None:
        """Stop, as far as the link still lives, and let go of it."""
