"""The search: cross-entropy over batched simulations, then bounded least squares, then how sure.

Places z of the search lie in [0, 1] between the bounds of each number; a factor's logarithm is
searched. A whole number (a delay) has many local minima, so that each is compared with its
neighbours by itself, after the others have been fitted to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from holdfast.errors import ConfigError, LogError
from holdfast.policy.identification.compare import FLOOR, Comparison, Mismatch
from holdfast.policy.identification.free import Free, parameters_at, widest
from holdfast.policy.identification.tracks import WINDOW_S
from holdfast.schema import POSITIVE, PROPER_SHARE, Range, check
from holdfast.signals import Array
from holdfast.sim.batch.replay import Replay
from holdfast.sim.parameters.catalogue import Pose

PRIOR = 1.0 / np.sqrt(12.0)
"""Standard deviation of a place before anything is seen: all between the bounds is as likely."""

EDGE = 0.01
"""Distance from a bound, as a share of the range, at which a number counts as being at it."""

STEPS = (0.08, 0.04, 0.02)
"""Steps of the numerical derivatives in turn, as shares of the range. A tyre that slips makes the
mismatch rough on a fine scale, where a derivative says nothing of the way to the minimum."""

PARTS = 4
"""Parts of the pieces that are fitted by themselves."""

LEAST_PIECES = 10
"""Pieces from which on their disagreement tells a spread, and not that of their windows."""

LARGE = 1e9


@dataclass(frozen=True)
class SearchSettings:
    """Settings of the search.

    Attributes:
        seed: seed of the search.
        candidates: simulated robots per generation of the cross-entropy search.
        generations: number of generations.
        search_s: seconds of motion that the cross-entropy search looks at.
        fit_s: most seconds of motion that the least squares look at.
        least_known: largest standard deviation of an identified number, as a share of what it was
            before anything was seen.
        clear: standard errors by which a delay has to be better than its neighbours.
    """

    seed: Annotated[int, Range(0)] = 0
    candidates: Annotated[int, Range(8, 1000)] = 32
    generations: Annotated[int, Range(1, 1000)] = 14
    search_s: Annotated[float, POSITIVE] = 60.0
    fit_s: Annotated[float, POSITIVE] = 300.0
    least_known: Annotated[float, PROPER_SHARE] = 1.0 / 3.0
    clear: Annotated[float, POSITIVE] = 3.0

    def __post_init__(self) -> None:
        check(self, ConfigError)


USUAL = SearchSettings()


@dataclass(frozen=True)
class Found:
    """One searched number.

    Attributes:
        value: the amount. spread: its standard deviation.
        known: the recording tells it. at: "lower" or "upper" where it is at that bound, or "".
        with_: the number that it trades off against most, with their correlation; "" if none.
    """

    free: Free
    value: float
    spread: float
    known: bool
    at: str = ""
    with_: str = ""


@dataclass
class Simulator:
    """Simulates candidates on the pieces of a comparison, and counts.

    Attributes:
        every_s: time after which a simulated robot is turned to the measured heading.
        simulated: control periods so far.
    """

    free: Sequence[Free]
    comparison: Comparison
    pose: Pose
    threads: int = 0
    every_s: float = WINDOW_S
    simulated: int = 0
    _replays: dict[int, Replay] = field(default_factory=dict)

    def signals(self, places: Array) -> tuple[dict[str, Array], NDArray[np.bool_]]:
        """Return the signals (C, T, K + 1, size) of places (C, P), and which (C,) diverged."""
        count, comparison = len(places), self.comparison
        if count not in self._replays:
            self._replays[count] = Replay(
                comparison.task, widest(self.free, self.pose), comparison.actions,
                comparison.turns(self.every_s), comparison.names, count, self.threads,
            )  # fmt: skip
        self.simulated += count * comparison.actions.shape[0] * comparison.actions.shape[1]
        given = [parameters_at(self.free, place, self.pose) for place in places]
        signals, lost = self._replays[count].run(given)
        return signals, np.asarray(lost.any(axis=1), dtype=bool)

    def mismatch(self, places: Array) -> tuple[Mismatch, NDArray[np.bool_]]:
        """Return the mismatch of places (C, P), and which (C,) diverged."""
        signals, lost = self.signals(places)
        return self.comparison.mismatch(signals), lost

    def close(self) -> None:
        """End threads."""
        for replay in self._replays.values():
            replay.close()


def cross_entropy(simulator: Simulator, settings: SearchSettings, start: Array) -> Array:
    """Return the best place (P,) of a cross-entropy search (Rubinstein and Kroese 2004).

    The first generation is spread over all between the bounds; each next one is drawn about the
    best quarter of the one before.
    """
    rng, p = np.random.default_rng(settings.seed), len(start)
    count = settings.candidates
    places = rng.uniform(0.0, 1.0, (count, p))
    places[0], places[1 : count // 2] = (
        start,
        np.clip(start + 0.15 * rng.standard_normal((count // 2 - 1, p)), 0.0, 1.0),
    )
    best, lowest = start, np.inf
    mean, deviation = start, np.full(p, 0.3)
    least = np.array([0.4 / (f.high - f.low) if f.whole else 0.01 for f in simulator.free])
    for generation in range(settings.generations):
        losses = total_loss(simulator, places)
        order = np.argsort(losses)[: max(count // 4, 2)]
        if losses[order[0]] < lowest:
            best, lowest = places[order[0]], losses[order[0]]
        elite = places[order]
        share = 0.7 if generation else 1.0
        mean = share * elite.mean(axis=0) + (1.0 - share) * mean
        deviation = np.maximum(share * elite.std(axis=0) + (1.0 - share) * deviation, least)
        places = np.clip(mean + deviation * rng.standard_normal((count, p)), 0.0, 1.0)
        places[0] = best
    return best


def total_loss(simulator: Simulator, places: Array) -> Array:
    """Return the losses (C,) of places (C, P): the negative log-likelihood of Gaussian errors
    whose size is not known, of each signal by itself, up to a constant."""
    mismatch, lost = simulator.mismatch(places)
    loss = np.zeros(len(places))
    for name, values in mismatch.items():
        count = simulator.comparison.numbers[name]
        loss += 0.5 * count * np.log((values**2).sum(axis=(1, 2, 3)) / max(count, 1) + FLOOR**2)
    return np.where(lost | ~np.isfinite(loss), np.inf, loss)


class Fit:
    """Bounded least squares from a place, on all windows but those that nothing explains.

    Args:
        simulator: with the pieces to fit.
        place: (P,), where the search ended.

    Attributes:
        place: (P,), the present place.
        scale: by signal, the size of a mismatch.
        used: (windows,), which windows are fitted. step: of the derivatives.
    """

    def __init__(self, simulator: Simulator, place: Array) -> None:
        self.simulator, self.place, self.step = simulator, place, STEPS[1]
        self.used = np.ones(len(simulator.comparison.windows.piece), dtype=bool)
        self.scale: dict[str, float] = {}
        mismatch, lost = simulator.mismatch(place[None])
        if lost.any():
            raise LogError("the simulation diverged with all that was tried; name fewer parameters")
        self._weigh(mismatch)
        self._leave_out(mismatch)
        self._weigh(mismatch)

    @property
    def free(self) -> Sequence[Free]:
        """The numbers of a place."""
        return self.simulator.free

    def _weigh(self, mismatch: Mismatch) -> None:
        for name, values in mismatch.items():
            count = self.simulator.comparison.numbers[name] * self.used.mean()
            square = float((values[0, self.used] ** 2).sum()) / max(count, 1.0)
            self.scale[name] = float(np.sqrt(square + FLOOR**2))

    def _leave_out(self, mismatch: Mismatch) -> None:
        """Leave out windows with a mismatch of five times the usual one: a push, a lost pose."""
        for name, values in mismatch.items():
            count = self.simulator.comparison.windows.valid[name].sum(axis=(1, 2))
            square = (values[0] ** 2).sum(axis=(1, 2)) / np.maximum(count * values.shape[-1], 1)
            size = np.sqrt(square)
            self.used &= size <= 5.0 * max(float(np.median(size)), FLOOR)
        if not self.used.any():
            self.used[:] = True

    def residuals(self, mismatch: Mismatch) -> Array:
        """Return mismatches in units of their size (C, windows, values)."""
        rows = [values / self.scale[name] for name, values in mismatch.items()]
        found: Array = np.concatenate([row.reshape(*row.shape[:2], -1) for row in rows], axis=-1)[
            :, self.used
        ]
        return found

    def refine(
        self, moving: NDArray[np.intp], evaluations: int = 8, steps: Sequence[float] = STEPS
    ) -> None:
        """Improve some numbers (indices) of the place; the others stay."""
        if not len(moving):
            return

        def at(short: Array) -> Array:
            place: Array = self.place.copy()
            place[moving] = short
            return place

        def value(short: Array) -> Array:
            mismatch, lost = self.simulator.mismatch(at(short)[None])
            residuals: Array = self.residuals(mismatch).ravel()
            return np.full_like(residuals, LARGE) if lost.any() else residuals

        def slopes(short: Array) -> Array:
            flat: Array = self.slopes(at(short), moving)[0].reshape(-1, len(moving))
            return flat

        for self.step in steps:
            start = np.clip(self.place[moving], 1e-6, 1.0 - 1e-6)
            result = least_squares(
                value, start, slopes, bounds=(0.0, 1.0), max_nfev=evaluations,
                ftol=1e-4, xtol=1e-4, gtol=1e-8,
            )  # fmt: skip
            self.place = at(result.x)
            self._weigh(self.simulator.mismatch(self.place[None])[0])

    def slopes(self, place: Array, moving: NDArray[np.intp]) -> tuple[Array, Array]:
        """Return central differences of the residuals (windows, values, moving), and the
        residuals (windows, values) in the middle."""
        low, high = np.tile(place, (2, len(moving), 1))
        each = np.arange(len(moving))
        low[each, moving] = np.maximum(place[moving] - self.step, 0.0)
        high[each, moving] = np.minimum(place[moving] + self.step, 1.0)
        mismatch, lost = self.simulator.mismatch(np.concatenate((low, high, place[None])))
        residuals = self.residuals(mismatch)
        n = len(moving)
        width = high[each, moving] - low[each, moving]
        slope = (residuals[n : 2 * n] - residuals[:n]) / width[:, None, None]
        slope[lost[:n] | lost[n : 2 * n]] = 0.0
        return np.moveaxis(slope, 0, -1), residuals[-1]

    def noise(self) -> dict[str, float]:
        """Return the standard deviation of each signal's noise, at the present place."""
        return self.simulator.comparison.noise(self.simulator.mismatch(self.place[None])[0])

    def losses(self, places: Array) -> Array:
        """Return the losses (C, windows) of places (C, P), in the present scale."""
        mismatch, lost = self.simulator.mismatch(places)
        squares: Array = 0.5 * (self.residuals(mismatch) ** 2).sum(axis=-1)
        squares[lost] = LARGE
        return squares

    def covariance(self, moving: NDArray[np.intp]) -> Array:
        """Return the covariance (moving, moving) of places.

        The larger one of two: as if all errors were independent; and from how much the pieces, or
        the windows of a few pieces, disagree (Huber's sandwich), because a model's errors last.
        Both with what was known before, so that a number of which nothing is seen keeps that
        spread.
        """
        self.step = STEPS[1]
        slope, residual = self.slopes(self.place, moving)
        flat = slope.reshape(-1, len(moving))
        prior = np.eye(len(moving)) / PRIOR**2
        inverse = np.linalg.inv(flat.T @ flat + prior)
        pull = np.einsum("wvp,wv->wp", slope, residual)
        piece = self.simulator.comparison.windows.piece[self.used]
        if len(np.unique(piece)) >= LEAST_PIECES:
            pull = np.stack([pull[piece == i].sum(axis=0) for i in np.unique(piece)])
        pull = pull - pull.mean(axis=0)
        spread = len(pull) / max(len(pull) - 1, 1) * pull.T @ pull
        sandwich: Array = inverse @ (spread + prior) @ inverse
        larger = np.sqrt(np.maximum(np.diag(sandwich) / np.diag(inverse), 1.0))
        found: Array = inverse * np.outer(larger, larger)
        return found


