"""What a robot senses of the things around it, computed for all copies at once.

Things are points or upright posts on the floor: arrays (N, K, 2) of x, y in the odom frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from holdfast.signals import CATALOGUE, Array

SCAN_SECTORS = CATALOGUE["scan"].size or 0
_EDGE = (np.arange(SCAN_SECTORS) - 0.5) * (2.0 * np.pi / SCAN_SECTORS)  # the lower of each sector
_EDGE_X, _EDGE_Y = np.cos(_EDGE), np.sin(_EDGE)


def seen_from(position: Array, heading: Array, points: Array) -> tuple[Array, Array]:
    """Return x, y (N, K) of points (N, K, 2), seen from bases at (N, 2) with yaw (N,)."""
    dx = points[..., 0] - position[..., 0:1]
    dy = points[..., 1] - position[..., 1:2]
    cos, sin = np.cos(heading)[..., None], np.sin(heading)[..., None]
    return cos * dx + sin * dy, cos * dy - sin * dx


def proximity(x: Array, y: Array, sectors: int, range_m: float) -> Array:
    """Return 1 − distance/range of the nearest point in each sector, 0 where there is none.

    Args:
        x, y: (N, K), seen from the base.
        sectors: of equal width, counter-clockwise, the first centred on the base's x axis.
        range_m: how far the sensor sees.
    """
    near = np.zeros((len(x), sectors))
    closeness = 1.0 - np.hypot(x, y) / range_m
    np.maximum.at(near.reshape(-1), _cells(x, y, sectors), closeness.ravel())
    return near


def scan(x: Array, y: Array, radius_m: float, range_m: float) -> Array:
    """Return the `scan` (N, 36) of posts: the distance to the nearest point of any of them.

    It is what a lidar with infinitely many rays measures. Within a sector a post is nearest
    where the ray to its middle runs, or on the sector's edge if that ray runs elsewhere.

    Args:
        x, y: (N, K), middles of the posts seen from the base.
        radius_m: of the posts.
        range_m: how far the lidar sees. 0 is seen from inside of a post.
    """
    edge = np.full((len(x), SCAN_SECTORS), range_m)
    for k in range(x.shape[1]):  # one post at a time: what it needs stays in the cache
        px, py = x[:, k, None], y[:, k, None]
        # A ray along a sector's edge passes the middle at `aside`, `along` metres on its way.
        along = px * _EDGE_X + py * _EDGE_Y
        aside = py * _EDGE_X - px * _EDGE_Y
        chord = radius_m * radius_m - aside * aside
        hit = (chord >= 0.0) & (along > 0.0)
        np.minimum(edge, along - np.sqrt(np.maximum(chord, 0.0)), out=edge, where=hit)
    nearest = np.minimum(edge, np.roll(edge, -1, axis=-1))
    np.minimum.at(
        nearest.reshape(-1), _cells(x, y, SCAN_SECTORS), (np.hypot(x, y) - radius_m).ravel()
    )
    ranges: Array = np.maximum(nearest, 0.0)
    return ranges


def _cells(x: Array, y: Array, sectors: int) -> NDArray[np.intp]:
    """Return where each point belongs in a flat (N, sectors)."""
    sector = np.rint(np.arctan2(y, x) * (sectors / (2.0 * np.pi))).astype(np.intp) % sectors
    rows: NDArray[np.intp] = sector + sectors * np.arange(len(x))[:, None]
    return rows.ravel()
