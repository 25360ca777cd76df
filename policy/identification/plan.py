"""A run plan that tells a robot's parameters, and what it is expected to tell.

Candidate motions are simulated, as identification would simulate a recording of them, and those
are taken whose Fisher information together has the largest determinant (D-optimality: Fedorov
1972), one after another. What the plan tells is what identification would say of its motion: the
same fit is made of simulated motion with the sensors' noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError
from holdfast.policy.identification.certainty import (
    Found,
    conclude,
    information,
    settle_whole,
    two_slopes,
)
from holdfast.policy.identification.compare import Comparison, compared
from holdfast.policy.identification.fit import PRIOR, Fit
from holdfast.policy.identification.free import Free, chosen, parameters_at, widest
from holdfast.policy.identification.identify import split
from holdfast.policy.identification.search import SearchSettings, Simulator
from holdfast.policy.identification.segments import SEGMENT_S, candidates
from holdfast.policy.identification.tracks import Recorded, Track, pieces
from holdfast.signals import Array
from holdfast.sim.batch.replay import Replay
from holdfast.sim.parameters.amounts import ALL, EACH
from holdfast.sim.parameters.catalogue import KINDS, Parameters, Pose, load_profile
from holdfast.sim.parameters.robots import require_fit
from holdfast.sim.tasks.task import Task

NOISE = {"m": 0.01, "rad": 0.01, "m/s": 0.02, "rad/s": 0.02}
"""By unit, the standard deviation of a reading's noise where none is known."""

ORDERS = 2000
"""Random orders of the motions, of which the one that needs the least space is taken."""


@dataclass(frozen=True)
class Plan:
    """A run plan.

    Attributes:
        kinds: of its motions, (T,).
        actions: the commands of each motion (T, K, actions), physical units, one per period.
        expected: what identification is expected to find.
        path: where the simulated robot is expected (N, 2), m, from its start, which it faces x at.
    """

    kinds: tuple[str, ...]
    actions: Array
    expected: tuple[Found, ...]
    path: Array

    @property
    def reach_m(self) -> float:
        """Largest distance from the start."""
        return float(np.linalg.norm(self.path, axis=1).max())


class Experiment:
    """Motions of a simulated robot, and what they tell of it.

    Args:
        words: the parameters as a person named them; none: all that apply.
        signals: the signals that will be compared; none: the usual ones, of those that the robot
            measures.
        profile: what is known of the robot: values, and the noise of its sensors.
        threads: of MuJoCo's physics; 0: one per core.

    Raises:
        ConfigError: the robot lacks what a parameter or a signal names.

    Attributes:
        free: the numbers. place: (P,), the values about which it is planned.
        noise: by signal, the standard deviation of a reading.
    """

    def __init__(
        self,
        task: Task,
        words: Sequence[str],
        signals: Sequence[str],
        pose: Pose,
        profile: Parameters,
        settings: SearchSettings,
        threads: int = 0,
    ) -> None:
        self.task, self.seed = task, settings.seed
        self._pose, self._settings, self._threads = pose, settings, threads
        self.names = compared(task, _measured(task), signals)
        self.free = chosen(words, task, self.names, pose)
        self.smooth = np.array([i for i, f in enumerate(self.free) if not f.whole], np.intp)
        self.place = np.array([each.place(_value(each, profile)) for each in self.free])
        told, known = profile.noise.by_target, task.contract.known_signals
        units = {name: known[name].unit if name in known else "" for name in self.names}
        self.noise = {
            name: told[name].middle if name in told else NOISE.get(unit, NOISE["m"])
            for name, unit in units.items()
        }

    def simulated(
        self, actions: Array, names: Mapping[str, int]
    ) -> tuple[dict[str, Array], NDArray[np.bool_]]:
        """Return signals (T, K + 1, size) of motions (T, K, actions) from rest, and which (T,)
        diverged."""
        heading = np.full((len(actions), actions.shape[1] + 1), np.nan)
        heading[:, 0] = 0.0
        replay = Replay(
            self.task, widest(self.free, self._pose), actions, heading, names, 1, self._threads
        )
        found, lost = replay.run([parameters_at(self.free, self.place, self._pose)])
        replay.close()
        return {name: values[0] for name, values in found.items()}, lost[0]

    def recorded(self, actions: Array) -> Recorded:
        """Return motions (T, K, actions) of the simulated robot, with its sensors' noise."""
        rng = np.random.default_rng(self.seed)
        said, _ = self.simulated(actions, self.names)
        said = {n: v + self.noise[n] * rng.standard_normal(v.shape) for n, v in said.items()}
        tracks = [
            Track("planned", each, {name: values[i] for name, values in said.items()}, True)
            for i, each in enumerate(actions)
        ]
        return Recorded(self.task, tuple(tracks), ("a plan",), ())

    def informations(self, actions: Array) -> Array:
        """Return the Fisher information (T, P, P) of each motion (T, K, actions) about the places
        of the smooth numbers."""
        tracks = self.recorded(actions).tracks
        cut = pieces(tracks, self.task.contract.period_s, None)
        simulator = self._simulator(Comparison(self.task, cut, self.names))
        fit = Fit(simulator, self.place)
        fit.used[:] = True  # nothing pushes a simulated robot
        slope, wide, _ = two_slopes(fit, self.smooth)
        simulator.close()
        piece = simulator.comparison.windows.piece
        return np.stack([
            information(*(np.concatenate(each[piece == i]) for each in (slope, wide)))
            for i in range(len(actions))
        ])  # fmt: skip

    def expected(self, actions: Array) -> tuple[Found, ...]:
        """Return what identification is expected to find in motions (T, K, actions)."""
        fitted, _ = split(self.recorded(actions), None)
        simulator = self._simulator(Comparison(self.task, fitted, self.names))
        fit = Fit(simulator, self.place.copy())
        moving = self.smooth.tolist()
        sure = settle_whole(fit, moving, self._settings)
        found = conclude(fit, moving, np.zeros(len(self.free)), self._settings, sure)
        simulator.close()
        return tuple(found)

    def _simulator(self, comparison: Comparison) -> Simulator:
        return Simulator(self.free, comparison, self._pose, self._threads)


