"""Standing: does the robot stand still, as far as is known?"""

from __future__ import annotations

import math

from holdfast.safety_monitor.checks.consistency import turn_rad
from holdfast.safety_monitor.judge import Motion
from holdfast.safety_monitor.look import Numbers, Seen

HEADING_S = 0.5
"""How long a heading must stay the same to tell that a robot without a yaw rate does not turn."""


class Standing:
    """Whether the robot stands still, as far as is known; not knowing is moving."""

    def __init__(self, motion: Motion) -> None:
        self._motion = motion
        self.forget()

    def forget(self) -> None:
        """Start anew: nothing was measured yet."""
        self._since: tuple[float, float] | None = None  # stamp and heading of the last turn
        self._still_s = 0.0

    def stands(self, seen: Seen) -> bool:
        """Whether it neither goes anywhere nor turns."""
        velocity = seen.velocity
        return (
            velocity is not None
            and math.hypot(*velocity) <= self._motion.standing_speed_m_s
            and self._turns_slowly(seen.values)
        )

    def _turns_slowly(self, values: Numbers) -> bool:
        if "yaw_rate" in values:
            return abs(values["yaw_rate"][0]) <= self._motion.standing_yaw_rate_rad_s
        if "angular_velocity" in values:
            return abs(values["angular_velocity"][2]) <= self._motion.standing_yaw_rate_rad_s
        return self._still_s >= HEADING_S

    def listen(self, seen: Seen) -> None:
        """Watch the heading: where there is no yaw rate, it tells whether the robot turns."""
        values = seen.values
        if "heading" not in values:
            self._since, self._still_s = None, 0.0
            return
        heading, at_s = values["heading"][0], seen.stamps["heading"]
        if self._since is not None:
            most = self._motion.standing_yaw_rate_rad_s * HEADING_S
            if abs(turn_rad(self._since[1], heading)) <= most:
                self._still_s = at_s - self._since[0]
                return
        self._since, self._still_s = (at_s, heading), 0.0
