"""Short motions that may tell a robot's parameters: the candidates of a run plan.

Each begins and ends at rest, keeps to the contract's limits and rates, and is a part of a plan by
itself. The signals are those of the field (Ljung, System Identification, 1999, section 13.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from holdfast.contract import Contract
from holdfast.signals import Array

SEGMENT_S = 6.0
"""Length of a motion: it fits into a piece of an identification, with a few windows."""

STAND_S = 1.0
"""Time at the end of a motion in which the command is 0, so that the next one begins at rest."""

RAMP_S = 1.0
"""A channel is told no more than it may be told after so long, so that it is soon back at 0."""

EACH_KIND = 20
"""Candidates of each kind."""

SHARES = (0.0, 0.25, 0.5, 1.0, 1.0)
"""Shares of a channel's range that candidates use, equally likely."""

HOLDS_S = (0.2, 0.4, 0.8, 1.6)
"""Times for which steps and binary sequences hold a value."""

SLOWEST_HZ, FASTEST_HZ = 0.2, 3.0
"""Frequencies of sines and chirps."""

Shape = Callable[[np.random.Generator, Array], Array]


def _steps(rng: np.random.Generator, time: Array) -> Array:
    """Hold random values between -1 and 1."""
    return _held(time, rng.choice(HOLDS_S), lambda count: rng.uniform(-1.0, 1.0, count))


def _binary(rng: np.random.Generator, time: Array) -> Array:
    """Hold -1 or 1 at random: a pseudo-random binary sequence."""
    return _held(time, rng.choice(HOLDS_S), lambda count: rng.choice((-1.0, 1.0), count))


def _held(time: Array, hold_s: float, draw: Callable[[int], Array]) -> Array:
    at = np.floor(time / hold_s + 1e-9).astype(np.intp)
    return draw(int(at[-1]) + 1)[at]


def _chirp(rng: np.random.Generator, time: Array) -> Array:
    """Sweep the frequency of a sine up or down."""
    ends = np.array((SLOWEST_HZ, FASTEST_HZ))
    first, last = ends[:: rng.choice((-1, 1))]
    turns: Array = first * time + 0.5 * (last - first) * time**2 / time[-1]
    found: Array = rng.choice((-1.0, 1.0)) * np.sin(2.0 * np.pi * turns)
    return found


def _multisine(rng: np.random.Generator, time: Array) -> Array:
    """Add sines of random phases, scaled to reach 1."""
    hertz = np.arange(SLOWEST_HZ, FASTEST_HZ / 2.0, SLOWEST_HZ)
    phase = rng.uniform(0.0, 2.0 * np.pi, len(hertz))
    total = np.sin(2.0 * np.pi * hertz * time[:, None] + phase).sum(axis=1)
    found: Array = total / np.abs(total).max()
    return found


SHAPES: Mapping[str, Shape] = {
    "steps": _steps,
    "binary sequence": _binary,
    "chirp": _chirp,
    "multisine": _multisine,
}


def candidates(contract: Contract, seed: int) -> tuple[list[str], Array]:
    """Return kinds (C,) and commands (C, K, actions) of candidates, in physical units."""
    rng = np.random.default_rng(seed)
    kinds = [kind for kind in SHAPES for _ in range(EACH_KIND)]
    return kinds, np.stack([_segment(contract, rng, SHAPES[kind]) for kind in kinds])


def _segment(contract: Contract, rng: np.random.Generator, shape: Shape) -> Array:
    period_s, size = contract.period_s, contract.action_size
    most = contract.action_max_step / period_s * RAMP_S
    low, high = np.maximum(contract.action_low, -most), np.minimum(contract.action_high, most)
    ramp_s = float((np.maximum(-low, high) / most).max()) * RAMP_S
    moving = round((SEGMENT_S - STAND_S - ramp_s) / period_s)
    share = rng.choice(SHARES, size)
    while not share.any():
        share = rng.choice(SHARES, size)
    time = period_s * np.arange(moving, dtype=np.float64)
    form = np.stack([shape(rng, time) for _ in range(size)], axis=1) * share
    wanted = np.zeros((round(SEGMENT_S / period_s), size))
    wanted[:moving] = np.where(form < 0.0, -form * low, form * high)
    return admitted(contract, wanted)


def admitted(contract: Contract, wanted: Array) -> Array:
    """Return what the contract's limits and rates make of wanted commands (K, actions)."""
    applied, found = np.zeros(contract.action_size), []
    for each in wanted:
        applied = contract.admissible(applied, each)
        found.append(applied)
    return np.array(found)
