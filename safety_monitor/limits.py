"""Limits: what a robot may do under the monitor, one file of them per robot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.contract import Contract, Recovery, strict
from holdfast.errors import ConfigError, ContractError
from holdfast.safety_monitor.geofence import Geofence

WHERE = "monitor limits"

OPTIONAL = ("agreement", "following", "pose_frozen_s", "velocity_frozen_s", "coasting_s")
"""Keys that may be missing, because logs of before 2026-12 lack them: then not checked."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(f"{WHERE}: {message}")


@dataclass(frozen=True)
class Tiers:
    """Two bounds on one magnitude: above `limited` the robot is slowed, above `stopped` stopped."""

    limited: float
    stopped: float

    def require_order(self, where: str) -> None:
        """Check that both are above 0, and in order; `where` begins the sentence."""
        _require(
            math.isfinite(self.stopped) and 0.0 < self.limited <= self.stopped,
            f"{where} should be finite with 0 < limited <= stopped, received limited "
            f"{self.limited} and stopped {self.stopped}",
        )


@dataclass(frozen=True)
class Span:
    """Bounds on one value: beyond them the robot is stopped, within `margin` of them slowed."""

    low: float
    high: float
    margin: float

    def require_order(self, where: str) -> None:
        """Check that something lies between both margins; `where` begins the sentence."""
        _require(
            math.isfinite(self.low)
            and math.isfinite(self.high)
            and self.margin >= 0.0
            and self.low + self.margin < self.high - self.margin,
            f"{where} should be finite with margin at least 0 and low + margin < high - margin, "
            f"received low {self.low}, high {self.high} and margin {self.margin}",
        )


