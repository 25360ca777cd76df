"""The evidence over a run's episodes, computed again from its log."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.log.evidence import count, decision
from holdfast.log.reader import Log
from holdfast.safety_monitor.evidence import Evidence


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


def decided(run: Log) -> str:
    """Return what is evident of a run's policy; see `decision`."""
    *_, evidence = _after_each(run)
    return decision(evidence)


def _after_each(run: Log) -> Iterator[Evidence]:
    """Yield the evidence before the first episode, and after each one."""
    evidence = Evidence(run.info.contract, run.info.episode_cap)
    yield evidence
    for episode in run.episodes:
        count(evidence, episode.result)
        yield evidence
