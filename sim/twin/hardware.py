"""The twin as a driver's hardware, for a simulated robot in a ROS graph."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import mujoco
import numpy as np

from holdfast.robot.topics.config import RosSection, Source, check_signal
from holdfast.robot.topics.driver import IMU, JOINTS, ODOM, SCAN, HardwareState
from holdfast.robot.topics.requests import Requests
from holdfast.signals import Array
from holdfast.sim.tasks.task import Task
from holdfast.sim.twin.board import TwinBoard

LIDAR_ABOVE_M = 0.04  # above the highest part of the robot as it starts
LIDAR_LEAST_M = 0.12
LIDAR_RAYS = 180
"""Default number of rays, an odd multiple of the sectors of the signal `scan`. So no beam lies
across two sectors, and the nearest of a sector's beams is the sector's value in training."""

DRIVER_SAYS = (
    *("position", "heading", "forward_speed", "lateral_speed", "yaw_rate", "tilt"),
    *("angular_velocity", "linear_acceleration"),
    *("joint_position", "joint_velocity", "joint_effort"),
)
"""Signals that the driver's own topics carry, where the robot has them."""

PLACE_LIMIT_S = 2.0
CATCH_UP_STEPS = 100  # most physics steps before commands are read again


class Lidar:
    """A lidar with beams in the base's plane, counter-clockwise from straight ahead.

    Beams end at the model's geoms and at the task's surroundings.

    Args:
        rays: number of beams.

    Attributes:
        range_m: least and largest range.
        mount_m: where it is on the base, m.
    """

    def __init__(self, board: TwinBoard, rays: int) -> None:
        angles = np.arange(rays) * math.tau / rays
        self._directions = np.stack((np.cos(angles), np.sin(angles), np.zeros(rays)), axis=-1)
        self._board = board
        self._hit = np.empty(1, np.int32)
        self._base = board.base
        self.range_m = (LIDAR_LEAST_M, board.lidar_range_m)
        self.mount_m = (0.0, 0.0, _top(board.model, board.data, self._base) + LIDAR_ABOVE_M)

    def __call__(self) -> tuple[float, ...]:
        """Return the ranges (rays,), m, by REP-117.

        Infinity: nothing in range. Minus infinity: something nearer than the least range.
        """
        model, data = self._board.model, self._board.data
        turn = data.xmat[self._base].reshape(3, 3)
        eye = data.xpos[self._base] + self.mount_m[2] * turn[:, 2]
        ranges = np.array(
            [
                mujoco.mj_ray(model, data, eye, ray, None, 1, self._base, self._hit)
                for ray in self._directions @ turn.T
            ]
        )
        ranges[ranges < 0.0] = math.inf
        ranges = np.minimum(ranges, self._board.beams(len(ranges)))
        least_m, largest_m = self.range_m
        ranges[ranges >= largest_m] = math.inf
        ranges[ranges < least_m] = -math.inf
        return tuple(ranges.tolist())


def _top(model: mujoco.MjModel, data: mujoco.MjData, base: int) -> float:
    """Return how far the highest geom of a robot reaches above its base's origin, m."""
    own = np.flatnonzero(model.body_rootid[model.geom_bodyid] == base)
    reach = [float(data.geom_xpos[i, 2] + model.geom_rbound[i]) for i in own.tolist()]
    return max(reach, default=0.0) - float(data.xpos[base, 2])


def other_sources(task: Task, board: TwinBoard, section: RosSection) -> dict[str, Source]:
    """Return the sources of a robot's file that the twin can publish beside the driver's topics.

    These are what a planner, a camera or a further sensor gives to a real robot.

    Raises:
        ConfigError: a signal of such a source has another unit or size.
    """
    known = board.measured_signals().keys() - {*DRIVER_SAYS}
    found = {
        name: source
        for name, source in section.sources.items()
        if source.topic not in (ODOM, IMU, JOINTS, SCAN) and source.signals.keys() <= known
    }
    for name, source in found.items():
        for signal, field in source.signals.items():
            check_signal(f"ros.sources.{name}.signals.{signal}", signal, field, task.contract)
    return found


