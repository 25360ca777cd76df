"""Familiarity: how far an observation is from those that a policy was trained on."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from holdfast.errors import BundleError
from holdfast.safety_monitor.judge import Judge, When
from holdfast.safety_monitor.look import Seen
from holdfast.safety_monitor.messages import FALLBACK, LIMITED
from holdfast.safety_monitor.reasons import UNFAMILIAR
from holdfast.safety_monitor.scalar import clamp
from holdfast.schema import POSITIVE, Range, check
from holdfast.signals import Array

WHERE = "familiarity"

REFERENCE_QUANTILE = 0.99
"""Of the squared distances seen in training: what lies beyond it counts as odd."""

RIDGE = 1e-4
"""Share of each channel's variance that is added to it, so that channels which move as one in
training do not turn the noise of their difference into a distance."""

LEAST_STD = 1e-3
"""A channel that hardly moved in training is measured by this, in its own unit."""


@dataclass(frozen=True)
class Familiarity:
    """What training knew, and how much oddness is ordinary.

    An observation's squared Mahalanobis distance is |whitening (x - mean)|^2. A step's oddness
    is its ratio to `reference`, less 1, clipped to [-1, 1]; a CUSUM adds it up over an episode
    and never falls below 0. One odd sample adds at most 1, a drift adds up.

    "Training" is the simulation, and a robot's logs where the policy was fine-tuned on some.

    Attributes:
        mean: of the observations, (n,).
        whitening: lower triangular, (n, n) by rows: inverse Cholesky factor of the covariance.
        reference: squared distance that is just not odd.
        threshold: of the CUSUM; crossed in at most a share `false_alarm_rate` of episodes
            like those it was calibrated on.
        episodes: how many those were, in simulation; logged: how many more of a robot.
    """

    mean: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]
    reference: Annotated[float, POSITIVE]
    threshold: Annotated[float, Range(1.0)]
    false_alarm_rate: float
    episodes: int
    logged: int

    def __post_init__(self) -> None:
        check(self, BundleError, WHERE)
        n = len(self.mean)
        square = len(self.whitening) == n and all(len(row) == n for row in self.whitening)
        if not (n and square):
            raise BundleError(f"{WHERE}: whitening should be {n} rows of {n}, n at least 1")

    def require_size(self, size: int) -> None:
        """Check that it is of observations of this size.

        Raises:
            BundleError: it is not.
        """
        if len(self.mean) != size:
            raise BundleError(
                f"{WHERE}: should be of {size} observed values, received {len(self.mean)}"
            )


class Drift(Judge):
    """The CUSUM of one episode.

    Beyond the threshold the robot is slowed; beyond twice the threshold a controlled stop
    follows. So the false alarms that stop a robot are fewer than those that were calibrated.

    Args:
        familiarity: the bundle's; this check has no block in the robot's file.
        signals: those that the observation is made of; without all of them nothing is judged.
    """

    when = When.MOTION

    def __init__(self, familiarity: Familiarity, signals: Collection[str]) -> None:
        self._observed = frozenset(signals)
        self._mean = np.array(familiarity.mean)
        self._whitening = np.array(familiarity.whitening)
        self._reference = familiarity.reference
        self._threshold = familiarity.threshold
        self.forget()

    def forget(self) -> None:
        """Start anew."""
        self.total = 0.0

    def add(self, observation: Array) -> None:
        """Count one observation, shape (n,), finite."""
        z = self._whitening.dot(observation - self._mean)  # `dot` is twice as fast as `@`
        oddness = min(float(z.dot(z)) / self._reference, 2.0) - 1.0
        # Held within reach, so that what has become familiar again is soon so judged.
        self.total = clamp(self.total + oddness, 0.0, 2.0 * self._threshold + 1.0)

    def judge(self, seen: Seen) -> None:
        """Count the newest observation, and append what the total says."""
        if not seen.arrays.keys() >= self._observed:
            return
        self.add(seen.observation)
        if self.total <= self._threshold:
            return
        state = LIMITED if self.total <= 2.0 * self._threshold else FALLBACK
        seen.reasons.append(UNFAMILIAR(state, total=self.total, threshold=self._threshold))


def fit_familiarity(
    episodes: Sequence[Array], false_alarm_rate: float, logged: Sequence[Array] = ()
) -> Familiarity:
    """Measure and calibrate familiarity on episodes of the policy.

    Every other episode is for mean, covariance and reference; of the rest, the CUSUM's largest
    value per episode gives the threshold, by split conformal prediction: of n such values the
    ceil((n + 1)(1 - rate))-th smallest is exceeded by that of a new episode with a probability
    of at most `rate`, whatever their distribution, as long as episodes are exchangeable (Vovk
    et al. 2005). Steps within one need not be independent. The higher threshold, that of the
    simulation's or that of the logged episodes, holds for both.

    Args:
        episodes: observations in simulation, (steps, n) each.
        false_alarm_rate: per episode.
        logged: the same of a robot, in the order in which it was, so that what changed while
            it ran is in both halves.

    Raises:
        BundleError: too few episodes for the rate, or not finite.
    """
    if not 0.0 < false_alarm_rate < 1.0:
        raise BundleError(
            f"{WHERE}: false_alarm_rate should be between 0 and 1, received {false_alarm_rate}"
        )
    kinds = [_arrays(episodes, false_alarm_rate)]
    if len(logged):
        kinds.append(_arrays(logged, false_alarm_rate))
    seen = np.concatenate([array for kind in kinds for array in kind[1::2]])
    mean = seen.mean(axis=0)
    covariance = np.atleast_2d(np.cov(seen, rowvar=False, bias=True))
    covariance += np.diag(RIDGE * np.diag(covariance) + LEAST_STD**2)
    whitening = np.linalg.inv(np.linalg.cholesky(covariance))
    reference = float(np.quantile(_squared_distance(seen, mean, whitening), REFERENCE_QUANTILE))
    threshold = 1.0  # at least, so that a single sample alone is never enough
    for kind in kinds:
        largest = sorted(
            _largest_total(_squared_distance(array, mean, whitening) / reference)
            for array in kind[::2]
        )
        threshold = max(threshold, largest[_rank(len(largest), false_alarm_rate) - 1])
    return Familiarity(
        mean=tuple(mean.tolist()),
        whitening=tuple(tuple(row) for row in whitening.tolist()),
        reference=reference,
        threshold=threshold,
        false_alarm_rate=false_alarm_rate,
        episodes=len(episodes) - len(episodes) // 2,
        logged=len(logged) - len(logged) // 2,
    )


def _arrays(episodes: Sequence[Array], rate: float) -> list[Array]:
    """Return episodes as arrays, after a look at whether they will do."""
    arrays = [np.asarray(episode, dtype=np.float64) for episode in episodes]
    if not arrays or any(array.ndim != 2 or array.size == 0 for array in arrays):
        raise BundleError(f"{WHERE}: episodes should be arrays of shape (steps, n)")
    if not all(np.isfinite(array).all() for array in arrays):
        raise BundleError(f"{WHERE}: episodes should be finite")
    half = len(arrays) // 2
    if half == 0 or _rank(len(arrays) - half, rate) > len(arrays) - half:
        least = 2 * math.ceil(1.0 / rate - 1.0)
        raise BundleError(
            f"{WHERE}: a false-alarm rate of {rate} takes about {least} episodes, "
            f"received {len(arrays)}"
        )
    return arrays


def _rank(calibrating: int, rate: float) -> int:
    return math.ceil((calibrating + 1) * (1.0 - rate))


def _squared_distance(observations: Array, mean: Array, whitening: Array) -> Array:
    z = (observations - mean) @ whitening.T
    squared: Array = np.einsum("ij,ij->i", z, z)
    return squared


def _largest_total(ratios: Array) -> float:
    total = largest = 0.0
    for oddness in (np.minimum(ratios, 2.0) - 1.0).tolist():
        total = max(total + oddness, 0.0)
        largest = max(largest, total)
    return largest