def scatter(fit: Fit, moving: NDArray[np.intp], seed: int) -> Array:
    """Return the standard deviations (moving,) of the places that parts of the pieces lead to.

    Each part is fitted by itself, from a start of its own. So they also differ by how rough the
    mismatch is, of which its derivatives know nothing. Zeros where there is one piece.
    """
    simulator, rng = fit.simulator, np.random.default_rng(seed)
    pieces, count = simulator.comparison.pieces, min(PARTS, len(simulator.comparison.pieces))
    if count < 2 or not len(moving):
        return np.zeros(len(moving))
    places = []
    for part in range(count):
        comparison = simulator.comparison
        some = Comparison(comparison.task, pieces[part::count], comparison.names)
        own = Simulator(fit.free, some, simulator.pose, simulator.threads)
        start = fit.place.copy()
        start[moving] += rng.choice((-0.03, 0.03), len(moving))
        each = Fit(own, np.clip(start, 0.0, 1.0))
        each.refine(moving, 6, STEPS[1:2])
        own.close()
        simulator.simulated += own.simulated
        places.append(each.place[moving])
    found: Array = np.std(places, axis=0, ddof=1)
    return found


def settle_whole(fit: Fit, settings: SearchSettings) -> dict[int, str]:
    """Compare each whole number with its neighbours, and move to the best.

    Returns:
        By index, how sure it is: "clear", "unclear" against a neighbour, or "unknown" where even
        the bounds are as good.
    """
    moving = np.array([i for i, free in enumerate(fit.free) if not free.whole], np.intp)
    sure: dict[int, str] = {}
    for i, free in enumerate(fit.free):
        if not free.whole:
            continue
        for _ in range(int(free.high - free.low) + 1):
            value = free.value(float(fit.place[i]))
            near = [v for v in (value - 1.0, value + 1.0) if free.low <= v <= free.high]
            tried = [_moved(fit, moving, i, free.place(v)) for v in near]
            losses = fit.losses(np.stack([fit.place, *tried]))
            worse = losses[1:] - losses[0]
            if not len(worse) or worse.sum(axis=1).min() >= 0.0:
                break
            fit.place = tried[int(worse.sum(axis=1).argmin())]
            fit.refine(moving, 3, STEPS[1:2])
        else:
            worse = np.zeros((1, 1))
        sure[i] = _sureness(fit, i, free, worse, settings.clear)
    return sure


