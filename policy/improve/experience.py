"""Logged episodes as training samples. Overridden actions are masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from holdfast.log.episodes import LoggedEpisode, episodes, runs
from holdfast.plain import counted
from holdfast.policy.models.networks import Networks
from holdfast.policy.sampling.gae import advantages
from holdfast.policy.sampling.rollout import discounts, ends_with_episode
from holdfast.safety_monitor import reasons
from holdfast.signals import Array
from holdfast.sim.tasks.task import Task


@dataclass(frozen=True)
class Trajectory:
    """One logged episode of K actions, for learning.

    Attributes:
        observation: (K + 1, n). u: (K, actions), sampled actions, scaled to [-1, 1].
        log_prob: (K,), log-probability of u under the behaviour policy.
        reward: (K,); costs: (K, costs), in the state that each action led to.
        overridden: (K,), the monitor changed the action, so it is no sample of the policy.
        completed: the episode ran its full length.
        known: (rows, n), observations that the monitor did not question.
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
    """The trajectories of several logs.

    Attributes:
        logs: run, hash and remarks of each log, as JSON data.
        disobeyed: number of excluded episodes, in which the device may have ignored commands.
        contract: of the logs: the bundle's, under the limits that were in force.
    """

    trajectories: tuple[Trajectory, ...]
    logs: tuple[Mapping[str, str], ...]
    disobeyed: int
    contract: Contract


def read(
    paths: Sequence[Path],
    held: Bundle,
    task: Task,
    others: Sequence[Bundle] = (),
    anybody: bool = False,
) -> Read:
    """Read the episodes of logs, and check them against the bundles that made them.

    Args:
        held: the bundle that made the logs. others: further bundles that made some of the logs.
        anybody: also take logs of bundles that are not given; what such a log says of
            log-probabilities and costs is believed.
        task: gives the rewards.

    Raises:
        LogError: a path is no log; a run is given twice; contract or bundle differ; the policy
            did not explore; the logs are of different limits; the task pays for a signal that the
            log lacks; or log-probabilities, costs or readings are impossible.
    """
    makers = {bundle.hash: bundle for bundle in (held, *others)}
    trajectories: list[Trajectory] = []
    logs: list[Mapping[str, str]] = []
    disobeyed, contract, made = 0, held.contract, set()
    for run in runs(paths, held.contract):
        if logs and run.info.contract.hash != contract.hash:
            raise LogError(
                f"{run.path}: its limit in force is {_limits(run.info.contract)}, that of the log "
                f"before {_limits(contract)}; give logs of one limit"
            )
        contract = run.info.contract
        if run.lost_steps:
            raise LogError(
                f"{run.path}: {counted(run.lost_steps, 'period')} not logged, and nobody can say "
                "what they cost; leave this log out"
            )
        if not run.info.exploring:
            raise LogError(
                f"{run.path}: its actions were not sampled; record with deploy --explore"
            )
        made.add(run.info.bundle_hash)
        maker = makers.get(run.info.bundle_hash)
        if maker is None and not anybody:
            raise LogError(
                f"{run.path}: was made by another bundle ({run.info.bundle_hash[:12]}) than "
                f"{held.path} ({held.hash[:12]}); if that is meant, name it with --other-policy"
            )
        for episode in episodes(run, task, maker):
            if not episode.obeyed:
                disobeyed += 1
            elif len(episode):
                trajectories.append(_trajectory(episode, held.contract))
        logs.append({"run": run.info.run, "sha256": run.sha256(), "remarks": run.remarks.strip()})
    for bundle in others:
        if bundle.hash not in made:
            raise LogError(
                f"{bundle.path}: made none of the logs, which are of "
                f"{', '.join(sorted(each[:12] or 'nobody' for each in made))}; name those bundles"
            )
    return Read(tuple(trajectories), tuple(logs), disobeyed, contract)


def _limits(contract: Contract) -> str:
    return ", ".join(f"{limit:g}" for limit in contract.limits)


def _trajectory(episode: LoggedEpisode, contract: Contract) -> Trajectory:
    unobjected = [
        not any(reasons.find(code).doubts_what_was_seen for code in codes)
        for codes in episode.reasons
    ]
    return Trajectory(
        observation=episode.observation.astype(np.float32),
        u=contract.normalised(episode.proposed),
        log_prob=episode.log_prob,
        reward=episode.reward,
        costs=episode.costs,
        overridden=episode.intervened | ~np.isfinite(episode.log_prob),
        completed=episode.completed,
        known=episode.observation[unobjected].astype(np.float32),
    )


@dataclass(frozen=True)
class Experience:
    """E episodes as arrays (E, K), padded to the longest episode.

    Attributes:
        observation: (E, K + 1, n); a short episode's last reading is repeated.
        u: (E, K, actions); log_prob, reward: (E, K); costs: (E, K, costs).
        valid: (E, K), a logged step, not padding. weight: valid and drawn from the policy.
        ended: (E, K), the trajectory ends after this step, because the episode ended or the next
            action was overridden; over: the episode is complete, so the value after it is 0.
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
        """Return the arrays of trajectories.

        Raises:
            LogError: there is no trajectory, or every step was overridden.
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
