"""The learner: one object holding all that training changes, stepped iteration by iteration."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.errors import TrainingError
from holdfast.policy import checkpoint
from holdfast.policy.algorithms import ALGORITHMS
from holdfast.policy.algorithms.algorithm import Measured, Report
from holdfast.policy.fitting import Fitting
from holdfast.policy.networks import Networks
from holdfast.policy.rollout import Collector, Estimates, Rollout, estimate
from holdfast.policy.samples import Samples
from holdfast.policy.settings import TrainSettings, contract_of, settings_from
from holdfast.policy.shaping import Predictor, soon
from holdfast.signals import Array
from holdfast.sim.tasks import make_batch


class Learner:
    """An algorithm in simulation.

    Args:
        settings: see there.

    Attributes:
        demonstrations: which logs the policy was cloned from before the first iteration, and
            how well; None where it begins with random weights.

    Raises:
        TrainingError, ConfigError: the settings or the task do not fit.
    """

    def __init__(self, settings: TrainSettings) -> None:
        settings.check_own()
        self.settings = settings
        self.contract = contract_of(settings)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self._networks = Networks.build(
            self.contract, settings.hidden, settings.initial_std, self.generator
        )
        self.policy, self.normaliser = self._networks.policy, self._networks.normaliser
        n, m = self.contract.observation_size, len(self.contract.costs)
        self.predictor = (
            Predictor(n, m, settings.shaping, self.generator) if settings.shaping.horizon else None
        )
        self.fitting = Fitting(self._networks.critic, self.predictor, settings)
        self.algorithm = ALGORITHMS[settings.algorithm](self.policy, settings, self.generator, m)
        copies = settings.copies(self.contract)
        self.batch = make_batch(settings.task, copies, settings.seed, contract=self.contract)
        self.collector = Collector(self.batch, self.generator)
        self.iteration = 0
        self.demonstrations: dict[str, Any] | None = None

    @property
    def networks(self) -> Networks:
        """The networks, when none of them is being fitted."""
        self.fitting.wait()
        return self._networks

    def iterate(self) -> dict[str, Any]:
        """Collect a batch, step the policy, fit the critics; return what happened, as JSON data.

        The critics are still being fitted when it returns.
        """
        clock = Stopwatch()
        steps = self.contract.episode_steps * self.settings.episodes
        rollout = self.collector.collect(self.policy, self.normaliser, steps)
        clock.lap("rollout")
        self.fitting.wait()
        clock.lap("critics")
        judged = self.judge(rollout)
        self.fit(judged)
        clock.lap("estimate")
        report = self.step(judged)
        self.normaliser.update(_rows(rollout.observation))
        clock.lap("step")
        self.iteration += 1
        return self._record(judged, report, clock)

    def judge(self, rollout: Rollout) -> Judged:
        """Normalise a rollout's observations, sum its episodes and estimate its advantages."""
        flat, s = _rows(rollout.observation), self.settings
        if self.normaliser.count == 0:
            self.normaliser.update(flat)
        x = self.normaliser(flat)
        shaped = self.predictor.shaped(rollout.costs, x) if self.predictor else rollout.costs
        critic = self.networks.critic
        estimates = estimate(
            rollout, shaped, critic, self.normaliser, self.contract, s.gamma, s.lam
        )
        return Judged(rollout, x, estimates, _episode_sums(rollout, shaped, s.episodes))

    def fit(self, judged: Judged) -> None:
        """Begin to fit the critics, and the predictor."""
        rollout, label = judged.rollout, None
        if self.predictor:
            likely = soon(rollout.costs, rollout.ended, self.settings.shaping.horizon)
            label = _rows(likely)
        self.fitting.start(judged.x, _rows(judged.estimates.target), label)

    def step(self, judged: Judged) -> Report:
        """Change the policy."""
        rollout, sums, m = judged.rollout, judged.sums, len(self.contract.costs)
        advantages = _rows(judged.estimates.advantage[..., : 1 + m])
        # Centring changes no gradient in expectation. Only the reward may be scaled: the scale
        # of a cost's advantage is what makes a constrained step's b and c the same units.
        advantages -= advantages.mean(0)
        scale = advantages[:, 0].std() + 1e-8
        advantages[:, 0] /= scale
        log_prob = torch.from_numpy(rollout.log_prob).flatten()
        weight = torch.ones(len(log_prob))
        samples = Samples(judged.x, _rows(rollout.u), log_prob, advantages, weight)
        limit = np.array([cost.limit for cost in self.contract.costs])
        measured = Measured(
            sums.shaped.mean(axis=0), limit, float(sums.length.mean()), float(scale)
        )
        return self.algorithm.update(samples, measured)

    def _record(self, judged: Judged, report: Report, clock: Stopwatch) -> dict[str, Any]:
        sums, size = judged.sums, len(judged.x)
        names = [cost.name for cost in self.contract.costs]

        def by_name(values: Any) -> dict[str, float]:
            return dict(zip(names, map(float, values), strict=False))

        explained = judged.estimates.explained_variance()
        shaped = {"shaped_costs": by_name(sums.shaped.mean(axis=0))} if self.predictor else {}
        return {
            "iteration": self.iteration,
            **(self._origin() if self.iteration == 1 else {}),
            "steps": self.iteration * size,
            "return": float(sums.reward.mean()),
            "costs": by_name(sums.costs.mean(axis=0)),
            "cost_spread": by_name(sums.costs.std(axis=0)),
            **shaped,
            "episode_steps": float(sums.length.mean()),
            "std": torch.exp(self.policy.log_std).tolist(),
            "explained_variance": {
                "reward": explained[0],
                "costs": by_name(explained[1:]),
                "costs_to_go": by_name(explained[1 + len(names) :]),
            },
            "case": report.case,
            "accepted": report.accepted,
            "reason": report.reason,
            "kl": report.kl,
            "lam": report.lam,
            "nu": by_name(report.nu),
            "reward_change": report.reward_change,
            "cost_change": by_name(report.cost_change),
            **{k: by_name(v) if isinstance(v, tuple) else v for k, v in report.more.items()},
            "steps_per_s": size / clock.total,
            "seconds": clock.laps,
        }

    def _origin(self) -> dict[str, Any]:
        return {} if self.demonstrations is None else {"demonstrations": self.demonstrations}

    # Checkpoints.

    def save(self, path: Path) -> None:
        """Write everything that the next iteration depends on."""
        tensors = checkpoint.module_tensors(self.networks.modules)
        tensors |= self.fitting.tensors() | self.algorithm.tensors()
        tensors["generator"] = self.generator.get_state()
        data = {
            "settings": dataclasses.asdict(self.settings),
            "contract": self.contract.to_json(),
            "iteration": self.iteration,
            "algorithm": self.algorithm.data(),
            "start_states": self.batch.rng.bit_generator.state,
            **self._origin(),
        }
        checkpoint.save(path, tensors, data)

    @staticmethod
    def load(path: Path) -> Learner:
        """Return the learner that `save` wrote; it goes on bit for bit.

        Raises:
            TrainingError: not a checkpoint, or of a task whose contract has changed since.
        """
        tensors, data = checkpoint.load(path)
        learner = Learner(settings_from(data["settings"]))
        if learner.contract.to_json() != data["contract"]:
            raise TrainingError(
                f"checkpoint {path}: was trained under another contract of {learner.contract.task}"
            )
        checkpoint.restore_modules(learner.networks.modules, tensors)
        learner.fitting.restore(tensors)
        learner.algorithm.restore(tensors, data["algorithm"])
        learner.generator.set_state(tensors["generator"])
        learner.iteration = data["iteration"]
        learner.demonstrations = data.get("demonstrations")
        # Each iteration begins with a reset, so of the batch only its generator lives on.
        learner.batch.rng.bit_generator.state = data["start_states"]
        return learner

    def close(self) -> None:
        """End the threads."""
        self.fitting.close()
        self.batch.close()


