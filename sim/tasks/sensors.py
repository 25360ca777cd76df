"""Sensors of things around a robot, computed for all copies at once.

Things are points or upright posts on the floor: arrays (N, K, 2) of x, y in the odom frame.
"""

from __future__ import annotations

import numpy as np

from holdfast.signals import CATALOGUE, Array

SCAN_SECTORS = CATALOGUE["scan"].size or 0


def seen_from(position: Array, heading: Array, points: Array) -> tuple[Array, Array]:
    """Return x, y (N, K) of points (N, K, 2) in the frames of bases at (N, 2) with yaw (N,)."""
    dx = points[..., 0] - position[..., 0:1]
    dy = points[..., 1] - position[..., 1:2]
    cos, sin = np.cos(heading)[..., None], np.sin(heading)[..., None]
    return cos * dx + sin * dy, cos * dy - sin * dx


def proximity(x: Array, y: Array, sectors: int, range_m: float) -> Array:
    """Return 1 − distance/range of the nearest point in each sector, 0 without a point in range.

    Args:
        x, y: (N, K), points in the base's frame.
        sectors: number of equal sectors, counter-clockwise, the first centred on the x axis.
        range_m: range of the sensor.
    """
    near = np.zeros((len(x), sectors))
    sector = np.rint(np.arctan2(y, x) * (sectors / (2.0 * np.pi))).astype(np.intp) % sectors
    cell = sector + sectors * np.arange(len(x))[:, None]
    np.maximum.at(near.reshape(-1), cell.ravel(), 1.0 - np.hypot(x, y).ravel() / range_m)
    return near


def scan(x: Array, y: Array, radius_m: float, range_m: float, sectors: int = SCAN_SECTORS) -> Array:
    """Return the `scan` (N, sectors): the distance to the nearest post's surface in each sector.

    A lidar with infinitely many rays measures this distance. Within a sector, a post is nearest
    on the ray to its middle, or on the sector's edge if that ray is outside of the sector.

    Args:
        x, y: (N, K), middles of the posts in the base's frame.
        radius_m: radius of the posts.
        range_m: range of the lidar. Inside of a post the distance is 0.
        sectors: number of equal sectors, counter-clockwise, the first centred on the x axis.
    """
    width = 2.0 * np.pi / sectors
    nearest = np.full((len(x), sectors), range_m)
    flat, copy = nearest.reshape(-1), np.repeat(np.arange(len(x)), x.shape[1]) * sectors
    distance, bearing = np.hypot(x, y).ravel(), np.arctan2(y, x).ravel()
    sector = np.rint(bearing / width).astype(np.intp)
    # The sectors' edges that each post may cover, on either side of the post's middle. Edge e is
    # the lower edge of sector e; e may be negative or beyond the last sector.
    half_width = np.arcsin(np.minimum(radius_m / np.maximum(distance, radius_m), 1.0))
    covered = np.ceil(half_width / width).astype(np.intp)
    post = np.repeat(np.arange(len(distance)), 2 * covered)
    nth = np.arange(len(post)) - np.repeat(2 * (np.cumsum(covered) - covered), 2 * covered)
    edge = (sector - covered + 1)[post] + nth
    # A ray along an edge passes the post's middle after `along` metres, at a distance of `aside`.
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
