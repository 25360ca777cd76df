"""What a fit tells: how sure each number is, and which ones the recording does not tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holdfast.policy.identification.compare import Comparison
from holdfast.policy.identification.fit import PRIOR, STEPS, Fit, standard_errors
from holdfast.policy.identification.free import Free
from holdfast.policy.identification.search import SearchSettings, Simulator
from holdfast.signals import Array

EDGE = 0.01
"""Distance from a bound, as a share of the range, at which a number counts as being at it."""

PARTS = 4
"""Parts of the pieces that are fitted by themselves."""

LEAST_EPISODES = 10
"""Episodes from which on their disagreement tells a spread, and not that of their windows."""


@dataclass(frozen=True)
class Found:
    """One searched number.

    Attributes:
        value: the amount. spread: its standard deviation.
        known: the recording tells it. at: "lower" or "upper" where it is at that bound, or "".
        with_: the number that it trades off against most, with their correlation; "" if none.
        moved: it was fitted; False: its nominal value explains motion as well.
    """

    free: Free
    value: float
    spread: float
    known: bool
    at: str = ""
    with_: str = ""
    moved: bool = True


def covariance(fit: Fit, moving: NDArray[np.intp]) -> Array:
    """Return the covariance (moving, moving) of places.

    The larger one of two: as if all errors were independent; and from how much the episodes, or
    the windows of a few episodes, disagree (Huber's sandwich), because a model's errors last.
    Both with what was known before, so that a number of which nothing is seen keeps that
    spread. Only what slopes over two steps have in common counts, because a rough mismatch has
    slopes over each single step that are no information.
    """
    slope, wide, residual = two_slopes(fit, moving)
    prior = np.eye(len(moving)) / PRIOR**2
    flat = (each.reshape(-1, len(moving)) for each in (slope, wide))
    inverse = np.linalg.inv(information(*flat) + prior)
    pull = np.einsum("wvp,wv->wp", slope, residual)
    episode = _episodes(fit)
    if len(np.unique(episode)) >= LEAST_EPISODES:
        pull = np.stack([pull[episode == i].sum(axis=0) for i in np.unique(episode)])
    pull = pull - pull.mean(axis=0)
    spread = len(pull) / max(len(pull) - 1, 1) * pull.T @ pull
    sandwich: Array = inverse @ (spread + prior) @ inverse
    larger = np.sqrt(np.maximum(np.diag(sandwich) / np.diag(inverse), 1.0))
    found: Array = inverse * np.outer(larger, larger)
    return found


def two_slopes(fit: Fit, moving: NDArray[np.intp]) -> tuple[Array, Array, Array]:
    """Return slopes (windows, values, moving) over a step and over a wider one, and the residuals
    (windows, values)."""
    fit.step = STEPS[0]
    wide, _ = fit.slopes(fit.place, moving)
    fit.step = STEPS[1]
    slope, residual = fit.slopes(fit.place, moving)
    return slope, wide, residual


def information(slope: Array, wide: Array) -> Array:
    """Return the information (P, P) in slopes (N, P): of each, the share that it has in common with
    the slope over a wider step."""
    own = np.maximum((slope**2).sum(axis=0), 1e-12)
    share = np.sqrt(np.clip((slope * wide).sum(axis=0) / own, 0.0, 1.0))
    found: Array = slope.T @ slope * np.outer(share, share)
    return found


def _episodes(fit: Fit) -> NDArray[np.intp]:
    """Return which episode each used window (windows,) is of."""
    pieces = fit.simulator.comparison.pieces
    tracks = [id(piece.track) for piece in pieces]
    numbers = np.array([tracks.index(each) for each in tracks], np.intp)
    found: NDArray[np.intp] = numbers[fit.simulator.comparison.windows.piece[fit.used]]
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


def settle_whole(fit: Fit, chosen: Sequence[int], settings: SearchSettings) -> dict[int, str]:
    """Compare each whole number with its neighbours, and move to the best.

    Args:
        chosen: the other numbers that left their nominal values; they move with it.

    Returns:
        By index, how sure it is: "clear", "unclear" against a neighbour, or "unknown" where even
        the bounds are as good.
    """
    moving = np.array(sorted(chosen), np.intp)
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
    if all(standard_errors(each) >= clear for each in worse):
        return "clear"
    edges = np.tile(fit.place, (3, 1))
    edges[1, i], edges[2, i] = 0.0, 1.0
    losses = fit.losses(edges)
    far = [standard_errors(each - losses[0]) >= clear for each in losses[1:]]
    return "unclear" if any(far) else "unknown"


def conclude(
    fit: Fit,
    moving: Sequence[int],
    moved: Array,
    settings: SearchSettings,
    sure: Mapping[int, str],
) -> list[Found]:
    """Tell what the recording tells from what it does not, fit that again, and say how sure.

    Args:
        moving: the smooth numbers that were fitted, as indices. moved: how far numbers (P,) moved
            when one of the others was let free. sure: see `settle_whole`.

    What did not move is not told, because its value does not help predictions. What is not
    identifiable takes its nominal value, and its spread enters those of the others. A
    spread is the larger one of the standard error and the scatter among parts of the pieces, and
    in squares how far a number moved when one of the others was let free.
    """
    smooth = np.array([i for i, free in enumerate(fit.free) if not free.whole], np.intp)
    known = {i for i, how in sure.items() if how != "unknown"}
    joint = np.zeros((0, 0))
    fitted = set(moving)
    while True:  # a number that was taken out may leave others that are known no better
        joint = covariance(fit, smooth) if len(smooth) else joint
        deviation = np.sqrt(np.diag(joint))
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
        fit.refine(np.array(sorted(fitted), np.intp), 4, STEPS[2:])
    for i in sure.keys() - known:
        fit.place[i] = fit.free[i].place(fit.free[i].nominal)
    kept = np.array(sorted(fitted), np.intp)
    among = dict(zip(kept.tolist(), scatter(fit, kept, settings.seed).tolist(), strict=True))
    found = []
    for i, free in enumerate(fit.free):
        z = float(fit.place[i])
        if free.whole:
            spread = 0.0 if sure[i] == "clear" else 0.5
            found.append(Found(free, free.value(z), spread, i in known, _edge(z)))
            continue
        row = int(np.flatnonzero(smooth == i)[0])
        error = max(float(deviation[row]), among.get(i, 0.0))
        spread = free.spread(z, float(np.hypot(error, moved[i])))
        partner = _partner(joint, row, [fit.free[int(j)].name for j in smooth])
        at = _edge(z) if i in fitted else ""
        found.append(Found(free, free.value(z), spread, i in fitted, at, partner, i in moving))
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
