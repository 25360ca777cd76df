"""What a robot does under each of its actions, and what of that is implausible.

Copies of a task start from one state. Each holds one action at one of its limits, and then the
action 0. The first copy is told to do nothing all the while, and the others are compared with it;
the last one does all at once, at random, so that whatever can change does.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from holdfast.contract import ActionChannel
from holdfast.errors import ConfigError
from holdfast.safety_monitor.costs import CostModel
from holdfast.signals import CATALOGUE, Array
from holdfast.sim.batch.mujoco_batch import MujocoBatch
from holdfast.sim.friction import held_by
from holdfast.sim.registry import resolve
from holdfast.sim.robots.robot import FreeBase, physics_steps
from holdfast.sim.task_spec import MujocoTaskSpec
from holdfast.sim.tasks.task import Task

SETTLE_S = 1.0
"""How long an action is held at its limit once it may be there, and the action 0 after it."""

RAMP_S = 10.0
"""The longest that is waited for an action to get to its limit."""

TILT_RAD = 0.7
"""A larger roll or pitch under one action is implausible; so is one of the factors below."""

TOO_FAST, TOO_SLOW, STILL, ASTRAY, TURN_RAD_PER_M, CIRCLE_M = 1.5, 0.5, 0.2, 0.2, 0.2, 0.5
"""Shares of what is commanded: more is too fast, less is too slow; so much is left of a speed that
should be 0, and so much goes to another side. Then the turn of a straight motion, and the radius of
a turn on the spot."""

SHOWN = 6
"""How many changes are printed of one action."""

MOVED = {"m": 0.01, "m/s": 0.02, "rad": 0.02, "rad/s": 0.05, "N m": 0.1}
"""By unit, the smallest change that counts as one; 0.05 of other units."""

SPEEDS = ("forward_speed", "lateral_speed", "yaw_rate")

PARTS = {
    "tilt": ("roll", "pitch"),
    "orientation": ("w", "x", "y", "z"),
    **dict.fromkeys(("position", "linear_velocity"), ("x", "y")),
    **dict.fromkeys(("angular_velocity", "projected_gravity"), ("x", "y", "z")),
}

SAID_BY = {
    **dict.fromkeys(("position", "linear_velocity"), "forward_speed"),
    **dict.fromkeys(("heading", "angular_velocity"), "yaw_rate"),
    **dict.fromkeys(("orientation", "projected_gravity"), "tilt"),
}
"""Signals that are left out of a response where the robot has this other one: theirs is said by
it, and not along axes that depend on the start."""


def command(task: str) -> int:
    """Check a task: its parts as training uses them, and the robot's response to each action.

    The robot takes each action alone, at its lowest and at its highest, and then the action 0. The
    command prints which signals moved, and by how much, and what is implausible about that. The
    exit status is 1 if anything is implausible.

    Args:
        task: one of Holdfast's tasks, or your own as FILE.py:NAME or gym:MODULE:ID.
    """
    spec = resolve(task)
    spec.check()
    print(f"{task}: shapes, signals, seeds and saved states are as they should be")
    if not isinstance(spec, MujocoTaskSpec):
        return 0
    trial = Trial(spec.make())
    responses = list(trial.responses())
    print(f"\nWhat each action does, held for {trial.held * trial.task.contract.period_s:.2f} s:")
    for response in responses:
        print(f"  {response}")
    found = list(implausible(trial, responses))
    print("\nImplausible:" if found else "\nNothing of that is implausible.")
    for sentence in found:
        print(f"  {sentence}")
    return 1 if found else 0


@dataclass(frozen=True)
class Response:
    """What one action, held at one of its limits, did.

    Attributes:
        channel, value: the action, in its unit.
        moved: by signal, how much it changed, in its unit: what the action is meant to move, then
            the base's signals, then the joints'; the largest of each first.
        units: the unit of each of these; "" where it is not known.
        ended_s: when the task ended the episode; None where it did not.
    """

    channel: ActionChannel
    value: float
    moved: Mapping[str, float]
    units: Mapping[str, str]
    ended_s: float | None

    def __str__(self) -> str:
        changes = ", ".join(
            f"{label} {by:+.3g} {self.units[label]}".removesuffix(" 1").rstrip()
            for label, by in list(self.moved.items())[:SHOWN]
        )
        more = len(self.moved) - SHOWN
        changes += f" and {more} more" if more > 0 else ""
        end = f"; the episode ends after {self.ended_s:.2f} s" if self.ended_s is not None else ""
        return f"{command_text(self.channel, self.value)}: {changes or 'nothing moves'}{end}"


def command_text(channel: ActionChannel, value: float) -> str:
    """Return an action's value as it is told."""
    return f"{channel.name} = {value:g} {channel.unit}"


