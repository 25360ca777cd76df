"""Probes: observations over the whole range of the signals that a contract observes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from holdfast.contract import Contract
from holdfast.observer import Observer
from holdfast.signals import APPLIED_ACTION, BUDGET_LEFT, EPISODE_LEFT, Array

SPANS: Mapping[str, float] = {
    "m": 10.0,
    "rad": math.pi,
    "m/s": 3.0,
    "rad/s": 10.0,
    "m/s^2": 20.0,
    "N m": 50.0,
    "1": 1.0,
    "m/s, m/s, rad/s": 2.0,
}
"""Largest magnitude by unit of a signal whose range the contract does not declare; in another
unit, 10."""

NOT_NEGATIVE = frozenset(
    {"scan", "height", "contact", "apple_proximity", "bomb_proximity", "apples_taken",
     "bombs_taken", "goals_reached", EPISODE_LEFT}
)  # fmt: skip
UNIT_VECTORS = frozenset({"orientation", "projected_gravity"})


def observations(contract: Contract, count: int, seed: int = 0) -> Array:
    """Return observations (count, n), each signal drawn uniformly from its range."""
    rng, observe = np.random.default_rng(seed), Observer(contract)
    signals = [_signals(contract, count, rng) for _ in range(observe.depth)]
    return observe(signals[0], signals[1:])


def _signals(contract: Contract, count: int, rng: np.random.Generator) -> dict[str, Array]:
    sizes = {channel.signal: channel.signal_size for channel in contract.observation}
    drawn = {}
    for name, size in sizes.items():
        low, high = _range(contract, name)
        values = rng.uniform(low, high, (count, size))
        if name in UNIT_VECTORS:
            values /= np.linalg.norm(values, axis=1, keepdims=True)
        drawn[name] = values
    return drawn


def _range(contract: Contract, name: str) -> tuple[float, float]:
    if name in (APPLIED_ACTION, EPISODE_LEFT):
        span = 1.0
    elif name == BUDGET_LEFT:
        span = max(cost.episode_cap for cost in contract.costs)
    else:
        span = SPANS.get(contract.known_signals[name].unit, 10.0)
    least = 0.0 if name in NOT_NEGATIVE else -span
    low, high = contract.sensor_ranges.get(name, (-math.inf, math.inf))
    if math.isinf(low):
        low = min(least, high - span)
    return low, high if math.isfinite(high) else max(span, low + span)
