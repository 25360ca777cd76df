"""Geofence: polygons that the robot stays inside of, and outside of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from holdfast.errors import ConfigError
from holdfast.safety_monitor.judge import Judge, Motion, When
from holdfast.safety_monitor.look import WHERE, Seen
from holdfast.safety_monitor.reasons import (
    GEOFENCE_NEAR,
    GEOFENCE_NOT_STOPPABLE,
    OUTSIDE_GEOFENCE,
)
from holdfast.safety_monitor.scalar import clamp

Corners = tuple[tuple[float, ...], ...]
Edge = tuple[float, float, float, float]
"""From (ax, ay) to (bx, by), metres."""

TOUCH_M = 1e-9
"""Nearer than this is touching: less than rounding can tell apart."""


@dataclass(frozen=True)
class Geofence:
    """Where the robot may be, in the odom frame.

    Attributes:
        keep_in_m: corners (x, y) of the polygon that the robot stays in, in either order; the
            last is joined to the first. Its edge is inside.
        keep_out_m: polygons that it stays out of. Their edges are theirs.

    Raises:
        ConfigError: a polygon with fewer than three corners, or that crosses or touches itself.
    """

    keep_in_m: Corners
    keep_out_m: tuple[Corners, ...]

    def __post_init__(self) -> None:
        _require_simple(self.keep_in_m, "keep_in_m")
        for number, corners in enumerate(self.keep_out_m):
            _require_simple(corners, f"keep_out_m[{number}]")

    @cached_property
    def _keep_in(self) -> tuple[Edge, ...]:
        return tuple(_edges(self.keep_in_m))

    @cached_property
    def _keep_out(self) -> tuple[tuple[Edge, ...], ...]:
        return tuple(tuple(_edges(corners)) for corners in self.keep_out_m)

    def allows(self, x_m: float, y_m: float) -> bool:
        """Whether the robot may be at a point."""
        if not _holds(self._keep_in, x_m, y_m):
            return False
        for edges in self._keep_out:  # noqa: SIM110  a generator costs more than its polygon
            if _holds(edges, x_m, y_m):
                return False
        return True

    @cached_property
    def _all_edges(self) -> tuple[Edge, ...]:
        return (*self._keep_in, *(edge for edges in self._keep_out for edge in edges))

    @cached_property
    def _boxed_edges(self) -> tuple[tuple[float, float, float, float, Edge], ...]:
        """Every edge, after the least and largest x and y that it has."""
        return tuple(
            (min(ax, bx), max(ax, bx), min(ay, by), max(ay, by), (ax, ay, bx, by))
            for ax, ay, bx, by in self._all_edges
        )

    def gap_m(self, x_m: float, y_m: float, within_m: float) -> float:
        """Return the distance of a point to the nearest edge; infinity if none is near.

        Near is an edge whose box is within `within_m` of the point along both axes: the others
        are further than that, and to know no more of them is much cheaper.
        """
        left, right = x_m - within_m, x_m + within_m
        below, above = y_m - within_m, y_m + within_m
        near = []
        for least_x, most_x, least_y, most_y, edge in self._boxed_edges:
            if left <= most_x and least_x <= right and below <= most_y and least_y <= above:
                near.append(edge)
        return _point_gap_m(x_m, y_m, near) if near else math.inf

    def clearance_m(self, path: Edge) -> float:
        """Return the least distance of a straight path to any edge; 0 if it meets one."""
        return min([_gap_m(path, edge) for edge in self._all_edges])


class Fence(Judge):
    """Whether the robot is inside the geofence, and can stop inside.

    The whole way to the stopping point counts, not only its end.
    """

    block = Geofence
    when = When.LOOK
    signals = ("position",)

    def __init__(self, limits: Geofence, motion: Motion) -> None:
        self._fence, self._motion = limits, motion

    def judge(self, seen: Seen) -> None:
        """Append that the robot is outside, could not stop inside, or would come near an edge."""
        velocity = seen.velocity
        if velocity is None or "position" not in seen.values:
            return
        fence, reasons = self._fence, seen.reasons
        x, y = seen.values["position"]
        if not fence.allows(x, y):
            reasons.append(OUTSIDE_GEOFENCE(x_m=x, y_m=y))
            return
        stop_s = self._motion.stopping_s(math.hypot(*velocity))
        stop_x, stop_y = velocity[0] * stop_s, velocity[1] * stop_s
        reach_m = math.hypot(stop_x, stop_y) + self._motion.slow_margin_m
        if fence.gap_m(x, y, reach_m) > reach_m:
            return  # whatever the direction; this is the usual case, and the cheaper one
        clearance_m = fence.clearance_m((x, y, x + stop_x, y + stop_y))
        if clearance_m <= 0.0:
            reasons.append(GEOFENCE_NOT_STOPPABLE(x_m=x, y_m=y))
        elif clearance_m < self._motion.slow_margin_m:
            reasons.append(GEOFENCE_NEAR(clearance_m=clearance_m))


def _edges(corners: Corners) -> Iterator[Edge]:
    for a, b in zip(corners, (*corners[1:], corners[0]), strict=True):
        yield a[0], a[1], b[0], b[1]


def _require_simple(corners: Corners, name: str) -> None:
    """Refuse what is not a simple polygon."""
    where = f"{WHERE}.geofence.{name}"
    if len(corners) < 3 or any(len(corner) != 2 for corner in corners):
        raise ConfigError(f"{where}: should be at least three corners of x and y, metres")
    if not all(math.isfinite(value) for corner in corners for value in corner):
        raise ConfigError(f"{where}: corners should be finite")
    edges = list(_edges(corners))
    for edge in edges:
        if edge[:2] == edge[2:]:
            raise ConfigError(f"{where}: corner {edge[:2]} is repeated")
    if len(corners) == 3 and _turn(*edges[0], *corners[2]) == 0.0:
        raise ConfigError(f"{where}: its three corners lie on one line")
    # Edges that share a corner meet there. One that runs back along the other also meets the
    # next edge but one, unless there is none.
    for i, first in enumerate(edges):
        for second in edges[i + 2 : len(edges) - (i == 0)]:
            if _gap_m(first, second) == 0.0:
                raise ConfigError(
                    f"{where}: crosses or touches itself where the edge from {first[:2]} to "
                    f"{first[2:]} meets the one from {second[:2]} to {second[2:]}"
                )


def _turn(ax: float, ay: float, bx: float, by: float, cx: float, cy: float) -> float:
    """Return twice the signed area of a triangle: above 0 if a, b, c turn to the left."""
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


def _gap_m(first: Edge, second: Edge) -> float:
    """Return the least distance between two segments; 0 if they cross or touch."""
    if _parted(first, second) and _parted(second, first):
        return 0.0
    gap_m = min(
        _point_gap_m(*first[:2], (second,)),
        _point_gap_m(*first[2:], (second,)),
        _point_gap_m(*second[:2], (first,)),
        _point_gap_m(*second[2:], (first,)),
    )
    return 0.0 if gap_m < TOUCH_M else gap_m


def _parted(first: Edge, second: Edge) -> bool:
    """Whether the ends of `second` lie on different sides of the line through `first`."""
    a, b = _turn(*first, *second[:2]), _turn(*first, *second[2:])
    return a < 0.0 < b or b < 0.0 < a


def _point_gap_m(x: float, y: float, edges: Iterable[Edge]) -> float:
    """Return the distance of a point to the nearest of some segments."""
    gaps = []
    for ax, ay, bx, by in edges:
        dx, dy = bx - ax, by - ay
        px, py = x - ax, y - ay
        squared = dx * dx + dy * dy
        along = 0.0 if squared == 0.0 else (px * dx + py * dy) / squared
        along = clamp(along, 0.0, 1.0)
        ex, ey = px - along * dx, py - along * dy
        gaps.append(ex * ex + ey * ey)
    return math.sqrt(min(gaps))


def _holds(edges: tuple[Edge, ...], x: float, y: float) -> bool:
    """Whether a point is inside a polygon or on its edge (even-odd rule)."""
    inside = False
    for ax, ay, bx, by in edges:
        if (ay > y) != (by > y) and x < ax + (bx - ax) * (y - ay) / (by - ay):
            inside = not inside
    return inside or any(_lies_on(edge, x, y) for edge in edges)


def _lies_on(edge: Edge, x: float, y: float) -> bool:
    ax, ay, bx, by = edge
    return (
        _turn(*edge, x, y) == 0.0
        and min(ax, bx) <= x <= max(ax, bx)
        and min(ay, by) <= y <= max(ay, by)
    )
