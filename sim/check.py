"""Checks of a task before training, as Gymnasium's `check_env`, with one sentence per fault.

    from holdfast.sim.registry import resolve
    resolve("path/to/my_task.py:MyTask").check()

A fault that no check finds shows late: as a policy that learns nothing. `holdfast train` checks
every task before it begins.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError, HoldfastError
from holdfast.plain import shown
from holdfast.safety_monitor.costs import CostModel
from holdfast.signals import CATALOGUE, Signals
from holdfast.sim.batch.batch import Batch, Step
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.robots.robot import physics_steps
from holdfast.sim.tasks.task import Task

COPIES, STEPS = 5, 30
EVERYONE = np.arange(COPIES)


def _require(condition: bool | np.bool_, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _require_shape(where: str, array: Any, shape: tuple[int, ...]) -> None:
    received = np.shape(array)
    _require(received == shape, f"{where} should have shape {shape}, received {received}")


@contextlib.contextmanager
def told_in_a_sentence(task: str) -> Iterator[None]:
    """Raise ConfigError for any other error of a user's task, with its file and line.

    Args:
        task: begins the sentence.
    """
    try:
        yield
    except HoldfastError:
        raise
    except (Exception, SystemExit) as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        where = f"{Path(last.filename).name}, line {last.lineno}"
        raise ConfigError(f"{task}: {where}: {type(error).__name__}: {error}") from None


def check_task(task: Task) -> None:
    """Check a task's parts one by one, then a batch of the task.

    Raises:
        ConfigError: a part is wrong; the message names the right value.
    """
    with told_in_a_sentence(task.contract.task):
        _check_task(task)


def _check_task(task: Task) -> None:
    name, robot = task.contract.task, task.robot
    model = robot.load_model()
    physics_steps(model, task.contract.period_s)
    _require(
        task.contract.robot == robot.name and task.contract.action == robot.action,
        f"{name}: its contract should have the robot's name and action, '{robot.name}' and "
        f"{', '.join(channel.name for channel in robot.action)}",
    )
    qpos, qvel, world = task.reset(np.random.default_rng(0), COPIES)
    _require_shape(f"{name}: reset: qpos", qpos, (COPIES, model.nq))
    _require_shape(f"{name}: reset: qvel", qvel, (COPIES, model.nv))
    for part, state in (("qpos", qpos), ("qvel", qvel)):
        _require(np.isfinite(state).all(), f"{name}: reset: {part} should be finite")
    for key, array in world.items():
        _require(
            len(array) == COPIES and array.dtype.kind in "fib",
            f"{name}: reset: world['{key}'] should be numbers or bools with the {COPIES} copies "
            f"on the leading axis, received {array.dtype} of shape {array.shape}",
        )
    _check_control(task, model)
    none_read = np.zeros((COPIES, model.nsensordata))
    signals = {**task.signals(qpos, qvel, world), **robot.sensed(none_read)}
    _check_signals(task, signals)
    _check_measured(task, signals)
    _check_rewards(task, signals)
    for i in range(COPIES):
        one = {key: array[i : i + 1] for key, array in world.items()}
        alone = task.signals(qpos[i : i + 1], qvel[i : i + 1], one)
        for key, values in alone.items():
            _require(
                np.array_equal(values[0], signals[key][i]),
                f"{name}: signal '{key}' of a copy should not depend on the other copies",
            )
    check_batch(lambda copies, seed: MujocoBatch(task, copies, seed))


def _check_control(task: Task, model: mujoco.MjModel) -> None:
    """Actuators are told finite numbers, of each action alone as of many, whatever the action."""
    contract, robot = task.contract, task.robot
    name, where = contract.task, f"{contract.task}: control"
    _require(model.nu > 0, f"{name}: the model should have an actuator at least")
    inside = np.random.default_rng(0).uniform(
        contract.action_low, contract.action_high, (COPIES, contract.action_size)
    )
    inside[0], inside[1], inside[2] = 0.0, contract.action_low, contract.action_high
    given = inside.copy()
    told = robot.control(given)
    _require(isinstance(told, np.ndarray), f"{where} should return an array, received {told!r}")
    _require_shape(where, told, (COPIES, model.nu))
    _require(np.array_equal(given, inside), f"{where} should not change the action it is given")
    _require(told.dtype.kind in "fi", f"{where} should be numbers, received {told.dtype}")
    for action, values in zip(inside, told, strict=True):
        _require(
            np.isfinite(values).all(),
            f"{where} should be finite, received {values.tolist()} of the action "
            f"{np.round(action, 4).tolist()}",
        )
        alone = robot.control(action.copy())
        _require_shape(f"{where} of one action", alone, (model.nu,))
        _require(
            np.allclose(alone, values, rtol=1e-12, atol=1e-12),
            f"{where} of a copy should not depend on the other copies",
        )


def _check_signals(task: Task, signals: Signals) -> None:
    """Check that all observed and billed signals exist, with the catalogue's or contract's size."""
    contract, name = task.contract, task.contract.task
    needed = dict.fromkeys((*contract.observed_signals, *CostModel(contract).signals))
    missing = [key for key in needed if key not in signals]
    _require(
        not missing,
        f"{name}: signals should include {', '.join(missing)}, which the contract observes or "
        f"bills; it has {', '.join(signals)}",
    )
    for key in signals:
        if key in CATALOGUE:
            size = contract.signal_size(key)
            values = signals[key]
            if size is not None:
                _require_shape(f"{name}: signal '{key}'", values, (COPIES, size))
            _require(np.isfinite(values).all(), f"{name}: signal '{key}' should be finite")


def _check_measured(task: Task, signals: Signals) -> None:
    """Check that sensors leave the true signals alone, and say of each what has its shape."""
    where = f"{task.contract.task}: measured"
    given = {key: values.copy() for key, values in signals.items()}
    said = task.robot.measured(given)
    _require(
        isinstance(said, Mapping), f"{where} should return a mapping, received {shown(repr(said))}"
    )
    for key, values in signals.items():
        _require(key in said, f"{where} should include signal '{key}'")
        _require(
            isinstance(said[key], np.ndarray) and said[key].dtype.kind in "fiu",
            f"{where}: signal '{key}' should be an array of real numbers",
        )
        _require_shape(f"{where}: signal '{key}'", said[key], np.shape(values))
        _require(np.isfinite(said[key]).all(), f"{where}: signal '{key}' should be finite")
        _require(
            np.array_equal(given[key], values),
            f"{where} should not change the true signal '{key}' that it is given",
        )
        for i in range(COPIES):
            alone = task.robot.measured({k: v[i : i + 1] for k, v in signals.items()})
            _require(
                np.array_equal(alone[key][0], said[key][i]),
                f"{where}: signal '{key}' of a copy should not depend on the other copies",
            )


def _check_rewards(task: Task, signals: Signals) -> None:
    """Check that reward and end have the signals' leading shape: of a batch, a log, one state."""
    name = task.contract.task
    for lead, part in (
        ((COPIES,), signals),
        ((2, COPIES), {key: np.stack((v, v)) for key, v in signals.items()}),
        ((), {key: v[0] for key, v in signals.items()}),
    ):
        _require_shape(f"{name}: reward of signals {lead}", task.reward(part), lead)
        over = task.terminated(part)
        _require_shape(f"{name}: terminated of signals {lead}", over, lead)
        _require(
            np.asarray(over).dtype == bool,
            f"{name}: terminated should be bools, received {np.asarray(over).dtype}",
        )


