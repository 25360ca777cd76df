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
from holdfast.policy.identification.tracks import WINDOW_S
from holdfast.schema import POSITIVE, PROPER_SHARE, Range, check
from holdfast.signals import Array
from holdfast.sim.batch.replay import Replay
from holdfast.sim.parameters.catalogue import Pose


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

    seed: Annotated[int, Range(0)] = 0
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
    simulator: Simulator, settings: SearchSettings, start: Array, moving: NDArray[np.intp]
) -> Array:
    """Return the best place (P,) of a cross-entropy search (Rubinstein and Kroese 2004).

    Half of the first generation is spread over all between the bounds, half about the start; each
    next one is drawn about the best quarter of the one before.

    Args:
        moving: the numbers that are searched, as indices; the others stay.
    """
    rng, p, count = np.random.default_rng(settings.seed), len(moving), settings.candidates
    drawn = rng.uniform(0.0, 1.0, (count, p))
    near = start[moving] + 0.15 * rng.standard_normal((count // 2, p))
    drawn[: count // 2] = np.clip(near, 0.0, 1.0)
    best, lowest = start, np.inf
    mean, deviation = start[moving], np.full(p, 0.3)
    whole = [
        (simulator.free[i].whole, simulator.free[i].high - simulator.free[i].low) for i in moving
    ]
    least = np.array([0.4 / width if is_whole else 0.01 for is_whole, width in whole])
    for generation in range(settings.generations):
        places = np.tile(best, (count, 1))
        places[1:, moving] = drawn[1:]
        losses = simulator.losses(places).sum(axis=1)
        order = np.argsort(losses)[: max(count // 4, 2)]
        if losses[order[0]] < lowest:
            best, lowest = places[order[0]], losses[order[0]]
        elite = places[order][:, moving]
        share = 0.7 if generation else 1.0
        mean = share * elite.mean(axis=0) + (1.0 - share) * mean
        deviation = np.maximum(share * elite.std(axis=0) + (1.0 - share) * deviation, least)
        drawn = np.clip(mean + deviation * rng.standard_normal((count, p)), 0.0, 1.0)
    return best
