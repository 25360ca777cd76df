"""Freshness: the age and order of what one sender says."""

from __future__ import annotations

import math

from holdfast.safety_monitor.limits import Limits
from holdfast.safety_monitor.messages import Check, Reason, State


class Freshness:
    """Judges stamps and sequence numbers of one source, or of the proposals.

    A message that repeats (same stamp, same sequence number) is ordinary, and simply ages.
    A known sequence number under a new stamp is not: a sender that restamps what it said
    before would look alive for ever.

    Args:
        kind: "source" or "proposal"; begins the reasons' codes.
        name: what people call the sender.
    """

    def __init__(self, kind: str, name: str, limits: Limits) -> None:
        self._kind, self._name = kind, name
        is_source = kind == "source"
        self._max_age_s = limits.source_max_age_s if is_source else limits.proposal_max_age_s
        self._lost_s = limits.source_lost_s if is_source else limits.proposal_lost_s
        self._future_s = limits.future_tolerance_s
        self._max_skipped = limits.max_skipped
        self._last: tuple[float, int] | None = None

    def judge(
        self, now_s: float, stamp_s: float, sequence: int, moving: bool, reasons: list[Reason]
    ) -> None:
        """Append what is wrong with a message; changes nothing else."""
        age_s = now_s - stamp_s
        if not -self._future_s <= age_s <= self._max_age_s:  # NaN fails this comparison too
            self._judge_age(age_s, stamp_s, moving, reasons)
        if self._last is None:
            return
        last_s, last = self._last
        if sequence > last and stamp_s >= last_s:
            if sequence - last - 1 > self._max_skipped:
                text = f"lost {sequence - last - 1} messages at once"
                self._say(reasons, "skipped", State.LIMITED, text)
        elif sequence != last or stamp_s != last_s:
            self._say(
                reasons,
                "out_of_order",
                State.STOPPED,
                f"has sequence {sequence} stamped {stamp_s} after sequence {last} stamped {last_s}",
            )

    def _judge_age(self, age_s: float, stamp_s: float, moving: bool, reasons: list[Reason]) -> None:
        if not math.isfinite(age_s):
            self._say(
                reasons, "stamp_not_finite", State.STOPPED, f"is stamped {stamp_s}", Check.FINITE
            )
        elif age_s < 0.0:
            self._say(reasons, "future", State.STOPPED, f"is {-age_s:.3f} s ahead of the clock")
        elif age_s > self._lost_s and moving:
            self._say(reasons, "lost", State.STOPPED, f"is {age_s:.3f} s old while moving")
        else:
            self._say(reasons, "stale", State.FALLBACK, f"is {age_s:.3f} s old")

    def _say(
        self,
        reasons: list[Reason],
        fault: str,
        state: State,
        text: str,
        check: Check = Check.FRESH,
    ) -> None:
        reasons.append(Reason(check, f"{self._kind}_{fault}", state, f"{self._name} {text}"))

    def accept(self, stamp_s: float, sequence: int) -> None:
        """Remember a message: the next one is judged against it, whatever was wrong with it."""
        if math.isfinite(stamp_s):
            self._last = stamp_s, sequence