def _measured(task: Task) -> dict[str, int]:
    """Return names and sizes of the signals that the robot measures, or that its task needs."""
    robot, model = task.robot, task.robot.load_model()
    body = robot.signals(np.zeros((1, model.nq)), np.zeros((1, model.nv)))
    said = {*(robot.measures or body), *task.contract.observed_signals}
    return {name: values.shape[-1] for name, values in body.items() if name in said}


def _value(free: Free, profile: Parameters) -> float:
    """Return a number's value as far as it is known, within its bounds."""
    kind, amounts = KINDS[free.kind], getattr(profile, free.kind).by_target
    value = np.array(kind.nominal)
    for target in dict.fromkeys((ALL, EACH, free.targets[0])):
        if target in amounts:
            value = kind.joined(value, np.array(amounts[target].middle))
    return min(max(float(value), free.low), free.high)


def known_of(path: Path | None, task: Task) -> Parameters:
    """Return what a profile tells of a task's robot; without one, nothing.

    Raises:
        ConfigError: it is no profile, or of another robot.
    """
    if path is None:
        return Parameters()
    profile = load_profile(path)
    require_fit(profile, task.robot, task.contract, str(path), _measured(task))
    return profile


def draw_up(experiment: Experiment, seconds: float) -> Plan:
    """Return a plan of about so many seconds.

    Raises:
        ConfigError: the robot falls in each candidate motion.
    """
    task, seed = experiment.task, experiment.seed
    kinds, actions = candidates(task.contract, seed)
    position, heading, ok = _moved(experiment, actions)
    if not ok.any():
        raise ConfigError(
            f"robot {task.robot.name} falls, or its simulation diverges, in each motion that was "
            "tried; a plan needs a robot that may be driven with any command of its contract"
        )
    possible = np.flatnonzero(ok)
    informations = experiment.informations(actions[possible])
    best = possible[select(informations, round(seconds / SEGMENT_S))]
    best = best[in_least_space(position[best], heading[best], seed)]
    (path, *_), _, _ = _moved(experiment, actions[best].reshape(1, -1, actions.shape[-1]))
    return Plan(
        tuple(kinds[i] for i in best), actions[best], experiment.expected(actions[best]), path
    )


def select(informations: Array, count: int) -> NDArray[np.intp]:
    """Return which of some motions (C,) are taken, by their information (C, P, P): each next one is
    the one with which the determinant of all is the largest, with what is known before. Each is
    taken once, until all were."""
    total = np.eye(informations.shape[-1]) / PRIOR**2
    found: list[int] = []
    for i in range(count):
        gain = np.linalg.slogdet(total + informations)[1]
        gain[found[i // len(gain) * len(gain) :]] = -np.inf
        found.append(int(gain.argmax()))
        total = total + informations[found[-1]]
    return np.array(found, np.intp)


def _moved(experiment: Experiment, actions: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return where motions (T, K, actions) from the origin lead: positions (T, K + 1, 2) and
    headings (T, K + 1); and which (T,) end well."""
    robot, model = experiment.task.robot, experiment.task.robot.load_model()
    body = robot.signals(np.zeros((1, model.nq)), np.zeros((1, model.nv)))
    sizes = {name: values.shape[-1] for name, values in body.items()}
    signals, lost = experiment.simulated(actions, sizes)
    position = signals["position"] - signals["position"][:, :1]
    fell = robot.fallen(signals).any(axis=1)
    return position, robot.heading(signals), ~(lost | fell)


def in_least_space(position: Array, heading: Array, seed: int) -> NDArray[np.intp]:
    """Return the order of motions (T,) which keeps nearest to the start, of random ones.

    Each begins where, and facing as, the one before ended: on level ground their information does
    not depend on it.

    Args:
        position: (T, K + 1, 2), from the origin, facing x. heading: (T, K + 1).
    """
    count, rng = len(position), np.random.default_rng(seed)
    orders = np.stack([np.arange(count), *(rng.permutation(count) for _ in range(ORDERS))])
    path = position[..., 0] + 1j * position[..., 1]
    turn = np.exp(1j * (heading[:, -1] - heading[:, 0]))
    at, facing = np.zeros(len(orders), complex), np.ones(len(orders), complex)
    reach = np.zeros(len(orders))
    for which in orders.T:
        way = at[:, None] + facing[:, None] * path[which]
        reach = np.maximum(reach, np.abs(way).max(axis=1))
        at, facing = way[:, -1], facing * turn[which]
    found: NDArray[np.intp] = orders[int(reach.argmin())]
    return found
