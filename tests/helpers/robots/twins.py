"""A real twin: `holdfast twin` in a process of its own, behind a real pty."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from holdfast import child
from holdfast.robot.serial import link
from holdfast.robot.serial.robot import SerialRobot

GAP = Path(__file__).resolve().parents[3] / "config" / "gap_demo.yaml"

DRIVER = textwrap.dedent(
    """
    import sys
    import numpy as np
    from holdfast.robot.serial.robot import SerialRobot

    robot = SerialRobot.connect(sys.argv[1])
    robot.reset()
    robot.arm()
    said = False
    while True:
        if robot.faults():  # on a busy machine the watchdog comes first: begin anew
            robot.reset()
            robot.arm()
        robot.send(np.array([0.6, 0.4]), 0.1)
        robot.wait(robot.now_s() + 0.05)
        if not said and robot.read().signals["forward_speed"][0] > 0.5:
            said = True
            print("it drives", flush=True)
    """
)
"""A host's program: it drives the twin at the address in its argument, and says so."""


@dataclass(frozen=True)
class TwinProcess:
    address: str
    process: subprocess.Popen[str]


@contextmanager
def running_twin(*options: object) -> Iterator[TwinProcess]:
    """Start a twin with command-line options; end it with SIGTERM if it still lives.

    It ends too when this process is killed.
    """
    process = child.start(
        "holdfast",
        "twin",
        *map(str, options),
        at_end=signal.SIGKILL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield TwinProcess(process.stdout.readline().strip(), process)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@contextmanager
def connected(address: str) -> Iterator[SerialRobot]:
    """Be a twin's host."""
    robot = SerialRobot.connect(address)
    try:
        yield robot
    finally:
        robot.close()


@contextmanager
def second_writer(address: str) -> Iterator[Callable[..., None]]:
    """Have a twin's port open beside its host; yields what writes a message to the device.

    To be entered before the host connects, which then has the port exclusively.
    """
    fd = os.open(address.removeprefix("serial:"), os.O_WRONLY | os.O_NOCTTY)

    def write(kind: int, sequence: int, time_us: int = 0, payload: bytes = b"") -> None:
        os.write(fd, link.encode(kind, sequence, time_us, payload))

    try:
        yield write
    finally:
        os.close(fd)
