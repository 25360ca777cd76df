"""Copies of a task stepped together; all but the physics is vectorised in NumPy.

All randomness comes from one generator per batch, in the order of resets. So equal seeds and
actions give equal batches, with any number of threads.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError, TrainingError
from holdfast.observer import Observer
from holdfast.safety_monitor.costs import CostModel
from holdfast.signals import APPLIED_ACTION, BUDGET_LEFT, EPISODE_LEFT, Array, Signals
from holdfast.sim.batch.alternatives import Alternatives, usual_change
from holdfast.sim.batch.batch import Snapshot, Step, require_finite
from holdfast.sim.batch.budgets import Budgets
from holdfast.sim.batch.physics import STATE, MujocoPhysics, Physics
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.parameters.robots import Robots
from holdfast.sim.parameters.variants import Variants
from holdfast.sim.tasks.task import Task, World


class MujocoBatch:
    """A `Batch` of a task, with MuJoCo's physics on this machine's cores, or MuJoCo Warp's.

    Args:
        task: the task to simulate.
        copies: N.
        seed: seed of start states and of randomised parameters.
        threads: threads of MuJoCo's physics; 0: one per core.
        randomise: the parameters that each copy draws with each start state.
        warp: MuJoCo Warp's device for the physics; empty: MuJoCo.
        alternatives: other robots for each copy, whose disagreement about each next state is
            measured; 0: none.

    Raises:
        ConfigError: a parameter cannot be randomised in this task; or Warp has no such device, or
            cannot simulate the robot; or the contract's observation has a history; or there can be
            no alternatives.
    """

    restores = True

    def __init__(
        self,
        task: Task,
        copies: int,
        seed: int,
        threads: int = 0,
        randomise: Parameters | None = None,
        warp: str = "",
        alternatives: int = 0,
    ) -> None:
        self.task, self.copies = task, copies
        self.contract = task.contract
        self.rng = np.random.default_rng(seed)
        self.observe, self.cost_model = Observer(task.contract), CostModel(task.contract)
        if self.observe.depth > 1:
            raise ConfigError(
                f"{task.contract.task}: history of an observation channel should be 1 in training, "
                f"received {self.observe.depth}; only a policy from elsewhere may have more"
            )
        self._own = {channel.signal for channel in task.contract.observation}
        model = task.robot.load_model()
        rest = task.robot.control(np.zeros(self.contract.action_size))
        sizes = {name: self.contract.signal_size(name) for name in self.contract.observed_signals}
        observed = {name: size or 0 for name, size in sizes.items()}
        self._robots = Robots(
            randomise or Parameters(), model, rest, observed, copies, self.contract.period_s
        )
        self._physics = _physics(task, self._robots.variants, threads, warp)
        self._alternatives = (
            _alternatives(task, randomise, copies, alternatives, threads, warp)
            if alternatives
            else None
        )
        self._nq, self._nv = model.nq, model.nv
        self._blank = np.empty(mujoco.mj_stateSize(model, STATE))
        mujoco.mj_getState(model, mujoco.MjData(model), self._blank, STATE)
        self._state = np.tile(self._blank, (copies, 1))
        self.applied = np.zeros((copies, self.contract.action_size))
        self.elapsed = np.zeros(copies, dtype=np.int64)
        self.budgets = Budgets(self.contract, copies)
        self._readings = np.zeros((copies, model.nsensordata))
        self._senses = bool(task.robot.sensed(self._readings))
        self._scratch = mujoco.MjData(model)
        start = task.reset(self.rng, copies)
        self.world = {name: np.empty_like(array) for name, array in start[2].items()}
        self._rows: dict[str, NDArray[Any]] = {
            "physics": self._state,
            "applied": self.applied,
            "elapsed": self.elapsed,
            **{f"robot.{name}": array for name, array in self._robots.rows.items()},
            **{f"world.{name}": array for name, array in self.world.items()},
        }
        if self._senses:
            self._rows["readings"] = self._readings
        if BUDGET_LEFT in self._own:
            self._rows |= self.budgets.rows
        if self._alternatives:
            theirs = self._alternatives.rows.items()
            self._rows |= {f"alternatives.{name}": array for name, array in theirs}
        self._place(np.arange(copies), *start)

    @property
    def limit(self) -> Array:
        """See `Batch`."""
        return self.budgets.limit

    @property
    def qpos(self) -> Array:
        return self._state[:, 1 : 1 + self._nq]

    @property
    def qvel(self) -> Array:
        return self._state[:, 1 + self._nq : 1 + self._nq + self._nv]

    def reset(self) -> Array:
        """See `Batch`."""
        self._place(np.arange(self.copies), *self.task.reset(self.rng, self.copies))
        return self._observation(self.signals())

    def _place(self, which: NDArray[np.intp], qpos: Array, qvel: Array, world: World) -> None:
        self._robots.draw(which, self.rng)
        if self._alternatives:
            self._alternatives.draw(which, self.rng)
        raised = self._robots.place(which, qpos)
        self._state[which] = self._blank
        self._state[which, 1 : 1 + self._nq + self._nv] = np.concatenate((raised, qvel), axis=1)
        self.applied[which] = 0.0
        self.elapsed[which] = 0
        self.budgets.begin(which, self.rng)
        self._physics.refresh(which)
        if self._senses:
            self._readings[which] = [self._first_reading(copy) for copy in which.tolist()]
        for name, array in self.world.items():
            array[which] = world[name]
        if self._robots.remembers:
            self._notice(self.signals(which), which)

    def _first_reading(self, copy: int) -> Array:
        """Return what a copy's sensors read before its first step, while it is told to do nothing.

        The copy's own model is used: a heavier robot stands on a larger force.
        """
        model, data = self._robots.variants.model(copy), self._scratch
        mujoco.mj_resetData(model, data)
        mujoco.mj_setState(model, data, self._state[copy], STATE)
        data.ctrl[:] = self.task.robot.control(np.zeros(self.contract.action_size))
        mujoco.mj_forward(model, data)
        reading: Array = data.sensordata.copy()
        return reading

    def signals(self, which: NDArray[np.intp] | slice = slice(None)) -> dict[str, Array]:
        """Return all true signals of some copies, as they are now."""
        world = {name: array[which] for name, array in self.world.items()}
        body = self.body(which)
        return {**body, **self.task.surroundings(body, world)}

    def body(self, which: NDArray[np.intp] | slice = slice(None)) -> dict[str, Array]:
        """Return the robots' own signals."""
        robot = self.task.robot
        body = robot.signals(self.qpos[which], self.qvel[which])
        return {**body, **robot.sensed(self._readings[which])} if self._senses else body

    def _observation(
        self, signals: dict[str, Array], which: NDArray[np.intp] | slice = slice(None)
    ) -> Array:
        return self._observed(self._perceived(signals, which), which)

    def _perceived(
        self, signals: dict[str, Array], which: NDArray[np.intp] | slice = slice(None)
    ) -> Signals:
        """Return what the sensors of some copies say of true signals."""
        measured = self.task.robot.measured(signals)
        return self._robots.perceived(measured, self.elapsed[which], which)

    def _observed(self, perceived: Signals, which: NDArray[np.intp] | slice = slice(None)) -> Array:
        own = {}
        if APPLIED_ACTION in self._own:
            own[APPLIED_ACTION] = self.contract.normalised(self.applied[which])
        if EPISODE_LEFT in self._own:
            left = 1.0 - self.elapsed[which] / self.contract.episode_steps
            own[EPISODE_LEFT] = left[:, None]
        if BUDGET_LEFT in self._own:
            own[BUDGET_LEFT] = self.budgets.left(which)
        return self.observe({**perceived, **own})

    def _notice(self, signals: dict[str, Array], which: NDArray[np.intp] | slice) -> None:
        """Let the sensors remember what they measure of true signals."""
        self._robots.notice(self.task.robot.measured(signals), self.elapsed[which], which)

    def step(self, action: Array) -> Step:
        """See `Batch`."""
        require_finite(action, f"{self.contract.task}: actions should be finite")
        self.applied[:] = self.contract.admissible(self.applied, action)
        target = self.task.robot.control(self.applied)
        # MuJoCo would take 0 for a number that is not finite, and say nothing.
        require_finite(target, f"{self.contract.task}: control should return finite numbers")
        arrived, before = self._robots.arrived(target, self.elapsed), self._state.copy()
        readings = self._physics.advance(self._state, self._robots.scaled(arrived))
        if self._senses:
            self._readings[:] = readings
        self.elapsed += 1
        body = self.body()
        self.task.advance(body, self.world)
        signals = {**body, **self.task.surroundings(body, self.world)}
        if self._robots.remembers:
            self._notice(signals, slice(None))
        disagreement = np.zeros(self.copies)
        if self._alternatives:
            disagreement = self._alternatives.disagreement(before, arrived, signals, self.world)
        return self._account(signals, disagreement)

    def _account(self, signals: dict[str, Array], disagreement: Array) -> Step:
        """Compute reward, costs and observation of the step just made, and reset ended copies.

        A step costs what is true, or what a robot's monitor would bill, whichever is more: a policy
        that keeps a centimetre from a limit is billed for it where its sensors are noisy, and truly
        beyond it where they drift. A reading that no monitor would bill, as of much noise, ends no
        training: it costs the most that a step may cost, or what is true where it is no number.
        """
        reward, perceived = self.task.reward(signals), self._perceived(signals)
        true = self.cost_model(signals)
        billed = np.minimum(self.cost_model(perceived), self.cost_model.largest)
        costs = np.where(billed > true, billed, true)
        self.budgets.follow(costs)
        observation = final = self._observed(perceived)
        for name, values in (("reward", reward), ("cost", costs), ("observation", final)):
            if not np.isfinite(values).all():
                raise TrainingError(
                    f"{self.contract.task}: the simulation returned a non-finite {name}"
                )
        self._require_billable(costs)
        terminated = self.task.terminated(signals)
        truncated = (self.elapsed >= self.contract.episode_steps) & ~terminated
        ended = np.flatnonzero(terminated | truncated)
        if len(ended):
            self._place(ended, *self.task.reset(self.rng, len(ended)))
            observation = final.copy()
            observation[ended] = self._observation(self.signals(ended), ended)
        return Step(observation, final, reward, costs, terminated, truncated, disagreement)

    def _require_billable(self, costs: Array) -> None:
        """Raise TrainingError if a step costs what stops a robot."""
        over = (costs < 0.0) | (costs > self.cost_model.largest)
        if over.any():
            copy, k = np.argwhere(over)[0]
            cost = self.contract.costs[k]
            raise TrainingError(
                f"{self.contract.task}: cost '{cost.name}' should be in [0, "
                f"{self.cost_model.largest[k]:g}] in each step, received {costs[copy, k]:g}; its "
                "at_most says the largest"
            )

    def snapshot(self) -> Snapshot:
        """See `Batch`."""
        return Snapshot({name: array.copy() for name, array in self._rows.items()})

    def load(self, snapshot: Snapshot, rows: NDArray[np.integer[Any]]) -> Array:
        """See `Batch`."""
        for name, array in self._rows.items():
            array[:] = snapshot.rows[name][rows]
        self._robots.build(np.arange(self.copies))
        if self._alternatives:
            self._alternatives.build()
        self._physics.refresh(np.arange(self.copies))
        return self._observation(self.signals())

    def state(self) -> dict[str, Any]:
        """See `Batch`."""
        rows = {name: array.tolist() for name, array in self._rows.items()}
        return {"rng": self.rng.bit_generator.state, "rows": rows}

    def restore(self, state: dict[str, Any]) -> Array:
        """See `Batch`."""
        self.rng.bit_generator.state = state["rng"]
        rows = {name: np.array(values) for name, values in state["rows"].items()}
        return self.load(Snapshot(rows), np.arange(self.copies))

    def close(self) -> None:
        """See `Batch`."""
        self._physics.close()
        if self._alternatives:
            self._alternatives.close()


def _physics(task: Task, variants: Variants, threads: int, warp: str) -> Physics:
    if not warp:
        return MujocoPhysics(task, variants, threads)
    from holdfast.sim.batch.warp_physics import WarpPhysics  # needs the extra [warp]

    return WarpPhysics(task, variants, warp)


def _alternatives(
    task: Task, randomise: Parameters | None, copies: int, each: int, threads: int, warp: str
) -> Alternatives:
    if warp:
        raise ConfigError(
            f"{task.contract.task}: pessimism is computed by MuJoCo on this machine's cores; leave "
            "--physics warp or --pessimism out"
        )
    nominal = MujocoBatch(task, 16, 0, threads)
    usual = usual_change(nominal)
    nominal.close()
    return Alternatives(task, randomise, copies, each, threads, usual)
