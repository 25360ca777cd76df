"""Consistency: do the measured motions agree with one another, and change when they should?

A sensor that freezes, or says the same as before under new stamps, is fresh and finite. What
gives it away is the other sensors: the position goes where the speeds say, and the heading turns
as fast as the yaw rate says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from holdfast.safety_monitor.judge import (
    Judge,
    Motion,
    When,
    refuse,
    require_above_0,
    require_at_least_0,
)
from holdfast.safety_monitor.look import Numbers, Seen
from holdfast.safety_monitor.reasons import HEADING_INCONSISTENT, POSITION_INCONSISTENT
from holdfast.safety_monitor.scalar import shrink


@dataclass(frozen=True)
class Agreement:
    """How far position and heading may disagree with speed and yaw rate.

    In every step some disagreement is forgiven; the rest adds up, and stops the robot beyond
    `along_m`, `across_m` or `heading_rad`.

    Attributes:
        distance_share: of the distance just made; forgiven along the way alone: wheels of
            another size.
        slip_m_per_rad: of the turn just made: wheels that slip in curves, and an axle that does
            not lie below the base's origin.
        creep_m_s: of the time.
        spin_s: of a change of speed beyond what `deceleration_m_s2` allows, m per m/s; forgiven
            along the way alone: wheels that spin or lock.
        along_m, across_m: the most that may remain along the way, and across it.
        turn_share, creep_rad_s, heading_rad: the same of the heading and the yaw rate.
    """

    distance_share: float
    slip_m_per_rad: float
    creep_m_s: float
    spin_s: float
    along_m: float
    across_m: float
    turn_share: float
    creep_rad_s: float
    heading_rad: float

    def __post_init__(self) -> None:
        for name in ("distance_share", "turn_share"):
            value = getattr(self, name)
            if not 0.0 <= value < 0.5:
                raise refuse(
                    "consistency", f"{name} should be at least 0 and below 0.5, received {value}"
                )
        forgiven = ("slip_m_per_rad", "creep_m_s", "spin_s", "creep_rad_s")
        require_at_least_0(self, "consistency", forgiven)
        require_above_0(self, "consistency", ("along_m", "across_m", "heading_rad"))


class Integral:
    """What a rate adds up to by its own stamps (trapezoid rule); shape (size,)."""

    def __init__(self, size: int) -> None:
        self._sum = self._rate = (0.0,) * size
        self._at_s = math.nan

    def add(self, at_s: float, rate: tuple[float, ...]) -> None:
        """Take a reading; one that is not newer than the last changes nothing."""
        passed_s = at_s - self._at_s
        if passed_s <= 0.0:
            return
        if passed_s > 0.0:  # not NaN: it is not the first
            half_s = passed_s / 2.0
            pairs = zip(self._sum, self._rate, rate, strict=True)
            self._sum = tuple([total + (old + new) * half_s for total, old, new in pairs])
        self._rate, self._at_s = rate, at_s

    def until(self, at_s: float) -> tuple[float, ...]:
        """Return the sum at a time near the last reading's, as if the rate went on."""
        passed_s = at_s - self._at_s
        pairs = zip(self._sum, self._rate, strict=True)
        return tuple([total + rate * passed_s for total, rate in pairs])


