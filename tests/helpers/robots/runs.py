"""Twins and deployments as real processes, for tests of the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import LogError
from holdfast.log.reader import Log, read
from holdfast.robot.serial.robot import SerialRobot
from tests.helpers.robots.twins import running_twin

LIMIT_S = 30.0


def until(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Wait until something is so; fails if it never is."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "it never came to pass"
        time.sleep(0.01)


@dataclass
class Twin:
    """A twin that is being served, and its books."""

    address: str
    process: subprocess.Popen[str]
    truth: Path

    def episodes(self) -> int:
        """How many episodes it has closed the books of: it does when it is disarmed."""
        return len(self.truth.read_text().splitlines())

    def inspect(self) -> tuple[float, tuple[str, ...]]:
        """Connect as the next host would; return speed over all directions and latched faults.

        The device was disarmed before; half a second is for the wheels to come to rest.
        """
        robot = SerialRobot.connect(self.address)
        try:
            robot.wait(robot.now_s() + 0.5)
            signals = robot.read().signals
            speed = max(abs(signals["forward_speed"][0]), abs(signals["yaw_rate"][0]))
            return float(speed), robot.faults()
        finally:
            robot.close()


@contextmanager
def twin(folder: Path, lockstep: bool) -> Iterator[Twin]:
    """Serve a twin without a gap."""
    truth = folder / "truth.jsonl"
    factor = 0 if lockstep else 1
    with running_twin("--realtime-factor", factor, "--seed", 1, "--truth", truth) as served:
        yield Twin(served.address, served.process, truth)


@dataclass
class Deployment:
    """A `holdfast deploy` that is under way, in a session of its own as a terminal gives it."""

    process: subprocess.Popen[str]
    out: Path

    @property
    def policy(self) -> int:
        """Process id of the policy."""
        pid = self.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    def log(self) -> Log:
        return read(self.out)

    def wait_for_steps(self, count: int) -> None:
        """Return when the log shows that so many actions were sent."""

        def there() -> bool:
            assert self.process.poll() is None, "it ended too soon"
            try:
                log = self.log()
            except LogError:
                return False
            return bool(log.episodes) and len(log.episodes[-1].now_s) >= count

        until(there)

    def end(self) -> tuple[int, str, str]:
        """Exit status, what it said and what it complained of."""
        out, err = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, out, err


@contextmanager
def deployment(
    out: Path,
    address: str,
    policy: Path,
    *options: str,
    python: Sequence[str] = ("-m", "holdfast"),
) -> Iterator[Deployment]:
    """Start a `holdfast deploy`; what is left of it in the end is killed.

    Args:
        python: what Python is told to run.
    """
    arguments = ["--robot", address, "--policy", str(policy), "--out", str(out), *options]
    process = subprocess.Popen(
        [sys.executable, *python, "deploy", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield Deployment(process, out)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody waited for counts as ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"