@dataclasses.dataclass(frozen=True)
class EpisodeSums:
    """What each episode of a batch came to: undiscounted sums, and its steps.

    Attributes:
        reward, length: (episodes,). costs, shaped: (episodes, m).
    """

    reward: Array
    length: Array
    costs: Array
    shaped: Array


@dataclasses.dataclass(frozen=True)
class Judged:
    """A rollout, and what an update needs to know of it.

    Attributes:
        x: (T·N, n), its normalised observations.
    """

    rollout: Rollout
    x: Tensor
    estimates: Estimates
    sums: EpisodeSums


def _episode_sums(rollout: Rollout, shaped: Array, episodes: int) -> EpisodeSums:
    m = shaped.shape[-1]
    ones = np.ones((*rollout.ended.shape, 1))
    together = (rollout.reward[..., None], ones, rollout.costs, shaped)
    sums = rollout.episode_sums(np.concatenate(together, axis=-1), episodes)
    return EpisodeSums(sums[:, 0], sums[:, 1], sums[:, 2 : 2 + m], sums[:, 2 + m :])


def _rows(values: Any) -> Tensor:
    """Return (T, N, k) as float32 (T·N, k)."""
    return torch.from_numpy(values.reshape(-1, values.shape[-1])).float()


class Stopwatch:
    """Wall-clock seconds of the parts of an iteration."""

    def __init__(self) -> None:
        self.started = self.last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Give a name to the time since the last lap."""
        now = time.perf_counter()
        self.laps[name], self.last = now - self.last, now

    @property
    def total(self) -> float:
        """Seconds from the start to the last lap."""
        return self.last - self.started
