"""An index of many runs, of which one at a time is in memory."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.errors import LogError
from holdfast.log import reader
from holdfast.log.audit import require_state
from holdfast.log.episodes import Once
from holdfast.log.format import COMPLETED, EpisodeResult
from holdfast.log.reader import Episode, Log
from holdfast.safety_monitor.messages import State

SUFFIX = ".mcap"
BEFORE_A_STOP_S = 10.0
GAP_PERIODS = 2.0
"""Two periods of an episode lie apart by a gap if there is more than so many periods in between."""


@dataclass(frozen=True)
class Stop:
    """How an episode was stopped, and its last seconds; row i of each list belongs together.

    Attributes:
        code, text: why.
        before_s: time from the episode's last reading, s; at most 0. state: the verdicts' states.
        reasons: the verdicts' codes. proposed, applied, costs, signals: as in `reader.Episode`.
    """

    episode: int
    code: str
    text: str
    before_s: list[float]
    state: list[str]
    reasons: list[list[str]]
    proposed: list[list[float]]
    applied: list[list[float]]
    costs: list[list[float]]
    signals: dict[str, list[list[float]]]


@dataclass(frozen=True)
class Run:
    """A run in the index.

    Attributes:
        contract, policy: SHA-256 of the contract, and of the bundle ("" without a bundle).
        started_at: date and time, UTC.
        duration_s: from the first reading to the last, on the run's clock.
        episodes: how each ended. completed, stopped: numbers of episodes.
        steps, interventions, deadline_misses: sums over the episodes.
        cost_mean: mean over the episodes, by cost name; return_mean: likewise, None if unknown.
        gaps: number of gaps in the time of the episodes; longest_gap_s: 0 without one.
        lost_steps: periods that were not logged.
        stops: the last ten seconds before each stop.
    """

    path: str
    run: str
    robot: str
    hardware_id: str
    task: str
    contract: str
    policy: str
    exploring: bool
    started_at: str
    duration_s: float
    completed: int
    stopped: int
    steps: int
    interventions: int
    deadline_misses: int
    cost_mean: Mapping[str, float]
    return_mean: float | None
    gaps: int
    longest_gap_s: float
    lost_steps: int
    episodes: tuple[EpisodeResult, ...]
    stops: tuple[Stop, ...]


@dataclass(frozen=True)
class LeftOut:
    """A log that is not in the index, and why."""

    path: str
    why: str


def logs_in(places: Sequence[Path]) -> list[Path]:
    """Return the logs in folders, in order: a folder that is one bag, or a file.

    Raises:
        LogError: a place does not exist.
    """
    is_bag = functools.cache(reader.is_bag)  # a folder may hold thousands of logs
    found: dict[Path, None] = {}
    for place in places:
        if not place.exists():
            raise LogError(f"{place}: there is no such folder")
        inside = sorted(place.rglob(f"*{SUFFIX}")) if place.is_dir() else [place]
        for file in inside:
            found[file.parent if is_bag(file.parent) else file] = None
    return list(found)


def index(logs: Sequence[Path], policy: str = "") -> Iterator[Run | LeftOut]:
    """Yield what is to be known of each log, or why it is left out.

    Args:
        policy: first digits of the SHA-256 of the only policy; "" for any.
    """
    once = Once()
    for path in logs:
        try:
            run = reader.read(path)
            _require(run, policy)
            once.add(run, path)
            for episode in run.episodes:
                require_state(run, episode)
            found = _summary(run)
        except LogError as error:
            yield LeftOut(str(path), str(error))
        else:
            yield found
            del run, found  # before the next is read


def _require(run: Log, policy: str) -> None:
    """Raise LogError unless a log is whole, and of the policy that was asked for."""
    if run.torn:
        raise LogError(f"{run.path}: is torn: {run.tear}")
    if not run.info.bundle_hash.startswith(policy):
        made_by = run.info.bundle_hash[:12] or "no bundle"
        raise LogError(f"{run.path}: is of another policy ({made_by}, not {policy[:12]})")


def _summary(run: Log) -> Run:
    info, results = run.info, tuple(episode.result for episode in run.episodes)
    names = [cost.name for cost in info.contract.costs]
    returns = [r.reward_return for r in results if r.reward_return is not None]
    gaps = np.concatenate([np.zeros(0), *(_gaps(e, info.contract.period_s) for e in run.episodes)])
    now_s = run.steps["now_s"]
    return Run(
        path=str(run.path),
        run=info.run,
        robot=info.contract.robot,
        hardware_id=str(info.identity.get("hardware_id", "")),
        task=info.contract.task,
        contract=info.contract.hash,
        policy=info.bundle_hash,
        exploring=info.exploring,
        started_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.started_ns / 1e9)),
        duration_s=float(now_s[-1] - now_s[0]) if len(now_s) else 0.0,
        completed=sum(r.ended == COMPLETED for r in results),
        stopped=sum(bool(r.code) for r in results),
        steps=sum(r.steps for r in results),
        interventions=sum(r.interventions for r in results),
        deadline_misses=sum(r.deadline_misses for r in results),
        cost_mean={
            name: float(np.mean([r.costs[i] for r in results])) if results else 0.0
            for i, name in enumerate(names)
        },
        return_mean=float(np.mean(returns)) if returns and len(returns) == len(results) else None,
        gaps=len(gaps),
        longest_gap_s=float(gaps.max(initial=0.0)),
        lost_steps=run.lost_steps,
        episodes=results,
        stops=tuple(_stop(episode) for episode in run.episodes if episode.result.code),
    )


def _gaps(episode: Episode, period_s: float) -> Any:
    """Return the lengths of an episode's gaps in time, s."""
    apart = np.diff(episode.now_s)
    return apart[~(apart <= GAP_PERIODS * period_s)]


def _stop(episode: Episode) -> Stop:
    before_s = episode.now_s - episode.now_s[-1]
    rows = np.flatnonzero(before_s >= -BEFORE_A_STOP_S)
    return Stop(
        episode=episode.result.episode,
        code=episode.result.code,
        text=episode.result.text,
        before_s=before_s[rows].tolist(),
        state=[State(int(number)).name for number in episode.state[rows]],
        reasons=[list(episode.reasons[row]) for row in rows.tolist()],
        proposed=episode.proposed[rows].tolist(),
        applied=episode.applied[rows].tolist(),
        costs=episode.costs[rows].tolist(),
        signals={name: values[rows].tolist() for name, values in episode.signals.items()},
    )
