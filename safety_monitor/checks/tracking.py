"""Tracking: does the robot do what it was told?"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.contract import Contract
from holdfast.safety_monitor.judge import Judge, Motion, Tiers, When, refuse
from holdfast.safety_monitor.look import Seen
from holdfast.safety_monitor.messages import LIMITED, STOPPED
from holdfast.safety_monitor.reasons import NOT_TRACKING
from holdfast.safety_monitor.scalar import run_clock

WHERE = "tracking"


@dataclass(frozen=True)
class TrackingLimits:
    """How far the robot may be from its commands, and for how long.

    Attributes:
        tracking_error: by action channel, how far the measured signal of the same name may be
            from every command of the last reaction time, in its unit; in LIMITED, times
            limited_scale.
        tracking_s: for how long it may be further: LIMITED, then STOPPED. Time on track takes
            off a quarter of itself.
    """

    tracking_error: Mapping[str, float]
    tracking_s: Tiers

    def __post_init__(self) -> None:
        self.tracking_s.require_order(WHERE, "tracking_s")
        if not self.tracking_error:
            raise refuse(WHERE, "tracking_error should name an action channel, received none")
        for name, value in self.tracking_error.items():
            if not (math.isfinite(value) and value > 0.0):
                raise refuse(
                    WHERE,
                    f"tracking_error.{name} should be finite and above 0, received {value}",
                )


class Commands:
    """The commands that were in force within a time, so that a robot may lag."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._commands: deque[tuple[float, list[float]]] = deque()

    def add(self, now_s: float, applied: list[float]) -> None:
        """Take the command in force now."""
        self._commands.append((now_s, applied))
        # The oldest one kept is the one in force when the time began.
        while len(self._commands) > 1 and self._commands[1][0] <= now_s - self._longest_s:
            self._commands.popleft()

    def asked(self, index: int) -> list[float]:
        """Return what was commanded on a channel."""
        return [command[index] for _, command in self._commands]


class Tracking(Judge):
    """How long each commanded signal has been too far from its command.

    A robot that lags is ordinary, so it may follow any command that was in force within its
    reaction time; one that for a while neither speeds up nor slows down as told is blocked,
    slipping or running away. While LIMITED makes the commands smaller, it makes the tolerance
    smaller too: slowing a robot down must not be what puts it on track.
    """

    block = TrackingLimits
    when = When.MOTION

    def __init__(self, limits: TrackingLimits, motion: Motion) -> None:
        self._errors, self._tiers = limits.tracking_error, limits.tracking_s
        self._reaction_s = motion.reaction_time_s
        self._limited_scale = motion.limited_scale
        self._channels: tuple[tuple[str, int, float], ...] = ()
        self.signals = tuple(self._errors)
        self.forget()

    def require(self, contract: Contract) -> None:
        """Check that each channel is measured as it is commanded, and can be told from standing."""
        self._channels = tuple(
            (name, index, self._errors[name])
            for index, name in enumerate(contract.action_names)
            if name in self._errors
        )
        self.forget()
        channels = {channel.name: channel for channel in contract.action}
        for name, error in self._errors.items():
            signal = contract.known_signals.get(name)
            if (
                name not in channels
                or signal is None
                or (signal.size, signal.unit) != (1, channels[name].unit)
            ):
                raise refuse(
                    WHERE,
                    f"tracking_error.{name} should name an action channel that is also a measured "
                    f"signal of its unit; channels are {', '.join(channels)}",
                )
            most = self._limited_scale * max(-channels[name].low, channels[name].high)
            if not error < most:
                raise refuse(
                    WHERE,
                    f"tracking_error.{name} {error} should be below {most:g}, limited_scale times "
                    "the largest command, or a robot that does not move at all would be on track "
                    "once it is slowed",
                )

    def forget(self) -> None:
        """Start anew: nothing is off, and nothing was commanded."""
        self._last_s = math.inf
        self._commands = Commands(self._reaction_s)
        self._off_s = dict.fromkeys([name for name, _, _ in self._channels], 0.0)

    def judge(self, seen: Seen) -> None:
        """Compare the measured signals with the commands in force; append what is off too long."""
        now_s, values, limited = seen.now_s, seen.values, seen.state is LIMITED
        passed_s, self._last_s = max(0.0, now_s - self._last_s), now_s
        self._commands.add(now_s, seen.applied)
        for name, index, error in self._channels:
            tolerance = error * self._limited_scale if limited else error
            asked = self._commands.asked(index)
            measured = values.get(name)
            wrong = measured is None or not (
                min(asked) - tolerance <= measured[0] <= max(asked) + tolerance
            )
            lasted_s = self._off_s[name] = run_clock(self._off_s[name], passed_s, wrong)
            if lasted_s <= self._tiers.limited:
                continue
            state = LIMITED if lasted_s <= self._tiers.stopped else STOPPED
            seen.reasons.append(NOT_TRACKING(state, signal=name, lasted_s=lasted_s))
