"""The search for the region: cross-entropy over batched simulations.

Places z of the search lie in [0, 1] between the bounds of each number; a factor's logarithm is
searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError
from holdfast.policy.identification import loss
from holdfast.policy.identification.compare import Comparison, Mismatch
from holdfast.policy.identification.free import Free, parameters_at, widest
from holdfast.schema import POSITIVE, PROPER_SHARE, SEED, Range, check
from holdfast.signals import Array
from holdfast.sim.batch.replay import Replay
from holdfast.sim.parameters.catalogue import Pose

WINDOW_S = 0.5
"""Length of the windows of the search, s: short ones, because the path of a robot that slips is
hardly told from one of another robot after a second."""

WIDE = 8
"""Candidates of the first generation, in usual generations."""

VALUES = 15
"""Values of each number that are tried once the search has ended."""

EARLY = 0.4
"""Share of the generations that look at a part of the motion."""


@dataclass(frozen=True)
class SearchSettings:
    """Settings of the search.

    Attributes:
        seed: seed of the search.
        candidates: simulated robots per generation of the cross-entropy search.
        generations: number of generations.
        search_s: seconds of motion that the search looks at, and as many to check it.
        fit_s: most seconds of motion that the least squares look at.
        least_known: largest standard deviation of an identified number, as a share of what it was
            before anything was seen.
        clear: standard errors by which a delay has to be better than its neighbours, and motion
            that was not fitted has to be predicted better for a weak parameter to leave its
            nominal value.
    """

    seed: Annotated[int, SEED] = 0
    candidates: Annotated[int, Range(8, 1000)] = 32
    generations: Annotated[int, Range(1, 1000)] = 14
    search_s: Annotated[float, POSITIVE] = 45.0
    fit_s: Annotated[float, POSITIVE] = 150.0
    least_known: Annotated[float, PROPER_SHARE] = 1.0 / 3.0
    clear: Annotated[float, POSITIVE] = 3.0

    def __post_init__(self) -> None:
        check(self, ConfigError)


USUAL = SearchSettings()


@dataclass
class Simulator:
    """Simulates candidates on the pieces of a comparison, and counts.

    Attributes:
        every_s: time after which a simulated robot is turned to the measured heading; None: with
            each window.
        simulated: control periods so far.
    """

    free: Sequence[Free]
    comparison: Comparison
    pose: Pose
    threads: int = 0
    every_s: float | None = None
    simulated: int = 0
    _replays: dict[int, Replay] = field(default_factory=dict)

    def signals(self, places: Array) -> tuple[dict[str, Array], NDArray[np.bool_]]:
        """Return the signals (C, T, K + 1, size) of places (C, P), and which (C,) diverged."""
        count, comparison = len(places), self.comparison
        every_s = comparison.window_s if self.every_s is None else self.every_s
        if count not in self._replays:
            self._replays[count] = Replay(
                comparison.task, widest(self.free, self.pose), comparison.actions,
                comparison.turns(every_s), comparison.names, count, self.threads,
            )  # fmt: skip
        self.simulated += count * comparison.actions.shape[0] * comparison.actions.shape[1]
        given = [parameters_at(self.free, place, self.pose) for place in places]
        signals, lost = self._replays[count].run(given)
        return signals, np.asarray(lost.any(axis=1), dtype=bool)

    def mismatch(self, places: Array) -> tuple[Mismatch, NDArray[np.bool_]]:
        """Return the mismatch of places (C, P), and which (C,) diverged."""
        signals, lost = self.signals(places)
        return self.comparison.mismatch(signals), lost

    def losses(self, places: Array) -> Array:
        """Return the losses (C, windows) of places (C, P), each with its own usual errors."""
        mismatch, lost = self.mismatch(places)
        squares = loss.squares(self.comparison, mismatch)
        found = loss.losses(self.comparison, squares, loss.usual(squares))
        found[lost | ~np.isfinite(found).all(axis=1)] = loss.LARGE
        return found

    def close(self) -> None:
        """End threads."""
        for replay in self._replays.values():
            replay.close()


def cross_entropy(
    brief: Simulator,
    simulator: Simulator,
    settings: SearchSettings,
    start: Array,
    moving: NDArray[np.intp],
) -> Array:
    """Return the best place (P,) of a cross-entropy search (Rubinstein and Kroese 2004).

    A quarter of the first generation is spread about the start, the rest over all between the
    bounds; each next one is drawn about the best of the one before. The first generation has eight
    times as many candidates as usual, and the other early ones twice as many, all on little motion:
    the region of the best is small, and a search that missed it at first never comes back.

    Args:
        brief: with a part of the motion, for the early generations.
        moving: the numbers that are searched, as indices; the others stay.
    """
    rng, count = np.random.default_rng(settings.seed), settings.candidates
    early = max(round(EARLY * settings.generations), 1)
    least = np.array([_least(simulator.free[i]) for i in moving])
    drawn = rng.uniform(0.0, 1.0, (WIDE * count, len(moving)))
    near = drawn[: len(drawn) // 4]
    near[:] = start[moving] + 0.15 * rng.standard_normal(near.shape)
    best, mean, deviation = start, start[moving], np.zeros(len(moving))
    for generation in range(settings.generations):
        places = np.tile(best, (len(drawn), 1))
        places[1:, moving] = np.clip(drawn[1:], 0.0, 1.0)
        elite = places[_order(brief if generation < early else simulator, places, count)]
        elite = elite[: max(count // (2 if generation < early else 4), 2)]
        best, kept = elite[0], elite[:, moving]
        share = 0.7 if generation else 1.0
        mean = share * kept.mean(axis=0) + (1.0 - share) * mean
        deviation = np.maximum(share * kept.std(axis=0) + (1.0 - share) * deviation, least)
        size = (2 * count if generation + 1 < early else count, len(moving))
        drawn = mean + deviation * rng.standard_normal(size)
    return best


def _least(free: Free) -> float:
    """Return the least standard deviation that a number is drawn with."""
    return 0.4 / (free.high - free.low) if free.whole else 0.01


def _order(simulator: Simulator, places: Array, at_once: int) -> NDArray[np.intp]:
    """Return places (C, P) by their losses, the least first, so many simulated at once."""
    parts = [places[i : i + at_once] for i in range(0, len(places), at_once)]
    return np.argsort(np.concatenate([simulator.losses(part).sum(axis=1) for part in parts]))


def elsewhere(
    screen: Simulator, simulator: Simulator, place: Array, moving: NDArray[np.intp]
) -> Array | None:
    """Return the best of the places (P,) that differ from a place in one number, of many values
    between its bounds; None: no other one fits better.

    A search may end where one number says nothing, as friction does in a robot that never slips,
    and least squares then have no slope to leave by.

    Args:
        screen: with a part of the motion, on which two values of each number are chosen.
        simulator: with all of it, on which those are judged.
    """
    values = (np.arange(VALUES) + 0.5) / VALUES
    tried = []
    for i in moving:
        places = np.tile(place, (VALUES, 1))
        places[:, i] = values
        tried += list(places[_order(screen, places, VALUES)[:2]])
    judged = np.stack([place, *tried])
    best = _order(simulator, judged, VALUES + 1)[0]
    return judged[best] if best else None
