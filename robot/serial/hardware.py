"""A device behind a serial port, as a driver's hardware."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.robot.serial.robot import SerialRobot
from holdfast.robot.topics.driver import HardwareState
from holdfast.signals import Array

MOMENT_S = 0.05
"""How long a turn of the driver may take where the device says nothing."""


class SerialHardware:
    """A `holdfast.robot.topics.driver.Hardware`; the device has time limits of its own too.

    Args:
        robot: connected, in real time.
        now_s: the clock of the driver's stamps.

    Attributes:
        actions: names of the device's action channels, in its order.
    """

    def __init__(self, robot: SerialRobot, now_s: Callable[[], float]) -> None:
        self._robot, self._now_s = robot, now_s
        self.actions = robot.identity.actions

    def wait(self, wake: int) -> HardwareState | None:
        """Return what a new STATE measured, or None if none came. A device that does not obey
        this program alone is stopped, which it latches."""
        if not self._robot.wait_for_state(MOMENT_S, wake):
            return None
        if self._robot.armed and self._robot.faults():
            self._robot.stop()
        reading = self._robot.read()
        return HardwareState.of(
            stamp_s=self._now_s() - (self._robot.now_s() - reading.stamp_s),
            signals=reading.signals,
        )

    def faults(self) -> tuple[str, ...]:
        """Return what the device has latched, and whether it obeys another program too."""
        return self._robot.faults()

    def obey(self, action: Array, valid_for_s: float) -> None:
        """Command an action. The device is armed by a command to stand still, by no other."""
        if self._robot.faults():
            return
        if not self._robot.armed:
            if action.any():
                return
            self._robot.arm()
        self._robot.send(action, valid_for_s)

    def halt(self) -> None:
        """Disarm the device, if it is armed."""
        if self._robot.armed:
            self._robot.disarm()

    def stop(self) -> None:
        """Latch the device's emergency stop."""
        self._robot.stop()

    def reset(self) -> None:
        """Clear what the device has latched; its odometry begins anew."""
        self._robot.reset()

    def close(self) -> None:
        """Disarm, and let go of the port."""
        self._robot.close()
