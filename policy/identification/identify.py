"""Identification from beginning to end: from recorded motion to a profile, with its errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from holdfast.policy.identification import search
from holdfast.policy.identification.certainty import Found, conclude, settle_whole
from holdfast.policy.identification.compare import Comparison, compared
from holdfast.policy.identification.fit import STEPS, Fit, drop, select, settle
from holdfast.policy.identification.free import Free, chosen, strongest
from holdfast.policy.identification.search import SearchSettings, Simulator, cross_entropy
from holdfast.policy.identification.tracks import WINDOW_S, Piece, Recorded, is_sparse, pieces
from holdfast.signals import Array
from holdfast.sim.parameters.catalogue import Parameters, Pose

HORIZONS_S = (0.0, 1.0, 5.0)
"""Lengths of the predictions that are reported, s; 0: one control period. Where poses were read
seldom: infinity, from the first to the last."""

HELD_OUT = 5
"""Each fifth piece is held out."""

LEAST_SEARCHED = 4
"""Pieces that the search looks at, also where these are longer than it needs."""

LEAST_BRIEF = 2
"""Pieces that the first generations of the search look at."""

LEAST_NOISE = 1e-4
"""Noise that is worth a line of a profile, SI units."""

NEEDS: Mapping[str, str] = {
    "mass": "accelerations that the motors' force or the tyres' grip limits",
    "friction": "slip, or motion near it",
    "size": "travel with a measured position",
    "track": "turns with a measured heading or position",
    "slope": "commands that the motors can hardly follow, uphill and downhill",
    "damping": "motion at different speeds that the motors can hardly keep up",
    "armature": "hard starts and stops of the motors",
    "friction_loss": "slow motion and stops",
    "force": "commands that the motors can hardly follow",
    "gain": "motion of the part",
    "delay": "commands that change",
    "scale": "different readings of the signal, and another signal that tells the same motion",
    "bias": "another signal that tells the same motion",
}
"""What a recording needs in order to tell a kind of parameter."""

DRIFT: Mapping[str, tuple[float, float]] = {"position": (0.01, 0.005), "heading": (0.01, 0.005)}
"""Drift (mean, spread) that is assumed of a pose that the robot reckons, m and rad for each square
root of a metre of way: no log of the robot's own can tell it."""

Errors = Mapping[float, Mapping[str, float]]
"""Root mean square of the errors of predictions, by horizon and signal."""


@dataclass(frozen=True)
class Identified:
    """What identification found.

    Attributes:
        found: all searched numbers.
        noise: by signal, the standard deviation of its noise.
        before, after: errors on the held-out pieces, with the nominal and the found parameters.
        held_out: the pieces; simulated_before, simulated_after: by signal, (T, K + 1, size).
        seconds: motion that was fitted, and motion held out.
        fresh: the held-out pieces were not fitted.
        observed: the signals that the task observes, and thus training simulates.
        windows_left_out: windows that nothing explained, and all windows that were to be fitted.
        steps: simulated control periods.
    """

    found: tuple[Found, ...]
    noise: Mapping[str, float]
    pose: Pose
    before: Errors
    after: Errors
    held_out: Comparison
    simulated_before: Mapping[str, Array]
    simulated_after: Mapping[str, Array]
    seconds: tuple[float, float]
    fresh: bool
    observed: tuple[str, ...]
    windows_left_out: tuple[int, int]
    steps: int

    @property
    def profile(self) -> Parameters:
        """What is known of the robot, in the vocabulary; what the recording did not tell is not
        in it."""
        data: dict[str, dict[str, object]] = {}
        for each in self.found:
            if each.known:
                amount = {"mean": _short(each.value), "spread": _short(each.spread)}
                data.setdefault(each.free.kind, {}).update(
                    dict.fromkeys(each.free.targets, amount if each.spread else each.value)
                )
        worth = {n: v for n, v in self.noise.items() if v > LEAST_NOISE and n in self.observed}
        noise = {name: _short(value) for name, value in worth.items()}
        drift = {n: {"mean": mean, "spread": spread} for n, (mean, spread) in self.drift.items()}
        told = {"noise": noise, "drift": drift}
        return Parameters.from_plain(
            {**data, **{k: v for k, v in told.items() if v}, "pose": self.pose}
        )

    @property
    def drift(self) -> Mapping[str, tuple[float, float]]:
        """The drift that is assumed, by signal: mean and spread; of a pose that is known, none."""
        reckoned = self.pose == "reckoned"
        return {name: value for name, value in DRIFT.items() if reckoned and name in self.observed}


def _short(value: float) -> float:
    """Return a number with four digits."""
    return float(f"{value:.4g}")


