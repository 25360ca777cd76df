"""Faults of the line and of processes, in real time: a real deployment, and a twin that it drives.

The twin is served from this process, so that bytes can be damaged, lost, late or somebody else's,
and every physics step is seen. Times are on the twin's clock, which follows real time.
"""

from __future__ import annotations

import os
import pty
import random
import select
import signal
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from holdfast.contract import Cost
from holdfast.errors import LogError
from holdfast.robot.serial import device, link
from holdfast.robot.serial.device import Device
from holdfast.sim.parameters.catalogue import Parameters
from tests.helpers.data.bundles import drive_contract, write_bundle
from tests.helpers.faults.lies import NONE
from tests.helpers.faults.lying_twin import SEEN_S, Case, Outcome, Witness, motion, task_of
from tests.helpers.robots import runs

SPEED_M_S = 0.98
START_LIMIT_S = 60.0
TRIES = 4
WATCHED_S = 5.0
"""For how long a robot is watched after the fault, unless it stands before."""


class Line:
    """What happens to bytes on their way; as made, nothing does."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.cut = False  # nothing gets through
        self.closed = False  # the port is gone
        self.flips = (0.0, 0.0)  # share of bytes with a bit turned over: to the device, to the host
        self.noise = 0.0  # share of turns in which random bytes arrive at both ends
        self.delay_s = 0.0
        self.repeats = False  # everything arrives twice
        self.writer: Callable[[Served], bytes] | None = None  # somebody else who writes
        self.writes_every_s = 0.05
        self._late: list[tuple[float, bool, bytes]] = []

    def carry(self, data: bytes, to_device: bool) -> bytes:
        """Return what arrives now of what was sent up to now."""
        now_s = time.monotonic()
        self._late.append((now_s + self.delay_s, to_device, data))
        due = [part for at, way, part in self._late if way is to_device and at <= now_s]
        self._late = [e for e in self._late if not (e[1] is to_device and e[0] <= now_s)]
        if self.cut:
            return b""
        out = bytearray(b"".join(due))
        for index in range(len(out)):
            if self.rng.random() < self.flips[not to_device]:
                out[index] ^= 1 << self.rng.randrange(8)
        if self.rng.random() < self.noise:
            out += self.rng.randbytes(self.rng.randint(1, 40))
        return bytes(out) * (1 + self.repeats)


class Served(threading.Thread):
    """A twin in real time behind a line.

    Attributes:
        obeyed: every action that reached the motors, and when.
        latched_s: when the device latched a fault first, s; None: never.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(daemon=True)
        self.board = Witness(task_of(60.0), Parameters(), seed)
        self.board.lockstep = False
        self.board.state_period_us = 50_000
        self.device = Device(self.board)
        self.line = Line(seed)
        self.obeyed: list[tuple[float, tuple[float, ...]]] = []
        self.latched_s: float | None = None
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.address = f"serial:{os.ttyname(self._slave)}"
        self._ends = False
        actuate = self.board.actuate

        def obey(values: tuple[float, ...]) -> None:
            self.obeyed.append((self.now_s, values))
            actuate(values)

        self.board.actuate = obey  # type: ignore[method-assign]

    @property
    def now_s(self) -> float:
        return self.board.now_us() / 1e6

    def run(self) -> None:
        next_s = wrote_s = time.monotonic()
        while not self._ends:
            left_s = max(next_s - time.monotonic(), 0.0)
            if self.line.closed:
                self._close()
                time.sleep(left_s)
            else:
                select.select([self._master], [], [], left_s)
                self._exchange()
            if self.line.writer and time.monotonic() - wrote_s >= self.line.writes_every_s:
                wrote_s = time.monotonic()
                self.device.feed(self.line.writer(self))
            while time.monotonic() >= next_s:
                self.board.step()
                self.board.note()
                next_s += self.board.step_us / 1e6
                self._answer()
                if self.latched_s is None and self.device.latched:
                    self.latched_s = self.now_s

    def _exchange(self) -> None:
        data = b""
        with suppress(OSError):
            data = os.read(self._master, 4096)
        self.device.feed(self.line.carry(data, True))
        self._answer()

    def _answer(self) -> None:
        data = self.line.carry(self.device.poll(), False)
        if data and not self.line.closed:
            with suppress(OSError):
                os.write(self._master, data)

    def _close(self) -> None:
        for fd in (self._master, self._slave):
            with suppress(OSError):
                os.close(fd)
        self._master = self._slave = -1

    def end(self) -> None:
        self._ends = True
        self.join()
        self._close()


@contextmanager
def served(seed: int) -> Iterator[Served]:
    twin = Served(seed)
    twin.start()
    try:
        yield twin
    finally:
        twin.end()


def frame(twin: Served, kind: int, payload: bytes = b"") -> bytes:
    """Return a good frame that claims to be the host's next but some."""
    return link.encode(kind, twin.device._heard + 1000, twin.board.now_us(), payload)


def _command(twin: Served) -> bytes:
    return frame(twin, device.COMMAND, link.command_payload((0.7, 0.3), 150_000))


def _once(kind: int) -> Callable[[Served, runs.Deployment], None]:
    def fault(twin: Served, run: runs.Deployment) -> None:
        def write(served: Served) -> bytes:
            twin.line.writer = None
            return frame(served, kind)

        twin.line.writer = write

    return fault


def _set(**changes: object) -> Callable[[Served, runs.Deployment], None]:
    def fault(twin: Served, run: runs.Deployment) -> None:
        for name, value in changes.items():
            setattr(twin.line, name, value)

    return fault