def _signal(label: str) -> str:
    return label.partition("[")[0].partition(".")[0]


class Trial:
    """A task's copies under each action, recorded.

    Args:
        task: it was found to have the right shapes (`check_task`).

    Attributes:
        commands: the action and value of each copy but the first and the last.
        held: control periods in which they are told so; as many follow with the action 0.
        labels: the recorded values' names: those of the robot's own signals, with their parts.
        record: (periods, copies, values).
        alive: (periods, copies), whether the copy's first episode went on until then.
        moments: qpos, qvel and controls of all copies, in the last quarter of the held periods.

    Raises:
        ConfigError: a signal became NaN or infinite.
        TrainingError: the simulation diverged.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.commands = [
            (channel, limit)
            for channel in task.contract.action
            for limit in (channel.low, channel.high)
            if limit
        ]
        period = task.contract.period_s
        ramp = max(abs(value) / channel.max_rate_per_s for channel, value in self.commands)
        self.held = math.ceil((min(ramp, RAMP_S) + SETTLE_S) / period)
        batch = self._batch()
        actions, rng = self.actions(), np.random.default_rng(0)
        low, high = task.contract.action_low, task.contract.action_high
        rows, alive, going = [], [], np.ones(len(actions), dtype=bool)
        self.moments: list[tuple[Array, Array, Array]] = []
        for k in range(2 * self.held):
            if k == self.held:
                actions[:-1] = 0.0
            if k % self.quarter == 0:
                actions[-1] = rng.uniform(low, high)
            step = batch.step(actions)
            going = going & ~(step.terminated | step.truncated)
            rows.append(self._values(batch, k))
            alive.append(going)
            if self.held - self.quarter <= k < self.held:
                told = task.robot.control(batch.applied)
                self.moments.append((batch.qpos.copy(), batch.qvel.copy(), told))
        batch.close()
        self.record, self.alive = np.array(rows), np.array(alive)

    def _batch(self) -> MujocoBatch:
        """Return a copy for each command, one for none and one for all, all in one state."""
        task, copies = copy.copy(self.task), len(self.commands) + 2
        long = dataclasses.replace(task.contract, episode_steps=4 * self.held)
        task.contract = long
        one, batch = MujocoBatch(task, 1, seed=0), MujocoBatch(task, copies, seed=0)
        one.reset()
        batch.load(one.snapshot(), np.zeros(copies, dtype=np.intp))
        one.close()
        body = batch.body()
        self.labels = [label for name in body for label in self._parts(name, body[name].shape[-1])]
        return batch

    def actions(self) -> Array:
        """Return what each copy is told while it is held (copies, actions); the last, nothing."""
        names = [channel.name for channel in self.task.contract.action]
        actions = np.zeros((len(self.commands) + 2, len(names)))
        for i, (channel, value) in enumerate(self.commands, start=1):
            actions[i, names.index(channel.name)] = value
        return actions

    def _parts(self, name: str, size: int) -> Iterator[str]:
        if size == 1:
            yield name
        elif name in PARTS:
            yield from (f"{name}.{part}" for part in PARTS[name])
        else:
            joints = self.joints if name.startswith("joint_") else ()
            yield from (f"{name}[{joints[i] if size == len(joints) else i}]" for i in range(size))

    @property
    def joints(self) -> tuple[str, ...]:
        """Names of the robot's joints, where they are known."""
        robot = self.task.robot
        return robot.body.joints if isinstance(robot, FreeBase) else ()

    def _values(self, batch: MujocoBatch, k: int) -> Array:
        body = batch.body()
        for name, values in body.items():
            wrong = ~np.isfinite(values).all(axis=-1)
            if wrong.any():
                raise ConfigError(
                    f"{self.task.contract.task}: signal '{name}' should be finite; after "
                    f"{(k + 1) * self.task.contract.period_s:.2f} s of "
                    f"{self.name(int(wrong.argmax()))} it is {values[wrong.argmax()]}"
                )
        return np.concatenate(list(body.values()), axis=-1)

    def name(self, i: int) -> str:
        """Return what copy i is told."""
        told = (*self.commands, None)[i - 1] if i else None
        return command_text(*told) if told else "random actions" if i else "the action 0"

    # What came of it.

    @cached_property
    def quarter(self) -> int:
        """Control periods that a settled value is the mean of: the last quarter of `SETTLE_S`."""
        return max(1, round(SETTLE_S / 4.0 / self.task.contract.period_s))

    def settled(self, i: int, end: int) -> Array:
        """Return the means (values,) of copy i before period `end`, or before its episode's end."""
        end = min(end, int(self.alive[:end, i].sum()))
        values: Array = self.record[max(0, end - self.quarter) : max(end, 1), i].mean(axis=0)
        return values

    def changed(self, i: int, end: int) -> Array:
        """Return how far copy i is from the one that is told nothing, then."""
        end = min(end, int(self.alive[:end, i].sum()), int(self.alive[:end, 0].sum()))
        change = self.settled(i, end) - self.settled(0, end)
        turns = [label == "heading" for label in self.labels]
        change[turns] = np.remainder(change[turns] + np.pi, 2.0 * np.pi) - np.pi
        return change

    def responses(self) -> Iterator[Response]:
        """Yield what each action did at each limit."""
        names = set(map(_signal, self.labels))
        shown = [label for label in self.labels if SAID_BY.get(_signal(label)) not in names]
        for i, (channel, value) in enumerate(self.commands, start=1):
            change = dict(zip(self.labels, self.changed(i, self.held).tolist(), strict=True))
            large = {name: change[name] for name in shown if abs(change[name]) > self.least(name)}
            moved = self._most_telling_first(large, self.answer(channel))
            units = {label: self.unit(label) for label in moved}
            over = ~self.alive[: self.held, i]
            ended = (int(over.argmax()) + 1) * self.task.contract.period_s if over.any() else None
            yield Response(channel, value, moved, units, ended)

    def _most_telling_first(self, changes: Mapping[str, float], meant: str) -> dict[str, float]:
        def key(label: str) -> tuple[bool, bool, float]:
            size = abs(changes[label]) / self.least(label)
            return label != meant, label.startswith("joint_"), -size

        return {label: changes[label] for label in sorted(changes, key=key)}

    def unit(self, label: str) -> str:
        """Return a value's unit; "" for a signal that neither catalogue nor contract has."""
        known = self.task.contract.known_signals.get(_signal(label))
        return known.unit if known else ""

    def least(self, label: str) -> float:
        """Return the smallest change of a value that counts as one."""
        return MOVED.get(self.unit(label), 0.05)

    def answer(self, channel: ActionChannel) -> str:
        """Return the value that an action is meant to move; "" where its name does not tell."""
        if channel.name in SPEEDS and channel.unit == CATALOGUE[channel.name].unit:
            wanted = channel.name
        else:
            kind = {"rad": "joint_position", "rad/s": "joint_velocity", "N m": "joint_effort"}
            wanted = f"{kind.get(channel.unit, '')}[{channel.name}]"
        return wanted if wanted in self.labels else ""

    def held_by(self, i: int) -> str:
        """Return whose friction holds the robot while copy i is told so; "" for nothing's."""
        model = self.task.robot.load_model()
        moments = ((qpos[i], qvel[i], told[i]) for qpos, qvel, told in self.moments)
        return held_by(model, moments, physics_steps(model, self.task.contract.period_s))

    def of(self, label: str, i: int) -> Array:
        """Return a value over the periods (T,) in which copy i's episode went on."""
        values: Array = self.record[self.alive[:, i], i, self.labels.index(label)]
        return values