def identify(
    recorded: Recorded,
    words: Sequence[str],
    signals: Sequence[str],
    pose: Pose,
    first_s: float | None,
    settings: SearchSettings,
    threads: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Identified:
    """Identify parameters of a robot's model.

    Args:
        words: the parameters as a person named them; none: all that apply.
        signals: the signals that are compared; none: the usual ones.
        pose: whether position and heading are known from outside or reckoned by the robot.
        first_s: only so much of each track's beginning is used; None: all of it.
        threads: of MuJoCo's physics; 0: one per core.
        say: is told of the progress.

    Raises:
        ConfigError: the robot lacks what a parameter names, or the recording what a signal names.
        LogError: every simulation diverged.
    """
    task, period_s = recorded.task, recorded.task.contract.period_s
    names = compared(task, recorded.signals, signals)
    free = chosen(words, task, names, pose)
    fitted, held_out = split(recorded, first_s)
    start = np.array([each.place(each.nominal) for each in free])
    simulators = []

    def simulator(some: Sequence[Piece], window_s: float = WINDOW_S) -> Simulator:
        simulators.append(Simulator(free, Comparison(task, some, names, window_s), pose, threads))
        return simulators[-1]

    def coarse(some: Sequence[Piece]) -> tuple[Simulator, Simulator]:
        """Return what the search looks at, a part of the motion and all of it."""
        if is_sparse(some, period_s, search.WINDOW_S):
            whole = simulator(some)
            return whole, whole
        part = _up_to(some, settings.search_s / period_s / 3.0, LEAST_BRIEF)
        return simulator(part, search.WINDOW_S), simulator(some, search.WINDOW_S)

    try:
        searched, checked = (
            _up_to(part, settings.search_s / period_s, LEAST_SEARCHED)
            for part in (fitted[::2], fitted[1::2] or fitted)
        )
        say(f"searches {', '.join(each.name for each in free)}")
        strong = np.arange(len(free)) if words else strongest(free)
        place = cross_entropy(*coarse(searched), settings, start, strong)
        first = Fit(simulator(searched), place)
        moving = [int(i) for i in strong if not free[i].whole]
        say(f"search: {_told(free, first.place)}")
        moved = np.zeros(len(free))
        if len(strong) < len(free):
            first.refine(np.array(moving, np.intp), 6, STEPS[1:])
            moving, moved = select(first, simulator(checked), moving, settings.clear, say)
        fitting = simulator(_up_to(fitted, settings.fit_s / period_s))
        fit = settle(first.simulator, fitting, first.place, np.array(moving, np.intp))
        if words:
            weak = sorted(set(moving) - set(strongest(free).tolist()))
            moving, moved = drop(fit, moving, weak, say)
        say(f"least squares: {_told(free, fit.place)}")
        sure = settle_whole(fit, moving, settings)
        found = conclude(fit, moving, moved, settings, sure)
        judge = Judge(Comparison(task, held_out, names), free, pose, threads)
        before, after = judge.judged(start), judge.judged(fit.place)
        return Identified(
            found=tuple(found),
            noise=MappingProxyType(fit.noise()),
            pose=pose,
            before=before[0],
            after=after[0],
            held_out=judge.comparison,
            simulated_before=before[1],
            simulated_after=after[1],
            seconds=(_steps(fitted) * period_s, _steps(held_out) * period_s),
            fresh=not any(piece in fitted for piece in held_out),
            observed=tuple(task.contract.observed_signals),
            windows_left_out=(int((~fit.used).sum()), len(fit.used)),
            steps=sum(each.simulated for each in simulators),
        )
    finally:
        for each in simulators:
            each.close()


def _told(free: Sequence[Free], place: Array) -> str:
    return ", ".join(f"{f.name} {f.value(float(z)):.3f}" for f, z in zip(free, place, strict=True))


def split(recorded: Recorded, first_s: float | None) -> tuple[list[Piece], list[Piece]]:
    """Return the pieces to fit, and those held out: each fifth one. Of less than five, one.

    Args:
        first_s: only so much of each track's beginning is used; None: all of it.
    """
    found = pieces(recorded.tracks, recorded.task.contract.period_s, first_s)
    every = min(HELD_OUT, max(len(found), 1))
    held_out = found[every - 1 :: every]
    fitted = [piece for i, piece in enumerate(found) if i % every != every - 1] or found
    return fitted, held_out


def _up_to(some: Sequence[Piece], steps: float, least: int = 1) -> list[Piece]:
    """Return pieces of so many steps in all, evenly spread over all pieces; at least so many."""
    count = len(some)
    while count > least and _steps(some) * count / len(some) > steps:
        count -= 1
    return [some[i * len(some) // count] for i in range(count)]


def _steps(some: Sequence[Piece]) -> int:
    return sum(map(len, some))


class Judge:
    """Tells the errors of predictions on pieces that were not fitted."""

    def __init__(
        self, comparison: Comparison, free: Sequence[Free], pose: Pose, threads: int
    ) -> None:
        self.comparison, self._free, self._pose, self._threads = comparison, free, pose, threads

    def judged(self, place: Array) -> tuple[Errors, dict[str, Array]]:
        """Return the errors of a place (P,), and its signals (T, K + 1, size) where it went on
        from the start of each piece as it was."""
        whole = self._simulated(place, float("inf"))
        if self.comparison.sparse:
            return self._errors({float("inf"): whole}), whole
        spans = {horizon: self.comparison.span_s(horizon) for horizon in HORIZONS_S}
        simulated = {span: self._simulated(place, span) for span in set(spans.values())}
        return self._errors({horizon: simulated[span] for horizon, span in spans.items()}), whole

    def _simulated(self, place: Array, every_s: float) -> dict[str, Array]:
        simulator = Simulator(self._free, self.comparison, self._pose, self._threads, every_s)
        signals, _ = simulator.signals(place[None])
        simulator.close()
        return {name: values[0] for name, values in signals.items()}

    def _errors(self, simulated: Mapping[float, Mapping[str, Array]]) -> Errors:
        found = {}
        for horizon, signals in simulated.items():
            errors = self.comparison.predictions(signals, horizon)
            found[horizon] = {n: float(np.sqrt((v**2).mean())) for n, v in errors.items() if len(v)}
        return {horizon: errors for horizon, errors in found.items() if errors}