@dataclass(frozen=True)
class Agreement:
    """How far position and heading may disagree with speed and yaw rate.

    In every step some disagreement is forgiven; the rest adds up, and stops the robot beyond
    `along_m`, `across_m` or `heading_rad`. Between two readings that differ, a speed and a yaw
    rate may have had any value between them: that is forgiven too.

    Attributes:
        distance_share: of the distance just made; forgiven along the way alone: wheels of
            another size.
        axle_m: how far before the base's origin the axle lies whose wheels do not steer; the
            origin swings about it, which no forward speed tells.
        creep_m_s: of the time.
        floor_m_s2: the floor can change the robot's velocity by at least so much. Where the
            wheels' velocity changes faster they may slip, and the way may be any between theirs
            and that of a velocity which changes by so much.
        along_m, across_m: the most that may remain along the way, and across it.
        turn_share, creep_rad_s, heading_rad: the same of the heading and the yaw rate.
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

    def require_sense(self, where: str) -> None:
        """Check that something is forgiven and not everything; `where` begins the sentence."""
        for name in ("distance_share", "turn_share"):
            value = getattr(self, name)
            _require(
                0.0 <= value < 0.5,
                f"{where}.{name} should be at least 0 and below 0.5, received {value}",
            )
        _require(
            math.isfinite(self.axle_m),
            f"{where}.axle_m should be finite, received {self.axle_m}",
        )
        _require_at_least_0(self, ("creep_m_s", "creep_rad_s"), where)
        _require_above_0(self, ("floor_m_s2", "along_m", "across_m", "heading_rad"), where)


@dataclass(frozen=True)
class Following:
    """How far the robot may go, and turn, in another way than it was told.

    In every step some of what lies outside of the newest commands is forgiven, also
    `Agreement.distance_share` of a commanded turn; the rest adds up, and stops the robot beyond
    `most_m` or `most_rad`.

    Attributes:
        lag_s: the motion may be that of any command that was in force so long ago or later.
        creep_m_s, creep_rad_s: of the time.
        turn_rad_per_m: of the commanded way: motors of unequal gain turn the robot.
        settle_s: for so long after wheels may have slipped (`Agreement.floor_m_s2`) the yaw rate
            is not judged: what turns the robot then is the floor.
        most_m, most_rad: the most that may remain of the way, and of the turn.
    """

    lag_s: float
    creep_m_s: float
    creep_rad_s: float
    turn_rad_per_m: float
    settle_s: float
    most_m: float
    most_rad: float

    def require_sense(self, where: str) -> None:
        """Check that each limit is finite and not negative; `where` begins the sentence."""
        some = ("lag_s", "creep_m_s", "creep_rad_s", "turn_rad_per_m", "settle_s")
        _require_at_least_0(self, some, where)
        _require_above_0(self, ("most_m", "most_rad"), where)


def _require_at_least_0(limits: object, names: tuple[str, ...], where: str) -> None:
    for name in names:
        value = getattr(limits, name)
        _require(
            math.isfinite(value) and value >= 0.0,
            f"{where}.{name} should be finite and at least 0, received {value}",
        )


def _require_above_0(limits: object, names: tuple[str, ...], where: str) -> None:
    for name in names:
        value = getattr(limits, name)
        _require(
            math.isfinite(value) and value > 0.0,
            f"{where}.{name} should be finite and above 0, received {value}",
        )


@dataclass(frozen=True)
class Limits:
    """Everything the monitor compares with. A value at a limit is allowed; beyond it is not.

    An envelope limit that is None is not checked; one that is set makes its signal required.

    Attributes:
        source_max_age_s: an older reading means a controlled stop: for a moment, ramping down
            from the last command is gentler than a blind halt, and no less safe.
        source_lost_s: a reading older than this while moving means STOPPED.
        proposal_max_age_s, proposal_lost_s: the same of proposals.
        future_tolerance_s: how far ahead of the clock a stamp may be.
        max_step_gap_s: the monitor itself slept if two moving steps are further apart: STOPPED.
        max_skipped: sequence numbers that may be lost between two steps; more means LIMITED.
        geofence: where the robot may be.
        forward_speed_m_s, yaw_rate_rad_s, tilt_rad: bounds on measured magnitudes.
        joint_position_rad, joint_velocity_rad_s: bounds on each joint, in the robot's own order;
            None for a joint that has none, as a wheel's position.
        tracking_error: by action channel, how far the measured signal of the same name may be
            from every command of the last reaction time, in its unit; in LIMITED, times
            limited_scale.
        tracking_s: for how long it may be further: LIMITED, then STOPPED. Time on track takes
            off a quarter of itself.
        deceleration_m_s2, reaction_time_s: stopping distance is v * reaction_time +
            v^2 / (2 deceleration). If it leads to the geofence's edge or into an obstacle, a
            controlled stop follows.
        slow_margin_m: coming nearer than this to either on the way to a stop means LIMITED.
        footprint_radius_m: of the circle about the base's origin that holds the robot; None:
            there is no scan, and obstacles are not checked.
        standing_speed_m_s, standing_yaw_rate_rad_s: at most this is standing still.
        limited_scale: in LIMITED, proposals are multiplied by this.
        trigger_steps: steps with a reason for LIMITED that lead from ACTIVE to it; a step
            without one takes off half a step. Worse reasons act at once.
        release_steps: consecutive clean steps that lead one rung up: FALLBACK to LIMITED,
            LIMITED to ACTIVE. Nothing but a reset leads out of STOPPED.
        fallback_max_s: FALLBACK ends in STOPPED when the robot stands, at latest after this.
        episode_budget: by cost name, what spent and predicted cost together may reach before
            the robot is slowed; None, or a cost that is not named: its run budget. It is not
            the limit d: d bounds the *expected* cost, so about half the episodes of a policy
            that keeps to d lie above it, and slowing those would punish ordinary luck. The run
            budget is what is promised of every single episode.
        episode_coverage: the share of episodes that cost no more than is predicted, at any of
            their steps; of those that the bundle's prediction was calibrated on.
        recovery: the robot's own; None: the contract's, if it has one.
        agreement: how far position and heading may disagree with the speeds.
        following: how far forward speed and yaw rate may lead away from their commands; needs
            agreement, which says where wheels slip.
        pose_frozen_s: for how long position and heading may stay the same to the last bit while
            motion is commanded.
        velocity_frozen_s: the same of all measured speeds together.
        coasting_s: for how long the robot may move while zero is commanded, in any state.

    The last five are None where they are missing, as they are in older logs.
    """

    source_max_age_s: float
    source_lost_s: float
    proposal_max_age_s: float
    proposal_lost_s: float
    future_tolerance_s: float
    max_step_gap_s: float
    max_skipped: int
    geofence: Geofence | None
    forward_speed_m_s: Tiers | None
    yaw_rate_rad_s: Tiers | None
    tilt_rad: Tiers | None
    joint_position_rad: tuple[Span | None, ...] | None
    joint_velocity_rad_s: tuple[Tiers | None, ...] | None
    tracking_error: Mapping[str, float]
    tracking_s: Tiers
    deceleration_m_s2: float
    reaction_time_s: float
    slow_margin_m: float
    footprint_radius_m: float | None
    standing_speed_m_s: float
    standing_yaw_rate_rad_s: float
    limited_scale: float
    trigger_steps: int
    release_steps: int
    fallback_max_s: float
    episode_budget: Mapping[str, float] | None
    episode_coverage: float
    recovery: Recovery | None
    agreement: Agreement | None = None
    following: Following | None = None
    pose_frozen_s: float | None = None
    velocity_frozen_s: float | None = None
    coasting_s: float | None = None

    @staticmethod
    def from_mapping(data: Any) -> Limits:
        """Build limits from plain data; every key must be known, and there unless it is optional.

        Raises:
            ConfigError: a missing or unknown key, a wrong type, or limits that contradict
                each other.
        """
        if isinstance(data, dict):
            data = dict.fromkeys(OPTIONAL) | data
        try:
            return strict(Limits, data, WHERE)
        except ContractError as error:
            raise ConfigError(str(error)) from None

    def __post_init__(self) -> None:
        self._require_numbers()
        for name in ("forward_speed_m_s", "yaw_rate_rad_s", "tilt_rad", "tracking_s"):
            tiers = getattr(self, name)
            if tiers is not None:
                tiers.require_order(name)
        if self.agreement is not None:
            self.agreement.require_sense("agreement")
        if self.following is not None:
            self.following.require_sense("following")
            _require(
                self.agreement is not None,
                "following should come with agreement, whose floor_m_s2 tells where wheels slip; "
                "received no agreement",
            )
        for name in ("joint_position_rad", "joint_velocity_rad_s"):
            for joint, bounds in enumerate(getattr(self, name) or ()):
                if bounds is not None:
                    bounds.require_order(f"{name}[{joint}]")

    def _require_numbers(self) -> None:
        for name in (
            "source_max_age_s",
            "proposal_max_age_s",
            "max_step_gap_s",
            "deceleration_m_s2",
            "standing_speed_m_s",
            "standing_yaw_rate_rad_s",
            "fallback_max_s",
        ):
            value = getattr(self, name)
            _require(
                math.isfinite(value) and value > 0.0,
                f"{name} should be finite and above 0, received {value}",
            )
        for name in ("future_tolerance_s", "reaction_time_s", "slow_margin_m", "max_skipped"):
            value = getattr(self, name)
            _require(
                math.isfinite(value) and value >= 0,
                f"{name} should be finite and at least 0, received {value}",
            )
        for lost, age in (
            ("source_lost_s", "source_max_age_s"),
            ("proposal_lost_s", "proposal_max_age_s"),
        ):
            value, least = getattr(self, lost), getattr(self, age)
            _require(
                math.isfinite(value) and value >= least,
                f"{lost} should be finite and at least {age} {least}, received {value}",
            )
        _require(
            0.0 < self.limited_scale < 1.0,
            f"limited_scale should be between 0 and 1, received {self.limited_scale}",
        )
        _require(
            0.0 < self.episode_coverage < 1.0,
            f"episode_coverage should be between 0 and 1, received {self.episode_coverage}",
        )
        for name in ("trigger_steps", "release_steps"):
            value = getattr(self, name)
            _require(value >= 1, f"{name} should be at least 1, received {value}")
        for name, value in self.tracking_error.items():
            _require(
                math.isfinite(value) and value > 0.0,
                f"tracking_error.{name} should be finite and above 0, received {value}",
            )
        for name in (
            "footprint_radius_m",
            "pose_frozen_s",
            "velocity_frozen_s",
            "coasting_s",
        ):
            value = getattr(self, name)
            _require(
                value is None or (math.isfinite(value) and value > 0.0),
                f"{name} should be finite and above 0, received {value}",
            )

    def require_fit(self, contract: Contract) -> None:
        """Check these limits against a contract.

        Raises:
            ConfigError: a limit that the contract makes impossible to keep or to check.
        """
        _require(
            self.max_step_gap_s > contract.period_s,
            f"max_step_gap_s {self.max_step_gap_s} should be above the contract's period_s "
            f"{contract.period_s}",
        )
        for name, bounds in (
            ("joint_position", self.joint_position_rad),
            ("joint_velocity", self.joint_velocity_rad_s),
        ):
            size = contract.signal_size(name)
            _require(
                bounds is None or len(bounds) == size,
                f"{name} has bounds for {len(bounds or ())} joints; the contract observes "
                f"{size or 'none'}",
            )
        channels = {channel.name: channel for channel in contract.action}
        _require(
            self.following is None or {"forward_speed", "yaw_rate"} <= channels.keys(),
            "following should be null for a robot that is not commanded by forward_speed and "
            f"yaw_rate; channels are {', '.join(channels)}",
        )
        for name in self.tracking_error:
            signal = contract.known_signals.get(name)
            _require(
                name in channels
                and signal is not None
                and (signal.size, signal.unit) == (1, channels[name].unit),
                f"tracking_error.{name} should name an action channel that is also a measured "
                f"signal of its unit; channels are {', '.join(channels)}",
            )
            largest = max(-channels[name].low, channels[name].high)
            _require(
                self.tracking_error[name] < self.limited_scale * largest,
                f"tracking_error.{name} {self.tracking_error[name]} should be below "
                f"{self.limited_scale * largest:g}, limited_scale times the largest command, or "
                "a robot that does not move at all would be on track once it is slowed",
            )
        for name, tiers in (
            ("forward_speed", self.forward_speed_m_s),
            ("yaw_rate", self.yaw_rate_rad_s),
        ):
            if name not in channels or tiers is None:
                continue
            largest = max(-channels[name].low, channels[name].high)
            _require(
                tiers.stopped > largest,
                f"the {name} that stops the robot, {tiers.stopped}, should be above the "
                f"largest that the contract allows to command, {largest}",
            )
        forward = channels.get("forward_speed")
        if forward is not None:
            _require(
                self.deceleration_m_s2 <= forward.max_rate_per_s,
                f"deceleration_m_s2 {self.deceleration_m_s2} should be at most the rate at "
                f"which the contract lets forward_speed change, {forward.max_rate_per_s}",
            )
