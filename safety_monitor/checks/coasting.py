"""Coasting: does the robot move though zero is commanded?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from holdfast.safety_monitor.judge import Judge, Motion, When, require_above_0
from holdfast.safety_monitor.look import Seen
from holdfast.safety_monitor.reasons import MOVES_UNCOMMANDED
from holdfast.safety_monitor.scalar import run_clock


@dataclass(frozen=True)
class CoastingLimits:
    """How long a stop may take.

    Attributes:
        coasting_s: for how long the robot may move while zero is commanded, in any state.
    """

    coasting_s: float

    def __post_init__(self) -> None:
        require_above_0(self, "coasting", ("coasting_s",))


class Coasting(Judge):
    """For how long the robot has moved while zero was commanded: something else drives it."""

    block = CoastingLimits
    when = When.STEP

    def __init__(self, limits: CoastingLimits, motion: Motion) -> None:
        self._longest_s = limits.coasting_s
        self.forget()

    def forget(self) -> None:
        """Start anew: it has not moved yet."""
        self._last_s = math.inf
        self._uncommanded_s = 0.0

    def judge(self, seen: Seen) -> None:
        """Append a stop if the robot has moved for too long."""
        passed_s, self._last_s = max(0.0, seen.now_s - self._last_s), seen.now_s
        wrong = not any(seen.applied) and seen.velocity is not None and not seen.stands
        lasted_s = self._uncommanded_s = run_clock(self._uncommanded_s, passed_s, wrong)
        if lasted_s > self._longest_s:
            seen.reasons.append(MOVES_UNCOMMANDED(lasted_s=lasted_s))
