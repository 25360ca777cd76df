"""Standing: does the robot stand still, and does it move though nothing told it to?"""

from __future__ import annotations

import math

from holdfast.safety_monitor.checks import Stamps, Values, velocity
from holdfast.safety_monitor.consistency import turn_rad
from holdfast.safety_monitor.limits import Limits
from holdfast.safety_monitor.messages import Reason
from holdfast.safety_monitor.reasons import MOVES_UNCOMMANDED
from holdfast.safety_monitor.scalar import run_clock

HEADING_S = 0.5
"""How long a heading must stay the same to tell that a robot without a yaw rate does not turn."""


class Standing:
    """Whether the robot stands still, as far as is known; not knowing is moving."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.forget()

    def forget(self) -> None:
        """Start anew: nothing was measured yet."""
        self._last_s = math.inf
        self._uncommanded_s = 0.0
        self._since: tuple[float, float] | None = None  # stamp and heading of the last turn
        self._still_s = 0.0

    def stands(self, values: Values) -> bool:
        """Whether it neither goes anywhere nor turns."""
        moving, limits = velocity(values), self._limits
        return (
            moving is not None
            and math.hypot(*moving) <= limits.standing_speed_m_s
            and self._turns_slowly(values)
        )

    def _turns_slowly(self, values: Values) -> bool:
        if "yaw_rate" in values:
            return abs(values["yaw_rate"][0]) <= self._limits.standing_yaw_rate_rad_s
        if "angular_velocity" in values:
            return abs(values["angular_velocity"][2]) <= self._limits.standing_yaw_rate_rad_s
        return self._still_s >= HEADING_S

    def listen(self, values: Values, stamps: Stamps) -> None:
        """Watch the heading: where there is no yaw rate, it tells whether the robot turns."""
        if "heading" not in values:
            self._since, self._still_s = None, 0.0
            return
        heading, at_s = values["heading"][0], stamps["heading"]
        if self._since is not None:
            most = self._limits.standing_yaw_rate_rad_s * HEADING_S
            if abs(turn_rad(self._since[1], heading)) <= most:
                self._still_s = at_s - self._since[0]
                return
        self._since, self._still_s = (at_s, heading), 0.0

    def judge(self, now_s: float, values: Values, commanded: bool, reasons: list[Reason]) -> None:
        """Append a stop if the robot has moved for too long while zero was commanded."""
        passed_s, self._last_s = max(0.0, now_s - self._last_s), now_s
        longest_s = self._limits.coasting_s
        if longest_s is None:
            return
        wrong = not commanded and velocity(values) is not None and not self.stands(values)
        lasted_s = self._uncommanded_s = run_clock(self._uncommanded_s, passed_s, wrong)
        if lasted_s > longest_s:
            reasons.append(MOVES_UNCOMMANDED(lasted_s=lasted_s))
