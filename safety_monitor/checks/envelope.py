"""The envelope: how fast the robot moves, how it leans and where its joints are."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.contract import Contract
from holdfast.safety_monitor.judge import Judge, Motion, Tiers, When, refuse, require_one
from holdfast.safety_monitor.look import Seen
from holdfast.safety_monitor.messages import LIMITED, STOPPED, Reason
from holdfast.safety_monitor.reasons import EXCEEDED, JOINT_POSITION_EXCEEDED
from holdfast.safety_monitor.scalar import finite
from holdfast.signals import CATALOGUE

WHERE = "envelope"


@dataclass(frozen=True)
class Span:
    """Bounds on one value: beyond them the robot is stopped, within `margin` of them slowed."""

    low: float
    high: float
    margin: float

    def require_order(self, name: str) -> None:
        """Raise ConfigError unless something lies between both margins."""
        inside = self.low + self.margin < self.high - self.margin
        if not (finite([self.low, self.high]) and self.margin >= 0.0 and inside):
            raise refuse(
                WHERE,
                f"{name} should be finite with margin at least 0 and low + margin < high - margin, "
                f"received low {self.low}, high {self.high} and margin {self.margin}",
            )


@dataclass(frozen=True)
class EnvelopeLimits:
    """Bounds on measured magnitudes. One that is None is not checked.

    Attributes:
        joint_position_rad, joint_velocity_rad_s: of each joint, in the robot's own order; None
            for a joint that has none, as a wheel's position.
    """

    forward_speed_m_s: Tiers | None = None
    lateral_speed_m_s: Tiers | None = None
    yaw_rate_rad_s: Tiers | None = None
    tilt_rad: Tiers | None = None
    joint_position_rad: tuple[Span | None, ...] | None = None
    joint_velocity_rad_s: tuple[Tiers | None, ...] | None = None

    def __post_init__(self) -> None:
        require_one(self, WHERE)
        for name in ("forward_speed_m_s", "lateral_speed_m_s", "yaw_rate_rad_s", "tilt_rad"):
            tiers = getattr(self, name)
            if tiers is not None:
                tiers.require_order(WHERE, name)
        for joint, span in enumerate(self.joint_position_rad or ()):
            if span is not None:
                span.require_order(f"joint_position_rad[{joint}]")
        for joint, tiers in enumerate(self.joint_velocity_rad_s or ()):
            if tiers is not None:
                tiers.require_order(WHERE, f"joint_velocity_rad_s[{joint}]")


class Envelope(Judge):
    """Compares each magnitude with its bounds. A value at a bound is allowed."""

    block = EnvelopeLimits
    when = When.LOOK

    def __init__(self, limits: EnvelopeLimits, motion: Motion) -> None:
        magnitudes = (
            ("forward_speed", limits.forward_speed_m_s),
            ("lateral_speed", limits.lateral_speed_m_s),
            ("yaw_rate", limits.yaw_rate_rad_s),
            ("tilt", limits.tilt_rad),
        )
        self._magnitudes = tuple((name, tiers) for name, tiers in magnitudes if tiers is not None)
        self._positions, self._velocities = limits.joint_position_rad, limits.joint_velocity_rad_s
        joints = (("joint_position", self._positions), ("joint_velocity", self._velocities))
        self._joints = tuple((name, bounds) for name, bounds in joints if bounds is not None)
        self.signals = tuple(name for name, _ in (*self._magnitudes, *self._joints))

    def require(self, contract: Contract) -> None:
        """Check that every joint has its bounds, and that what is commanded does not stop it."""
        for name, bounds in self._joints:
            size = contract.signal_size(name)
            if len(bounds) != size:
                raise refuse(
                    WHERE,
                    f"{name} has bounds for {len(bounds)} joints; the contract observes "
                    f"{size or 'none'}",
                )
        stopped = {name: tiers.stopped for name, tiers in self._magnitudes}
        for channel in contract.action:
            largest = max(-channel.low, channel.high)
            if channel.name in stopped and not stopped[channel.name] > largest:
                raise refuse(
                    WHERE,
                    f"the {channel.name} that stops the robot, {stopped[channel.name]}, should be "
                    f"above the largest that the contract allows to command, {largest}",
                )

    def judge(self, seen: Seen) -> None:
        """Append what is beyond its bounds."""
        values, reasons = seen.values, seen.reasons
        for name, tiers in self._magnitudes:
            if name not in values:
                continue
            for value in values[name]:
                if abs(value) > tiers.limited:
                    _exceeds(name, "", max(map(abs, values[name])), tiers, reasons)
                    break
        if self._positions is not None and "joint_position" in values:
            _check_positions(values["joint_position"], self._positions, reasons)
        if self._velocities is not None and "joint_velocity" in values:
            _check_velocities(values["joint_velocity"], self._velocities, reasons)


def _check_velocities(
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


def _check_positions(
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
