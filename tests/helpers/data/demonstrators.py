"""Logs of what policies do in simulation, written by the real recorder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from holdfast.log.format import COMPLETED, EpisodeResult
from holdfast.log.writer import Recorder, Tick
from holdfast.policy.models.networks import Networks
from holdfast.policy.sampling.rollout import Collector
from holdfast.safety_monitor.messages import BudgetStatus, Proposal, Reading, State, Verdict
from holdfast.signals import CATALOGUE, Array
from holdfast.sim.registry import resolve
from tests.helpers.data.recordings import info


def signals_in(networks: Networks, observation: Array) -> dict[str, Array]:
    """Return the robot's signals in an observation that holds them as they are: a point's."""
    signals, start = {}, 0
    for channel in networks.contract.observation:
        if channel.signal in CATALOGUE:
            assert channel.transform == "identity"
            signals[channel.signal] = observation[start : start + channel.size]
        start += channel.size
    return signals


def record_policy(
    folder: Path, networks: Networks, episodes: int, seed: int, log_prob: bool = True
) -> Path:
    """Record full episodes of a policy that samples, which nothing supervises.

    Args:
        log_prob: log it; a demonstrator of another kind has none.
    """
    contract = networks.contract
    batch = resolve(contract.task).batch(episodes, seed, contract=contract)
    collector = Collector(batch, torch.Generator().manual_seed(seed))
    rollout = collector.collect(networks.policy, networks.normaliser, contract.episode_steps)
    batch.close()
    observation = np.concatenate((rollout.observation, rollout.last_observation[None])).astype(
        float
    )
    proposed = contract.action_center + contract.action_half_range * rollout.u.astype(float)
    seen = signals_in(networks, observation[0, 0])
    sources = {"robot": {name: len(values) for name, values in seen.items()}}
    budget = {cost.name: cost.episode_cap for cost in contract.costs}
    recorder = Recorder(
        folder,
        info(run=folder.name, contract=contract, exploring=log_prob, sources=sources,
             episode_cap=budget),
    )  # fmt: skip
    nothing = np.zeros(len(contract.costs))
    for episode in range(episodes):
        applied = np.zeros(contract.action_size)
        for step in range(contract.episode_steps + 1):
            final = step == contract.episode_steps
            k, now_s = min(step, contract.episode_steps - 1), contract.period_s * step
            seen, action = observation[step, episode].astype(float), proposed[k, episode]
            applied = contract.admissible(applied, action)
            costs = rollout.costs[step - 1, episode] if step else nothing
            recorder.step(
                Tick(
                    now_s=now_s,
                    sources={"robot": Reading(now_s, step, signals_in(networks, seen))},
                    observation=seen,
                    proposal=Proposal(now_s, step, action, contract.hash),
                    log_prob=float(rollout.log_prob[k, episode]) if log_prob else np.nan,
                    cost_to_go=nothing,
                    verdict=Verdict(
                        applied, State.ACTIVE, (), BudgetStatus((0.0,), (0.0,), (0.0,)),
                        tuple(costs.tolist()), False,
                    ),
                    episode=episode,
                    step=step,
                    final=final,
                )
            )  # fmt: skip
        spent = tuple(rollout.costs[:, episode].sum(axis=0).tolist())
        result = EpisodeResult(episode, contract.episode_steps, spent, 0, 0, COMPLETED)
        recorder.episode(now_s, result)
    recorder.close()
    return folder
