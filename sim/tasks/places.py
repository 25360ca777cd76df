"""Places of things at an episode's start."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from holdfast.signals import Array


@dataclass(frozen=True)
class Grid:
    """Square cells around the origin. The origin's own cell stays free.

    Attributes:
        columns: number of cells along x and along y; an even number has one more below 0.
        spacing_m: distance between the middles of neighbouring cells.
        jitter_m: largest distance of a thing from its cell's middle, along x and along y.
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
        """Draw n times `count` places in different cells: (n, count, 2), m."""
        order = rng.random((n, len(self.middles))).argsort(axis=1)[:, :count]
        jitter = rng.uniform(-self.jitter_m, self.jitter_m, (n, count, 2))
        return self.middles[order] + jitter
