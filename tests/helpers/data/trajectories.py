"""Episodes of a learner's policy in simulation, as `experience.read` returns those of a log."""

from __future__ import annotations

import numpy as np
import torch

from holdfast.policy.improve.experience import Trajectory
from holdfast.policy.learn.learner import Learner
from holdfast.policy.sampling.rollout import Collector


def simulated(learner: Learner, seed: int) -> list[Trajectory]:
    """Return an episode of each copy of the learner's batch."""
    learner.batch.rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    steps = learner.contract.episode_steps
    rollout = Collector(learner.batch, generator).collect(learner.policy, learner.normaliser, steps)
    x = learner.normaliser(torch.from_numpy(rollout.observation))
    with torch.no_grad():
        log_prob = learner.policy.log_prob(learner.policy(x), torch.from_numpy(rollout.u))
    last = rollout.last_observation[None]
    observation = np.concatenate((rollout.observation, last))
    return [
        Trajectory(
            observation=observation[:, i],
            u=rollout.u[:, i].astype(np.float64),
            log_prob=log_prob[:, i].double().numpy(),
            reward=rollout.reward[:, i],
            costs=rollout.costs[:, i],
            overridden=np.zeros(steps, bool),
            completed=True,
            known=observation[:, i],
        )
        for i in range(learner.batch.copies)
    ]
