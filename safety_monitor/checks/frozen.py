"""Frozen: does anything change while the robot is told to move?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from holdfast.contract import Contract
from holdfast.safety_monitor.judge import Judge, Motion, When, require_above_0, require_one
from holdfast.safety_monitor.look import Seen
from holdfast.safety_monitor.reasons import POSE_FROZEN, VELOCITY_FROZEN, Kind

POSE = ("position", "heading")
VELOCITY = ("forward_speed", "lateral_speed", "yaw_rate", "linear_velocity")


@dataclass(frozen=True)
class FrozenLimits:
    """For how long signals may stay the same to the last bit. What is None is not checked.

    Attributes:
        pose_frozen_s: position and heading together, while motion is commanded.
        velocity_frozen_s: the same of all measured speeds together.
    """

    pose_frozen_s: float | None = None
    velocity_frozen_s: float | None = None

    def __post_init__(self) -> None:
        require_one(self, "frozen")
        require_above_0(self, "frozen", ("pose_frozen_s", "velocity_frozen_s"))


class Frozen(Judge):
    """For how long all signals of a kind have been the same to the last bit, while commanded.

    Only newer readings count, by their own stamps, so a slow sensor is not a frozen one. Signals
    are taken together, because one of them may well stand still: the heading of a robot that
    drives straight ahead, or a speed that is counted in whole ticks.
    """

    block = FrozenLimits
    when = When.MOTION

    def __init__(self, limits: FrozenLimits, motion: Motion) -> None:
        self._kinds = tuple(
            (kind, names, longest_s)
            for kind, names, longest_s in (
                (POSE_FROZEN, POSE, limits.pose_frozen_s),
                (VELOCITY_FROZEN, VELOCITY, limits.velocity_frozen_s),
            )
            if longest_s is not None
        )
        self._standing = {
            "m/s": motion.standing_speed_m_s,
            "rad/s": motion.standing_yaw_rate_rad_s,
        }
        self._least: tuple[tuple[int, float], ...] = ()
        self.forget()

    def require(self, contract: Contract) -> None:
        """Learn from which command on the robot is told to move."""
        self._least = tuple(
            (index, self._standing[channel.unit])
            for index, channel in enumerate(contract.action)
            if channel.unit in self._standing
        )

    def forget(self) -> None:
        """Start anew: nothing was measured yet."""
        # By kind: its signals, the newest stamp of them, for how long they have been the same.
        self._last: dict[Kind, tuple[list[list[float]], float, float]] = {}

    def judge(self, seen: Seen) -> None:
        """Take the newest readings; append what has not changed for too long."""
        values, stamps, applied, reasons = seen.values, seen.stamps, seen.applied, seen.reasons
        commanded = any(abs(applied[index]) > least for index, least in self._least)
        for kind, names, longest_s in self._kinds:
            known = [name for name in names if name in values]
            if not known:
                continue
            signals = [values[name] for name in known]
            stamp_s = max([stamps[name] for name in known])
            before, before_s, same_s = self._last.get(kind, (None, math.inf, 0.0))
            if signals != before:
                same_s = 0.0
            elif commanded:
                same_s += max(0.0, stamp_s - before_s)
            self._last[kind] = (signals, stamp_s, same_s)
            if same_s > longest_s:
                reasons.append(kind(signals=" and ".join(known), same_s=same_s))
