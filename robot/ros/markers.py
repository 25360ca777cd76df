"""Markers for RViz, Foxglove and Lichtblick: what the safety monitor thinks, in the odom frame.

`~/zones` is latched and has what stands still: the geofence, and the places at which no cost is
billed. `~/markers` has what moves: the stopping distance, and a text with the state and the budget.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from holdfast.contract import Contract
from holdfast.expressions import places
from holdfast.robot.topics.fields import set_stamp
from holdfast.robot.topics.graph import STATUS, Graph, Qos
from holdfast.robot.topics.message_types import MARKER, MARKERS, POINT, Marker, MarkerArray, Vector3
from holdfast.safety_monitor.checks.geofence import Geofence
from holdfast.safety_monitor.limits import Limits
from holdfast.safety_monitor.look import Look, speed_signals, velocity
from holdfast.safety_monitor.messages import State, Verdict
from holdfast.signals import Array

LEAST_S = 0.2
"""Least wall time between two messages on `~/markers`, s."""

LIFETIME_S = 1
"""For so long a moving marker is shown; the last word of a killed monitor disappears."""

HALF_M = 5.0
"""Without a geofence, cost-free places are shown as far as this from the odom frame's origin."""

CELLS = 120
"""Cost-free places are found on a grid with so many cells along the longer side."""

LINE_STRIP, TEXT, TRIANGLES = 4, 9, 11
"""Types of markers, as visualization_msgs/Marker numbers them."""
ADD, DELETE_ALL = 0, 3
"""Actions of markers, likewise."""

Colour = tuple[float, float, float, float]
"""Red, green, blue and opacity, from 0 to 1."""

KEEP_IN: Colour = (0.06, 0.46, 0.43, 1.0)
KEEP_OUT: Colour = (0.86, 0.15, 0.15, 1.0)
COST_FREE: Colour = (0.43, 0.91, 0.72, 0.25)
STATES: dict[State, Colour] = {
    State.STOPPED: (0.73, 0.11, 0.11, 1.0),
    State.READY: (0.61, 0.64, 0.69, 1.0),
    State.FALLBACK: (0.98, 0.45, 0.09, 1.0),
    State.LIMITED: (0.98, 0.80, 0.08, 1.0),
    State.ACTIVE: (0.13, 0.77, 0.37, 1.0),
}

_MOVING = Qos(reliable=True, latched=False, depth=1)

Place = tuple[float, float]
"""x and y in the odom frame, m."""


