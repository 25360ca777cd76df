"""The one reader of logged episodes: for fine-tuning, demonstrations and reports.

    for run in runs(paths):
        for episode in episodes(run, task):
            ...

One run is in memory at a time, however many are given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from holdfast.bundle.reader import Bundle
from holdfast.contract import Contract
from holdfast.errors import LogError
from holdfast.log import audit, reader
from holdfast.log.format import COMPLETED, EpisodeResult
from holdfast.log.reader import Episode, Log
from holdfast.safety_monitor.costs import CostModel
from holdfast.signals import Array, Signals


class RewardingTask(Protocol):
    """The part of a task that a log needs: the contract, and the reward of signals."""

    contract: Contract

    def reward(self, signals: Signals) -> Array:
        """Return the reward (...) of the state that an action led to."""


@dataclass(frozen=True)
class LoggedEpisode:
    """The K transitions of a logged episode before its first reading that is not finite.

    Attributes:
        result: the episode's end and its sums, as logged.
        observation: (K + 1, n), before each action and after the last.
        proposed, applied: (K, actions), physical units.
        log_prob: (K,), of the proposed action; NaN where the policy did not explore.
        intervened: (K,), the applied action is not the one that the policy chose.
        now_s: (K + 1,), the run's clock at each observation.
        signals: by name, (K, size), of the state that each action led to.
        signals_at_start: by name, (size,), before the first action.
        reward: (K,); costs: (K, costs), of each action.
        cost_to_go: (K + 1, costs), predicted at each observation; NaN without critics.
        reasons: the verdict's codes at each of the K + 1 observations.
        completed: the episode ran its full length, with finite readings throughout.
        obeyed: nothing shows that the device may have ignored commands (`audit.obeyed`).
    """

    result: EpisodeResult
    observation: Array
    proposed: Array
    applied: Array
    log_prob: Array
    intervened: NDArray[np.bool_]
    now_s: Array
    signals: Mapping[str, Array]
    signals_at_start: Mapping[str, Array]
    reward: Array
    costs: Array
    cost_to_go: Array
    reasons: tuple[tuple[str, ...], ...]
    completed: bool
    obeyed: bool

    def __len__(self) -> int:
        return len(self.proposed)


def runs(paths: Sequence[Path], contract: Contract | None = None) -> Iterator[Log]:
    """Yield the runs of several logs in turn; each is read when its turn comes.

    Args:
        contract: the contract of all runs; None for any.

    Raises:
        LogError: as for `reader.read`; or the same run is given twice, by its identity or by its
            content, whatever its files are called.
    """
    once = Once()
    for path in paths:
        run = reader.read(path, contract)
        once.add(run, path)
        yield run
        del run  # before the next is read


class Once:
    """The runs that were read, each of which counts once."""

    def __init__(self) -> None:
        self._identities: dict[str, Path] = {}
        self._contents: dict[str, Path] = {}

    def add(self, run: Log, path: Path) -> None:
        """Remember a run.

        Raises:
            LogError: it was there before, by its identity or by its content.
        """
        before = self._identities.get(run.identity) or self._contents.get(run.content)
        if before is not None:
            raise LogError(f"{before} and {path} are the same run; give it once")
        self._identities[run.identity] = path
        if run.content:  # two runs without a period are not the same for that
            self._contents[run.content] = path


def episodes(
    run: Log, task: RewardingTask, bundle: Bundle | None = None
) -> Iterator[LoggedEpisode]:
    """Yield the episodes of a run.

    Args:
        task: gives the reward of what the robot did.
        bundle: the bundle that ran. The log-probabilities and costs of episodes in which the
            device obeyed are computed again. None: costs and log-probabilities stay as logged.

    Raises:
        LogError: the task's reward needs a signal that the log lacks, or the log of an episode in
            which the device obeyed says what is not so.
    """
    for episode in run.episodes:
        obeyed, costs = audit.obeyed(run, episode), episode.costs[1:]
        if bundle is not None and obeyed:
            audit.require_log_prob(run, episode, bundle)
            costs = audit.billed(run, episode)
        used = _rewarded_signals(run, episode, task) | set(CostModel(task.contract).signals)
        rows = audit.whole_rows(episode, used)
        if obeyed:
            audit.require_result(run, episode)
            audit.require_state(run, episode)
            audit.require_applied(run, episode)
            audit.require_possible(run, episode, used)
            audit.require_observed(run, episode, rows)
            audit.require_time(run, episode)
        k = slice(max(rows - 1, 0))
        signals = {name: values[1:][k] for name, values in episode.signals.items()}
        yield LoggedEpisode(
            result=episode.result,
            observation=episode.observation[:rows],
            proposed=episode.proposed[k],
            applied=episode.applied[k],
            log_prob=episode.log_prob[k],
            intervened=episode.intervened[k],
            now_s=episode.now_s[:rows],
            signals=signals,
            signals_at_start={name: values[0] for name, values in episode.signals.items()},
            reward=task.reward(signals),
            costs=costs[k],
            cost_to_go=episode.cost_to_go[:rows],
            reasons=episode.reasons[:rows],
            completed=episode.result.ended == COMPLETED and rows == len(episode.observation),
            obeyed=obeyed,
        )


def _rewarded_signals(run: Log, episode: Episode, task: RewardingTask) -> set[str]:
    """Return the names of the signals that the task's reward is made of."""
    recorded = _RecordedUse(episode.signals)
    try:
        with np.errstate(all="ignore"):  # readings may be NaN here
            task.reward(recorded)
    except KeyError as error:
        raise LogError(
            f"{run.path}: {task.contract.task} pays for signal {error}, which the log does not hold"
        ) from None
    return recorded.names


class _RecordedUse(dict[str, Array]):
    """Signals that remember which of them were read."""

    def __init__(self, signals: Signals) -> None:
        super().__init__(signals)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Array:
        self.names.add(name)
        return super().__getitem__(name)
