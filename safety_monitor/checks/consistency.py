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
from holdfast.safety_monitor.look import Seen
from holdfast.safety_monitor.reasons import HEADING_INCONSISTENT, POSITION_INCONSISTENT
from holdfast.safety_monitor.scalar import clamp, shrink

WHERE = "consistency"


@dataclass(frozen=True)
class Agreement:
    """How far position and heading may disagree with speed and yaw rate.

    In every step some disagreement is forgiven; the rest adds up, and stops the robot beyond
    `along_m`, `across_m` or `heading_rad`. Between two readings that differ, a speed and a yaw
    rate may have had any value between them: that is forgiven too.

    Attributes:
        distance_share: forgiven share of the distance just made, along the way alone: wheels of
            another size.
        axle_m: how far before the base's origin the axle lies whose wheels do not steer; the
            origin swings about it, which no forward speed tells. Where a lateral speed or a linear
            velocity is measured, it is the origin's own, and this is not used.
        creep_m_s: forgiven per second.
        floor_m_s2: smallest acceleration that the floor can give the robot. Where the wheels'
            velocity changes faster they may slip, and the way may be any between theirs and that
            of a velocity which changes by so much.
        along_m, across_m: largest remainder along the way, and across it.
        turn_share, creep_rad_s, heading_rad: the same limits for the heading and the yaw rate.
    """

    distance_share: float
    axle_m: float
    creep_m_s: float
    floor_m_s2: float
    along_m: float
    across_m: float
    turn_share: float
    creep_rad_s: float
    heading_rad: float

    def __post_init__(self) -> None:
        for name in ("distance_share", "turn_share"):
            value = getattr(self, name)
            if not 0.0 <= value < 0.5:
                raise refuse(WHERE, f"{name} should be at least 0 and below 0.5, received {value}")
        if not math.isfinite(self.axle_m):
            raise refuse(WHERE, f"axle_m should be finite, received {self.axle_m}")
        require_at_least_0(self, WHERE, ("creep_m_s", "creep_rad_s"))
        require_above_0(self, WHERE, ("floor_m_s2", "along_m", "across_m", "heading_rad"))


class Integral:
    """What a rate adds up to by its own stamps (trapezoid rule); shape (size,).

    Attributes:
        doubt: by how much the sum may be wrong, because a rate may have had any value between
            two readings that differ.
    """

    def __init__(self, size: int) -> None:
        self._sum = self._rate = (0.0,) * size
        self._at_s = math.nan
        self.doubt = 0.0

    def add(self, at_s: float, rate: tuple[float, ...]) -> None:
        """Take a reading; one that is not newer than the last changes nothing."""
        passed_s = at_s - self._at_s
        if passed_s <= 0.0:
            return
        if passed_s > 0.0:  # not NaN: it is not the first
            half_s = passed_s / 2.0
            self.doubt += math.dist(self._rate, rate) * half_s
            pairs = zip(self._sum, self._rate, rate, strict=True)
            self._sum = tuple([total + (old + new) * half_s for total, old, new in pairs])
        self._rate, self._at_s = rate, at_s

    def until(self, at_s: float) -> tuple[float, ...]:
        """Return the sum at a time near the last reading's, as if the rate went on."""
        passed_s = at_s - self._at_s
        pairs = zip(self._sum, self._rate, strict=True)
        return tuple([total + rate * passed_s for total, rate in pairs])


class Floor:
    """The velocity of a robot whose wheels slip as much as its floor may let them, m/s.

    It follows the velocity that the wheels say, and changes by `most_m_s2` at the most. Where the
    two differ the wheels may slip, and the true velocity may be any between the two.
    """

    def __init__(self, most_m_s2: float) -> None:
        self._most_m_s2 = most_m_s2
        self._velocity = (0.0, 0.0)
        self._at_s = math.nan

    def slip(self, at_s: float, wheels: tuple[float, float]) -> tuple[float, float]:
        """Take the wheels' velocity; return what the floor's is more than that, (0, 0) for none."""
        if math.isnan(self._at_s):
            self._velocity, self._at_s = wheels, at_s
        most_m_s = self._most_m_s2 * max(0.0, at_s - self._at_s)
        self._at_s = max(self._at_s, at_s)
        (x, y), (old_x, old_y) = wheels, self._velocity
        change_m_s = math.hypot(x - old_x, y - old_y)
        if change_m_s <= most_m_s:
            self._velocity = wheels
            return 0.0, 0.0
        share = most_m_s / change_m_s
        new_x, new_y = old_x + share * (x - old_x), old_y + share * (y - old_y)
        self._velocity = new_x, new_y
        return new_x - x, new_y - y