def _moved(fit: Fit, moving: NDArray[np.intp], i: int, to: float) -> Array:
    """Return the place with one number changed, and the others after one Gauss-Newton step."""
    place: Array = fit.place.copy()
    place[i] = to
    if len(moving):
        slope, residual = fit.slopes(place, moving)
        flat = slope.reshape(-1, len(moving))
        ridge = np.eye(len(moving)) / PRIOR**2
        step = np.linalg.solve(flat.T @ flat + ridge, -flat.T @ residual.ravel())
        place[moving] = np.clip(place[moving] + np.clip(step, -0.1, 0.1), 0.0, 1.0)
    return place


def _sureness(fit: Fit, i: int, free: Free, worse: Array, clear: float) -> str:
    if all(_standard_errors(each) >= clear for each in worse):
        return "clear"
    edges = np.tile(fit.place, (3, 1))
    edges[1, i], edges[2, i] = 0.0, 1.0
    losses = fit.losses(edges)
    far = [_standard_errors(each - losses[0]) >= clear for each in losses[1:]]
    return "unclear" if any(far) else "unknown"


def _standard_errors(differences: Array) -> float:
    """Return a sum in units of its standard error, from its parts (windows,)."""
    total = float(differences.sum())
    error = float(differences.std() * np.sqrt(len(differences)))
    return total / error if error > 0.0 else (np.inf if total > 0.0 else 0.0)