def check_batch(make: Callable[[int, int], Batch]) -> None:
    """Check batches of a task.

    Args:
        make: returns a batch, given the number of copies and a seed.

    Raises:
        ConfigError, TrainingError: a part is wrong; the message names the right value.
    """
    batch, again, other = make(COPIES, 1), make(COPIES, 1), make(COPIES + 2, 3)
    contract, rng = batch.contract, np.random.default_rng(2)
    name = contract.task
    actions = rng.uniform(
        contract.action_low, contract.action_high, (STEPS, COPIES, contract.action_size)
    )
    seen = batch.reset()
    _require_shape(f"{name}: reset: the observation", seen, (COPIES, contract.observation_size))
    _require(np.array_equal(seen, again.reset()), f"{name}: a seed should give one start")
    age = np.zeros(COPIES, dtype=np.int64)
    for action in actions:
        step = batch.step(action)
        age += 1
        _check_step(batch, step, age)
        age[step.terminated | step.truncated] = 0
        same = _same(step, EVERYONE, again.step(action), EVERYONE)
        _require(same, f"{name}: a seed and actions should give one batch")
    if batch.restores:
        _check_restoring(batch, other, actions)
    for each in (batch, again, other):
        each.close()


def _check_restoring(batch: Batch, other: Batch, actions: NDArray[np.float64]) -> None:
    """Check that a saved state continues as before, in the same batch and in another."""
    name, half = batch.contract.task, STEPS // 2
    steps = [batch.step(action) for action in actions[:half]]
    snapshot, state = batch.snapshot(), batch.state()
    steps += [batch.step(action) for action in actions[half:]]
    batch.restore(state)
    for k in range(half, STEPS):
        same = _same(steps[k], EVERYONE, batch.step(actions[k]), EVERYONE)
        _require(same, f"{name}: a state restored should go on the same")
    rows = np.array([*EVERYONE, 0, 0])
    _require(
        np.array_equal(other.load(snapshot, rows), steps[half - 1].observation[rows])
        and _same(steps[half], rows, other.step(actions[half][rows]), np.arange(len(rows))),
        f"{name}: rows of a snapshot should go on as the copies that they are of",
    )


def _check_step(batch: Batch, step: Step, age: NDArray[np.int64]) -> None:
    """Check a step's shapes, its finite values, and the ends of episodes."""
    contract = batch.contract
    name, n = contract.task, contract.observation_size
    for part, shape in (
        ("observation", (COPIES, n)),
        ("final_observation", (COPIES, n)),
        ("reward", (COPIES,)),
        ("costs", (COPIES, len(contract.costs))),
        ("terminated", (COPIES,)),
        ("truncated", (COPIES,)),
    ):
        values = getattr(step, part)
        _require_shape(f"{name}: step: {part}", values, shape)
        _require(np.isfinite(values).all(), f"{name}: step: {part} should be finite")
    _require((step.costs >= 0.0).all(), f"{name}: costs should be at least 0")
    late = (age >= contract.episode_steps) & ~step.terminated
    _require(
        np.array_equal(step.truncated, late),
        f"{name}: an episode should end by its length after {contract.episode_steps} steps, "
        f"and not before",
    )
    going = ~(step.terminated | step.truncated)
    _require(
        np.array_equal(step.observation[going], step.final_observation[going]),
        f"{name}: an episode that goes on should have one observation per step",
    )


def _same(a: Step, a_rows: NDArray[np.intp], b: Step, b_rows: NDArray[np.intp]) -> bool:
    """Return whether rows of two steps are equal, apart from start states after a reset."""
    parts = ("final_observation", "reward", "costs", "terminated", "truncated", "disagreement")
    return all(np.array_equal(getattr(a, p)[a_rows], getattr(b, p)[b_rows]) for p in parts)