class Markers:
    """Publishes the markers of a node.

    Args:
        graph: the node's.
        frame: name of the odom frame.

    Raises:
        ConfigError: visualization_msgs is not installed.
    """

    def __init__(self, graph: Graph, frame: str) -> None:
        self._array = graph.message_class(MARKERS)
        self._marker, self._point = graph.message_class(MARKER), graph.message_class(POINT)
        self._graph, self._frame = graph, frame
        self._say_zones = graph.advertise("~/zones", MARKERS, STATUS)
        self._say_moving = graph.advertise("~/markers", MARKERS, _MOVING)

    def begin(self, contract: Contract, limits: Limits) -> None:
        """Publish the zones of a run."""
        self._names = [cost.name for cost in contract.costs]
        self._speeds, self._motion = speed_signals(contract), limits.motion
        self._place: Place = (0.0, 0.0)
        self._next_s = -math.inf
        fence: Geofence | None = limits.checks.get("geofence")
        zones = [self._cost_free(contract, fence)]
        if fence is not None:
            zones.append(self._outline("keep_in", 0, fence.keep_in_m, KEEP_IN))
            for i, corners in enumerate(fence.keep_out_m):
                zones.append(self._outline("keep_out", i, corners, KEEP_OUT))
        for zone in zones:
            zone.frame_locked = True
        self._publish(self._say_zones, self._graph.now_s(), zones)

    def show(self, look: Look, verdict: Verdict) -> None:
        """Publish what the monitor thinks, unless it did so a moment ago.

        Args:
            look: what the verdict was given on.
        """
        if (now_s := time.monotonic()) < self._next_s:
            return
        self._next_s = now_s + LEAST_S
        moving = [self._text(look, verdict)]
        speed = velocity(look.values, self._speeds)
        if speed is not None and "position" in look.values:
            moving.append(self._stopping(self._place, speed, verdict.state))
        for marker in moving:
            marker.lifetime.sec = LIFETIME_S
        self._publish(self._say_moving, look.now_s, moving)

    def clear(self) -> None:
        """Take all markers back."""
        for say in (self._say_zones, self._say_moving):
            marker = self._marker()
            marker.action = DELETE_ALL
            self._publish(say, self._graph.now_s(), [marker])

    def _publish(
        self, say: Callable[[MarkerArray], None], now_s: float, markers: Sequence[Marker]
    ) -> None:
        for marker in markers:
            marker.header.frame_id = self._frame
            set_stamp(marker.header.stamp, now_s)
        message = self._array()
        message.markers = markers
        say(message)

    # Each marker.

    def _made(self, name: str, number: int, kind: int, colour: Colour) -> Marker:
        marker = self._marker()
        marker.ns, marker.id, marker.type, marker.action = name, number, kind, ADD
        marker.pose.orientation.w = 1.0
        marker.color.r, marker.color.g, marker.color.b, marker.color.a = colour
        return marker

    def _points(self, places: Iterable[Sequence[float]], height_m: float = 0.0) -> list[Vector3]:
        return [self._at(x, y, height_m) for x, y in places]

    def _at(self, x: float, y: float, z: float) -> Vector3:
        point = self._point()
        point.x, point.y, point.z = float(x), float(y), z
        return point

    def _outline(
        self, name: str, number: int, corners: Sequence[Sequence[float]], colour: Colour
    ) -> Marker:
        marker = self._made(name, number, LINE_STRIP, colour)
        marker.scale.x = 0.03
        marker.points = self._points([*corners, corners[0]])
        return marker

    def _cost_free(self, contract: Contract, fence: Geofence | None) -> Marker:
        """Return the places at which no cost is billed; none where position alone does not say."""
        marker = self._made("cost_free", 0, TRIANGLES, COST_FREE)
        marker.scale.x = marker.scale.y = marker.scale.z = 1.0
        corners = np.array(
            [(-HALF_M, -HALF_M), (HALF_M, HALF_M)] if fence is None else fence.keep_in_m
        )
        # Below the ground, so that a viewer's grid stays visible.
        marker.points = self._points(_triangles(contract, corners), -0.01)
        return marker

    def _stopping(self, place: Place, speed: Place, state: State) -> Marker:
        """Return the way from a place to where the robot can stop."""
        marker = self._made("stopping", 0, LINE_STRIP, STATES[state])
        marker.scale.x = 0.05
        stop_s = self._motion.stopping_s(math.hypot(*speed))
        stop = place[0] + speed[0] * stop_s, place[1] + speed[1] * stop_s
        marker.points = self._points([place, stop], 0.02)
        return marker

    def _text(self, look: Look, verdict: Verdict) -> Marker:
        """Return state, first reason and budget, above the robot's newest known place."""
        if "position" in look.values:
            x, y = look.values["position"]
            self._place = x, y
        marker = self._made("budget", 0, TEXT, STATES[verdict.state])
        position = marker.pose.position
        position.x, position.y, position.z = *self._place, 0.7
        marker.scale.z = 0.15
        marker.text = "\n".join((_headline(verdict), *self._budget_lines(verdict)))
        return marker

    def _budget_lines(self, verdict: Verdict) -> Iterator[str]:
        for name, spent, predicted, cap in zip(self._names, *verdict.budget, strict=True):
            to_come = "" if math.isnan(predicted) else f"{predicted:.3g} predicted, "
            yield f"{name}: {spent:.3g} spent, {to_come}cap {cap:.3g}"


def _headline(verdict: Verdict) -> str:
    return verdict.state.name + (f": {verdict.reasons[0].text}" if verdict.reasons else "")


def _triangles(contract: Contract, corners: Array) -> list[Place]:
    """Return triangles, as three corners after three, that cover the cost-free places.

    Args:
        corners: points of the box that is looked at, m, shape (points, 2).
    """
    low, high = corners.min(axis=0), corners.max(axis=0)
    size = float((high - low).max()) / CELLS
    x, y = (np.arange(low[i] + size / 2, high[i], size) for i in range(2))
    billed = places.billed(contract, np.stack(np.meshgrid(x, y), axis=-1))
    if billed is None:
        return []
    found: list[Place] = []
    rows = [0, *(np.flatnonzero((billed[1:] != billed[:-1]).any(axis=1)) + 1), len(billed)]
    for first, end in itertools.pairwise(rows):  # rows that are equal
        below, above = low[1] + first * size, low[1] + end * size
        turns = np.flatnonzero(np.diff(~billed[first], prepend=False, append=False))
        for left, right in (low[0] + turns * size).reshape(-1, 2):
            found += [(left, below), (right, below), (right, above)]
            found += [(left, below), (right, above), (left, above)]
    return found
