"""The twin's board: any task's robot in MuJoCo, different from its model as parameters say."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

import mujoco
import numpy as np

from holdfast.errors import ConfigError, TrainingError
from holdfast.robot.serial.device import (
    HELLO,
    HELLO_HEAD,
    MAX_FRAME,
    STATE,
    STATE_HEAD,
    Board,
    encode,
)
from holdfast.safety_monitor.costs import CostModel
from holdfast.signals import CATALOGUE, Array
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.parameters.robots import Robots
from holdfast.sim.robots.robot import physics_steps
from holdfast.sim.tasks.task import Task
from holdfast.sim.twin.truth import Truth
from holdfast.sim.view.viewer import Viewer

RESTING_SPEED = 1e-3  # m/s and rad/s
STATE_PERIOD_S = 0.01  # least time between two STATEs in real time
LIDAR_RANGE_M = 10.0  # for a task that prescribes no range
DIVERGED = [
    int(getattr(mujoco.mjtWarning, f"mjWARN_BAD{what}")) for what in ("QPOS", "QVEL", "QACC")
]
ALONE = np.zeros(1, dtype=np.intp)
"""The only copy of this robot."""


class TwinBoard(Board):
    """A device's board that simulates a task's robot. The clock is simulated time.

    Args:
        task: the robot, its start poses and its surroundings.
        parameters: how the robot differs from its model.
        seed: seed of start poses and of what is drawn.
        lockstep: time passes only with commands.
        truth: records what truly happened.

    Attributes:
        model, data: the simulation.
        lidar_range_m: range of the lidar.
        measures: names of the signals that it measures.
        base: the body that carries the robot.
        viewer: is shown where the robot is; None: nobody looks.

    Raises:
        ConfigError: the robot lacks what a parameter names; or a signal that the task needs can be
            had in a simulation alone; or its signals are too many for the link.
    """

    self_placing = True

    def __init__(
        self, task: Task, parameters: Parameters, seed: int, lockstep: bool, truth: Truth
    ) -> None:
        contract = task.contract
        self.robot = contract.robot
        self.hardware_id = f"twin-{seed}"
        self.actions = contract.action_names
        self.action_low = tuple(contract.action_low.tolist())
        self.action_high = tuple(contract.action_high.tolist())
        self.lockstep = lockstep
        self.viewer: Viewer | None = None
        self.lidar_range_m = task.lidar_range_m or LIDAR_RANGE_M
        self._task, self._seed, self._truth = task, seed, truth
        self._rest = task.robot.control(np.zeros(contract.action_size))
        nominal = task.robot.load_model()
        self.model, self.data = nominal, mujoco.MjData(nominal)
        self._accelerometer = _accelerometer(nominal)
        self.base = nominal.body(task.robot.base_name).id if task.robot.base_name else 1
        self._steps = physics_steps(nominal, contract.period_s)
        self.step_us = round(nominal.opt.timestep * 1e6)
        self._period_us = self.step_us * self._steps
        between_us = max(1, round(STATE_PERIOD_S * 1e6 / self.step_us)) * self.step_us
        self.state_period_us = self._period_us if lockstep else between_us
        self._time_us = 0
        self._placed = 0
        self._tick = np.zeros(1, dtype=np.int64)  # physics steps since the start
        self._bill_at_us: int | None = None
        self._target = self._rest
        self._computed, self._known = b"", dict[str, Array]()
        self._reset(np.random.default_rng([seed, 0]))
        sizes = {name: values.shape[-1] for name, values in self._sensed().items()}
        own = (*self._body(), *(["linear_acceleration"] if self._accelerometer else []))
        self.measures = tuple(_measured_names(task, own, sizes, lockstep))
        self.signals = tuple((name, sizes[name]) for name in self.measures)
        _require_room(self)
        self._robots = Robots(
            parameters, nominal, self._rest, sizes, 1, contract.period_s, self._steps, "gap"
        )
        self.replace()

    def beams(self, count: int) -> Array:
        """Return a lidar's ranges to the surroundings (count,), m."""
        body = self._task.robot.signals(self.data.qpos[None], self.data.qvel[None])
        ranges: Array = self._task.beams(body, self._world, count)[0]
        return ranges

    def true_signals(self) -> dict[str, Array]:
        """Return all true signals of the robot and its surroundings."""
        return {name: values[0] for name, values in self._true().items()}

    def _true(self) -> dict[str, Array]:
        body = self._body()
        return {**body, **self._task.surroundings(body, self._world)}

    def _body(self) -> dict[str, Array]:
        """Return the robot's own true signals, which are computed once for each state."""
        robot, data = self._task.robot, self.data
        state = data.qpos.tobytes() + data.qvel.tobytes() + data.sensordata.tobytes()
        if state != self._computed:
            body = robot.signals(data.qpos[None].copy(), data.qvel[None].copy())
            self._computed = state
            self._known = {**body, **robot.sensed(data.sensordata[None].copy())}
        return self._known

    def _sensed(self) -> dict[str, Array]:
        """Return the signals (1, size) as the robot's sensors would have them without errors."""
        signals = dict(self._task.robot.measured(self._true()))
        if self._accelerometer is not None:
            signals["linear_acceleration"] = self.data.sensordata[None, self._accelerometer].copy()
        return signals

    @property
    def resting(self) -> bool:
        """Whether the robot stands still, and no delayed command will move it."""
        still = float(np.abs(self.data.qvel).max()) < RESTING_SPEED
        waiting = (self._robots.under_way(), self._target)
        return still and all((target == self._rest).all() for target in waiting)

    def step(self) -> None:
        """Make one physics step."""
        self.data.ctrl[:] = self._robots.act(self._target[None], self._tick)[0]
        mujoco.mj_step(self.model, self.data)
        if any(
            self.data.warning[bad].number for bad in DIVERGED
        ):  # MuJoCo began anew at the origin
            raise TrainingError(f"{self._task.contract.task}: the simulation diverged")
        self._time_us += self.step_us
        self._tick += 1
        if self._robots.remembers:
            self._robots.notice(self._sensed(), self._tick, ALONE)
        if self._bill_at_us is not None and self._time_us >= self._bill_at_us:
            self._settle()
        self.show()

    def show(self, at_once: bool = False) -> None:
        """Show the viewer where the robot is, unless it was shown a moment ago."""
        if self.viewer is not None:
            seconds = self._time_us / 1e6
            self.viewer.show(seconds, self._placed, self.model, self.data, at_once)

    def _settle(self) -> None:
        """Bill the newest command, unless it has been billed."""
        if self._bill_at_us is not None:
            self._bill_at_us = None
            self._task.advance(self._body(), self._world)
            self._truth.step(self.true_signals())

    def end_episode(self) -> None:
        """Bill the last command and write the episode, at a disarm or at the twin's end."""
        self._settle()
        self._truth.end()
        self.show(at_once=True)

    # The interface of `Board`.

    def now_us(self) -> int:
        """Return simulated time."""
        return self._time_us

    def actuate(self, values: tuple[float, ...]) -> None:
        """Set the actuators' targets to an action."""
        self._settle()
        self._bill_at_us = self._time_us + self._period_us
        self._target = self._task.robot.control(np.array(values))
        if not np.isfinite(self._target).all():  # of which MuJoCo would make zeros, without a word
            raise ConfigError(
                f"{self._task.contract.task}: control should return finite numbers, received "
                f"{self._target}"
            )

    def halt(self) -> None:
        """Set the actuators' targets to those of action 0."""
        self._target = self._rest

    def advance(self) -> None:
        """Make the physics steps of one control period."""
        for _ in range(self._steps):
            self.step()

    def replace(self) -> None:
        """Put the robot at its next start pose, as a robot of new parameters."""
        self._settle()
        rng = np.random.default_rng([self._seed, self._placed])
        self._placed += 1
        self._reset(rng, self._robots)
        self.halt()
        self._tick[:] = 0
        if self._robots.remembers:
            self._robots.notice(self._sensed(), self._tick, ALONE)
        self._truth.begin(self.true_signals())
        self.show(at_once=True)

    def _reset(self, rng: np.random.Generator, robots: Robots | None = None) -> None:
        """Draw the start state, and the robot itself if it differs from its model."""
        qpos, qvel, self._world = self._task.reset(rng, 1)
        if robots is not None:
            robots.draw(ALONE, rng)
            self.model = robots.variants.model(0)
            qpos = robots.place(ALONE, qpos)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = qpos[0], qvel[0]
        self.data.ctrl[:] = self._rest
        mujoco.mj_forward(self.model, self.data)

    def measured_signals(self) -> Mapping[str, Array]:
        """Return all signals as they are measured, with the errors of the sensors."""
        said = self._robots.perceived(self._sensed(), self._tick, ALONE)
        return {name: values[0] for name, values in said.items()}

    def measure(self) -> tuple[float, ...]:
        """Return the values of the signals, in their order; what no f32 holds is infinite.

        Raises:
            ConfigError: a signal has another size than at the start.
        """
        said = self.measured_signals()
        for name, size in self.signals:
            if len(said.get(name, ())) != size:
                raise ConfigError(
                    f"{self._task.contract.task}: signal '{name}' should have {size} values, as at "
                    f"the start, received {len(said.get(name, ()))}"
                )
        values = np.concatenate([said[name] for name in self.measures])
        beyond = np.abs(values) > np.finfo(np.float32).max
        measured: list[float] = np.where(beyond, np.copysign(np.inf, values), values).tolist()
        return tuple(measured)