def implausible(trial: Trial, responses: list[Response]) -> Iterator[str]:
    """Yield a sentence for each thing that no robot should do."""
    yield from trial.task.contract.idle_limits
    yield from _unmoved(responses)
    for i, response in enumerate(responses, start=1):
        answer = trial.answer(response.channel)
        if answer:
            yield from _wrong_answer(trial, i, response, answer)
        if answer in SPEEDS:
            yield from _astray(trial, i, response)
    yield from _held_back(trial, responses)
    yield from _tilting(trial)
    yield from _too_fast(trial)
    yield from _at_rest(trial)
    yield from _constant(trial)
    yield from _out_of_range(trial)


def _unmoved(responses: list[Response]) -> Iterator[str]:
    for response in responses:
        if not response.moved and response.ended_s is None:
            yield f"nothing moves under {command_text(response.channel, response.value)}"


def _wrong_answer(trial: Trial, i: int, response: Response, answer: str) -> Iterator[str]:
    told = command_text(response.channel, response.value)
    k, value = trial.labels.index(answer), response.value
    by, unit = float(trial.changed(i, trial.held)[k]), trial.unit(answer)
    if response.ended_s is not None:
        return
    if by * value < 0.0 and abs(by) > trial.least(answer):
        yield f"under {told}, {answer} changes the other way, by {by:+.3g} {unit}"
    elif _slow(trial, i, response, answer):
        yield f"under {told}, {answer} changes by no more than {by:+.3g} {unit}"
    after = float(trial.changed(i, 2 * trial.held)[k])
    if answer in SPEEDS and abs(after) > max(STILL * abs(value), trial.least(answer)):
        yield (
            f"{SETTLE_S:g} s and more after {told} is back at 0, {answer} is still {after:+.3g} "
            f"{unit}"
        )


