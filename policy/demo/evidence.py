"""The evidence over a run's episodes, computed again from its log."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.log.format import COMPLETED
from holdfast.log.reader import Log
from holdfast.safety_monitor.evidence import Evidence
from holdfast.safety_monitor.reasons import EPISODE_CAP_SPENT

CERTIFIED, ALARM, UNDECIDED = "certified", "alarm", "undecided"


@dataclass(frozen=True)
class Curve:
    """Evidence about one cost after each episode, as a factor that begins at 1.

    Attributes:
        exceeds: evidence that the mean is above the limit d. keeps: that it is at most d.
        capped: that more episodes hit their cap than is tolerated.
    """

    exceeds: tuple[float, ...]
    keeps: tuple[float, ...]
    capped: tuple[float, ...]


def curves(run: Log) -> tuple[Curve, ...]:
    """Return the evidence about each cost, under the run's own episode caps."""
    table = [
        [
            tuple(math.exp(each.log_evidence) for each in (cost.exceeds, cost.keeps, cost.capped))
            for cost in evidence.costs
        ]
        for evidence in _after_each(run)
    ]
    return tuple(Curve(*zip(*rows, strict=True)) for rows in zip(*table, strict=True))


def decision(run: Log) -> str:
    """Return what is evident of a run's policy: CERTIFIED, ALARM or UNDECIDED."""
    *_, evidence = _after_each(run)
    if any(cost.exceeds.reached_at or cost.capped.reached_at for cost in evidence.costs):
        return ALARM
    certified = all(cost.keeps.reached_at is not None for cost in evidence.costs)
    return CERTIFIED if certified else UNDECIDED


def _after_each(run: Log) -> Iterator[Evidence]:
    """Yield the evidence before the first episode, and after each one."""
    evidence = Evidence(run.info.contract, run.info.episode_cap)
    yield evidence
    for episode in run.episodes:
        result = episode.result
        # As a trial counts an episode: whole, if it ran to its end or to its cap.
        evidence.add(
            result.costs, result.ended == COMPLETED or result.code == EPISODE_CAP_SPENT.code
        )
        yield evidence
