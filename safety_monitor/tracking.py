"""Tracking: does the robot do what it was told?"""

from __future__ import annotations

import math
from collections import deque

from holdfast.contract import Contract
from holdfast.safety_monitor.checks import Values, stop, velocity
from holdfast.safety_monitor.consistency import Floor
from holdfast.safety_monitor.limits import Following, Limits
from holdfast.safety_monitor.messages import Check, Reason, State
from holdfast.safety_monitor.scalar import run_clock


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


class Tracking:
    """How long each commanded signal has been too far from its command, and how far in all.

    A robot that lags is ordinary, so it may follow any command that was in force within its
    reaction time; one that for a while neither speeds up nor slows down as told is blocked,
    slipping or running away. While LIMITED makes the commands smaller, it makes the tolerance
    smaller too: slowing a robot down must not be what puts it on track.
    """

    def __init__(self, contract: Contract, limits: Limits) -> None:
        self._tiers = limits.tracking_s
        self._reaction_s = limits.reaction_time_s
        self._limited_scale = limits.limited_scale
        self._channels = tuple(
            (name, index, limits.tracking_error[name])
            for index, name in enumerate(channel.name for channel in contract.action)
            if name in limits.tracking_error
        )
        self._astray = Astray(contract, limits) if limits.following else None
        self.forget()

    def forget(self) -> None:
        """Start anew: nothing is off, and nothing was commanded."""
        self._last_s = math.inf
        self._commands = Commands(self._reaction_s)
        if self._astray is not None:
            self._astray.forget()
        self._off_s = dict.fromkeys([name for name, _, _ in self._channels], 0.0)

    def judge(
        self,
        now_s: float,
        values: Values,
        applied: list[float],
        limited: bool,
        reasons: list[Reason],
    ) -> None:
        """Compare the measured signals with the commands in force; append what is off too long.

        Args:
            applied: the command in force, physical units.
            limited: the monitor is in LIMITED.
        """
        passed_s, self._last_s = max(0.0, now_s - self._last_s), now_s
        self._commands.add(now_s, applied)
        if self._astray is not None:
            self._astray.judge(now_s, passed_s, values, applied, reasons)
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
            state = State.LIMITED if lasted_s <= self._tiers.stopped else State.STOPPED
            text = f"{name} has not followed its command for {lasted_s:.2f} s"
            reasons.append(Reason(Check.ENVELOPE, f"{name}_not_tracking", state, text))


class Astray:
    """How far the robot has gone, and turned, in another way than it was told.

    The measured speed and yaw rate may be those of any command of the last `lag_s`, and the speed
    may change as slowly as the floor lets it. What lies beyond adds up whatever its sign, less what
    is forgiven (`Following`). Wheels that slip still say how fast they turn, but they do not turn
    the robot: its yaw rate is not judged until it has settled.
    """

    def __init__(self, contract: Contract, limits: Limits) -> None:
        assert limits.following is not None
        assert limits.agreement is not None
        self._allowed: Following = limits.following
        self._floor_m_s2 = limits.agreement.floor_m_s2
        self._turn_share = limits.agreement.distance_share  # wheels of another size turn it more
        self._forward = contract.action_names.index("forward_speed")
        self._turn = contract.action_names.index("yaw_rate")
        self.forget()

    def forget(self) -> None:
        """Start anew: the robot has gone nowhere yet."""
        self._commands = Commands(self._allowed.lag_s)
        self._floor = Floor(self._floor_m_s2)
        self._least_m_s, self._most_m_s = math.inf, -math.inf
        self._slipped_s = -math.inf
        self._off_m = self._off_rad = 0.0

    def judge(
        self,
        now_s: float,
        passed_s: float,
        values: Values,
        applied: list[float],
        reasons: list[Reason],
    ) -> None:
        """Compare the newest readings with the commands in force; append what is too far off."""
        allowed = self._allowed
        self._commands.add(now_s, applied)
        moving = velocity(values)
        if moving is not None and any(self._floor.slip(now_s, moving)):
            self._slipped_s = now_s
        forward = self._commands.asked(self._forward)
        change_m_s = self._floor_m_s2 * passed_s
        self._least_m_s = min(self._least_m_s + change_m_s, *forward)
        self._most_m_s = max(self._most_m_s - change_m_s, *forward)
        if "forward_speed" in values:
            told = [self._least_m_s, self._most_m_s]
            off_m_s = outside(values["forward_speed"][0], told) - allowed.creep_m_s
            self._off_m = max(self._off_m + off_m_s * passed_s, 0.0)
        if "yaw_rate" in values:
            turn = self._commands.asked(self._turn)
            off_rad_s = -allowed.creep_rad_s - allowed.turn_rad_per_m * max(map(abs, forward))
            off_rad_s -= self._turn_share * max(map(abs, turn))
            if now_s - self._slipped_s > allowed.settle_s:
                off_rad_s += outside(values["yaw_rate"][0], turn)
            self._off_rad = max(self._off_rad + off_rad_s * passed_s, 0.0)
        for name, off, most, unit in (
            ("forward_speed", self._off_m, allowed.most_m, "m"),
            ("yaw_rate", self._off_rad, allowed.most_rad, "rad"),
        ):
            if off > most:
                text = f"{name} has led {off:.3f} {unit} away from its commands"
                stop(reasons, Check.ENVELOPE, f"{name}_not_tracking", text)


def outside(value: float, asked: list[float]) -> float:
    """Return how far a value lies outside of the range of others; 0 inside."""
    return max(value - max(asked), min(asked) - value, 0.0)
