"""Tracking: does the robot do what it was told?"""

from __future__ import annotations

from holdfast.contract import Contract
from holdfast.safety_monitor.checks import Values
from holdfast.safety_monitor.limits import Limits
from holdfast.safety_monitor.messages import Check, Reason, State


class Tracking:
    """How long each commanded signal has been too far from its command.

    A robot that lags is ordinary; one that for a while neither speeds up nor slows down as
    told is blocked, slipping or running away.
    """

    def __init__(self, contract: Contract, limits: Limits) -> None:
        self._tiers = limits.tracking_s
        self._channels = tuple(
            (name, index, limits.tracking_error[name])
            for index, name in enumerate(channel.name for channel in contract.action)
            if name in limits.tracking_error
        )
        self.forget()

    def forget(self) -> None:
        """Start anew: nothing is off."""
        self._off_since_s: dict[str, float] = {}

    def judge(
        self, now_s: float, values: Values, applied: list[float], reasons: list[Reason]
    ) -> None:
        """Compare the measured signals with the command in force; append what is off too long."""
        for name, index, error in self._channels:
            measured = values.get(name)
            if measured is not None and abs(measured[0] - applied[index]) <= error:
                self._off_since_s.pop(name, None)
                continue
            lasted_s = now_s - self._off_since_s.setdefault(name, now_s)
            if lasted_s <= self._tiers.limited:
                continue
            state = State.LIMITED if lasted_s <= self._tiers.stopped else State.STOPPED
            text = f"{name} has not followed its command for {lasted_s:.2f} s"
            reasons.append(Reason(Check.ENVELOPE, f"{name}_not_tracking", state, text))
