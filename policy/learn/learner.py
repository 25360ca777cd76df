"""The learner: the object that holds all state of training, and steps iteration by iteration."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast import plain
from holdfast.contract import Contract
from holdfast.errors import TrainingError
from holdfast.policy.algorithms import ALGORITHMS
from holdfast.policy.algorithms.algorithm import BatchEstimate, Collected, Setup, UpdateResult
from holdfast.policy.learn.fitting import BackgroundFit
from holdfast.policy.learn.knots import Knots
from holdfast.policy.learn.pessimism import addition
from holdfast.policy.learn.settings import (
    TrainSettings,
    contract_of,
    placed,
    require_same,
    settings_of,
)
from holdfast.policy.learn.shaping import Predictor, cost_within
from holdfast.policy.models import checkpoint
from holdfast.policy.models.networks import Networks
from holdfast.policy.sampling.rollout import Collector, Estimates, Rollout, estimate, rows
from holdfast.policy.sampling.samples import Samples
from holdfast.policy.sampling.shards import SequentialRunner, ShardedCollector
from holdfast.signals import Array
from holdfast.sim.batch.batch import Batch
from holdfast.sim.task_spec import TaskSpec


class Learner:
    """Trains a policy in simulation by one algorithm.

    Args:
        settings: how to train.
        resumed: the networks will be restored, so no checkpoint is read to start from.

    Attributes:
        limit: (costs,), what updates hold each mean cost to: the contract's limits d, unless a
            caller who wants a margin lowers them. Limits of a range are lowered by the same share.
        demonstrations: the logs that the policy was cloned from before the first iteration, and
            the clone's quality; None: there were none.
        started_from: iteration and contract of the checkpoint whose networks training began with;
            None: there was none.

    Raises:
        TrainingError, ConfigError: the settings or the task do not fit.
    """

    def __init__(self, settings: TrainSettings, resumed: bool = False) -> None:
        # More threads are slower on such small networks, and sums would round differently.
        torch.set_num_threads(1)
        self.settings = settings
        self.contract = contract_of(settings)
        self.limit = self.contract.limits
        self.knots = Knots.of(self.contract)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self._networks = Networks.build(
            self.contract, settings.hidden, settings.initial_std, self.generator
        )
        self.policy, self.normaliser = self._networks.policy, self._networks.normaliser
        n, m = self.contract.observation_size, len(self.contract.costs)
        self.predictor = (
            Predictor(n, m, settings.shaping, self.generator) if settings.shaping.horizon else None
        )
        self.fitting = BackgroundFit(self._networks.critic, self.predictor, settings)
        self.batch = self._more(settings.copies(self.contract) // max(settings.shards, 1))
        setup = Setup(
            self._networks,
            self.generator,
            self.batch,
            self._more,
            self.batch_steps,
            settings.gamma,
            settings.lam,
            len(self.knots.owner),
            sharded=settings.shards > 0,
            resumed=resumed,
        )
        self.algorithm = ALGORITHMS[settings.algorithm](setup, settings.own)
        self.collector = (
            ShardedCollector(SequentialRunner(self.batch), settings.shards, self.generator)
            if settings.shards
            else Collector(self.batch, self.generator, self.algorithm.before_step)
        )
        self.iteration, self.steps = 0, 0
        self.demonstrations: dict[str, Any] | None = None
        self.started_from: dict[str, Any] | None = None

    def _more(self, copies: int) -> Batch:
        """Return another batch of the task, with the given number of copies."""
        s = self.settings
        return s.task.batch(
            copies,
            s.seed,
            contract=self.contract,
            randomise=s.randomise,
            physics=s.physics,
            alternatives=s.alternatives,
        )

    @property
    def batch_steps(self) -> int:
        """Simulated steps of a batch, all copies together."""
        return (
            self.contract.episode_steps
            * self.settings.episodes
            * self.settings.copies(self.contract)
        )

    @property
    def networks(self) -> Networks:
        """The networks, once their fitting has ended."""
        self.fitting.wait()
        return self._networks

    def iterate(self) -> dict[str, Any]:
        """Collect a batch, step the policy, fit the critics; return the record, as JSON data.

        The critics' fit may still run when `iterate` returns.
        """
        clock = Stopwatch()
        steps = self.contract.episode_steps * self.settings.episodes
        self.algorithm.before_rollout(steps)
        rollout = self.collector.collect(*self.algorithm.acting(), steps)
        clock.lap("rollout")
        self.fitting.wait()
        clock.lap("critics")
        evaluated = self.evaluate(rollout)
        clock.lap("estimate")
        result = self.step(evaluated)
        if not self.algorithm.keeps_normaliser(result):
            self.renormalise(rows(rollout.observation))
            self.algorithm.renew()
        self.fit(evaluated)  # after the step: two threads of small operations slow each other
        clock.lap("step")
        self.iteration += 1
        return self._record(evaluated, result, clock)

    def evaluate(self, rollout: Rollout) -> EvaluatedRollout:
        """Normalise a rollout's observations, sum its episodes and estimate its advantages."""
        flat, s = rows(rollout.observation), self.settings
        if not self.normaliser.count:
            self.normaliser.update(flat)
        x = self.normaliser(flat)
        shaped = self.predictor.shaped(rollout.costs, x) if self.predictor else rollout.costs
        if s.pessimism:
            shaped = shaped + addition(rollout, s.pessimism, self.contract.episode_steps)
        critic = self.networks.critic
        estimates = estimate(
            rollout, shaped, critic, self.normaliser, self.contract, s.gamma, s.lam
        )
        samples = self.algorithm.samples(Collected(rollout, x, estimates))
        sums = _episode_sums(rollout, shaped, s.episodes)
        return EvaluatedRollout(rollout, x, estimates, sums, samples)

    def renormalise(self, observations: Tensor) -> None:
        """Update the normaliser with observations (B, n); no network's function changes by it.

        Otherwise the policy would change beside its step, by what no trust region and no limit
        holds: on DriveCircle this raised the cost by a tenth of the limit per iteration.
        """
        change = self.normaliser.update(observations)
        self.policy.absorb(*change)
        self.networks.critic.absorb(*change)
        if self.predictor:
            self.predictor.absorb(*change)

    def fit(self, evaluated: EvaluatedRollout) -> None:
        """Begin to fit the critics and the predictor."""
        rollout, label = evaluated.rollout, None
        x = self.normaliser(rows(rollout.observation))  # has changed since the evaluation
        if self.predictor:
            likely = cost_within(rollout.costs, rollout.ended, self.settings.shaping.horizon)
            label = rows(likely)
        self.fitting.start(x, rows(evaluated.estimates.target), label)

    def step(self, evaluated: EvaluatedRollout) -> UpdateResult:
        """Change the policy by an evaluated rollout."""
        samples, sums = evaluated.samples, evaluated.sums
        # Centring changes no gradient in expectation. Only the reward may be scaled: a constrained
        # step's b and c have the same units because costs keep their scale.
        advantages = samples.advantages - samples.advantages.mean(0)
        scale = advantages[:, 0].std() + 1e-8
        advantages[:, 0] /= scale
        cost, limit = sums.shaped.mean(axis=0), self.limit
        if self.knots.several:
            each, owner = evaluated.rollout.limit, self.knots.owner
            advantages = self.knots.advantages(advantages, each.reshape(-1, each.shape[-1]))
            share, aim = self.knots.shares(sums.limit), limit / self.contract.limits
            cost = (share * sums.shaped[:, owner]).mean(axis=0)
            limit = (share * (aim * sums.limit)[:, owner]).mean(axis=0)
        samples = dataclasses.replace(samples, advantages=advantages)
        batch_estimate = BatchEstimate(cost, limit, float(sums.length.mean()), float(scale))
        return self.algorithm.update(samples, batch_estimate)

    def _record(
        self, evaluated: EvaluatedRollout, result: UpdateResult, clock: Stopwatch
    ) -> dict[str, Any]:
        sums, extra = evaluated.sums, self.algorithm.extra_steps
        size = len(evaluated.x) + extra
        self.steps += size
        names, limits = [cost.name for cost in self.contract.costs], self.contract.limits

        def by_name(values: Any) -> dict[str, float]:
            return dict(zip(names, map(float, values), strict=False))

        def by_knot(values: Any) -> dict[str, float]:
            return dict(zip(self.knots.names, map(float, values), strict=False))

        explained = evaluated.estimates.explained_variance()
        shaped: dict[str, Any] = {}
        if self.predictor or self.settings.pessimism:
            shaped = {"shaped_costs": by_name(sums.shaped.mean(axis=0))}
        if self.settings.pessimism:
            shaped |= {"disagreement": float(evaluated.rollout.disagreement.mean())}
        return {
            "iteration": self.iteration,
            "iterations": self.settings.iterations,
            **(self._trained() | self._origin() if self.iteration == 1 else {}),
            "steps": self.steps,
            **({"branch_steps": extra} if extra else {}),
            "return": float(sums.reward.mean()),
            "costs": by_name(sums.costs.mean(axis=0)),
            "limits": by_name(sums.limit.mean(axis=0) if self.knots.several else limits),
            **({"by_limit": self._by_limit(sums)} if self.knots.several else {}),
            "cost_spread": by_name(sums.costs.std(axis=0)),
            **shaped,
            "episode_steps": float(sums.length.mean()),
            "std": torch.exp(self.policy.log_std).tolist(),
            "explained_variance": {
                "reward": explained[0],
                "costs": by_name(explained[1:]),
                "costs_to_go": by_name(explained[1 + len(names) :]),
            },
            "case": result.case,
            "accepted": result.accepted,
            "reason": result.reason,
            "kl": result.kl,
            "lam": result.lam,
            "nu": by_knot(result.nu),
            "reward_change": result.reward_change,
            "cost_change": by_knot(result.cost_change),
            **{k: by_knot(v) if isinstance(v, tuple) else v for k, v in result.more.items()},
            "steps_per_s": size / clock.total,
            "seconds": clock.laps,
        }

    def _by_limit(self, sums: EpisodeSums) -> dict[str, dict[str, float]]:
        """Return mean limit, cost and return at each knot with episodes near it, by its name."""
        values = np.column_stack((sums.limit, sums.costs, sums.reward))
        means, m = self.knots.means(values, sums.limit), sums.limit.shape[1]
        near = self.knots.shares(sums.limit).sum(axis=0) > 0.0
        return {
            name: {
                "limit": float(mean[i]),
                "cost": float(mean[m + i]),
                "return": float(mean[-1]),
            }
            for name, i, mean, some in zip(
                self.knots.names, self.knots.owner, means, near, strict=True
            )
            if some
        }

    def _trained(self) -> dict[str, str]:
        return {"task": self.contract.task, "algorithm": self.settings.algorithm}

    def _origin(self) -> dict[str, Any]:
        told = {"demonstrations": self.demonstrations, "started_from": self.started_from}
        return {name: origin for name, origin in told.items() if origin is not None}

    # Checkpoints.

    def save(self, path: Path) -> None:
        """Write all state that the next iteration depends on."""
        tensors = checkpoint.module_tensors(self.networks.modules)
        tensors |= self.fitting.tensors() | self.algorithm.tensors()
        tensors["generator"] = self.generator.get_state()
        data = {
            "settings": self.settings.to_data(),
            "contract": self.contract.to_json(),
            "iteration": self.iteration,
            "steps": self.steps,
            "algorithm": self.algorithm.data(),
            "start_states": self.batch.rng.bit_generator.state,
            **self._origin(),
        }
        checkpoint.save(path, tensors, placed(data, Path(), path.parent))

    @staticmethod
    def load(path: Path, task: TaskSpec | None = None) -> Learner:
        """Return the learner that `save` wrote; training continues bit for bit.

        Args:
            task: see `settings_from`.

        Raises:
            TrainingError: the file is no checkpoint, or the task's contract has changed since.
        """
        tensors, data = checkpoint.load(path)
        with plain.well_formed(f"checkpoint {path}", TrainingError):
            learner = Learner(settings_of(path, data, task), resumed=True)
            require_same(learner.settings, Contract.from_json(data["contract"]))
            try:
                checkpoint.restore_modules(learner.networks.modules, tensors)
                learner.fitting.restore(tensors)
                learner.algorithm.restore(tensors, data["algorithm"])
            except TrainingError as error:
                raise TrainingError(f"checkpoint {path}: {error}") from None
            learner.generator.set_state(tensors["generator"])
            learner.iteration = data["iteration"]
            learner.steps = data["steps"]
            learner.demonstrations = data.get("demonstrations")
            learner.started_from = data.get("started_from")
            # Each iteration begins with a reset, so the batch's only state is its generator.
            learner.batch.rng.bit_generator.state = data["start_states"]
        return learner

    def close(self) -> None:
        """End the threads."""
        self.fitting.close()
        self.batch.close()
        self.algorithm.close()


