"""What logged episodes say of a policy: the one way to count them and to decide."""

from __future__ import annotations

from holdfast.log.format import COMPLETED, EpisodeResult
from holdfast.safety_monitor.evidence import Evidence
from holdfast.safety_monitor.reasons import EPISODE_CAP_SPENT

CERTIFIED, ALARM, UNDECIDED = "certified", "alarm", "undecided"
"""What is evident of a policy: every mean cost keeps its limit d; one does not, or its episode cap
is hit too often; neither yet."""


def count(evidence: Evidence, result: EpisodeResult) -> None:
    """Add an episode to the evidence; it is whole if it was completed or hit its episode cap."""
    whole = result.ended == COMPLETED or result.code == EPISODE_CAP_SPENT.code
    evidence.add(result.costs, whole)


def decision(evidence: Evidence) -> str:
    """Return what is evident of a policy: CERTIFIED, ALARM or UNDECIDED."""
    costs = evidence.costs
    if any(cost.exceeds.reached_at or cost.capped.reached_at for cost in costs):
        return ALARM
    certified = all(cost.keeps.reached_at is not None for cost in costs)
    return CERTIFIED if certified else UNDECIDED
