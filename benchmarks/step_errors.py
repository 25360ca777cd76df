"""Where does the cost of a CPO step come from that its linear model did not promise?

Goes on training from a checkpoint of `holdfast train`, without changing the file. For each step it
compares, in cost per episode: what the step was asked for; what its linear model promised; what the
surrogate says on the batch, and on episodes that the step was not computed from; and how the cost
of such episodes really changed. Then it lets the normaliser read the batch as if no network
absorbed it: the change of cost that every iteration had beside its step until 2026-11-29. Episodes
before and after share their start states and their noise. Prints means over steps, with standard
errors.

    python -m benchmarks.step_errors runs/train/checkpoint.safetensors [--steps 10] [--episodes 200]
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
from pathlib import Path

import numpy as np
import torch

from holdfast.policy.algorithms.algorithm import Collected
from holdfast.policy.learn.learner import Learner
from holdfast.policy.models.gaussian import GaussianPolicy
from holdfast.policy.models.networks import Normaliser
from holdfast.policy.sampling.rollout import Collector, Rollout, estimate, rows
from holdfast.policy.sampling.samples import Samples, surrogates


def independent(
    learner: Learner, policy: GaussianPolicy, normaliser: Normaliser, episodes: int, seed: int
) -> Rollout:
    """Return episodes that training does not see; equal seeds share start states and noise."""
    s = learner.settings
    batch = s.task.batch(episodes, seed, contract=learner.contract, randomise=s.randomise)
    collector = Collector(batch, torch.Generator().manual_seed(seed))
    rollout = collector.collect(policy, normaliser, learner.contract.episode_steps)
    batch.close()
    return rollout


def cost(rollout: Rollout) -> float:
    return float(rollout.episode_sums(rollout.costs, 1)[:, 0].mean())


def centred(learner: Learner, rollout: Rollout) -> Samples:
    """Return a rollout's samples, as a step of the learner would take them."""
    s, critic = learner.settings, learner.networks.critic
    estimates = estimate(
        rollout, rollout.costs, critic, learner.normaliser, learner.contract, s.gamma, s.lam
    )
    x = learner.normaliser(rows(rollout.observation))
    samples = Collected(rollout, x, estimates).samples()
    return dataclasses.replace(samples, advantages=samples.advantages - samples.advantages.mean(0))


def one_step(learner: Learner, episodes: int) -> dict[str, float]:
    steps = learner.contract.episode_steps
    seed = 10_000 + learner.iteration
    batch = learner.collector.collect(*learner.algorithm.acting(), steps)
    learner.fitting.wait()
    evaluated = learner.evaluate(batch)
    length = float(evaluated.sums.length.mean())
    before = independent(learner, learner.policy, learner.normaliser, episodes, seed)
    samples = centred(learner, before)
    surrogate, _ = surrogates(learner.policy, samples)
    result = learner.step(evaluated)
    held_out = (surrogates(learner.policy, samples)[0] - surrogate)[1]
    after = independent(learner, learner.policy, learner.normaliser, episodes, seed)
    scaled, policy = copy.deepcopy(learner.normaliser), copy.deepcopy(learner.policy)
    scaled.update(rows(batch.observation))
    moved = independent(learner, policy, scaled, episodes, seed)
    learner.renormalise(rows(batch.observation))
    learner.fit(evaluated)
    learner.iteration += 1
    (limit,) = (each.limit for each in learner.contract.costs)
    shortfall = result.more["shortfall"][0]
    seen = float(evaluated.sums.costs.mean())
    return {
        "cost of the batch": seen,
        "cost of independent episodes": cost(before),
        "asked for": limit - seen - shortfall,
        "promised by the linear model": length * result.more["cost_promised"][0],
        "surrogate, on the batch": length * result.cost_change[0],
        "surrogate, on independent episodes": length * float(held_out),
        "realised, on independent episodes": cost(after) - cost(before),
        "added by the normaliser, were it not absorbed": cost(moved) - cost(after),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=200)
    arguments = parser.parse_args()
    learner = Learner.load(arguments.checkpoint)
    found = [one_step(learner, arguments.episodes) for _ in range(arguments.steps)]
    learner.close()
    print(f"{learner.contract.task}, {len(found)} steps to iteration {learner.iteration}, seed "
          f"{learner.settings.seed}\n\n| change of cost per episode | mean ± standard error |\n"
          "| --- | --- |")  # fmt: skip
    for name in found[0]:
        values = np.array([each[name] for each in found])
        print(f"| {name} | {values.mean():.2f} ± {values.std() / np.sqrt(len(values)):.2f} |")


if __name__ == "__main__":
    main()
