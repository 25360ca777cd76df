"""`holdfast finetune`: improves a policy on a robot's logged episodes, near the logged policy.

Constrained steps on logged episodes. Importance weights are per step, from the logged
log-probability. A bound on the KL divergence keeps the policy near the logged policy. Upper
confidence bounds of the costs, not their means, have to meet the limits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from holdfast import files, plain
from holdfast.bundle import reader as bundle
from holdfast.bundle.reader import Bundle
from holdfast.errors import LogError, TrainingError
from holdfast.plain import counted
from holdfast.policy.algorithms.algorithm import UpdateResult
from holdfast.policy.algorithms.cpo import NO_STEP, cpo_step
from holdfast.policy.improve.experience import Experience, logged_advantages, predict, read
from holdfast.policy.improve.reach import divergence, effective_share
from holdfast.policy.learn.settings import (
    TaskOption,
    TrainSettings,
    placed,
    require_same,
    settings_of,
    under_limits,
)
from holdfast.policy.models import checkpoint
from holdfast.policy.models.critic import fit_critic
from holdfast.policy.models.networks import Networks
from holdfast.policy.optimise.trust_region import StepSettings
from holdfast.policy.sampling.samples import Samples
from holdfast.policy.ship.export import checkpoint_of, export, file_hash
from holdfast.schema import NOT_NEGATIVE, POSITIVE, PROPER_SHARE, SEED, Range, check, to_plain
from holdfast.signals import Array
from holdfast.sim.task_spec import TaskSpec

SPENT = "these logs support no further step; a run of the new policy supports the next ones"
"""How a run of steps ends at the edge of what the logs can tell, which is its ordinary end."""


@dataclass(frozen=True)
class FinetuneSettings:
    """Settings of fine-tuning.

    Attributes:
        seed: seed of the critics' minibatches.
        target: goal for the upper cost bounds, as a share of the limits d; below 1, because the
            surrogate underestimates the cost of a changed policy.
        bound: standard errors added to each estimated cost, which give the upper cost bound.
        max_kl: largest KL(behaviour ‖ new), nats per step, E[ρ − 1 − ln ρ] over the logged
            actions that are not masked, as `holdfast gate` measures it.
        min_share: least effective sample size, (Σρ)²/Σρ², as a share of these actions.
        steps: maximum number of constrained steps; they end as soon as the upper cost bounds meet
            the target.
        critic_steps: Adam steps on the critics.
        critic_minibatch: samples per Adam step on the critics.
        critic_rate: Adam's learning rate for the critics.
        slack: tolerance of the line search's cost check, as a share of the limit d.
        step: size of each constrained step, and how it is computed.
    """

    seed: Annotated[int, SEED] = 0
    target: Annotated[float, Range(0.0, 1.0, above=True)] = 0.5
    bound: Annotated[float, NOT_NEGATIVE] = 1.0
    max_kl: Annotated[float, POSITIVE] = 0.15
    min_share: Annotated[float, PROPER_SHARE] = 0.3
    steps: Annotated[int, Range(1)] = 30
    critic_steps: Annotated[int, Range(1)] = 400
    critic_minibatch: Annotated[int, Range(1)] = 512
    critic_rate: Annotated[float, POSITIVE] = 1e-3
    slack: Annotated[float, NOT_NEGATIVE] = 0.1
    step: StepSettings = field(default_factory=lambda: StepSettings(delta=0.01, fisher_rows=10_000))

    def __post_init__(self) -> None:
        check(self, TrainingError)


@dataclass(frozen=True)
class CostEstimate:
    """Estimated episode costs (m,) of a policy: means and standard errors."""

    mean: Array
    error: Array

    def upper(self, bound: float) -> Array:
        """Return the upper confidence bounds (m,) at `bound` standard errors."""
        return self.mean + bound * self.error

    def by_name(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return the estimates by cost name, as JSON data."""
        rows = zip(names, self.mean.tolist(), self.error.tolist(), strict=True)
        return {name: {"mean": mean, "error": error} for name, mean, error in rows}


