"""How much of the gradients of a batch is signal? Asked of a policy that is about to be retrained.

Computes the natural gradients of reward and cost from two batches that share nothing, at a parent's
weights in the simulator of a profile, as `holdfast improve` would begin. Prints the cosine between
the two batches' gradients in the Fisher metric, which is 1 without noise; and what the longest step
along the first one changes per episode: on its own batch, on the other one, and truly, in episodes
that share start states and noise.

    python -m benchmarks.gradient_signal --policy PARENT.onnx --profile PROFILE.yaml
        [--batches 20000 80000] [--episodes 1000]
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from benchmarks.step_errors import centred
from holdfast.policy.improve.finetune import opened
from holdfast.policy.improve.improve import ImproveSettings
from holdfast.policy.learn.learner import Learner
from holdfast.policy.models import checkpoint
from holdfast.policy.optimise.trust_region import TrustRegion
from holdfast.policy.page import markdown_table
from holdfast.policy.sampling.samples import surrogates
from holdfast.policy.ship.evaluate import evaluate
from holdfast.policy.ship.export import checkpoint_of
from holdfast.sim.parameters import catalogue
from holdfast.sim.parameters.catalogue import Parameters

HEADINGS = (
    "steps of a batch", "cosine of the reward's gradients", "cosine of the cost's gradients",
    "cost per episode", "change of the cost on the step's own batch",
    "change of the cost on the other batch", "true change of the cost",
)  # fmt: skip

FITS = 3
"""Batches on which the critics are fitted first, without a step of the policy."""


def at_parent(policy: Path, profile: Path, batch: int) -> Learner:
    """Return a learner at the parent's weights, its critics fitted in the profile's simulator."""
    _, _, _, before = opened(policy, None)
    robots = catalogue.load_profile(profile).wider(ImproveSettings().wider)
    robots = robots.completed(before.randomise or Parameters())
    settings = dataclasses.replace(
        before, seed=0, randomise=robots, shards=0, pessimism=0.0, batch=batch
    )
    learner = Learner(settings)
    checkpoint.start_from(checkpoint_of(policy), learner.networks)
    for _ in range(FITS):
        rollout = learner.collector.collect(*learner.algorithm.acting(), steps(learner))
        learner.fit(learner.evaluate(rollout))
        learner.fitting.wait()
    return learner


def steps(learner: Learner) -> int:
    return learner.contract.episode_steps * learner.settings.episodes


def row(learner: Learner, episodes: int) -> list[str]:
    """Return a table's row for a learner's batch size."""
    policy, length = learner.policy, learner.contract.episode_steps
    collect = learner.collector.collect
    batches = [
        centred(learner, collect(*learner.algorithm.acting(), steps(learner))) for _ in range(2)
    ]
    regions = [TrustRegion(policy, each, 2, learner.settings.own.step) for each in batches]
    reward, cost = zip(*(region.natural() for region in regions), strict=True)
    here = regions[0].metric

    def product(a: Tensor, b: Tensor) -> float:
        return float(a @ here(b[None])[0])

    def cosine(pair: tuple[Tensor, ...]) -> float:
        a, b = pair
        return product(a, b) / math.sqrt(product(a, a) * product(b, b))

    step = -math.sqrt(2.0 * learner.settings.own.step.delta / product(cost[0], cost[0])) * cost[0]
    old = parameters_to_vector(policy.parameters()).detach().clone()
    first = evaluate(learner.networks, learner.settings, episodes, 77).cost_returns[:, 0]
    before = [surrogates(policy, each)[0][1] for each in batches]
    vector_to_parameters(old + step, policy.parameters())
    after = [surrogates(policy, each)[0][1] for each in batches]
    second = evaluate(learner.networks, learner.settings, episodes, 77).cost_returns[:, 0]
    vector_to_parameters(old, policy.parameters())
    own, other = (length * float(b - a) for a, b in zip(before, after, strict=True))
    change = second - first
    error = change.std(ddof=1) / np.sqrt(episodes)
    return [
        f"{learner.batch_steps:,}", f"{cosine(reward):.2f}", f"{cosine(cost):.2f}",
        f"{first.mean():.1f}", f"{own:.1f}", f"{other:.1f}", f"{change.mean():.1f} ± {error:.1f}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", type=Path, required=True)
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="*", default=[20_000, 80_000])
    parser.add_argument("--episodes", type=int, default=1000)
    arguments = parser.parse_args()
    rows = []
    for batch in arguments.batches:
        learner = at_parent(arguments.policy, arguments.profile, batch)
        rows.append(row(learner, arguments.episodes))
        learner.close()
    print("\n".join(markdown_table(HEADINGS, rows)))


if __name__ == "__main__":
    main()
