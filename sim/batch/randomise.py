"""Domain randomisation: each copy of a robot draws its parameters at each episode's start.

Parameters are drawn for every episode, so that a batch contains more robots than copies. The time
for this is small beside an episode's physics (docs/TASKS.md). Costs, rewards and ends of episodes
are computed from true signals; noise and bias change only observations.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from holdfast import yaml_file
from holdfast.errors import ConfigError
from holdfast.schema import ASCENDING, NOT_NEGATIVE, Range, check
from holdfast.signals import Array, Signals
from holdfast.sim.batch.variants import Variants
from holdfast.sim.robots.robot import touches_anything
from holdfast.sim.tasks.task import Task

_Factor = Annotated[float, Range(0.0, 100.0, above=True)]
_Count = Annotated[int, Range(0, 100)]
_Spread = Annotated[float, NOT_NEGATIVE]
Factors = Annotated[tuple[_Factor, _Factor], ASCENDING]
Counts = Annotated[tuple[_Count, _Count], ASCENDING]


@dataclass(frozen=True)
class Randomisation:
    """Ranges [low, high] from which each copy draws its parameters uniformly.

    Attributes:
        mass: factor on the masses and inertias of all bodies.
        friction: factor on the friction of all contacts.
        gain: common factor on the controls of all actuators.
        gain_each: further factor on the control of each actuator.
        delay_steps: delay from an action to the actuators, in whole control periods.
        noise: by observed signal, standard deviation of each value in each reading.
        bias: by observed signal, largest absolute error of each value, constant in an episode.
    """

    mass: Factors | None = None
    friction: Factors | None = None
    gain: Factors | None = None
    gain_each: Factors | None = None
    delay_steps: Counts | None = None
    noise: Mapping[str, _Spread] = field(default_factory=dict)
    bias: Mapping[str, _Spread] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self, ConfigError, "randomisation")


def load_randomisation(path: Path) -> Randomisation:
    """Read the ranges from a YAML file.

    Raises:
        ConfigError: there is no such file, it is no YAML, or a value is unknown or impossible.
    """
    return yaml_file.load(path, Randomisation)


class Randomiser:
    """Draws and applies the parameters of N copies of a task.

    Args:
        settings: ranges of the parameters.
        model: the nominal robot's model.
        copies: N.

    Attributes:
        variants: models of the copies.
        rows: named arrays (N, ...), one row per copy, from which all parameters follow.

    Raises:
        ConfigError: the robot or the task lacks the randomised parameter.
    """

    def __init__(
        self, settings: Randomisation, task: Task, model: mujoco.MjModel, copies: int
    ) -> None:
        self._settings, self._model = settings, model
        self._everyone = np.arange(copies)
        self.rows: dict[str, NDArray[Any]] = {}
        self.variants = Variants(model, copies)
        self._set_physics(task, copies)
        self._set_actuators(task, copies)
        self._set_sensors(task, copies)

    def _set_physics(self, task: Task, copies: int) -> None:
        settings = self._settings
        if settings.friction and not touches_anything(self._model):
            raise ConfigError(
                f"randomisation: friction: robot '{task.robot.name}' touches nothing; leave it out"
            )
        for name in ("mass", "friction"):
            if getattr(settings, name):
                self.rows[name] = np.ones(copies)
        if self.rows:
            self._own, self._scratch = copy.copy(self._model), mujoco.MjData(self._model)
            self._change(2.0, 2.0)
            self.variants = Variants(self._model, copies, self._own)

    def _set_actuators(self, task: Task, copies: int) -> None:
        settings = self._settings
        if settings.gain or settings.gain_each:
            self.rows["gain"] = np.ones((copies, self._model.nu))
        if settings.delay_steps:
            # Controls of the last periods; before an episode's first action they are of action 0.
            self._rest = task.robot.control(np.zeros(task.contract.action_size))
            self.rows["delay"] = np.zeros(copies, dtype=np.int64)
            depth = settings.delay_steps[1] + 1
            self.rows["sent"] = np.tile(self._rest, (copies, depth, 1))

    def _set_sensors(self, task: Task, copies: int) -> None:
        settings, contract = self._settings, task.contract
        for kind in ("noise", "bias"):
            for name in getattr(settings, kind):
                if name not in contract.observed_signals:
                    raise ConfigError(
                        f"randomisation: {kind}: should be of what {contract.task} observes, "
                        f"{', '.join(contract.observed_signals)}; received '{name}'"
                    )
        self._parts: list[tuple[str, slice]] = []
        noise: list[float] = []
        bias: list[float] = []
        for name in dict.fromkeys((*settings.noise, *settings.bias)):
            size = contract.signal_size(name) or 0
            self._parts.append((name, slice(len(noise), len(noise) + size)))
            noise += [settings.noise.get(name, 0.0)] * size
            bias += [settings.bias.get(name, 0.0)] * size
        self._noise, self._bias = np.array(noise), np.array(bias)
        if settings.bias:
            self.rows["bias"] = np.zeros((copies, len(bias)))
        if settings.noise:
            self.rows["noise"] = np.zeros(copies, dtype=np.int64)

    def draw(self, which: NDArray[np.intp], rng: np.random.Generator) -> None:
        """Draw new parameters for some copies."""
        n, rows, settings = len(which), self.rows, self._settings
        if settings.mass:
            rows["mass"][which] = rng.uniform(*settings.mass, n)
        if settings.friction:
            rows["friction"][which] = rng.uniform(*settings.friction, n)
        if "gain" in rows:
            common = rng.uniform(*(settings.gain or (1.0, 1.0)), (n, 1))
            each = rng.uniform(*(settings.gain_each or (1.0, 1.0)), (n, self._model.nu))
            rows["gain"][which] = common * each
        if settings.delay_steps:
            rows["delay"][which] = rng.integers(*settings.delay_steps, n, endpoint=True)
            rows["sent"][which] = self._rest
        if "bias" in rows:
            rows["bias"][which] = rng.uniform(-self._bias, self._bias, (n, len(self._bias)))
        if "noise" in rows:
            rows["noise"][which] = rng.integers(2**63, size=n)
        self.build(which)

    def build(self, which: NDArray[np.intp]) -> None:
        """Set the models of some copies to the parameters in their rows."""
        if self.variants.fields:
            mass, friction = (self.rows.get(name) for name in ("mass", "friction"))
            for i in which:
                self._change(
                    1.0 if mass is None else mass[i], 1.0 if friction is None else friction[i]
                )
                self.variants.take(i, self._own)

    def _change(self, mass: float, friction: float) -> None:
        """Make one model the nominal one with other masses and friction."""
        nominal, own = self._model, self._own
        if self._settings.friction:
            # A contact takes the larger friction of its two geoms, which scales with them.
            own.geom_friction[:] = friction * nominal.geom_friction
            own.pair_friction[:] = friction * nominal.pair_friction
        if self._settings.mass:
            own.body_mass[:] = mass * nominal.body_mass
            own.body_inertia[:] = mass * nominal.body_inertia
            mujoco.mj_setConst(own, self._scratch)

    def act(self, target: Array, elapsed: NDArray[np.int64]) -> Array:
        """Return the controls (N, nu) that reach the actuators, given the commanded controls.

        Args:
            target: (N, nu), commanded controls.
            elapsed: (N,), number of control periods since the episode's start.
        """
        rows = self.rows
        if "sent" in rows:
            depth = rows["sent"].shape[1]
            rows["sent"][self._everyone, elapsed % depth] = target
            target = rows["sent"][self._everyone, (elapsed - rows["delay"]) % depth]
        return target * rows["gain"] if "gain" in rows else target

    def perceived(
        self, signals: Signals, elapsed: NDArray[np.int64], which: NDArray[np.intp] | slice
    ) -> Signals:
        """Return the true signals of some copies with noise and bias.

        Args:
            elapsed: control periods of these copies. A reading depends on them alone, so that a
                repeated call returns the same reading.
        """
        if not self._parts:
            return signals
        rows, off = self.rows, np.zeros((len(elapsed), len(self._noise)))
        if "bias" in rows:
            off += rows["bias"][which]
        if "noise" in rows:
            off += self._noise * gaussian(rows["noise"][which], elapsed, len(self._noise))
        return {**signals, **{name: signals[name] + off[:, part] for name, part in self._parts}}


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def gaussian(key: NDArray[np.int64], step: NDArray[np.int64], count: int) -> Array:
    """Return standard normal numbers (N, count), a function of keys (N,) and steps (N,) alone.

    So a copy's readings do not depend on other copies, and repeat after a restore. The bits are
    SplitMix64's (Steele, Lea and Flood 2014), made normal by Box and Muller's method (1958).
    """
    pairs = -(-count // 2)
    nth = step[:, None] * (2 * pairs) + np.arange(2 * pairs) + 1
    bits = key.astype(np.uint64)[:, None] + nth.astype(np.uint64) * _GOLDEN
    for shift, factor in _MIX:
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    bits ^= bits >> np.uint64(31)
    uniform = ((bits >> np.uint64(11)) + 0.5) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(uniform[:, :pairs]))
    angle = 2.0 * np.pi * uniform[:, pairs:]
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)), axis=1)[:, :count]