class Finetuner:
    """Takes constrained steps on logged experience.

    Args:
        networks: the behaviour policy and its critics, which change in place.
        experience: the policy's logged episodes.
        gamma, lam: discount and GAE λ of the reward, as in training.
    """

    def __init__(
        self,
        networks: Networks,
        experience: Experience,
        settings: FinetuneSettings,
        gamma: float,
        lam: float,
    ) -> None:
        self.networks, self.experience, self.settings = networks, experience, settings
        self.limit = networks.contract.limits
        self._fit_critics(gamma, lam)
        advantage, _ = logged_advantages(experience, networks, gamma, lam)
        self.samples = self._samples(advantage)
        # The cost of an episode, plus the critic's estimate for the part that a stop cut off.
        to_go = predict(networks, experience.observation[:, -1])[:, 1 + len(self.limit) :]
        cut_off = ~experience.over.any(axis=1, keepdims=True)
        costs = (experience.costs * experience.valid[..., None]).sum(axis=1)
        self.episode_costs = costs + np.where(cut_off, np.maximum(to_go, 0.0), 0.0)
        self.length = float(experience.valid.sum(axis=1).mean())

    def _fit_critics(self, gamma: float, lam: float) -> None:
        """Fit the critics, trained in simulation, to the log; each pass has new targets."""
        s, experience, networks = self.settings, self.experience, self.networks
        generator = torch.Generator().manual_seed(s.seed)
        optimiser = torch.optim.Adam(networks.critic.parameters(), lr=s.critic_rate, fused=True)
        x = networks.normaliser(experience.rows(experience.observation[:, :-1]))
        passes = 5
        for _ in range(passes):
            advantage, value = logged_advantages(experience, networks, gamma, lam)
            target = experience.rows(advantage + value)
            steps = max(1, s.critic_steps // passes)
            fit_critic(networks.critic, optimiser, x, target, steps, s.critic_minibatch, generator)

    def _samples(self, advantage: Array) -> Samples:
        experience = self.experience
        weight = experience.rows(experience.weight.astype(np.float64))
        rows = experience.rows(advantage)[:, : 1 + len(self.limit)]
        share = weight / weight.sum()
        centred = rows - share @ rows
        centred[:, 0] /= (share @ centred[:, 0] ** 2).sqrt() + 1e-8
        return Samples(
            x=self.networks.normaliser(experience.rows(experience.observation[:, :-1])),
            u=experience.rows(experience.u),
            log_prob=experience.rows(experience.log_prob),
            advantages=centred,
            weight=weight,
        )

    @torch.no_grad()
    def ratio(self) -> Tensor:
        """Return the importance weights ρ (B,) of the present policy."""
        return torch.exp(self._log_ratio())

    @torch.no_grad()
    def _log_ratio(self) -> Tensor:
        policy = self.networks.policy
        log_prob = policy.log_prob(policy.means(self.samples.x), self.samples.u)
        return log_prob - self.samples.log_prob

    def cost(self) -> CostEstimate:
        """Estimate the episode costs: an episode's logged cost, plus Σ_t (ρ_t − 1) A_C,t."""
        change = ((self.ratio() - 1.0) * self.samples.weight)[:, None]
        gain = np.zeros((*self.experience.valid.shape, len(self.limit)))
        gain[self.experience.valid] = (change * self.samples.advantages[:, 1:]).double().numpy()
        episodes = self.episode_costs + gain.sum(axis=1)
        count = len(episodes)
        error = episodes.std(axis=0, ddof=1) / math.sqrt(count) if count > 1 else math.inf
        mean = np.maximum(episodes.mean(axis=0), 0.0)  # the estimate is linear, and no cost is less
        return CostEstimate(mean, np.broadcast_to(error, self.limit.shape))

    def log_ratio(self) -> Array:
        """Return ln ρ of the steps that are not masked."""
        found: Array = self._log_ratio()[self.samples.weight > 0].double().numpy()
        return found

    def _trusted(self) -> bool:
        s, found = self.settings, self.log_ratio()
        return divergence(found) <= s.max_kl and effective_share(found) >= s.min_share

    def run(self) -> dict[str, Any]:
        """Take steps until the upper cost bounds meet the target, or no step is possible."""
        s, target = self.settings, self.settings.target * self.limit
        names = [cost.name for cost in self.networks.contract.costs]
        before, taken = self.cost(), 0
        ended = "the steps allowed are used up"
        for _ in range(s.steps):
            excess = self.cost().upper(s.bound) - target
            if (excess <= 0.0).all():
                ended = "the bounded costs meet the target"
                break
            result = self._step(excess)
            if result.accepted is None:
                ended = SPENT if taken and result.reason == NO_STEP else result.reason
                break
            taken += 1
        return {
            "steps": taken,
            "ended": ended,
            "costs_before": before.by_name(names),
            "costs_after": self.cost().by_name(names),
            "targets": dict(zip(names, target.tolist(), strict=True)),
            "kl": divergence(self.log_ratio()),
            "effective_share": effective_share(self.log_ratio()),
            "samples": len(self.samples),
            "masked": int((self.samples.weight == 0).sum()),
            "episodes": len(self.episode_costs),
            "stopped_episodes": int((~self.experience.over.any(axis=1)).sum()),
        }

    def _step(self, excess: Array) -> UpdateResult:
        return cpo_step(
            self.networks.policy,
            self.samples,
            excess,
            self.limit,
            self.length,
            self.settings.step,
            self.settings.slack,
            trusted=self._trusted,
        )


def finetune(
    parent: Path,
    logs: Sequence[Path],
    out: Path,
    settings: FinetuneSettings,
    task: TaskSpec | None = None,
    others: Sequence[Path] = (),
) -> dict[str, Any]:
    """Fine-tune `parent` on `logs`, write the child bundle, and return the child's provenance.

    Args:
        task: see `settings_from`.
        others: bundles of the same contract that made some of the logs.

    Raises:
        BundleError, ConfigError, LogError, TrainingError: a file is missing, damaged or of
            another bundle; a log holds impossible values; the task has changed since training;
            or the result is not finite.
    """
    torch.set_num_threads(1)
    if out.resolve() == parent.resolve():
        raise TrainingError(f"{out}: the child should not overwrite its parent")
    held, networks, data, trained = opened(parent, task)
    made = read(logs, held, trained.task.make(), [bundle.load(other) for other in others])
    if len(made.trajectories) == 1:
        raise LogError(
            "logs should hold two episodes or more, so that the error of their mean cost can be "
            "told; received 1"
        )
    networks = replace(networks, contract=made.contract)  # under the limits in force
    tuner = Finetuner(
        networks,
        Experience.of(made.trajectories, made.contract),
        settings,
        trained.gamma,
        trained.lam,
    )
    learned = tuner.run() | {"disobeyed_episodes": made.disobeyed}
    _require_finite(networks, learned)
    # The rest of the training state is unchanged, so that the child can train on in simulation.
    # The child's familiarity is fitted on the logged observations, which the state holds too.
    tensors, _ = checkpoint.load(checkpoint_of(parent))
    state = out.with_suffix(".training.safetensors")  # the child's own comes with its bundle
    known = [t.known for t in made.trajectories if len(t.known)]
    tensors |= checkpoint.module_tensors(networks.modules) | checkpoint.known_tensors(known)
    data = under_limits(data, made.contract)
    checkpoint.save(state, tensors, placed(data, parent.parent, state.parent))
    extra = {
        "parent": held.hash,
        "logs": [dict(entry) for entry in made.logs],
        "finetune": {"settings": to_plain(settings), **learned},
    }
    try:
        return export(state, out, held.provenance["evaluation_episodes"], extra, task)
    finally:
        state.unlink()


def require_new(out: Path) -> None:
    """Check that a child's bundle and its training state can be written, and replace no file.

    Raises:
        FileError, TrainingError: they cannot, or would.
    """
    for path in (out, checkpoint_of(out)):
        files.require_output(path, (path.suffix,))
        if path.exists() and not out.exists():
            raise TrainingError(
                f"{path}: is there without its bundle {out.name}, as a run that was killed leaves "
                "it; delete it, or give another --out"
            )
        if path.exists():
            raise TrainingError(
                f"{path}: exists; give another --out, a bundle is never replaced by its child"
            )


def opened(
    policy: Path, task: TaskSpec | None
) -> tuple[Bundle, Networks, Mapping[str, Any], TrainSettings]:
    """Return a bundle, its networks, its training state's data, and how it was trained.

    Args:
        task: see `settings_from`.

    Raises:
        BundleError, ConfigError, TrainingError: a file is missing, damaged or of another bundle; or
            the task has changed since training.
    """
    held = bundle.load(policy)
    if "adopted" in held.provenance:
        raise TrainingError(
            f"{policy}: was trained elsewhere, so there is no training state to go on from; its "
            "logs teach a policy of the same contract, with --other-policy"
        )
    source = checkpoint_of(policy)
    if not source.exists():
        raise TrainingError(
            f"{source}: there is no such training state; it lies beside a bundle, and goes with it"
        )
    if file_hash(source) != held.provenance["checkpoint"]["sha256"]:
        raise TrainingError(f"{source}: is the training state of another bundle than {policy}")
    networks, data = checkpoint.load_networks(source)
    trained = settings_of(source, data, task)
    require_same(trained, held.contract)
    return held, networks, data, trained


def _require_finite(networks: Networks, learned: dict[str, Any]) -> None:
    """Raise TrainingError unless all weights and all estimates are finite."""
    wrong = [
        f"{name}.{part}"
        for name, module in networks.modules.items()
        for part, values in module.state_dict().items()
        if not torch.isfinite(values).all()
    ]
    for estimates in (learned["costs_before"], learned["costs_after"]):
        wrong += [name for name, cost in estimates.items() if not math.isfinite(cost["mean"])]
    if wrong or not math.isfinite(learned["kl"]):
        raise TrainingError(
            f"what was learned is not finite ({', '.join(wrong) or 'kl'}), so no child is written"
        )


def command(
    policy: Path,
    log: tuple[Path, ...],
    out: Path,
    other_policy: tuple[Path, ...] = (),
    settings: FinetuneSettings = FinetuneSettings(),
    task: TaskOption = None,
) -> None:
    """Fine-tune a policy on its logged runs, and write the result as a child bundle.

    Args:
        policy: bundle that ran; the training state lies beside the bundle.
        log: runs recorded with `holdfast deploy --explore`.
        out: path of the child bundle, which must not exist yet.
        other_policy: further bundles that made some of the logs, such as the parent of `policy`.
            Each log's log-probabilities are compared with the bundle that made the log.
        settings: settings of fine-tuning.
        task: a task that is no part of Holdfast, as FILE.py:NAME or gym:MODULE:ID. Code that a
            file names is not run, so such a task has to be given. The file may have moved.
    """
    require_new(out)
    provenance = finetune(policy, log, out, settings, task, other_policy)
    learned = provenance["finetune"]
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for entry in provenance["logs"]:
        if entry["remarks"]:
            console.print(f"{entry['run']}: {entry['remarks']}")
    if learned["disobeyed_episodes"]:
        console.print(
            f"{counted(learned['disobeyed_episodes'], 'episode')} left out: a fault of the device "
            "or of the graph was the end, and nobody can say since when commands were not obeyed"
        )
    console.print(
        f"{counted(learned['episodes'], 'episode')} ({learned['stopped_episodes']} stopped), "
        f"{counted(learned['samples'], 'step')}, {learned['masked']} overridden and masked"
    )
    for name, before in learned["costs_before"].items():
        after, target = learned["costs_after"][name], learned["targets"][name]
        met = after["mean"] + settings.bound * after["error"] <= target
        console.print(
            f"{name}: estimated {before['mean']:.2f} ± {before['error']:.2f} → "
            f"{after['mean']:.2f} ± {after['error']:.2f} (target {target:.2f} for mean + "
            f"{settings.bound:g} standard error{'' if met else ', not met'})"
        )
    console.print(
        f"KL from the behaviour policy {learned['kl']:.3f} nats, effective samples "
        f"{learned['effective_share']:.0%}, {learned['steps']} steps: {learned['ended']}"
    )
    console.print(f"{out}: child of {provenance['parent'][:16]}")
    own = ("--task", task.id) if task else ()
    makers = (policy, *other_policy)
    following = ("holdfast", "gate", out, "--policy", *makers, "--log", *log, *own)
    console.print(f"next: {plain.command_line(*following)}")
