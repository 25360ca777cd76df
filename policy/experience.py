"""Logged episodes as samples to learn from: what was overridden is masked, never learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.contract import Contract
from holdfast.errors import LogError
from holdfast.policy.gae import advantages
from holdfast.policy.networks import Networks
from holdfast.policy.rollout import discounts, ends_with_episode
from holdfast.robot import log
from holdfast.robot.log_format import COMPLETED, RunInfo
from holdfast.signals import Array, Signals
from holdfast.sim.task import Task

NO_OBJECTION = frozenset({"unfamiliar", "released", "episode_budget", "run_budget_spent"})
"""The monitor's reasons that say nothing against the observation itself."""

DEVICE_FAILED = frozenset({"device_fault", "link_lost"})
"""Ends of an episode after which the last commands in its log may not have been obeyed."""


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


def read(path: Path, contract: Contract, task: Task) -> list[Trajectory]:
    """Read the episodes of one log.

    Args:
        contract: that it should be of.
        task: pays for what the robot did.

    Raises:
        LogError: not a log, of another contract, its policy did not explore, or the task pays
            for signals that are not in it.
    """
    run = log.read(path, contract)
    if not run.info.exploring:
        raise LogError(f"{path}: its actions were not sampled; record with deploy --explore")
    trajectories = []
    for episode in run.episodes:
        k = _obeyed(path, episode, run.info)
        if k < 1:
            continue
        observation = episode.observation[: k + 1].astype(np.float32)
        signals = {name: values[1 : k + 1] for name, values in episode.signals.items()}
        overridden = episode.intervened[:k] | ~np.isfinite(episode.log_prob[:k])
        trajectories.append(
            Trajectory(
                observation=observation,
                u=contract.normalised(episode.proposed[:k]),
                log_prob=episode.log_prob[:k],
                reward=_paid(path, task, signals),
                costs=episode.costs[1 : k + 1],
                overridden=overridden,
                completed=episode.result.ended == COMPLETED,
                known=observation[_unobjected(episode)[: k + 1]],
            )
        )
    return trajectories


def _obeyed(path: Path, episode: log.Episode, info: RunInfo) -> int:
    """Return how many of the episode's actions the device obeyed, for all that is known.

    A device that stops obeying is noticed within its watchdog's time and one period more.
    """
    if episode.result.code not in DEVICE_FAILED:
        return len(episode.observation) - 1
    try:
        unnoticed_s = float(info.identity["watchdog_s"]) + info.contract.period_s
    except (KeyError, TypeError, ValueError):
        raise LogError(f"{path}: its identity should hold watchdog_s, in seconds") from None
    return int((episode.now_s[1:] < episode.now_s[-1] - unnoticed_s + 1e-6).sum())


def _unobjected(episode: log.Episode) -> NDArray[np.bool_]:
    """Return which rows (K + 1,) the monitor found nothing wrong with but what they cost, or that
    the simulation does not know them: these are what the robot is like."""
    return np.array([NO_OBJECTION.issuperset(codes) for codes in episode.reasons])


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