def joint_names(task: Task, section: RosSection, given: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the names of a robot's joints in a graph.

    They are the model's where the robot's file has such names; else those given, if they are as
    many; else the model's with the ending `_joint`.
    """
    own = task.robot.joint_names
    fields = (f for source in section.sources.values() for f in source.signals.values())
    wanted = {name for field in fields if field.joints for name in field.joints.names}
    if wanted and wanted <= {*own}:
        return own
    ended = tuple(f"{name.removesuffix('_joint')}_joint" for name in own)
    return given if len(given) == len(own) else ended


class TwinHardware:
    """A `holdfast.robot.topics.driver.Hardware` in MuJoCo, as fast as real time times a factor.

    Args:
        board: the simulated robot; its clock is simulated time.
        now_s: clock of the driver's stamps; None: simulated time.
        realtime_factor: seconds of simulated time per second.
        period_s: simulated time between two measurements.
        scan_rays: number of the lidar's rays; 0: no lidar.
        scan_every: measurements between two scans.
        extra_sources: sources whose signals are part of each measurement.
        stepped: called after each physics step.

    Attributes:
        scan_range_m: the lidar's least and largest range; 0, 0 without a lidar.
        mounts: positions of the sensors on the base, m, by frame.
        signals: catalogue names of all measured signals.
        actions: names of the robot's action channels, in order.
    """

    def __init__(
        self,
        board: TwinBoard,
        now_s: Callable[[], float] | None = None,
        realtime_factor: float = 1.0,
        period_s: float = 0.02,
        scan_rays: int = 0,
        scan_every: int = 5,
        extra_sources: Mapping[str, Source] | None = None,
        stepped: Callable[[], None] | None = None,
    ) -> None:
        self._board = board
        self.actions = board.actions
        self.now_s = now_s or (lambda: board.now_us() / 1e6)
        self._step_s = board.step_us / 1e6 / realtime_factor
        self._every = max(1, round(period_s * 1e6 / board.step_us))
        self._steps = self._measurements = 0
        self._lidar = Lidar(board, scan_rays) if scan_rays else None
        self.scan_range_m = self._lidar.range_m if self._lidar else (0.0, 0.0)
        scan_mount = self._lidar.mount_m if self._lidar else (0.0, 0.0, 0.0)
        self.mounts = {"imu_link": (0.0, 0.0, 0.0), "base_scan": scan_mount}
        self._scan_every = scan_every
        self._extra_sources = [
            name for source in (extra_sources or {}).values() for name in source.signals
        ]
        lidar = ["scan"] if self._lidar else []
        said = [name for name in board.measures if name in DRIVER_SAYS]
        self._said = said
        self.signals = (*said, *lidar, *self._extra_sources)
        self._stepped = stepped
        self._requests = Requests("the twin")
        self._halt_at_s = math.inf
        self._stopped = False
        self._next_s = time.monotonic()

    def wait(self, wake: int) -> HardwareState | None:
        """Make the physics steps that are due, up to the next measurement."""
        for request in self._requests.drain():
            self._board.replace()
            request.answer(True, "placed")
        select.select([wake], [], [], max(self._next_s - time.monotonic(), 0.0))
        for _ in range(CATCH_UP_STEPS):
            if time.monotonic() < self._next_s:
                return None
            if self.now_s() >= self._halt_at_s:
                self.halt()
            self._board.step()
            if self._stepped is not None:
                self._stepped()
            self._next_s += self._step_s
            self._steps += 1
            if self._steps % self._every == 0:
                return self._measure()
        self._next_s = max(self._next_s, time.monotonic() - 1.0)  # too slow: fall behind
        return None

    def _measure(self) -> HardwareState:
        scan = self._measurements % self._scan_every == 0
        signals = self._board.measured_signals()
        self._measurements += 1
        measured = HardwareState.of(self.now_s(), {name: signals[name] for name in self._said})
        return replace(
            measured,
            scan_m=self._lidar() if self._lidar and scan else (),
            extra_sources={name: signals[name] for name in self._extra_sources},
        )

    def place(self) -> tuple[bool, str]:
        """Put the robot at its next start pose. Any thread may call; the driver's thread acts."""
        return self._requests.result(self._requests.put("place"), PLACE_LIMIT_S)

    def faults(self) -> tuple[str, ...]:
        """Return the faults: an emergency stop, if one is latched."""
        return ("emergency stop",) if self._stopped else ()

    def obey(self, action: Array, valid_for_s: float) -> None:
        """Set the motors, unless a stop is latched."""
        if not self._stopped:
            self._board.actuate(tuple(action.tolist()))
            self._halt_at_s = self.now_s() + valid_for_s

    def halt(self) -> None:
        """Stop the motors."""
        self._board.halt()
        self._halt_at_s = math.inf

    def stop(self) -> None:
        """Stop the motors, and latch the stop."""
        self._stopped = True
        self.halt()

    def reset(self) -> None:
        """Release the latched stop."""
        self._stopped = False

    def close(self) -> None:
        """Stop the motors, and end the record."""
        self.halt()
        self._board.end_episode()