def _slow(trial: Trial, i: int, response: Response, answer: str) -> bool:
    by = float(trial.changed(i, trial.held)[trial.labels.index(answer)])
    return abs(by) < TOO_SLOW * abs(response.value) and bool(response.moved)


def _held_back(trial: Trial, responses: list[Response]) -> Iterator[str]:
    """Whose friction on the ground is large while a speed stays low."""
    found: dict[str, list[str]] = {}
    for i, response in enumerate(responses, start=1):
        answer = trial.answer(response.channel)
        if answer in SPEEDS and _slow(trial, i, response, answer) and (what := trial.held_by(i)):
            found.setdefault(what, []).append(command_text(response.channel, response.value))
    for what, told in found.items():
        yield (
            f"under {', '.join(told)}, the base is held by the friction of {what}: a caster should "
            "have little of it; a wheel that does not steer should slip to its side, and be told "
            "a wider turn by `control` (docs/guides/OWN_TASKS.md#wheels-that-scrape)"
        )


def _astray(trial: Trial, i: int, response: Response) -> Iterator[str]:
    """A straight motion should be straight, and a turn on the spot."""
    told = command_text(response.channel, response.value)
    change = dict(zip(trial.labels, trial.changed(i, trial.held), strict=True))
    forward, lateral, turn = (float(change.get(name, 0.0)) for name in SPEEDS)
    if response.channel.name == "yaw_rate":
        if math.hypot(forward, lateral) > CIRCLE_M * abs(turn) + MOVED["m/s"]:
            yield f"{told} also moves the base, at {math.hypot(forward, lateral):.3g} m/s"
        return
    along, aside = (forward, lateral) if response.channel.name == SPEEDS[0] else (lateral, forward)
    if abs(turn) > TURN_RAD_PER_M * abs(along) + MOVED["rad/s"]:
        yield f"{told} also turns the base, at {turn:+.3g} rad/s"
    if abs(aside) > ASTRAY * abs(along) + MOVED["m/s"]:
        way = "sideways" if response.channel.name == SPEEDS[0] else "forwards or backwards"
        yield f"{told} also moves the base {way}, at {aside:+.3g} m/s"


