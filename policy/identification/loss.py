"""How ill simulated motion fits: a loss that a few windows cannot dominate.

A tyre slips at one value of a parameter and holds at the next one, so that the mismatch of a window
jumps while a parameter changes a little. The error of a window is therefore taken for one of a
heavy-tailed distribution (Cauchy's, by windows) whose size is the usual one of all windows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from holdfast.policy.identification.compare import FLOOR, Comparison, Mismatch
from holdfast.signals import Array

LARGE = 1e9
"""The loss of a window in a simulation that diverged."""


def squares(comparison: Comparison, mismatch: Mismatch) -> dict[str, Array]:
    """Return the mean square of each signal's mismatch in each window (C, windows), NaN where a
    window has no reading."""
    found = {}
    for name, values in mismatch.items():
        count = counts(comparison, name)
        total = (values**2).sum(axis=(2, 3))
        found[name] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return found


def counts(comparison: Comparison, name: str) -> Array:
    """Return how many numbers of a signal each window (windows,) has."""
    readings = comparison.windows.valid[name].sum(axis=(1, 2))
    return np.asarray(readings * comparison.names[name], np.float64)


def usual(squares: Mapping[str, Array]) -> dict[str, Array]:
    """Return the usual square of each signal's mismatch (C, 1): the median of all windows."""
    return {
        name: np.nanmedian(values, axis=1, keepdims=True) + FLOOR**2
        for name, values in squares.items()
        if np.isfinite(values).any()
    }


def losses(
    comparison: Comparison, squares: Mapping[str, Array], usual: Mapping[str, Array]
) -> Array:
    """Return the loss of each window (C, windows): the negative log-likelihood up to a constant.

    Args:
        squares: see `squares`. usual: by signal, (C, 1), or (1, 1) to compare candidates.
    """
    found = np.zeros(next(iter(squares.values())).shape)
    for name, size in usual.items():
        each = 0.5 * counts(comparison, name) * np.log(size + squares[name])
        found += np.nan_to_num(each, nan=0.0)
    return found
