"""The ladder: the monitor's state, and the only rules by which it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from holdfast.safety_monitor.judge import refuse, require_above_0
from holdfast.safety_monitor.messages import (
    ACTIVE,
    FALLBACK,
    LIMITED,
    READY,
    STOPPED,
    Reason,
    State,
)
from holdfast.safety_monitor.reasons import FALLBACK_ENDED, POWER_ON, RELEASED


@dataclass(frozen=True)
class LadderLimits:
    """How soon the state goes down and up.

    Attributes:
        trigger_steps: steps with a reason for LIMITED that lead from ACTIVE to it; a step
            without one takes off half a step. Worse reasons act at once.
        release_steps: consecutive clean steps that lead one rung up: FALLBACK to LIMITED,
            LIMITED to ACTIVE. Nothing but a reset leads out of STOPPED.
        fallback_max_s: FALLBACK ends in STOPPED when the robot stands, at latest after this.
    """

    trigger_steps: int
    release_steps: int
    fallback_max_s: float

    def __post_init__(self) -> None:
        require_above_0(self, "ladder", ("fallback_max_s",))
        for name in ("trigger_steps", "release_steps"):
            value = getattr(self, name)
            if value < 1:
                raise refuse("ladder", f"{name} should be at least 1, received {value}")


class Ladder:
    """States from STOPPED to ACTIVE. Down at once, up one rung at a time, out of STOPPED never.

    Attributes:
        state: where it stands; STOPPED at the start.
        moving: whether that lets the robot move.
        causes: why it is no higher: the reasons that last led or held it down.
    """

    def __init__(self, limits: LadderLimits) -> None:
        self._trigger_steps = limits.trigger_steps
        self._release_steps = limits.release_steps
        self._fallback_max_s = limits.fallback_max_s
        self._released = RELEASED(steps=limits.release_steps)
        self._since_s = 0.0
        self.enter(STOPPED, (POWER_ON(),))

    def enter(self, state: State, causes: Iterable[Reason] = ()) -> None:
        """Go to a state because of an event; forgets everything about the one before."""
        self.state = state
        self.moving = state >= FALLBACK
        self.causes = tuple(causes)
        self._clean_steps, self._slow_steps = 0, 0.0

    def stop(self, reason: Reason) -> None:
        """Latch STOPPED. A robot that is stopped already keeps its first causes."""
        if self.state is not STOPPED:
            self.enter(STOPPED, (reason,))
        elif all(reason.code != cause.code for cause in self.causes):
            self.causes = (*self.causes, reason)

    def judge(self, now_s: float, reasons: list[Reason], standing: Callable[[], bool]) -> None:
        """Answer the checks of one step; the most severe reason wins.

        Args:
            standing: tells whether the robot stands and was last sent zero; asked in FALLBACK.
        """
        allowed = min([reason.state for reason in reasons]) if reasons else ACTIVE
        if self.moving:
            self._judge_moving(now_s, allowed, reasons)
            if self.state is FALLBACK:
                self._end_fallback(now_s, standing)
        elif self.state is READY and allowed is STOPPED:
            # Nothing moves, so only what would need a reset leads away from here.
            self.enter(STOPPED, _down_to(STOPPED, reasons))

    def _judge_moving(self, now_s: float, allowed: State, reasons: list[Reason]) -> None:
        if self.state is ACTIVE:
            # A clean step takes off half a step, so a reason on every second one slows too.
            slow = self._slow_steps + (1.0 if allowed is LIMITED else -0.5)
            self._slow_steps = max(slow, 0.0)
            if allowed is ACTIVE or (allowed is LIMITED and slow < self._trigger_steps):
                return
        if allowed <= self.state:
            if allowed is not self.state:
                self._since_s = now_s
            self.enter(allowed, _down_to(allowed, reasons))
            return
        self._clean_steps += 1
        if self._clean_steps >= self._release_steps:
            higher = State(self.state + 1)
            self.enter(higher, () if higher is ACTIVE else (self._released,))

    def _end_fallback(self, now_s: float, standing: Callable[[], bool]) -> None:
        lasted_s = now_s - self._since_s
        if standing():
            how = "is complete"
        elif lasted_s > self._fallback_max_s:
            how = f"took longer than {self._fallback_max_s} s"
        else:
            return
        self.enter(STOPPED, (*self.causes, FALLBACK_ENDED(how=how)))


def _down_to(state: State, reasons: list[Reason]) -> list[Reason]:
    return [reason for reason in reasons if reason.state == state]
