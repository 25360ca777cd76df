"""Bounded least squares on windows of motion, and the forward selection that is made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from holdfast.errors import LogError
from holdfast.policy.identification import loss
from holdfast.policy.identification.compare import FLOOR, Mismatch
from holdfast.policy.identification.free import Free
from holdfast.policy.identification.search import Simulator, elsewhere
from holdfast.signals import Array

PRIOR = 1.0 / np.sqrt(12.0)
"""Standard deviation of a place before anything is seen: all between the bounds is as likely."""

STEPS = (0.08, 0.04, 0.02)
"""Steps of the numerical derivatives in turn, as shares of the range. A tyre that slips makes the
mismatch rough on a fine scale, where a derivative says nothing of the way to the minimum."""

FURTHEST = 0.3
"""Furthest that a number is thought to move when its worth is judged by derivatives."""

AGAIN = 3
"""Most times that least squares begin again where one number has another value."""

AS_WELL = 2.0
"""Motion is explained as well if it is explained worse by at most so many standard errors."""

ATTEMPTS = 3
"""Parameters in turn that have to be found worthless before the selection ends."""


class Fit:
    """Bounded least squares from a place, on all windows but those that nothing explains.

    Args:
        simulator: with the pieces to fit.
        place: (P,), where to begin.

    Attributes:
        place: (P,), the present place.
        usual: by signal, (1, 1), the usual square of a window's mismatch at the present place.
        scale: by signal, (windows,), in what units its mismatch is.
        used: (windows,), which windows are fitted. step: of the derivatives.
    """

    def __init__(self, simulator: Simulator, place: Array) -> None:
        self.simulator, self.place, self.step = simulator, place, STEPS[1]
        self.used = np.ones(len(simulator.comparison.windows.piece), dtype=bool)
        self.usual: dict[str, Array] = {}
        self.scale: dict[str, Array] = {}
        mismatch, lost = simulator.mismatch(place[None])
        if lost.any():
            raise LogError("the simulation diverged with all that was tried; name fewer parameters")
        self._weigh(mismatch)
        self._leave_out(mismatch)

    @property
    def free(self) -> Sequence[Free]:
        """The numbers of a place."""
        return self.simulator.free

    def _weigh(self, mismatch: Mismatch) -> None:
        """Give a window with a large mismatch little weight, as its likelihood asks."""
        squares = loss.squares(self.simulator.comparison, mismatch)
        self.usual = loss.usual(squares)
        self.scale = {
            name: np.sqrt((size + np.nan_to_num(squares[name])) / 2.0)[0]
            for name, size in self.usual.items()
        }

    def _leave_out(self, mismatch: Mismatch) -> None:
        """Leave out windows with a mismatch of five times the usual one: a push, a lost pose."""
        for square in loss.squares(self.simulator.comparison, mismatch).values():
            size = np.sqrt(np.nan_to_num(square[0]))
            self.used &= size <= 5.0 * max(float(np.median(size)), FLOOR)
        if not self.used.any():
            self.used[:] = True

    def residuals(self, mismatch: Mismatch) -> Array:
        """Return mismatches in units of their size (C, windows, values)."""
        rows = [mismatch[n] / scale[:, None, None] for n, scale in self.scale.items()]
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
            return np.full_like(residuals, loss.LARGE) if lost.any() else residuals

        def slopes(short: Array) -> Array:
            flat: Array = self.slopes(at(short), moving)[0].reshape(-1, len(moving))
            return flat

        for self.step in steps:
            start = np.clip(self.place[moving], 1e-6, 1.0 - 1e-6)
            result = least_squares(
                value, start, slopes, bounds=(0.0, 1.0), max_nfev=evaluations,
                ftol=1e-3, xtol=1e-3, gtol=1e-8,
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
        """Return the losses (C, windows) of places (C, P), all with the present usual errors."""
        mismatch, lost = self.simulator.mismatch(places)
        squares = loss.squares(self.simulator.comparison, mismatch)
        found = loss.losses(self.simulator.comparison, squares, self.usual)[:, self.used]
        found[lost] = loss.LARGE
        return found


def settle(screen: Simulator, simulator: Simulator, place: Array, moving: NDArray[np.intp]) -> Fit:
    """Return the least squares from a place (P,), begun again wherever another value of one of the
    moving numbers (indices) fits better; `screen` as for `elsewhere`."""
    fit = Fit(simulator, place)
    fit.refine(moving, 6)
    for _ in range(AGAIN):
        better = elsewhere(screen, simulator, fit.place, moving)
        if better is None:
            break
        fit = Fit(simulator, better)
        fit.refine(moving, 6)
    return fit


def standard_errors(differences: Array) -> float:
    """Return a sum in units of its standard error, from its parts (windows,)."""
    total = float(differences.sum())
    error = float(differences.std() * np.sqrt(len(differences)))
    return total / error if error > 0.0 else (np.inf if total > 0.0 else 0.0)


def select(
    fit: Fit,
    checked: Simulator,
    chosen: Sequence[int],
    clear: float,
    say: Callable[[str], None],
) -> tuple[list[int], Array]:
    """Let weak parameters leave their nominal values one after another, while that predicts better.

    The next one is the one from which derivatives promise most, when those before move with it
    (orthogonal least squares: Chen, Billings and Luo 1989). It stays if motion that was not fitted
    is then predicted significantly better.

    Args:
        fit: on the motion to search; its place is moved.
        checked: with motion that is not fitted.
        chosen: the smooth numbers that move anyway, as indices.
        clear: standard errors by which predictions have to be better.

    Returns:
        All smooth numbers that move; and how far each number (P,) moved, at most, when one that
        stays nominal was let free: the data hardly tell these fits apart.
    """
    moving, failed, moved = list(chosen), 0, np.zeros(len(fit.free))
    rest = [i for i, f in enumerate(fit.free) if not f.whole and i not in moving]
    while rest and failed < ATTEMPTS:
        added = rest.pop(int(_worth(fit, moving, rest).argmax()))
        before = fit.place
        fit.refine(np.array([*moving, added], np.intp), 5, STEPS[1:2])
        losses = checked.losses(np.stack((before, fit.place)))
        better = standard_errors(losses[0] - losses[1])
        if better < clear:
            moved = np.maximum(moved, np.abs(fit.place - before))
            fit.place, failed = before, failed + 1
            continue
        moving, failed, moved = [*moving, added], 0, 0.0 * moved
        say(f"adds {fit.free[added].name}: predictions are {better:.1f} standard errors better")
    return moving, moved


def drop(
    fit: Fit, chosen: Sequence[int], weak: Sequence[int], say: Callable[[str], None]
) -> tuple[list[int], Array]:
    """Give weak parameters that a person named their nominal values again, one after another, where
    that explains the motion as well.

    A mismatch that slip makes rough has many minima, and derivatives in one of them know nothing of
    the others: they would make a narrow spread of a value that is as good as any.

    Args:
        chosen: the smooth numbers that move, as indices. weak: those of them that may be dropped.

    Returns:
        As `select`.
    """
    moving, moved = list(chosen), np.zeros(len(fit.free))
    for i in weak:
        before, usual, scale = fit.place, fit.usual, fit.scale
        rest = [k for k in moving if k != i]
        fit.place = before.copy()
        fit.place[i] = fit.free[i].place(fit.free[i].nominal)
        fit.refine(np.array(rest, np.intp), 4, STEPS[1:])
        losses = fit.simulator.losses(np.stack((before, fit.place)))
        worse = standard_errors(losses[1] - losses[0])
        if worse > AS_WELL:
            fit.place, fit.usual, fit.scale = before, usual, scale
            continue
        moving = rest
        moved[rest] = np.maximum(moved[rest], np.abs(fit.place - before)[rest])
        say(f"drops {fit.free[i].name}: its nominal value explains the motion as well")
    return moving, moved


def _worth(fit: Fit, chosen: Sequence[int], rest: Sequence[int]) -> Array:
    """Return by how much each of some parameters (rest,) would lower the squares, together with
    new values of the chosen ones, if all were linear."""
    fit.step = STEPS[1]
    moving = np.array([*chosen, *rest], np.intp)
    slope, residual = fit.slopes(fit.place, moving)
    flat, left = slope.reshape(-1, len(moving)), residual.ravel()
    if chosen:
        basis, _ = np.linalg.qr(flat[:, : len(chosen)])
        flat, left = flat - basis @ (basis.T @ flat), left - basis @ (basis.T @ left)
    own = flat[:, len(chosen) :]
    curve, pull = (own**2).sum(axis=0) + 1.0 / PRIOR**2, -own.T @ left
    z = fit.place[list(rest)]
    step = np.clip(pull / curve, np.maximum(-FURTHEST, -z), np.minimum(FURTHEST, 1.0 - z))
    worth: Array = 2.0 * step * pull - step**2 * curve
    return worth
