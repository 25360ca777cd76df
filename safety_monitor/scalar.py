"""Arithmetic on plain numbers: on a handful of them it is many times as fast as on arrays."""

from __future__ import annotations

import math

DRAIN = 0.25
"""Seconds that a clock of misbehaviour goes back in a second without it."""


def finite(numbers: list[float]) -> bool:
    """Whether all are finite."""
    return all(map(math.isfinite, numbers))


def clamp(value: float, low: float, high: float) -> float:
    """Return what is nearest to a value in [low, high]."""
    return low if value < low else high if value > high else value


def shrink(value: float, by: float) -> float:
    """Return a value moved towards zero by `by`, but not past it."""
    return value - clamp(value, -by, by)


def run_clock(lasted_s: float, passed_s: float, wrong: bool) -> float:
    """Return for how long something has been wrong, `passed_s` after it was so for `lasted_s`.

    It drains slowly while all is well, so that one good sample absolves nothing.
    """
    if wrong:
        return lasted_s + passed_s
    return max(0.0, lasted_s - DRAIN * passed_s)