def _measured_names(
    task: Task, own: Iterable[str], known: Mapping[str, int], lockstep: bool
) -> list[str]:
    """Return which signals a twin measures: its robot's, what its task needs, and in lockstep what
    the contract's reward reads, so that a log of it tells returns. In real time no reading is
    sure to see what happened in one control period, as a goal that was reached.

    Raises:
        ConfigError: the task needs a signal that no robot has.
    """
    contract = task.contract
    needed = dict.fromkeys((*contract.observed_signals, *CostModel(contract).signals))
    if never := [n for n in needed if n not in known or _is_simulated(n)]:
        raise ConfigError(
            f"task should need signals that a robot can measure; '{contract.task}' needs "
            f"{', '.join(never)}"
        )
    declared = {signal.name for signal in contract.signals}
    sayable = [name for name in own if name in declared or name in CATALOGUE]
    robot = task.robot.measures or [name for name in sayable if not _is_simulated(name)]
    reward = contract.reward_expression if lockstep else None
    paid = [n for n in (reward.signals if reward else ()) if not _is_simulated(n)]
    return [name for name in dict.fromkeys((*robot, *needed, *paid)) if known.get(name)]


def _is_simulated(name: str) -> bool:
    return name in CATALOGUE and CATALOGUE[name].simulated


