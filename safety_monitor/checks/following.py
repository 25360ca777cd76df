"""Following: where has the robot gone, and turned, in another way than it was told?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from holdfast.contract import Contract
from holdfast.safety_monitor.checks.consistency import Floor
from holdfast.safety_monitor.checks.tracking import Commands
from holdfast.safety_monitor.judge import (
    Judge,
    Motion,
    When,
    refuse,
    require_above_0,
    require_at_least_0,
)
from holdfast.safety_monitor.look import Seen
from holdfast.safety_monitor.reasons import STRAYED

WHERE = "following"
SPEEDS = ("forward_speed", "lateral_speed")


@dataclass(frozen=True)
class FollowingLimits:
    """How far the robot may go, and turn, in another way than it was told.

    In every step some of the motion outside of the newest commands is forgiven; the rest adds up,
    and stops the robot beyond `most_m` or `most_rad`.

    Attributes:
        lag_s: the motion may be that of any command that was in force so long ago or later.
        creep_m_s, creep_rad_s: forgiven per second.
        turn_share: forgiven share of a commanded turn: wheels of another size.
        turn_rad_per_m: forgiven turn per metre of the commanded way: motors of unequal gain.
        floor_m_s2: smallest acceleration that the floor can give the robot; where the wheels'
            velocity changes faster they may slip.
        settle_s: time after a possible slip in which the yaw rate is not judged: the floor turns
            the robot then.
        most_m, most_rad: largest remainder of the way, along each of the base's axes, and of the
            turn.
        way_share: forgiven share of a commanded way: motors that are weaker or stronger than was
            thought.
    """

    lag_s: float
    creep_m_s: float
    creep_rad_s: float
    turn_share: float
    turn_rad_per_m: float
    floor_m_s2: float
    settle_s: float
    most_m: float
    most_rad: float
    way_share: float = 0.0

    def __post_init__(self) -> None:
        forgiven = ("creep_m_s", "creep_rad_s", "way_share", "turn_share", "turn_rad_per_m")
        require_at_least_0(self, WHERE, ("lag_s", *forgiven, "settle_s"))
        require_above_0(self, WHERE, ("floor_m_s2", "most_m", "most_rad"))


class Way:
    """How far the robot has gone along one of its axes in another way than it was told.

    Attributes:
        signal: the speed along the axis.
        channel: index of its action channel.
        off_m: how far, m.
    """

    def __init__(self, signal: str, channel: int) -> None:
        self.signal, self.channel = signal, channel
        self.off_m = 0.0
        self._least_m_s, self._most_m_s = math.inf, -math.inf

    def add(
        self,
        asked: list[float],
        measured: list[float] | None,
        passed_s: float,
        allowed: FollowingLimits,
    ) -> None:
        """Take the commands in force, and the measured speed where there is one."""
        change_m_s = allowed.floor_m_s2 * passed_s
        self._least_m_s = min(self._least_m_s + change_m_s, *asked)
        self._most_m_s = max(self._most_m_s - change_m_s, *asked)
        if measured is not None:
            told = [self._least_m_s, self._most_m_s]
            forgiven_m_s = allowed.creep_m_s + allowed.way_share * max(map(abs, asked))
            off_m_s = outside(measured[0], told) - forgiven_m_s
            self.off_m = max(self.off_m + off_m_s * passed_s, 0.0)


class Following(Judge):
    """How far the robot has gone, and turned, in another way than it was told.

    The measured speeds and yaw rate may be those of any command of the last `lag_s`, and a speed
    may change as slowly as the floor lets it. What lies beyond adds up whatever its sign, less what
    is forgiven (`FollowingLimits`). Wheels that slip still say how fast they turn, but they do not
    turn the robot: its yaw rate is not judged until it has settled.
    """

    block = FollowingLimits
    when = When.MOTION
    signals: tuple[str, ...] = ("forward_speed", "yaw_rate")

    def __init__(self, limits: FollowingLimits, motion: Motion) -> None:
        self._allowed = limits
        self._axes: tuple[tuple[str, int], ...] = ((SPEEDS[0], 0),)
        self._turn = 0
        self.forget()

    def require(self, contract: Contract) -> None:
        """Find the channels of the speeds and of the yaw rate."""
        names = contract.action_names
        if not set(self.signals) <= set(names):
            raise refuse(
                WHERE,
                "should be left out for a robot that is not commanded by forward_speed and "
                f"yaw_rate; channels are {', '.join(names)}",
            )
        self._axes = tuple((name, names.index(name)) for name in SPEEDS if name in names)
        self._turn = names.index("yaw_rate")
        self.signals = (*(name for name, _ in self._axes), "yaw_rate")
        self.forget()

    def forget(self) -> None:
        """Start anew: the robot has gone nowhere yet."""
        self._last_s = math.inf
        self._commands = Commands(self._allowed.lag_s)
        self._floor = Floor(self._allowed.floor_m_s2)
        self._ways = tuple([Way(signal, channel) for signal, channel in self._axes])
        self._slipped_s = -math.inf
        self._off_rad = 0.0

    def judge(self, seen: Seen) -> None:
        """Compare the newest readings with the commands in force; append what is too far off."""
        now_s, allowed = seen.now_s, self._allowed
        passed_s, self._last_s = max(0.0, now_s - self._last_s), now_s
        self._commands.add(now_s, seen.applied)
        if seen.velocity is not None and any(self._floor.slip(now_s, seen.velocity)):
            self._slipped_s = now_s
        asked = [self._commands.asked(way.channel) for way in self._ways]
        for way, commands in zip(self._ways, asked, strict=True):
            way.add(commands, seen.values.get(way.signal), passed_s, allowed)
            if way.off_m > allowed.most_m:
                seen.reasons.append(STRAYED(signal=way.signal, off=way.off_m, unit="m"))
        self._judge_turn(seen, passed_s, max(map(math.hypot, *asked)))
        if self._off_rad > allowed.most_rad:
            seen.reasons.append(STRAYED(signal="yaw_rate", off=self._off_rad, unit="rad"))

    def _judge_turn(self, seen: Seen, passed_s: float, fastest_m_s: float) -> None:
        if "yaw_rate" not in seen.values:
            return
        allowed = self._allowed
        turn = self._commands.asked(self._turn)
        off_rad_s = -allowed.creep_rad_s - allowed.turn_rad_per_m * fastest_m_s
        off_rad_s -= allowed.turn_share * max(map(abs, turn))
        if seen.now_s - self._slipped_s > allowed.settle_s:
            off_rad_s += outside(seen.values["yaw_rate"][0], turn)
        self._off_rad = max(self._off_rad + off_rad_s * passed_s, 0.0)


def outside(value: float, asked: list[float]) -> float:
    """Return how far a value lies outside of the range of others; 0 inside."""
    return max(value - max(asked), min(asked) - value, 0.0)
