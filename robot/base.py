"""The interface to a robot that the run loop uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from holdfast.safety_monitor.messages import Reading
from holdfast.signals import Array


@dataclass(frozen=True)
class Identity:
    """A robot's description of itself, from its connection.

    Attributes:
        robot: name of the robot in contracts.
        hardware_id: name of this unit.
        actions: names of the action channels, in the device's order.
        action_low, action_high: the device's own limits, physical units, in that order.
        watchdog_s: the device stops after so long without a valid command, s.
        sources: the robot's independent message streams by name, each with its own stamps and
            sequence numbers, and the signals that each carries with their sizes.
        lockstep: device time advances only with commands, and is the clock of the run.
        state_period_s: longest time between two readings, in lockstep the time by which a command
            advances the device, s; None: not known.
        self_placing: `reset` puts the robot at its next start pose (a twin); otherwise a person
            has to place the robot.
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
    state_period_s: float | None = None

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of all signals that the robot measures."""
        return tuple(name for names in self.sources.values() for name in names)


class Robot(Protocol):
    """A connected robot. Every method may raise `LinkError`; none blocks without a limit."""

    identity: Identity

    def now_s(self) -> float:
        """Return the time of the run: the device's in lockstep, else the host's monotonic time."""

    def clock_offset_s(self) -> float:
        """Return Unix time minus the run's clock; 0 where the run's clock is shown as it is."""

    def wait(self, until_s: float) -> None:
        """Return at `until_s` on the run's clock; in lockstep, as soon as the device got there."""

    def readings(self) -> Mapping[str, Reading]:
        """Return each source's newest reading, stamped on the run's clock.

        A reading may be of any age; a source without a reading yet is left out.
        """

    def faults(self) -> tuple[str, ...]:
        """Return the device's present faults, a sentence each; empty if the robot may move."""

    def arm(self) -> None:
        """Allow motion.

        Raises:
            RefusedError: the device refuses.
        """

    def send(self, action: Array, valid_for_s: float) -> None:
        """Command an action; the device obeys the command for `valid_for_s` at most."""

    def disarm(self) -> None:
        """Stop and forbid motion; the next arming needs no reset."""

    def stop(self) -> None:
        """Stop in an emergency; the device latches the stop until `reset`."""

    def reset(self) -> None:
        """Clear a latched stop and the odometry; the robot is disarmed afterwards."""

    def close(self) -> None:
        """Stop the robot, if the link still lives, and close the link."""