def _require_room(board: Board) -> None:
    """Raise ConfigError if the board's HELLO or STATE is too long for the link."""
    values = sum(size for _, size in board.signals)
    names = ",".join(f"{name}:{size}" for name, size in board.signals)
    words = "".join((names, board.robot, board.hardware_id, ",".join(board.actions)))
    hello = struct.calcsize(HELLO_HEAD) + 16 * len(board.actions) + 8 + len(words.encode())
    state = struct.calcsize(STATE_HEAD) + 4 * values
    for kind, size, what in ((HELLO, hello, "names"), (STATE, state, "values")):
        if len(encode(kind, 1, 1, b"x" * size)) > MAX_FRAME:
            raise ConfigError(
                f"a robot's {what} should fit into a message of {MAX_FRAME} bytes; "
                f"'{board.robot}' has {values} values of {len(board.signals)} signals and "
                f"{len(board.actions)} action channels"
            )


def _accelerometer(model: mujoco.MjModel) -> slice | None:
    """Return where the readings of the model's first accelerometer are; None: it has none."""
    found = np.flatnonzero(model.sensor_type == mujoco.mjtSensor.mjSENS_ACCELEROMETER)
    if not len(found):
        return None
    at = int(model.sensor_adr[found[0]])
    return slice(at, at + 3)