@dataclasses.dataclass(frozen=True)
class EpisodeSums:
    """Undiscounted sums and number of steps of each episode of a batch.

    Attributes:
        reward, length: (episodes,). costs, shaped: (episodes, m).
        limit: (episodes, m), the limits in force; no sum.
    """

    reward: Array
    length: Array
    costs: Array
    shaped: Array
    limit: Array


@dataclasses.dataclass(frozen=True)
class EvaluatedRollout:
    """A rollout with its advantages and sums, ready for an update.

    Attributes:
        x: (T·N, n), normalised observations.
        samples: the update's samples; advantages are in units of reward and of each cost.
    """

    rollout: Rollout
    x: Tensor
    estimates: Estimates
    sums: EpisodeSums
    samples: Samples


def _episode_sums(rollout: Rollout, shaped: Array, episodes: int) -> EpisodeSums:
    m = shaped.shape[-1]
    ones = np.ones((*rollout.ended.shape, 1))
    together = (rollout.reward[..., None], ones, rollout.costs, shaped, rollout.limit)
    sums = rollout.episode_sums(np.concatenate(together, axis=-1), episodes)
    reward, length, costs, shaped, limit = np.split(sums, (1, 2, 2 + m, 2 + 2 * m), axis=1)
    return EpisodeSums(reward[:, 0], length[:, 0], costs, shaped, limit / length)


class Stopwatch:
    """Measures the wall-clock seconds of an iteration's parts."""

    def __init__(self) -> None:
        self.started = self.last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Store the time since the last lap under a name."""
        now = time.perf_counter()
        self.laps[name], self.last = now - self.last, now

    @property
    def total(self) -> float:
        """Seconds from the start to the last lap."""
        return self.last - self.started
