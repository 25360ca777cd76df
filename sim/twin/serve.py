"""`holdfast twin`: the robot in MuJoCo, with a gap, as a device on a serial port or in a graph."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TextIO

from holdfast.errors import ConfigError
from holdfast.robot import config as configs
from holdfast.robot.serial.device import Device
from holdfast.robot.topics.driver import Driver, MessageOptions
from holdfast.safety_monitor.costs import CostModel
from holdfast.sim.check import told_in_a_sentence
from holdfast.sim.parameters.catalogue import Parameters, load_gap
from holdfast.sim.registry import is_program, resolve
from holdfast.sim.tasks.task import Task
from holdfast.sim.twin.board import TwinBoard
from holdfast.sim.twin.hardware import LIDAR_RAYS, TwinHardware, joint_names, other_sources
from holdfast.sim.twin.truth import BEGIN, Truth
from holdfast.sim.view.viewer import HOST, PORT, Viewer

SILENCE_S = 1.0  # silence of a lockstep host after which simulated time runs again
CATCH_UP_STEPS = 100  # most physics steps before the port is read again
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # SIGHUP: the terminal was closed


class Twin:
    """Serves one device on a pty until SIGINT, SIGTERM or SIGHUP, whose handlers it sets.

    Args:
        fd, port: this program's and the host's end of the pty.
    """

    def __init__(self, board: TwinBoard, fd: int, port: int) -> None:
        self._board = board
        self._device = Device(board)
        self._fd, self._port = fd, port
        self._heard_s = time.monotonic()
        self._stopping = False
        self._woken, wake = os.pipe()  # a signal ends the wait for bytes
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        for number in ENDINGS:
            signal.signal(number, self._stop)

    def serve(self) -> None:
        """Run until a signal comes."""
        next_s = time.monotonic()
        while not self._stopping:
            if self._silent():  # a killed host's lock of the port would last as long as the pty
                fcntl.ioctl(self._port, termios.TIOCNXCL)
            free = self._runs_freely()
            if not free:
                next_s = time.monotonic() + SILENCE_S
            left_s = max(next_s - time.monotonic(), 0.0)
            if self._fd in select.select([self._fd, self._woken], [], [], left_s)[0]:
                self._feed()
            if free:
                next_s = self._catch_up(next_s)
        self._board.end_episode()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _runs_freely(self) -> bool:
        """Return whether simulated time follows real time, not the host's commands."""
        if not self._board.lockstep:
            return True
        return self._silent() and (self._device.armed or not self._board.resting)

    def _silent(self) -> bool:
        return time.monotonic() - self._heard_s >= SILENCE_S

    def _catch_up(self, next_s: float) -> float:
        """Make the physics steps that are due; return the time of the next step."""
        for _ in range(CATCH_UP_STEPS):
            if time.monotonic() < next_s:
                break
            self._board.step()
            next_s += self._board.step_us / 1e6
            self._answer(self._device.armed)
        return next_s

    def _feed(self) -> None:
        self._heard_s = time.monotonic()
        was_armed = self._device.armed
        self._device.feed(os.read(self._fd, 1024))
        self._answer(was_armed)

    def _answer(self, was_armed: bool) -> None:
        """Write the device's messages; messages that the host does not read are lost."""
        data = self._device.poll()
        if was_armed and not self._device.armed:
            self._board.end_episode()
        if data:
            with suppress(BlockingIOError):
                os.write(self._fd, data)


def command(
    *,
    task: str = "DriveCircle-v0",
    gap: Path | None = None,
    seed: int = 0,
    realtime_factor: float = 1.0,
    link: Path | None = None,
    truth: Path | None = None,
    dds: bool = False,
    config: Path | None = None,
    scan_rays: int | None = None,
    view: bool = False,
    view_host: str = HOST,
    view_port: int = PORT,
) -> None:
    """Serve a simulated robot on a serial port, until Ctrl-C.

    Prints the robot's address as its first line: "serial:LINK", "serial:/dev/pts/N" without a link,
    or "dds:ROBOT". With --view its second line is the address of the page.

    Args:
        task: task with the robot and the start poses, as FILE.py:NAME for a task of your own.
        gap: YAML file with the differences from the simulator's robot. Default: no differences.
        seed: seed of start poses and of noise.
        realtime_factor: 1: real time. 0: lockstep, in which time passes only with commands.
        link: path of a symbolic link to the port, which is removed in the end.
        truth: file for the true positions (m), rewards and costs, one JSON line per episode.
        dds: serve the robot in a ROS graph instead of on a port, as the node `twin` in real time,
            with the topics of its configuration file. Needs holdfast-robot[dds], not ROS.
        config: the robot's configuration file, which names its topics. Default: the installed
            file.
        scan_rays: number of the lidar's rays, in a ROS graph; 0: no lidar. Default: 180.
        view: serve a page with the picture of the robot where it truly is. The page only looks, and
            cannot slow the robot down.
        view_host: the address to serve the page at. Whoever can reach another address than the
            default can see the robot.
        view_port: the port of the page; 0 for any free port.
    """
    if realtime_factor not in (0.0, 1.0):
        raise ConfigError(
            f"realtime-factor should be 1 (real time) or 0 (lockstep), received {realtime_factor}"
        )
    if seed < 0:
        raise ConfigError(f"seed should be at least 0, received {seed}")
    the_task = resolve(task).make()
    if dds and (link or realtime_factor == 0.0):
        raise ConfigError("a twin in a ROS graph has no port to link, and runs in real time")
    if scan_rays is not None and (scan_rays < 0 or not dds):
        raise ConfigError(
            f"scan-rays should be at least 0, and not given without --dds: {scan_rays}"
        )
    if config and not dds:
        raise ConfigError("config names topics, which a twin has with --dds alone")
    if not view and (view_host, view_port) != (HOST, PORT):
        raise ConfigError("view-host and view-port are of the page, which needs --view")
    the_gap = load_gap(gap) if gap else Parameters()
    with ExitStack() as stack:
        file = _open_truth(truth, stack)
        if is_program(task):  # whose mistakes are told as a person's own, with file and line
            stack.enter_context(told_in_a_sentence(task))
        books = Truth(the_task, seed, file)
        board = TwinBoard(the_task, the_gap, seed, realtime_factor == 0.0, books)
        if view:
            _show(the_task, board, view_host, view_port, stack)
        if dds:
            rays = LIDAR_RAYS if scan_rays is None else scan_rays
            _serve_topics(the_task, board, config, rays, stack, file)
        else:
            _serve_port(board, link, stack, file)


