"""The twin's board: a drive robot in MuJoCo with a gap, and a record of its true episodes."""

from __future__ import annotations

import json
import math
from collections import deque
from typing import Any, TextIO

import mujoco
import numpy as np

from holdfast.robot.serial.device import Board
from holdfast.safety_monitor.costs import CostModel
from holdfast.signals import Array
from holdfast.sim.robots import drive
from holdfast.sim.robots.robot import physics_steps, roll_pitch_yaw
from holdfast.sim.tasks.task import Task
from holdfast.sim.twin.gap import Gap, OdometryNoise, apply

_TICKS_PER_RAD = 4096 / math.tau  # of the wheels' encoders
RESTING_SPEED = 1e-3  # m/s and rad/s
LIDAR_RANGE_M = 10.0  # for a task that prescribes no range


class Truth:
    """Records true positions, rewards and costs, one JSON line per episode.

    A step is an obeyed COMMAND. The step is billed on the true signals one control period later,
    or at the next COMMAND or the episode's end, whichever is first.
    """

    def __init__(self, task: Task, seed: int, file: TextIO | None) -> None:
        self._task = task
        self._seed = seed
        self._file = file
        self._cost_model = CostModel(task.contract)
        self._episode = 0
        self._start: tuple[float, ...] = ()
        self._steps: list[dict[str, Any]] = []

    def begin(self, start: tuple[float, ...]) -> None:
        """Start an episode at the robot's start pose: x, y in m, yaw in rad."""
        self.end()
        self._start = start

    def step(self, signals: dict[str, Array]) -> None:
        """Bill one step."""
        self._steps.append(
            {
                "position": signals["position"].tolist(),
                "heading": float(signals["heading"][0]),
                "reward": float(self._task.reward(signals)),
                "costs": self._cost_model(signals).tolist(),
            }
        )

    def end(self) -> None:
        """Write the episode, if it has a step."""
        steps, self._steps = self._steps, []
        if not steps:
            return
        names = [cost.name for cost in self._task.contract.costs]
        costs = {name: [step["costs"][i] for step in steps] for i, name in enumerate(names)}
        record = {
            "episode": self._episode,
            "seed": self._seed,
            "start": self._start,
            "steps": len(steps),
            "reward_sum": sum(step["reward"] for step in steps),
            "cost_sum": {name: sum(values) for name, values in costs.items()},
            "position": [step["position"] for step in steps],
            "heading": [step["heading"] for step in steps],
            "reward": [step["reward"] for step in steps],
            "costs": costs,
        }
        self._episode += 1
        if self._file:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()


class Odometry:
    """Odometry of a base from wheel encoders, with the nominal radius, and a gyro.

    The odometry integrates the motion of the axle's middle, which moves only along the heading. It
    reports the pose of the base, which lies behind the axle.

    Args:
        start: the base's x, y in m, yaw in rad, at wheel angles of 0.
        axle_m: distance of the axle in front of the base.
        noise: standard deviations of the odometry's errors.
        rng: draws the errors.
    """

    def __init__(
        self,
        start: tuple[float, ...],
        axle_m: float,
        noise: OdometryNoise,
        rng: np.random.Generator,
    ) -> None:
        x, y, self.yaw = start
        self._axle_m = axle_m
        self._x, self._y = x + axle_m * math.cos(self.yaw), y + axle_m * math.sin(self.yaw)
        self.speed = self.yaw_rate = 0.0
        self.ticks = [0, 0]
        self._noise = noise
        self._rng = rng

    def advance(
        self, wheels_rad: list[float], wheels_rad_s: list[float], gyro_rad_s: float, step_s: float
    ) -> None:
        """Add the motion of one physics step, with noise."""
        noise = self._noise
        a, b, c, d, e = self._rng.standard_normal(5).tolist()
        ticks = [math.floor(angle * _TICKS_PER_RAD) for angle in wheels_rad]
        moved_rad = (sum(ticks) - sum(self.ticks)) / (2.0 * _TICKS_PER_RAD)
        self.ticks = ticks
        moved_m = moved_rad * drive.WHEEL_RADIUS_M
        walk = math.sqrt(abs(moved_m))
        middle = self.yaw + gyro_rad_s * step_s / 2.0
        self._x += moved_m * math.cos(middle) + noise.position_m_per_sqrt_m * walk * a
        self._y += moved_m * math.sin(middle) + noise.position_m_per_sqrt_m * walk * b
        self.yaw += gyro_rad_s * step_s + noise.heading_rad_per_sqrt_m * walk * c
        self.speed = sum(wheels_rad_s) / 2.0 * drive.WHEEL_RADIUS_M + noise.velocity_m_s * d
        self.yaw_rate = gyro_rad_s + noise.yaw_rate_rad_s * e

    def pose(self) -> tuple[float, float, float]:
        """Return the base's x, y in m, and yaw in rad, within ±π."""
        x = self._x - self._axle_m * math.cos(self.yaw)
        y = self._y - self._axle_m * math.sin(self.yaw)
        return x, y, math.remainder(self.yaw, math.tau)


