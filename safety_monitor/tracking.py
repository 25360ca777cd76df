"""Tracking: does the robot do what it was told?"""

from __future__ import annotations

import math
from collections import deque

from holdfast.contract import Contract
from holdfast.safety_monitor.checks import Values
from holdfast.safety_monitor.limits import Limits
from holdfast.safety_monitor.messages import LIMITED, STOPPED, Reason
from holdfast.safety_monitor.reasons import NOT_TRACKING
from holdfast.safety_monitor.scalar import run_clock


class Tracking:
    """How long each commanded signal has been too far from its command.

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
        self.forget()

    def forget(self) -> None:
        """Start anew: nothing is off, and nothing was commanded."""
        self._last_s = math.inf
        self._commands: deque[tuple[float, list[float]]] = deque()
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
        commands = self._commands
        commands.append((now_s, applied))
        # The oldest one kept is the one in force when the reaction time began.
        while len(commands) > 1 and commands[1][0] <= now_s - self._reaction_s:
            commands.popleft()
        for name, index, error in self._channels:
            tolerance = error * self._limited_scale if limited else error
            asked = [command[index] for _, command in commands]
            measured = values.get(name)
            wrong = measured is None or not (
                min(asked) - tolerance <= measured[0] <= max(asked) + tolerance
            )
            lasted_s = self._off_s[name] = run_clock(self._off_s[name], passed_s, wrong)
            if lasted_s <= self._tiers.limited:
                continue
            state = LIMITED if lasted_s <= self._tiers.stopped else STOPPED
            reasons.append(NOT_TRACKING(state, signal=name, lasted_s=lasted_s))