def _show(task: Task, board: TwinBoard, host: str, port: int, stack: ExitStack) -> None:
    """Start the viewer, a process of its own that may do what it will."""
    about = {"robot": board.robot, "task": task.contract.task, "lockstep": board.lockstep}
    board.viewer = Viewer(board.model, board.base, about, host, port)
    stack.callback(board.viewer.close)
    board.show(at_once=True)


def _serve_port(
    board: TwinBoard, link: Path | None, stack: ExitStack, truth: TextIO | None
) -> None:
    """Serve the robot on a pty, until a signal comes."""
    master, slave = pty.openpty()
    stack.callback(os.close, master)
    stack.callback(os.close, slave)  # kept open: hosts may come and go
    tty.setraw(slave)
    os.set_blocking(master, False)
    port = os.ttyname(slave)
    twin = Twin(board, master, slave)
    if link:
        _symlink(link, port, stack)
    what = f"a twin of robot '{board.robot}' in {'lockstep' if board.lockstep else 'real time'}"
    _announce(f"serial:{link or port}", f"{what}, on port {port}", board, truth)
    twin.serve()


def require_config(task: Task, config: Path) -> None:
    """Raise ConfigError unless a configuration file fits the task's robot and contract."""
    configs.load(config).require_fit(task.contract)


def require_measured(task: Task, measured: Sequence[str]) -> None:
    """Raise ConfigError unless a twin measures all signals that the task's contract needs."""
    needed = dict.fromkeys((*task.contract.observed_signals, *CostModel(task.contract).signals))
    if unmeasured := [name for name in needed if name not in measured]:
        raise ConfigError(
            f"task should observe and bill what this twin measures, {', '.join(measured)}; "
            f"'{task.contract.task}' needs {', '.join(unmeasured)} too (docs/start/ROS.md)"
        )


def _serve_topics(
    task: Task,
    board: TwinBoard,
    config: Path | None,
    rays: int,
    stack: ExitStack,
    truth: TextIO | None,
) -> None:
    """Serve the robot in a ROS graph, until a signal comes."""
    from holdfast.robot.dds.graph import DdsGraph  # needs the extra [dds]

    section = configs.load(config or configs.find(board.robot)).topics()
    others = other_sources(task, board, section)
    graph = DdsGraph("twin")
    stack.callback(graph.close)
    hardware = TwinHardware(board, graph.now_s, scan_rays=rays, extra_sources=others)
    require_measured(task, hardware.signals)
    options = MessageOptions(
        joints=joint_names(task, section),
        scan_range_m=hardware.scan_range_m,
        mounts=hardware.mounts,
    )
    driver = Driver(graph, hardware, section, options, others)
    stack.callback(driver.close)
    stopping = threading.Event()
    for number in ENDINGS:
        signal.signal(number, lambda *_: stopping.set())
    address = f"dds:{config or board.robot}"
    _announce(address, f"a twin of robot '{board.robot}' in a ROS graph", board, truth)
    while not stopping.is_set():
        driver.turn()


def _announce(address: str, what: str, board: TwinBoard, truth: TextIO | None) -> None:
    """Print the robot's address. All checks have passed, so an earlier truth file is truncated."""
    if truth:
        truth.truncate(0)
    page = [f"its page: {board.viewer.url}"] if board.viewer else []
    print(address, *page, sep="\n", flush=True)
    print(f"{what}; Ctrl-C ends it", file=sys.stderr)


def _open_truth(path: Path | None, stack: ExitStack) -> TextIO | None:
    if path is None:
        return None
    try:
        if path.is_file():
            with path.open("rb") as earlier:
                if (begin := earlier.read(len(BEGIN))) not in (b"", BEGIN):
                    raise ConfigError(
                        f"truth file {path}: should be new, or one that a twin wrote, it begins "
                        f"with {begin!r}"
                    )
        return stack.enter_context(path.open("a", encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"truth file {path}: cannot be written ({error.strerror})") from None


def _symlink(path: Path, port: str, stack: ExitStack) -> None:
    """Link `path` to the port; an earlier twin's link is replaced, and no other."""
    try:
        if path.is_symlink():
            old = os.readlink(path)
            if os.path.dirname(old) != os.path.dirname(port):  # /dev/pts on Linux
                raise ConfigError(
                    f"link {path}: should be new, or lead to a port, it leads to {old}"
                )
            path.unlink()
        elif path.exists():
            is_now = "a folder" if path.is_dir() else "a file"
            raise ConfigError(f"link {path}: should be new, or lead to a port; it is {is_now}")
        path.symlink_to(port)
    except OSError as error:
        raise ConfigError(f"link {path}: cannot be made ({error.strerror})") from None
    stack.callback(_unlink, path, port)


def _unlink(path: Path, port: str) -> None:
    """Remove the link, unless another twin has made it its own."""
    with suppress(OSError):
        if os.readlink(path) == port:
            path.unlink()