class TwinBoard(Board):
    """A device's board that simulates a drive robot in MuJoCo. The clock is simulated time.

    Attributes:
        model, data: the simulation.
        lidar_range_m: range of the lidar.
    """

    self_placing = True
    signals = (
        *(("position", 2), ("heading", 1), ("forward_speed", 1), ("yaw_rate", 1), ("tilt", 2)),
        *(("angular_velocity", 3), ("linear_acceleration", 3), ("joint_position", 2)),
    )
    measures = tuple(name for name, _ in signals)

    def __init__(self, task: Task, gap: Gap, seed: int, lockstep: bool, truth: Truth) -> None:
        contract = task.contract
        self.robot = contract.robot
        self.hardware_id = f"twin-{seed}"
        self.actions = contract.action_names
        self.action_low = tuple(contract.action_low.tolist())
        self.action_high = tuple(contract.action_high.tolist())
        self.lockstep = lockstep
        self.lidar_range_m = task.lidar_range_m or LIDAR_RANGE_M
        self._task, self._gap, self._seed, self._truth = task, gap, seed, truth
        self.model = task.robot.load_model()
        self._steps = physics_steps(self.model, contract.period_s)
        self._raised_m = apply(gap, self.model, drive.WHEEL_RADIUS_M)
        self.data = mujoco.MjData(self.model)
        wheels = [self.model.joint(f"{side}_wheel").id for side in ("left", "right")]
        self._wheel_q = self.model.jnt_qposadr[wheels].tolist()
        self._wheel_v = self.model.jnt_dofadr[wheels].tolist()
        self._axle_m = float(self.model.body("left_wheel").pos[0])
        self._gyro = self._sensor("imu_gyro")
        self._gyro_z = self._gyro.start + 2
        self._accelerometer = self._sensor("imu_accel")
        self._gain = np.array([gap.left_wheel_gain, 1.0])
        self.step_us = round(self.model.opt.timestep * 1e6)
        self.state_period_us = self.step_us
        self._period_us = self.step_us * self._steps
        self._time_us = 0
        self._placed = 0
        self._bill_at_us: int | None = None
        self.replace()

    def _sensor(self, name: str) -> slice:
        at = self.model.sensor(name).adr[0]
        return slice(at, at + 3)

    def beams(self, count: int) -> Array:
        """Return a lidar's ranges to the surroundings (count,), m."""
        body = self._task.robot.signals(self.data.qpos[None], self.data.qvel[None])
        ranges: Array = self._task.beams(body, self._world, count)[0]
        return ranges

    def true_signals(self) -> dict[str, Array]:
        """Return the robot's true catalogue signals."""
        signals = self._task.signals(self.data.qpos[None], self.data.qvel[None], self._world)
        return {name: values[0] for name, values in signals.items()}

    @property
    def resting(self) -> bool:
        """Whether the robot stands still, and no delayed command will move it."""
        still = float(np.abs(self.data.qvel).max()) < RESTING_SPEED
        return still and not any(target.any() for target in (*self._delayed, self._target))

    def step(self) -> None:
        """Make one physics step."""
        self._delayed.append(self._target)
        self.data.ctrl[:] = self._delayed.popleft()
        mujoco.mj_step(self.model, self.data)
        self._time_us += self.step_us
        self._measure_motion()
        if self._bill_at_us is not None and self._time_us >= self._bill_at_us:
            self._settle()

    def _measure_motion(self) -> None:
        """Add the physics step just made to the odometry."""
        qpos, qvel = self.data.qpos, self.data.qvel
        self._odometry.advance(
            [float(qpos[i]) for i in self._wheel_q],
            [float(qvel[i]) for i in self._wheel_v],
            float(self.data.sensordata[self._gyro_z]),
            self.step_us / 1e6,
        )

    def _settle(self) -> None:
        """Bill the newest command, unless it has been billed."""
        if self._bill_at_us is not None:
            self._bill_at_us = None
            body = self._task.robot.signals(self.data.qpos[None], self.data.qvel[None])
            self._task.advance(body, self._world)
            self._truth.step(self.true_signals())

    def end_episode(self) -> None:
        """Bill the last command and write the episode, at a disarm or at the twin's end."""
        self._settle()
        self._truth.end()

    # The interface of `Board`.

    def now_us(self) -> int:
        """Return simulated time."""
        return self._time_us

    def actuate(self, values: tuple[float, ...]) -> None:
        """Set the wheels' speed targets."""
        self._settle()
        self._bill_at_us = self._time_us + self._period_us
        self._target = self._task.robot.control(np.array(values)) * self._gain

    def halt(self) -> None:
        """Set the wheels' speed targets to zero."""
        self._target = np.zeros(2)

    def advance(self) -> None:
        """Make the physics steps of one control period."""
        for _ in range(self._steps):
            self.step()

    def replace(self) -> None:
        """Put the robot at its next start pose, which the odometry knows exactly."""
        self._settle()
        self._rng = np.random.default_rng([self._seed, self._placed])
        self._placed += 1
        qpos, qvel, self._world = self._task.reset(self._rng, 1)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = qpos[0], qvel[0]
        self.data.qpos[2] += self._raised_m
        mujoco.mj_forward(self.model, self.data)
        self.halt()
        self._delayed = deque([self._target] * (self._gap.delay_steps * self._steps))
        signals = self.true_signals()
        start = (*signals["position"].tolist(), *signals["heading"].tolist())
        self._odometry = Odometry(start, self._axle_m, self._gap.odometry_noise, self._rng)
        self._truth.begin(start)

    def _pose(self) -> tuple[float, float, float]:
        """Return x, y in m, and yaw in rad, from localisation or from odometry."""
        noise = self._gap.localisation
        if noise is None:
            return self._odometry.pose()
        a, b, c = self._rng.standard_normal(3).tolist()
        signals = self.true_signals()
        x, y = signals["position"].tolist()
        yaw = float(signals["heading"][0]) + noise.heading_rad * c
        return x + noise.position_m * a, y + noise.position_m * b, math.remainder(yaw, math.tau)

    def measured_signals(self) -> dict[str, Array]:
        """Return what is measured, by catalogue name."""
        values, at, found = np.array(self.measure()), 0, {}
        for name, size in self.signals:
            found[name] = values[at : at + size]
            at += size
        return found

    def measure(self) -> tuple[float, ...]:
        """Return the values of the signals, in their order."""
        odometry, sensors = self._odometry, self.data.sensordata
        wheel_left, wheel_right = odometry.ticks
        gyro_x, gyro_y, _ = sensors[self._gyro].tolist()
        roll, pitch, _ = roll_pitch_yaw(self.data.qpos[3:7])
        return (
            *self._pose(),
            odometry.speed,
            odometry.yaw_rate,
            float(roll),
            float(pitch),
            *(gyro_x, gyro_y, odometry.yaw_rate),
            *sensors[self._accelerometer].tolist(),
            *(wheel_left / _TICKS_PER_RAD, wheel_right / _TICKS_PER_RAD),
        )
