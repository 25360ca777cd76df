"""The envelope: where the robot is and how it moves, against the limits that are set."""

from __future__ import annotations

import math

from holdfast.safety_monitor.checks import Values, velocity
from holdfast.safety_monitor.limits import Limits, Span, Tiers
from holdfast.safety_monitor.messages import LIMITED, STOPPED, Reason
from holdfast.safety_monitor.reasons import (
    EXCEEDED,
    GEOFENCE_NEAR,
    GEOFENCE_NOT_STOPPABLE,
    JOINT_POSITION_EXCEEDED,
    OBSTACLE_CONTACT,
    OBSTACLE_NEAR,
    OBSTACLE_NOT_STOPPABLE,
    OUTSIDE_GEOFENCE,
)
from holdfast.signals import CATALOGUE


def check_envelope(values: Values, limits: Limits, reasons: list[Reason]) -> None:
    """Append what is beyond its limit, or could not stop before it."""
    _check_magnitude(values, "forward_speed", limits.forward_speed_m_s, reasons)
    _check_magnitude(values, "yaw_rate", limits.yaw_rate_rad_s, reasons)
    _check_magnitude(values, "tilt", limits.tilt_rad, reasons)
    if limits.joint_position_rad is not None and "joint_position" in values:
        _check_joint_positions(values["joint_position"], limits.joint_position_rad, reasons)
    if limits.joint_velocity_rad_s is not None and "joint_velocity" in values:
        _check_joint_velocities(values["joint_velocity"], limits.joint_velocity_rad_s, reasons)
    moving = velocity(values)
    if moving is None:
        return
    # The stopping distance v t + v^2 / (2 a), as the time that v would take for it.
    speed_m_s = math.hypot(*moving)
    stop_s = limits.reaction_time_s + speed_m_s / (2.0 * limits.deceleration_m_s2)
    if limits.geofence is not None and "position" in values:
        _check_geofence(values["position"], moving, stop_s, limits, reasons)
    if limits.footprint_radius_m is not None and "scan" in values and "heading" in values:
        toward_rad = math.atan2(moving[1], moving[0]) - values["heading"][0]
        _check_obstacles(values["scan"], toward_rad, speed_m_s * stop_s, limits, reasons)


def _check_magnitude(values: Values, name: str, tiers: Tiers | None, reasons: list[Reason]) -> None:
    if tiers is None or name not in values:
        return
    for value in values[name]:
        if abs(value) > tiers.limited:
            _exceeds(name, "", max(map(abs, values[name])), tiers, reasons)
            return


def _check_joint_velocities(
    velocities: list[float], bounds: tuple[Tiers | None, ...], reasons: list[Reason]
) -> None:
    for joint, tiers in enumerate(bounds):
        if tiers is not None and abs(velocities[joint]) > tiers.limited:
            _exceeds("joint_velocity", f"[{joint}]", abs(velocities[joint]), tiers, reasons)


def _exceeds(
    signal: str, place: str, magnitude: float, tiers: Tiers, reasons: list[Reason]
) -> None:
    state, limit = LIMITED, tiers.limited
    if magnitude > tiers.stopped:
        state, limit = STOPPED, tiers.stopped
    unit = CATALOGUE[signal].unit
    reasons.append(
        EXCEEDED(state, signal=signal, place=place, magnitude=magnitude, unit=unit, limit=limit)
    )


def _check_joint_positions(
    positions: list[float], bounds: tuple[Span | None, ...], reasons: list[Reason]
) -> None:
    for joint, span in enumerate(bounds):
        position_rad = positions[joint]
        if span is None or span.low + span.margin <= position_rad <= span.high - span.margin:
            continue
        inside = span.low <= position_rad <= span.high
        state, place = (LIMITED, "near the end") if inside else (STOPPED, "outside")
        reasons.append(
            JOINT_POSITION_EXCEEDED(
                state,
                joint=joint,
                position_rad=position_rad,
                place=place,
                low=span.low,
                high=span.high,
            )
        )


def _check_geofence(
    position: list[float],
    moving: tuple[float, float],
    stop_s: float,
    limits: Limits,
    reasons: list[Reason],
) -> None:
    """The whole way to the stopping point counts, not only its end."""
    fence = limits.geofence
    assert fence is not None
    x, y = position
    if not fence.allows(x, y):
        reasons.append(OUTSIDE_GEOFENCE(x_m=x, y_m=y))
        return
    stop_x, stop_y = moving[0] * stop_s, moving[1] * stop_s
    reach_m = math.hypot(stop_x, stop_y) + limits.slow_margin_m
    if fence.gap_m(x, y, reach_m) > reach_m:
        return  # whatever the direction; this is the usual case, and the cheaper one
    clearance_m = fence.clearance_m((x, y, x + stop_x, y + stop_y))
    if clearance_m <= 0.0:
        reasons.append(GEOFENCE_NOT_STOPPABLE(x_m=x, y_m=y))
    elif clearance_m < limits.slow_margin_m:
        reasons.append(GEOFENCE_NEAR(clearance_m=clearance_m))


def _check_obstacles(
    ranges: list[float],
    toward_rad: float,
    stop_m: float,
    limits: Limits,
    reasons: list[Reason],
) -> None:
    """A disc that holds the robot, on its straight way to standing still.

    A disc of radius R whose centre is r away from a point can move at least r - R before it
    touches that point, whatever the direction; and it never will if the point lies further
    than R beside the way.
    """
    radius_m = limits.footprint_radius_m
    assert radius_m is not None
    reach_m = radius_m + stop_m + limits.slow_margin_m
    least_m = min(ranges)
    if least_m >= reach_m:
        return
    if least_m < radius_m:
        reasons.append(OBSTACLE_CONTACT(range_m=least_m, radius_m=radius_m))
        return
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
