"""Freshness: the age and order of what one sender says."""

from __future__ import annotations

import math

from holdfast.safety_monitor.limits import Limits
from holdfast.safety_monitor.messages import Reason
from holdfast.safety_monitor.reasons import SOURCE, SenderKinds


class Freshness:
    """Judges stamps and sequence numbers of one source, or of the proposals.

    A message that repeats (same stamp, same sequence number) is ordinary, and simply ages.
    A known sequence number under a new stamp is not: a sender that restamps what it said
    before would look alive for ever.

    Args:
        kinds: what to say, of a source or of the proposals.
        name: what people call the sender.
    """

    def __init__(self, kinds: SenderKinds, name: str, limits: Limits) -> None:
        self._kinds, self._name = kinds, name
        is_source = kinds is SOURCE
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
                count = sequence - last - 1
                reasons.append(self._kinds.skipped(source=self._name, count=count))
        elif sequence != last or stamp_s != last_s:
            reasons.append(
                self._kinds.out_of_order(
                    source=self._name, sequence=sequence, stamp_s=stamp_s, last=last, last_s=last_s
                )
            )

    def _judge_age(self, age_s: float, stamp_s: float, moving: bool, reasons: list[Reason]) -> None:
        if not math.isfinite(age_s):
            reasons.append(self._kinds.stamp_not_finite(source=self._name, stamp_s=stamp_s))
        elif age_s < 0.0:
            reasons.append(self._kinds.future(source=self._name, ahead_s=-age_s))
        elif age_s > self._lost_s and moving:
            reasons.append(self._kinds.lost(source=self._name, age_s=age_s))
        else:
            reasons.append(self._kinds.stale(source=self._name, age_s=age_s))

    def accept(self, stamp_s: float, sequence: int) -> None:
        """Remember a message: the next one is judged against it, whatever was wrong with it."""
        if math.isfinite(stamp_s):
            self._last = stamp_s, sequence
