"""Rollouts in shards: a shard's result depends on the policy and on the shard's seeds alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from holdfast.policy.models.gaussian import GaussianPolicy
from holdfast.policy.models.networks import Normaliser
from holdfast.policy.sampling.rollout import Collector, Rollout
from holdfast.sim.batch.batch import Batch


@dataclass(frozen=True)
class Shard:
    """Some of the copies of a rollout.

    Attributes:
        root: number drawn once per rollout, equal in all of its shards.
        index: number of the shard in its rollout.
    """

    root: int
    index: int

    def run(
        self, batch: Batch, policy: GaussianPolicy, normaliser: Normaliser, steps: int
    ) -> Rollout:
        """Run `steps` control periods in a batch of a shard's size.

        Root and index alone seed the generators of start states and actions. The batch's own
        generator is not used, and stays unchanged.
        """
        starts, actions = np.random.SeedSequence([self.root, self.index]).spawn(2)
        generator = torch.Generator().manual_seed(int(actions.generate_state(1)[0]))
        own, batch.rng = batch.rng, np.random.default_rng(starts)
        rollout = Collector(batch, generator).collect(policy, normaliser, steps)
        batch.rng = own
        return rollout


class Runner(Protocol):
    """Runs shards, on this machine or on others."""

    def __call__(
        self, policy: GaussianPolicy, normaliser: Normaliser, steps: int, shards: Sequence[Shard]
    ) -> list[Rollout]:
        """Return the rollouts of the shards, in their order."""


class SequentialRunner:
    """Runs shards on this machine, one after the other.

    Args:
        batch: copies, as many as a shard has.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __call__(
        self, policy: GaussianPolicy, normaliser: Normaliser, steps: int, shards: Sequence[Shard]
    ) -> list[Rollout]:
        """See `Runner`."""
        return [shard.run(self.batch, policy, normaliser, steps) for shard in shards]


class ShardedCollector:
    """A `Collector` whose copies are run in shards.

    Args:
        runner: runs the shards; the result does not depend on the runner.
        shards: number of shards.
        generator: draws the shards' root.
    """

    def __init__(self, runner: Runner, shards: int, generator: torch.Generator) -> None:
        self.runner, self.shards, self.generator = runner, shards, generator

    def collect(self, policy: GaussianPolicy, normaliser: Normaliser, steps: int) -> Rollout:
        """See `Collector`."""
        root = int(torch.randint(2**62, (), generator=self.generator))
        shards = [Shard(root, index) for index in range(self.shards)]
        return side_by_side(self.runner(policy, normaliser, steps, shards))


def side_by_side(parts: Sequence[Rollout]) -> Rollout:
    """Return one rollout with the copies of all parts, which have equally many steps."""

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts], axis=1)

    per_step = (
        *("observation", "u", "log_prob", "reward", "costs"),
        *("terminated", "ended", "limit", "disagreement"),
    )
    # In the order of the joined `ended`: by step, then by part, then by copy.
    when = np.concatenate([np.nonzero(part.ended)[0] for part in parts])
    final = np.concatenate([part.final_observation for part in parts])
    return Rollout(
        **{name: joined(name) for name in per_step},
        final_observation=final[np.argsort(when, kind="stable")],
        last_observation=np.concatenate([part.last_observation for part in parts]),
    )
