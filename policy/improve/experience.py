"""Logged episodes as samples to learn from: what was overridden is masked, never learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.bundle.reader import Bundle
from holdfast.contract import Contract
from holdfast.errors import LogError
from holdfast.log import audit
from holdfast.log import reader as log
from holdfast.log.format import COMPLETED
from holdfast.policy.models.networks import Networks
from holdfast.policy.sampling.gae import advantages
from holdfast.policy.sampling.rollout import discounts, ends_with_episode
from holdfast.safety_monitor import reasons
from holdfast.safety_monitor.costs import CostModel
from holdfast.signals import Array, Signals
from holdfast.sim.tasks.task import Task


@dataclass(frozen=True)
class Trajectory:
    """One logged episode of K actions.

    Attributes:
        observation: (K + 1, n). u: (K, actions), scaled to [-1, 1], as sampled.
        log_prob: (K,), under the behaviour policy that was running.
        reward: (K,); costs: (K, costs), of the state that each action led to.
        overridden: (K,), the monitor changed the action: not drawn from the policy.
        completed: the episode ran its full length.
        known: (rows, n), the observations to which the monitor had no objection of its own.
    """

    observation: NDArray[np.float32]
    u: Array
    log_prob: Array
    reward: Array
    costs: Array
    overridden: NDArray[np.bool_]
    completed: bool
    known: NDArray[np.float32]


@dataclass(frozen=True)
class Read:
    """What was read of some logs.

    Attributes:
        logs: run, hash and remarks of each, as JSON data.
        disobeyed: episodes left out, because the device may not have done as it was told.
    """

    trajectories: tuple[Trajectory, ...]
    logs: tuple[Mapping[str, str], ...]
    disobeyed: int


def read(paths: Sequence[Path], held: Bundle, task: Task, others: Sequence[Bundle] = ()) -> Read:
    """Read the episodes of logs, and check what is learned from.

    Args:
        held: the bundle that made them. others: further bundles that made some.
        task: pays for what the robot did.

    Raises:
        LogError: not a log, one run twice, another contract or bundle, its policy did not
            explore, the task pays for signals that are not in it, or it says what is not so.
    """
    makers = {bundle.hash: bundle for bundle in (held, *others)}
    trajectories: list[Trajectory] = []
    logs, disobeyed = [], 0
    for run in log.read_all(paths, held.contract):
        maker = makers.get(run.info.bundle_hash)
        if not run.info.exploring:
            raise LogError(
                f"{run.path}: its actions were not sampled; record with deploy --explore"
            )
        if maker is None:
            raise LogError(
                f"{run.path}: was made by another bundle ({run.info.bundle_hash[:12]}) than "
                f"{held.path} ({held.hash[:12]}); if that is meant, name it with --other-policy"
            )
        for episode in run.episodes:
            if audit.obeyed(run, episode):
                trajectories += _trajectory(run, episode, maker, task)
            else:
                disobeyed += 1
        logs.append({"run": run.info.run, "sha256": run.sha256(), "remarks": run.remarks.strip()})
    return Read(tuple(trajectories), tuple(logs), disobeyed)


def _trajectory(
    run: log.Log, episode: log.Episode, maker: Bundle, task: Task
) -> Iterator[Trajectory]:
    """Yield the episode, checked, up to where its readings are whole; maybe nothing."""
    audit.require_log_prob(run, episode, maker)
    costs, rows = audit.billed(run, episode), whole_rows(run, episode, maker.contract, task)
    if rows < 2:
        return
    signals = {name: values[1:rows] for name, values in episode.signals.items()}
    overridden = episode.intervened[: rows - 1] | ~np.isfinite(episode.log_prob[: rows - 1])
    yield Trajectory(
        observation=episode.observation[:rows].astype(np.float32),
        u=maker.contract.normalised(episode.proposed[: rows - 1]),
        log_prob=episode.log_prob[: rows - 1],
        reward=_paid(run.path, task, signals),
        costs=costs[: rows - 1],
        overridden=overridden,
        completed=episode.result.ended == COMPLETED and rows == len(episode.observation),
        known=episode.observation[:rows][_unobjected(episode)[:rows]].astype(np.float32),
    )


def whole_rows(run: log.Log, episode: log.Episode, contract: Contract, task: Task) -> int:
    """Return up to which row all is whole that observation, reward and costs are made of.

    Raises:
        LogError: a signal is missing, or a number is one that no robot says.
    """
    noted = _Noted(episode.signals)
    with np.errstate(all="ignore"):  # what is not whole is found below
        _paid(run.path, task, noted)
    return audit.whole_rows(run, episode, {*noted.names, *CostModel(contract).signals})


class _Noted(dict[str, Array]):
    """Signals that remember which of them were asked for."""

    def __init__(self, signals: Signals) -> None:
        super().__init__(signals)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Array:
        self.names.add(name)
        return super().__getitem__(name)


def _unobjected(episode: log.Episode) -> NDArray[np.bool_]:
    """Return which rows (K + 1,) the monitor found nothing wrong with but what they cost, or that
    the simulation does not know them: these are what the robot is like."""
    return np.array([
        not any(reasons.find(code).doubts_what_was_seen for code in codes)
        for codes in episode.reasons
    ])  # fmt: skip


def _paid(path: Path, task: Task, signals: Signals) -> Array:
    try:
        return task.reward(signals)
    except KeyError as error:
        raise LogError(
            f"{path}: {task.contract.task} pays for signal {error}, which the log does not hold"
        ) from None


@dataclass(frozen=True)
class Experience:
    """Episodes laid out as rows (E, K): padded to the longest, which `valid` tells apart.

    Attributes:
        observation: (E, K + 1, n); a short episode's last reading is repeated.
        u: (E, K, actions); log_prob, reward: (E, K); costs: (E, K, costs).
        valid: (E, K), a step that was taken. weight: valid and drawn from the policy.
        ended: (E, K), the trajectory ends after this step: the episode's end, or because
            the next action was overridden; over: nothing follows, the value there is 0.
    """

    observation: NDArray[np.float32]
    u: Array
    log_prob: Array
    reward: Array
    costs: Array
    valid: NDArray[np.bool_]
    weight: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    over: NDArray[np.bool_]

    @staticmethod
    def of(trajectories: Sequence[Trajectory], contract: Contract) -> Experience:
        """Lay out episodes.

        Raises:
            LogError: there are none, or every step was overridden.
        """
        if not trajectories:
            raise LogError("the logs hold no episode to learn from")
        e, k = len(trajectories), max(len(t.u) for t in trajectories)
        n, a, c = contract.observation_size, contract.action_size, len(contract.costs)
        observation = np.zeros((e, k + 1, n), np.float32)
        u, log_prob = np.zeros((e, k, a)), np.zeros((e, k))
        reward, costs = np.zeros((e, k)), np.zeros((e, k, c))
        valid, weight, ended, over = np.zeros((4, e, k), bool)
        for i, t in enumerate(trajectories):
            m = len(t.u)
            observation[i, : m + 1], observation[i, m + 1 :] = t.observation, t.observation[-1]
            valid[i, :m], weight[i, :m] = True, ~t.overridden
            u[i, :m] = np.where(t.overridden[:, None], 0.0, t.u)
            log_prob[i, :m] = np.where(t.overridden, 0.0, t.log_prob)
            reward[i, :m], costs[i, :m] = t.reward, t.costs
            ended[i, : m - 1] = t.overridden[1:]
            ended[i, m - 1] = True
            over[i, m - 1] = t.completed and ends_with_episode(contract)
        if not weight.any():
            raise LogError("the monitor overrode every logged step; nothing is left to learn from")
        return Experience(observation, u, log_prob, reward, costs, valid, weight, ended, over)

    def rows(self, values: NDArray[np.floating[Any]]) -> Tensor:
        """Return the valid rows of values (E, K, ...) as float32 (B, ...)."""
        return torch.from_numpy(np.ascontiguousarray(values[self.valid], np.float32))


def logged_advantages(
    experience: Experience, networks: Networks, gamma: float, lam: float
) -> tuple[Array, Array]:
    """Return GAE advantages and values (E, K, outputs) of logged steps, in the critics' order."""
    value = predict(networks, experience.observation)
    following = value[:, 1:].copy()
    following[experience.over] = 0.0
    costs = experience.costs
    gains = np.concatenate((experience.reward[..., None], costs, costs), axis=-1)
    gammas, lams = discounts(networks.contract, gamma, lam)

    def by_time(array: Array) -> Array:
        return np.swapaxes(array, 0, 1)

    result = advantages(
        by_time(gains),
        by_time(value[:, :-1]),
        by_time(following),
        experience.ended.T,
        gammas,
        lams,
    )
    return by_time(result), value[:, :-1]


def predict(networks: Networks, observation: NDArray[np.float32]) -> Array:
    """Return the critics' values (..., outputs) of raw observations (..., n)."""
    flat = torch.from_numpy(observation.reshape(-1, observation.shape[-1]))
    values: Array = networks.critic.values(networks.normaliser(flat)).double().numpy()
    return values.reshape(*observation.shape[:-1], -1)
