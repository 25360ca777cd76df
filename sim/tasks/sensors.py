"""What a robot senses of the things around it, computed for all copies at once.

Things are points or upright posts on the floor: arrays (N, K, 2) of x, y in the odom frame.
"""

from __future__ import annotations

import numpy as np

from holdfast.signals import CATALOGUE, Array

SCAN_SECTORS = CATALOGUE["scan"].size or 0


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
    sector = np.rint(np.arctan2(y, x) * (sectors / (2.0 * np.pi))).astype(np.intp) % sectors
    cell = sector + sectors * np.arange(len(x))[:, None]
    np.maximum.at(near.reshape(-1), cell.ravel(), 1.0 - np.hypot(x, y).ravel() / range_m)
    return near


def scan(x: Array, y: Array, radius_m: float, range_m: float, sectors: int = SCAN_SECTORS) -> Array:
    """Return the `scan` (N, sectors) of posts: the distance to the nearest point of any of them.

    It is what a lidar with infinitely many rays measures. Within a sector a post is nearest
    where the ray to its middle runs, or on the sector's edge if that ray runs elsewhere.

    Args:
        x, y: (N, K), middles of the posts seen from the base.
        radius_m: of the posts.
        range_m: how far the lidar sees. 0 is seen from inside of a post.
        sectors: of equal width, counter-clockwise, the first centred on the base's x axis.
    """
    width = 2.0 * np.pi / sectors
    nearest = np.full((len(x), sectors), range_m)
    flat, copy = nearest.reshape(-1), np.repeat(np.arange(len(x)), x.shape[1]) * sectors
    distance, bearing = np.hypot(x, y).ravel(), np.arctan2(y, x).ravel()
    sector = np.rint(bearing / width).astype(np.intp)
    # The sectors' edges that each post may cover, on either side of its middle; edge e is the
    # lower one of sector e, and counted on beyond either end.
    half_width = np.arcsin(np.minimum(radius_m / np.maximum(distance, radius_m), 1.0))
    covered = np.ceil(half_width / width).astype(np.intp)
    post = np.repeat(np.arange(len(distance)), 2 * covered)
    nth = np.arange(len(post)) - np.repeat(2 * (np.cumsum(covered) - covered), 2 * covered)
    edge = (sector - covered + 1)[post] + nth
    # A ray along an edge passes the post's middle at `aside`, `along` metres on its way.
    angle = (edge - 0.5) * width - bearing[post]
    along, aside = distance[post] * np.cos(angle), distance[post] * np.sin(angle)
    chord = radius_m * radius_m - aside * aside
    hit = (chord >= 0.0) & (along > 0.0)
    reach = np.where(hit, along - np.sqrt(np.maximum(chord, 0.0)), range_m)
    np.minimum.at(flat, copy[post] + edge % sectors, reach)
    nearest = np.minimum(nearest, np.roll(nearest, -1, axis=-1))
    np.minimum.at(nearest.reshape(-1), copy + sector % sectors, distance - radius_m)
    ranges: Array = np.maximum(nearest, 0.0)
    return ranges
