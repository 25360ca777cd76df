"""Where things lie when an episode starts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from holdfast.signals import Array


@dataclass(frozen=True)
class Grid:
    """Cells around the origin, whose own cell stays free.

    Attributes:
        columns: cells along x, and along y; of an even number, the lower side has one more.
        spacing_m: from middle to middle.
        jitter_m: how far from its cell's middle a thing may lie, along x and along y.
    """

    columns: int
    spacing_m: float
    jitter_m: float = 0.0

    @cached_property
    def middles(self) -> Array:
        """Middles of the free cells, (columns² − 1, 2), m."""
        ticks = np.arange(self.columns) - self.columns // 2
        cells = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
        free = cells[cells.any(axis=1)].astype(np.float64)
        return self.spacing_m * free

    def scatter(self, rng: np.random.Generator, n: int, count: int) -> Array:
        """Draw n times `count` places, each in a cell of its own: (n, count, 2), m."""
        order = rng.random((n, len(self.middles))).argsort(axis=1)[:, :count]
        jitter = rng.uniform(-self.jitter_m, self.jitter_m, (n, count, 2))
        return self.middles[order] + jitter
