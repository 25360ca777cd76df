"""Confidence intervals of means over episodes."""

from __future__ import annotations

import numpy as np

from holdfast.signals import Array


def interval(values: Array, resamples: int = 2000) -> dict[str, float]:
    """Return the mean of values (n,) with a 95 % bootstrap interval (Efron 1979), seeded.

    Episode costs are skewed, so a normal interval would be wrong at the low end.
    """
    rng = np.random.default_rng(0)
    means = rng.choice(values, (resamples, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}
