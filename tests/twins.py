"""A real twin: `holdfast twin` in a process of its own, behind a real pty."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from holdfast.robot import link

GAP = Path(__file__).resolve().parent.parent / "config" / "gap_demo.yaml"


@dataclass(frozen=True)
class TwinProcess:
    address: str
    process: subprocess.Popen[str]


@contextmanager
def running_twin(*options: object) -> Iterator[TwinProcess]:
    """Start a twin with command-line options; end it with SIGTERM if it still lives."""
    command = [sys.executable, "-m", "holdfast.cli", "twin", *map(str, options)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        yield TwinProcess(process.stdout.readline().strip(), process)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


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
