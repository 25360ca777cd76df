"""Obstacles: can the robot stop before what its range scan sees?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from holdfast.safety_monitor.judge import Judge, Motion, When, require_above_0
from holdfast.safety_monitor.look import Seen
from holdfast.safety_monitor.messages import Reason
from holdfast.safety_monitor.reasons import OBSTACLE_CONTACT, OBSTACLE_NEAR, OBSTACLE_NOT_STOPPABLE


@dataclass(frozen=True)
class ObstacleLimits:
    """What the robot's body is.

    Attributes:
        footprint_radius_m: of the circle about the base's origin that holds the robot.
    """

    footprint_radius_m: float

    def __post_init__(self) -> None:
        require_above_0(self, "obstacles", ("footprint_radius_m",))


class Obstacles(Judge):
    """A disc that holds the robot, on its straight way to standing still.

    A disc of radius R whose centre is r away from a point can move at least r - R before it
    touches that point, whatever the direction; and it never will if the point lies further
    than R beside the way.
    """

    block = ObstacleLimits
    when = When.LOOK
    signals = ("scan", "heading")

    def __init__(self, limits: ObstacleLimits, motion: Motion) -> None:
        self._radius_m, self._motion = limits.footprint_radius_m, motion

    def judge(self, seen: Seen) -> None:
        """Append what the robot touches, could not stop before, or would come near to."""
        values, velocity = seen.values, seen.velocity
        if velocity is None or "scan" not in values or "heading" not in values:
            return
        speed_m_s = math.hypot(*velocity)
        toward_rad = math.atan2(velocity[1], velocity[0]) - values["heading"][0]
        stop_m = speed_m_s * self._motion.stopping_s(speed_m_s)
        self._judge_way(values["scan"], toward_rad, stop_m, seen.reasons)

    def _judge_way(
        self, ranges: list[float], toward_rad: float, stop_m: float, reasons: list[Reason]
    ) -> None:
        radius_m = self._radius_m
        reach_m = radius_m + stop_m + self._motion.slow_margin_m
        least_m = min(ranges)
        if least_m >= reach_m:
            return
        if least_m < radius_m:
            reasons.append(OBSTACLE_CONTACT(range_m=least_m, radius_m=radius_m))
            return
        if stop_m == 0.0:
            return  # it stands, and the direction of no motion is any
        half_sector_rad = math.pi / len(ranges)
        nearest_m = math.inf
        for sector, range_m in enumerate(ranges):
            if range_m >= reach_m:
                continue
            aside_rad = abs(math.remainder(2.0 * half_sector_rad * sector - toward_rad, math.tau))
            aside_rad = max(aside_rad - half_sector_rad, 0.0)
            ahead = aside_rad < math.pi / 2.0
            if ahead and range_m * math.sin(aside_rad) <= radius_m:
                nearest_m = min(nearest_m, range_m - radius_m)
        if nearest_m <= stop_m:
            reasons.append(OBSTACLE_NOT_STOPPABLE(free_m=nearest_m, stop_m=stop_m))
        elif nearest_m < math.inf:
            reasons.append(OBSTACLE_NEAR(free_m=nearest_m, stop_m=stop_m))