class Consistency(Judge):
    """How far position and heading have drifted from what speed and yaw rate say.

    What is forgiven in each step (`Agreement`) is taken off the disagreement; the rest adds up.
    So noise, slipping wheels and wheels of another size are ordinary, a slow drift shows after a
    while and a jump at once. Only readings with newer stamps count. Along the way and across it
    are told apart: wheels of another size hide much of the one and little of the other. Wheels
    that spin, lock or slide are forgiven where they must: where the velocity changes faster than
    the floor can make it (`Floor`), in length or in direction. A steady circle needs no slip.
    """

    block = Agreement
    when = When.MOTION

    def __init__(self, limits: Agreement, motion: Motion) -> None:
        self._allowed = limits
        self.forget()

    def forget(self) -> None:
        """Start anew: nothing was measured yet."""
        self._travel, self._slip, self._turn = Integral(2), Integral(2), Integral(1)
        self._floor = Floor(self._allowed.floor_m_s2)
        # Stamp, x and y; the travel, its doubt and the slip then.
        self._position: tuple[float, ...] = ()
        self._axes = (1.0, 0.0)  # the direction of the way last made
        self._heading: tuple[float, ...] = ()  # stamp, heading, and the turn and its doubt then
        self._off_m = (0.0, 0.0)
        self._off_rad = 0.0

    def judge(self, seen: Seen) -> None:
        """Take the newest readings; append what disagrees by too much."""
        values, stamps, reasons = seen.values, seen.stamps, seen.reasons
        allowed, moving = self._allowed, seen.velocity
        if moving is not None and "position" in values:
            x, y = values["position"]
            if "linear_velocity" in values:
                at_s = stamps["linear_velocity"]
            elif "lateral_speed" in values:
                at_s = max(stamps["forward_speed"], stamps["lateral_speed"])
            else:  # it is the axle's: the base's origin swings about it
                at_s, (heading,) = stamps["forward_speed"], values["heading"]
                x += allowed.axle_m * math.cos(heading)
                y += allowed.axle_m * math.sin(heading)
            self._travel.add(at_s, moving)
            self._slip.add(at_s, self._floor.slip(at_s, moving))
            self._judge_position(x, y, stamps["position"], allowed)
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

    def _judge_position(self, x: float, y: float, at_s: float, allowed: Agreement) -> None:
        before = self._position
        if before and not at_s > before[0]:
            return
        travel_x, travel_y = self._travel.until(at_s)
        slip_x, slip_y = self._slip.until(at_s)
        self._position = (at_s, x, y, travel_x, travel_y, self._travel.doubt, slip_x, slip_y)
        if not before:
            return
        dx, dy = travel_x - before[3], travel_y - before[4]
        length_m, creep_m = math.hypot(dx, dy), allowed.creep_m_s * (at_s - before[0])
        across_m = creep_m + self._travel.doubt - before[5]
        along_m = across_m + allowed.distance_share * length_m
        off = (self._off_m[0] + (x - before[1]) - dx, self._off_m[1] + (y - before[2]) - dy)
        off_x, off_y = forgive(off, (slip_x - before[6], slip_y - before[7]))
        if length_m > creep_m:  # else it stands, and has no direction
            self._axes = (dx / length_m, dy / length_m)
        c, s = self._axes
        along = shrink(off_x * c + off_y * s, along_m)
        across = shrink(off_y * c - off_x * s, across_m)
        self._off_m = (along * c - across * s, along * s + across * c)

    def _judge_heading(self, heading: float, at_s: float, allowed: Agreement) -> None:
        before = self._heading
        if before and not at_s > before[0]:
            return
        (turn,) = self._turn.until(at_s)
        self._heading = (at_s, heading, turn, self._turn.doubt)
        if not before:
            return
        expected = turn - before[2]
        forgiven = allowed.turn_share * abs(expected) + allowed.creep_rad_s * (at_s - before[0])
        forgiven += self._turn.doubt - before[3]
        self._off_rad = shrink(self._off_rad + turn_rad(before[1], heading) - expected, forgiven)


def forgive(off: tuple[float, float], slip: tuple[float, float]) -> tuple[float, float]:
    """Return what is left of a disagreement, less the share of a slip that fits best."""
    (x, y), (slip_x, slip_y) = off, slip
    square = slip_x * slip_x + slip_y * slip_y
    share = clamp((x * slip_x + y * slip_y) / square, 0.0, 1.0) if square else 0.0
    return x - share * slip_x, y - share * slip_y


def turn_rad(before: float, after: float) -> float:
    """Return the shortest turn from one heading to another, within ±π."""
    # Each on its own first: the difference of two finite headings need not be finite.
    turn = math.remainder(after, math.tau) - math.remainder(before, math.tau)
    return math.remainder(turn, math.tau)