def conclude(fit: Fit, settings: SearchSettings, sure: Mapping[int, str]) -> list[Found]:
    """Tell what the recording tells from what it does not, fit the rest again, and say how sure.

    What is not identifiable takes its nominal value, and its spread enters those of the others. A
    spread is the larger one of the standard error and the scatter among parts of the pieces.
    """
    smooth = np.array([i for i, free in enumerate(fit.free) if not free.whole], np.intp)
    known = {i for i, how in sure.items() if how != "unknown"}
    covariance = np.zeros((0, 0))
    fitted = set(smooth.tolist())
    while True:  # a number that was taken out may leave others that are known no better
        covariance = fit.covariance(smooth) if len(smooth) else covariance
        deviation = np.sqrt(np.diag(covariance))
        unknown = {
            int(i)
            for i, d in zip(smooth, deviation, strict=True)
            if d > settings.least_known * PRIOR and int(i) in fitted
        }
        if not unknown:
            break
        fitted -= unknown
        for i in unknown:
            fit.place[i] = fit.free[i].place(fit.free[i].nominal)
        fit.refine(np.array(sorted(fitted), np.intp), 6)
    for i in sure.keys() - known:
        fit.place[i] = fit.free[i].place(fit.free[i].nominal)
    moving = np.array(sorted(fitted), np.intp)
    among = dict(zip(moving.tolist(), scatter(fit, moving, settings.seed).tolist(), strict=True))
    found = []
    for i, free in enumerate(fit.free):
        z = float(fit.place[i])
        if free.whole:
            spread = 0.0 if sure[i] == "clear" else 0.5
            found.append(Found(free, free.value(z), spread, i in known, _edge(z)))
            continue
        row = int(np.flatnonzero(smooth == i)[0])
        spread = free.spread(z, max(float(deviation[row]), among.get(i, 0.0)))
        partner = _partner(covariance, row, [fit.free[int(j)].name for j in smooth])
        at = _edge(z) if i in fitted else ""
        found.append(Found(free, free.value(z), spread, i in fitted, at, partner))
    return found


def _edge(z: float) -> str:
    return "lower" if z < EDGE else "upper" if z > 1.0 - EDGE else ""


def _partner(covariance: Array, row: int, names: Sequence[str]) -> str:
    """Return which number one trades off against most, "" for a correlation below 0.7."""
    deviation = np.sqrt(np.diag(covariance))
    correlation = covariance[row] / (deviation * deviation[row])
    correlation[row] = 0.0
    most = int(np.abs(correlation).argmax())
    if abs(correlation[most]) < 0.7:
        return ""
    return f"{names[most]} ({correlation[most]:+.2f})"