class Consistency(Judge):
    """How far position and heading have drifted from what speed and yaw rate say.

    What is forgiven in each step (`Agreement`) is taken off the disagreement; the rest adds up.
    So noise, slipping wheels and wheels of another size are ordinary, a slow drift shows after a
    while and a jump at once. Only readings with newer stamps count. Along the way and across it
    are told apart: wheels hide much of the one and little of the other. Where a speed changes
    faster than the robot can brake, its wheels spin, and more is forgiven along the way.
    """

    block = Agreement
    when = When.MOTION

    def __init__(self, limits: Agreement, motion: Motion) -> None:
        self._allowed = limits
        self._traction_m_s2 = motion.deceleration_m_s2
        self.forget()

    def forget(self) -> None:
        """Start anew: nothing was measured yet."""
        self._travel, self._turn = Integral(2), Integral(1)
        # Stamp, x, y, and the travel, heading and velocity then.
        self._position: tuple[float, ...] = ()
        self._axes = (1.0, 0.0)  # the direction of the way last made
        self._heading: tuple[float, ...] = ()  # stamp, heading, and the turn then
        self._off_m = (0.0, 0.0)
        self._off_rad = 0.0

    def judge(self, seen: Seen) -> None:
        """Take the newest readings; append what disagrees by too much."""
        values, stamps, reasons = seen.values, seen.stamps, seen.reasons
        allowed, moving = self._allowed, seen.velocity
        if moving is not None and "position" in values:
            of = "linear_velocity" if "linear_velocity" in values else "forward_speed"
            self._travel.add(stamps[of], moving)
            self._judge_position(values, moving, stamps["position"], allowed)
            (x, y), (c, s) = self._off_m, self._axes
            along_m, across_m = abs(x * c + y * s), abs(y * c - x * s)
            # NaN fails this comparison too.
            if not (along_m <= allowed.along_m and across_m <= allowed.across_m):
                reasons.append(POSITION_INCONSISTENT(along_m=along_m, across_m=across_m))
        if "yaw_rate" in values and "heading" in values:
            self._turn.add(stamps["yaw_rate"], tuple(values["yaw_rate"]))
            self._judge_heading(values["heading"][0], stamps["heading"], allowed)
            if not abs(self._off_rad) <= allowed.heading_rad:
                reasons.append(HEADING_INCONSISTENT(off_rad=abs(self._off_rad)))

    def _judge_position(
        self, values: Numbers, moving: tuple[float, float], at_s: float, allowed: Agreement
    ) -> None:
        x, y = values["position"]
        heading = values["heading"][0] if "heading" in values else 0.0
        before = self._position
        if before and not at_s > before[0]:
            return
        travel_x, travel_y = self._travel.until(at_s)
        self._position = (at_s, x, y, travel_x, travel_y, heading, *moving)
        if not before:
            return
        passed_s = at_s - before[0]
        dx, dy = travel_x - before[3], travel_y - before[4]
        length_m = math.hypot(dx, dy)
        if "yaw_rate" in values:
            turned_rad = abs(values["yaw_rate"][0]) * passed_s
        else:
            turned_rad = abs(turn_rad(before[5], heading))
        across_m = allowed.creep_m_s * passed_s + allowed.slip_m_per_rad * turned_rad
        change_m_s = math.hypot(moving[0] - before[6], moving[1] - before[7])
        spin_m_s = max(change_m_s - self._traction_m_s2 * passed_s, 0.0)
        along_m = across_m + allowed.distance_share * length_m + allowed.spin_s * spin_m_s
        if length_m > allowed.creep_m_s * passed_s:  # else it stands, and has no direction
            self._axes = (dx / length_m, dy / length_m)
        c, s = self._axes
        off_x = self._off_m[0] + (x - before[1]) - dx
        off_y = self._off_m[1] + (y - before[2]) - dy
        along = shrink(off_x * c + off_y * s, along_m)
        across = shrink(off_y * c - off_x * s, across_m)
        self._off_m = (along * c - across * s, along * s + across * c)

    def _judge_heading(self, heading: float, at_s: float, allowed: Agreement) -> None:
        before = self._heading
        if before and not at_s > before[0]:
            return
        (turn,) = self._turn.until(at_s)
        self._heading = (at_s, heading, turn)
        if not before:
            return
        expected = turn - before[2]
        forgiven = allowed.turn_share * abs(expected) + allowed.creep_rad_s * (at_s - before[0])
        self._off_rad = shrink(self._off_rad + turn_rad(before[1], heading) - expected, forgiven)


def turn_rad(before: float, after: float) -> float:
    """Return the shortest turn from one heading to another, within ±π."""
    # Each on its own first: the difference of two finite headings need not be finite.
    turn = math.remainder(after, math.tau) - math.remainder(before, math.tau)
    return math.remainder(turn, math.tau)
