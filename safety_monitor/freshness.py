"""Freshness: the monitor's own clock, and the age and order of what each sender says."""

from __future__ import annotations

import math
from dataclasses import dataclass

from holdfast.contract import Contract
from holdfast.safety_monitor.judge import (
    Judge,
    Motion,
    refuse,
    require_above_0,
    require_at_least_0,
)
from holdfast.safety_monitor.look import Seen
from holdfast.safety_monitor.messages import FALLBACK, Reason
from holdfast.safety_monitor.reasons import (
    CLOCK_BACKWARDS,
    CLOCK_NOT_FINITE,
    PROPOSAL,
    PROPOSAL_MISSING,
    SOURCE,
    STEP_LATE,
    SenderKinds,
)


@dataclass(frozen=True)
class FreshnessLimits:
    """How old, how far ahead and how incomplete messages may be.

    Attributes:
        source_max_age_s: an older reading means a controlled stop: for a moment, ramping down
            from the last command is gentler than a blind halt, and no less safe.
        source_lost_s: a reading older than this while moving means STOPPED.
        proposal_max_age_s, proposal_lost_s: the same of proposals.
        future_tolerance_s: how far ahead of the clock a stamp may be.
        max_step_gap_s: the monitor itself slept if two moving steps are further apart: STOPPED.
        max_skipped: sequence numbers that may be lost between two steps; more means LIMITED.
    """

    source_max_age_s: float
    source_lost_s: float
    proposal_max_age_s: float
    proposal_lost_s: float
    future_tolerance_s: float
    max_step_gap_s: float
    max_skipped: int

    def __post_init__(self) -> None:
        where = "freshness"
        names = ("source_max_age_s", "proposal_max_age_s", "max_step_gap_s")
        require_above_0(self, where, names)
        require_at_least_0(self, where, ("future_tolerance_s", "max_skipped"))
        for kind in ("source", "proposal"):
            lost_s, max_age_s = getattr(self, f"{kind}_lost_s"), getattr(self, f"{kind}_max_age_s")
            if not (math.isfinite(lost_s) and lost_s >= max_age_s):
                raise refuse(
                    where,
                    f"{kind}_lost_s should be finite and at least {kind}_max_age_s {max_age_s}, "
                    f"received {lost_s}",
                )


class Stream:
    """Judges stamps and sequence numbers of one source, or of the proposals.

    A message that repeats (same stamp, same sequence number) is ordinary, and simply ages.
    A known sequence number under a new stamp is not: a sender that restamps what it said
    before would look alive for ever.

    Args:
        kinds: what to say, of a source or of the proposals.
        name: what people call the source.
    """

    def __init__(self, kinds: SenderKinds, name: str, limits: FreshnessLimits) -> None:
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


class Freshness(Judge):
    """The clock, every source, and the proposals. A source is known from its first reading on."""

    def __init__(self, limits: FreshnessLimits, motion: Motion) -> None:
        self._limits = limits
        self._last_s = -math.inf
        self.forget()

    def require(self, contract: Contract) -> None:
        """Check that the monitor has the time of more than a period."""
        if not self._limits.max_step_gap_s > contract.period_s:
            raise refuse(
                "freshness",
                f"max_step_gap_s {self._limits.max_step_gap_s} should be above the contract's "
                f"period_s {contract.period_s}",
            )

    def forget(self) -> None:
        """Judge every sender's order afresh."""
        self._streams: dict[str, Stream] = {}
        self._proposals = Stream(PROPOSAL, "", self._limits)

    def start(self, now_s: float) -> None:
        """Let the clock start anew."""
        self._last_s = now_s if math.isfinite(now_s) else -math.inf

    def judge(self, seen: Seen) -> None:
        """Append what is wrong with the clock, the sources and the proposals, in this order."""
        now_s, moving, reasons = seen.now_s, seen.moving, seen.reasons
        self._judge_clock(now_s, moving, reasons)
        for name, reading in seen.sources.items():
            doubts = len(reasons)
            self._stream(name).judge(now_s, reading.stamp_s, reading.sequence, moving, reasons)
            if len(reasons) > doubts and any(r.state <= FALLBACK for r in reasons[doubts:]):
                seen.doubted.append(name)
        proposal = seen.proposal
        if proposal is None:
            reasons.append(PROPOSAL_MISSING())
        else:
            self._proposals.judge(now_s, proposal.stamp_s, proposal.sequence, moving, reasons)

    def _judge_clock(self, now_s: float, moving: bool, reasons: list[Reason]) -> None:
        """Append unless the clock is finite, never goes back, and never sleeps in motion."""
        passed_s = now_s - self._last_s
        if not math.isfinite(now_s):
            reasons.append(CLOCK_NOT_FINITE(now_s=now_s))
        elif passed_s < 0.0:
            reasons.append(CLOCK_BACKWARDS(back_s=-passed_s))
        elif moving and passed_s > self._limits.max_step_gap_s:
            reasons.append(STEP_LATE(gap_s=passed_s))

    def accept(self, seen: Seen) -> None:
        """Remember what the next step is compared with."""
        if math.isfinite(seen.now_s):
            self._last_s = seen.now_s
        for name, reading in seen.sources.items():
            self._stream(name).accept(reading.stamp_s, reading.sequence)
        if seen.proposal is not None:
            self._proposals.accept(seen.proposal.stamp_s, seen.proposal.sequence)

    def _stream(self, name: str) -> Stream:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = Stream(SOURCE, name, self._limits)
        return stream
