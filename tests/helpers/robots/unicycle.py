"""The unicycle of `gym_unicycle` as a device in lockstep, behind a real pty."""

from __future__ import annotations

import os
import pty
import select
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.robot.serial.device import Board, Device
from tests.helpers.gym.gym_unicycle import PERIOD_S, moved


class UnicycleBoard(Board):
    """Moves at once as it is told."""

    robot = "unicycle"
    hardware_id = "unicycle-1"
    signals = (("position", 2), ("heading", 1), ("forward_speed", 1), ("yaw_rate", 1))
    actions = ("forward_speed", "yaw_rate")
    action_low, action_high = (-1.0, -2.0), (1.0, 2.0)
    lockstep = True
    self_placing = True

    def __init__(self) -> None:
        self._time_us, self._moves = 0, (0.0, 0.0)
        self._pose = (0.0, 0.0, 0.0)

    def now_us(self) -> int:
        return self._time_us

    def actuate(self, values: tuple[float, ...]) -> None:
        self._moves = (values[0], values[1])

    def halt(self) -> None:
        self._moves = (0.0, 0.0)

    def measure(self) -> tuple[float, ...]:
        return (*self._pose, *self._moves)

    def replace(self) -> None:
        self._pose = (0.0, 0.0, 0.0)

    def advance(self) -> None:
        self._time_us += round(PERIOD_S * 1e6)
        self._pose = moved(self._pose, *self._moves)


@contextmanager
def served(board: Board) -> Iterator[str]:
    """Serve a board in lockstep on a pty, in a thread; yields the robot's address."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    device, ends = Device(board), threading.Event()

    def serve() -> None:
        while not ends.is_set():
            if select.select([master], [], [], 0.1)[0]:
                device.feed(os.read(master, 1024))
            os.write(master, device.poll())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"serial:{os.ttyname(slave)}"
    finally:
        ends.set()
        thread.join(5)
        os.close(master)
        os.close(slave)
