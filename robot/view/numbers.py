"""Numbers of a log as JSON: rounded, and null where a number is not finite."""

from __future__ import annotations

from typing import Any

import numpy as np

from holdfast.signals import Array


def plain_numbers(values: Array, digits: int = 4) -> Any:
    """Return numbers of any shape as nested lists."""
    with np.errstate(all="ignore"):  # a hostile log may hold any number
        rounded = np.round(np.asarray(values, dtype=np.float64), digits)
    finite = np.isfinite(rounded)
    if finite.all():
        return rounded.tolist()
    either = rounded.astype(object)
    either[~finite] = None
    return either.tolist()


def columns(values: Array, digits: int = 4) -> list[Any]:
    """Return the columns of (rows, size), a list each."""
    return [plain_numbers(column, digits) for column in values.T]