FAULTS: dict[str, Callable[[Served, runs.Deployment], None]] = {
    NONE: lambda twin, run: None,
    "policy process killed": lambda twin, run: os.kill(run.policy, signal.SIGKILL),
    "policy process hung": lambda twin, run: os.kill(run.policy, signal.SIGSTOP),
    "monitor's process killed": lambda twin, run: run.process.kill(),
    "monitor's process hung": lambda twin, run: run.process.send_signal(signal.SIGSTOP),
    "monitor's process told to end": lambda twin, run: run.process.send_signal(signal.SIGTERM),
    "port pulled": _set(closed=True),
    "line cut": _set(cut=True),
    "line late by 0.3 s": _set(delay_s=0.3),
    "everything arrives twice": _set(repeats=True),
    "1 % of bytes to the device wrong": _set(flips=(0.01, 0.0)),
    "20 % of bytes to the device wrong": _set(flips=(0.2, 0.0)),
    "1 % of bytes to the host wrong": _set(flips=(0.0, 0.01)),
    "20 % of bytes to the host wrong": _set(flips=(0.0, 0.2)),
    "random bytes on the line": _set(noise=0.3),
    "second writer, commands at 20 Hz": _set(writer=_command),
    "second writer, commands at 200 Hz": _set(writer=_command, writes_every_s=0.005),
    "stray ARM": _once(device.ARM),
    "stray DISARM": _once(device.DISARM),
    "stray ESTOP": _once(device.ESTOP),
    "stray RESET": _once(device.RESET),
    "stray HELLO": _once(device.HELLO),
}


def bundle(folder: Path) -> Path:
    """Return a policy that drives straight ahead, and that no budget stops."""
    cost = Cost("outside_corridor", "abs(position.x) > 0.9", 1e9, 1e9, 1.0, 0.95)
    contract = drive_contract(episode_steps=72_000, costs=(cost,))
    return write_bundle(folder / "straight.onnx", contract, action=(SPEED_M_S, 0.0))


class Spoilt(Exception):
    """The robot did not get to drive: a busy machine made something late before the fault."""


def play(kind: str, seed: int, folder: Path, config: Path | None = None) -> Outcome:
    """Run one try, again if it was spoilt; `folder` is for its policy and logs.

    Raises:
        Spoilt: every time.
    """
    for attempt in range(TRIES):
        inner = folder / str(attempt)
        inner.mkdir()
        try:
            return _play(kind, seed, inner, config)
        except Spoilt as why:
            spoilt = why
    raise spoilt


def _play(kind: str, seed: int, folder: Path, config: Path | None) -> Outcome:
    policy = bundle(folder)
    options = ("--config", str(config)) if config else ()
    case = Case(kind, "line and processes", "full speed", seed, False, config)
    with (
        served(seed) as twin,
        runs.deployment(folder / "run", twin.address, policy, *options) as run,
    ):
        runs.until(lambda: _moves(twin, run), START_LIMIT_S)
        time.sleep(0.8 + 0.05 * (seed % 8))
        begins_s, host_s = twin.now_s, time.monotonic()
        if not _moves(twin, run):
            raise Spoilt(f"it stood before anything was wrong: {twin.device.latched}")
        FAULTS[kind](twin, run)
        runs.until(lambda: twin.now_s - begins_s > WATCHED_S or _stands(twin, begins_s + 1.6))
        latched_s = twin.latched_s
        faults = [link.fault_text(b) for b in range(16) if twin.device.latched >> b & 1]
        device_fault = faults[0] if faults else ""
        with suppress(ProcessLookupError):
            run.process.send_signal(signal.SIGCONT)
        with suppress(ProcessLookupError):
            run.process.send_signal(signal.SIGTERM)
        with suppress(Exception):
            run.end()
    code, said_s, sent = _from_log(run, host_s)
    latched_s = None if latched_s is None else latched_s - begins_s
    if latched_s is not None and not code:
        code = f"device: {device_fault}"
    seen = [s for s in (said_s, latched_s) if s is not None]
    moved = motion(twin.board, begins_s, stopped=bool(code))
    foreign = [v for t, v in twin.obeyed if t > begins_s + SEEN_S and v not in sent]
    if kind == NONE:
        verdict = "harmless"
    elif moved.in_time:
        verdict = "stopped" if code else "stands"
    else:
        verdict = "FAILS" if moved.beyond_m or foreign or not code else "held"
    return Outcome(case, 0.0, code, min(seen, default=None), code, moved, verdict)


def _moves(twin: Served, run: runs.Deployment) -> bool:
    if run.process.poll() is not None:
        raise Spoilt(f"the deployment did not start: {run.end()}")
    return twin.board.told[-1][1]


def _stands(twin: Served, after_s: float) -> bool:
    track = twin.board.track
    return track[-1][0] >= after_s and all(speed < 0.01 for *_, speed in track[-20:])


def _from_log(
    run: runs.Deployment, host_s: float
) -> tuple[str, float | None, set[tuple[float, ...]]]:
    """Return what stopped the episode, when the first reason came after the fault, and what the
    monitor let through."""
    try:
        (episode,) = run.log().episodes[-1:]
    except (LogError, ValueError):
        return "", None, set()
    times = [t - host_s for t, codes in zip(episode.now_s, episode.reasons, strict=True) if codes]
    code = episode.result.code
    return (
        "" if code == "interrupted" else code,
        min((t for t in times if t >= 0.0), default=None),
        {tuple(action) for action in episode.applied.tolist()},
    )
