"""A rollout in shards: each follows from the policy and from seeds of its own, whoever runs it."""

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
        root: drawn once for each rollout, the same for all of its shards.
        index: which of them it is.
    """

    root: int
    index: int

    def run(
        self, batch: Batch, policy: GaussianPolicy, normaliser: Normaliser, steps: int
    ) -> Rollout:
        """Run `steps` control periods in a batch of a shard's size; its generator stays as it is.

        Start states and actions are drawn from generators that root and index alone seed.
        """
        starts, actions = np.random.SeedSequence([self.root, self.index]).spawn(2)
        generator = torch.Generator().manual_seed(int(actions.generate_state(1)[0]))
        own, batch.rng = batch.rng, np.random.default_rng(starts)
        rollout = Collector(batch, generator).collect(policy, normaliser, steps)
        batch.rng = own
        return rollout


class Runner(Protocol):
    """Runs shards, wherever."""

    def __call__(
        self, policy: GaussianPolicy, normaliser: Normaliser, steps: int, shards: Sequence[Shard]
    ) -> list[Rollout]:
        """Return the rollouts of the shards, in their order."""


class SequentialRunner:
    """Runs shards on this machine, one after the other.

    Args:
        batch: of a shard's size.
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
        runner: runs them; another one changes nothing in what comes out.
        shards: how many.
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
    """Return one rollout of the copies of all, which are equally long."""

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts], axis=1)

    per_step = ("observation", "u", "log_prob", "reward", "costs", "terminated", "ended")
    # In the order of the joined `ended`: by step, then by part, then by copy.
    when = np.concatenate([np.nonzero(part.ended)[0] for part in parts])
    final = np.concatenate([part.final_observation for part in parts])
    return Rollout(
        **{name: joined(name) for name in per_step},
        final_observation=final[np.argsort(when, kind="stable")],
        last_observation=np.concatenate([part.last_observation for part in parts]),
    )