def _tilting(trial: Trial) -> Iterator[str]:
    if "tilt.roll" not in trial.labels:
        return
    for i in range(1 + len(trial.commands)):
        if i and trial.commands[i - 1][0].unit == "N m":
            continue  # a torque at its limit all the while makes anything fall
        tilt = max(np.abs(trial.of(f"tilt.{part}", i)).max(initial=0.0) for part in PARTS["tilt"])
        if tilt > TILT_RAD:
            yield f"under {trial.name(i)}, the base tilts by {tilt:.2f} rad"


def _too_fast(trial: Trial) -> Iterator[str]:
    for channel in trial.task.contract.action:
        answer = trial.answer(channel)
        if answer not in SPEEDS:
            continue
        limit = max(abs(channel.low), abs(channel.high))
        most = [
            np.abs(trial.of(answer, i)).max(initial=0.0) for i in range(1 + len(trial.commands))
        ]
        fastest = int(np.argmax(most))
        if most[fastest] > TOO_FAST * limit:
            yield (
                f"{answer} reaches {most[fastest]:.3g} {channel.unit} under {trial.name(fastest)}, "
                f"where the action's own limit is {limit:g} {channel.unit}"
            )


def _at_rest(trial: Trial) -> Iterator[str]:
    """The action 0 stops a robot that is commanded by speeds."""
    told = {trial.answer(channel) for channel in trial.task.contract.action}
    if told.isdisjoint(SPEEDS):
        return
    rest = dict(zip(trial.labels, trial.settled(0, 2 * trial.held), strict=True))
    for name in SPEEDS:
        if abs(rest.get(name, 0.0)) > 2.0 * MOVED[CATALOGUE[name].unit]:
            yield f"under the action 0, {name} is {rest[name]:+.3g} {trial.unit(name)}"


def _constant(trial: Trial) -> Iterator[str]:
    contract = trial.task.contract
    used = {*contract.observed_signals, *CostModel(contract).signals}
    spans = np.ptp(trial.record, axis=(0, 1))
    first: Array = trial.record[0, 0]
    for label, span, value in zip(trial.labels, spans, first, strict=True):
        if span < 1e-9 and _signal(label) in used:
            yield f"{label} is observed or billed, and is {value:g} whatever is done"


def _out_of_range(trial: Trial) -> Iterator[str]:
    """MuJoCo clips what an actuator is told, without a word."""
    model = trial.task.robot.load_model()
    contract = trial.task.contract
    actions = np.vstack((trial.actions(), contract.action_low, contract.action_high))
    told = trial.task.robot.control(actions)
    for actuator in np.flatnonzero(model.actuator_ctrllimited):
        low, high = model.actuator_ctrlrange[actuator]
        beyond = np.maximum(told[:, actuator] - high, low - told[:, actuator])
        worst = told[beyond.argmax(), actuator]
        if beyond.max() > 1e-9:
            name = model.actuator(actuator).name or f"number {actuator}"
            yield (
                f"control tells actuator {name} {worst:.4g}, beyond its ctrlrange "
                f"[{low:g}, {high:g}], where MuJoCo clips it"
            )
