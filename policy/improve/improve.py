"""`holdfast improve`: trains a policy on in the simulator that was identified from its logs.

Training begins with the parent's networks, in simulated robots drawn about the profile. Where that
ends badly (CPO may first unlearn what a policy far beyond its limit can do), training begins again
with random weights, and the better one of both becomes the child.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from rich.console import Console

from holdfast import plain
from holdfast.bundle import reader as bundles
from holdfast.bundle.limit_range import limits_of
from holdfast.contract import Contract
from holdfast.errors import FileError, TrainingError
from holdfast.log.episodes import runs
from holdfast.policy.improve.finetune import opened, require_new
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TaskOption, TrainSettings
from holdfast.policy.models import checkpoint
from holdfast.policy.ship.evaluate import Evaluation, evaluate
from holdfast.policy.ship.export import checkpoint_of, export
from holdfast.schema import NOT_NEGATIVE, SEED, Range, check, to_plain
from holdfast.signals import Array
from holdfast.sim.parameters import catalogue
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.parameters.robots import require_fit
from holdfast.sim.task_spec import TaskSpec


@dataclass(frozen=True)
class ImproveSettings:
    """Settings of training in the identified simulator.

    Attributes:
        seed: seed of start states, actions and of the robots that are drawn.
        iterations: policy updates that begin with the parent's networks.
        anew: policy updates that begin with random weights, if those end badly; 0: never.
        least_std: least standard deviation of actions at the beginning, in units of half the
            action range, so that the policy explores again.
        aim: share of each limit d that training holds the mean cost to. Below 1, because the
            robot differs from its profile, and because a trial certifies a margin sooner.
        wider: factor on the profile's spreads, from which the simulated robots are drawn.
        bound: standard errors added to the mean costs of held-out robots, which give upper bounds.
        proven: share of each limit d that the upper bounds should be at or under. Below 1, because
            a trial hardly decides about a policy that is at d. A training whose bounds stay above
            has ended badly.
        rounds: most times that training goes on, each time for a third of `iterations` and at a
            lower aim, while an upper bound is above.
        least_return: share of the parent's return, in the identified simulator, below which a
            training has ended badly too.
        episodes: simulated episodes, each with another held-out robot, that judge a policy.
    """

    seed: Annotated[int, SEED] = 0
    iterations: Annotated[int, Range(1)] = 30
    anew: Annotated[int, Range(0)] = 300
    least_std: Annotated[float, Range(0.0, 10.0, above=True)] = 0.25
    aim: Annotated[float, Range(0.0, 1.0, above=True)] = 0.65
    wider: Annotated[float, Range(1.0, 10.0)] = 2.0
    bound: Annotated[float, NOT_NEGATIVE] = 1.645
    proven: Annotated[float, Range(0.0, 1.0, above=True)] = 0.8
    rounds: Annotated[int, Range(0, 10)] = 6
    least_return: Annotated[float, NOT_NEGATIVE] = 0.5
    episodes: Annotated[int, Range(8, 20_000)] = 200

    def __post_init__(self) -> None:
        check(self, TrainingError)


@dataclass(frozen=True)
class Trained:
    """A training that has ended, and what its policy is worth in the identified simulator.

    Attributes:
        over: (costs,), by how much the upper bounds of the costs exceed what is to be proven.
    """

    start: str
    learner: Learner
    evaluation: Evaluation
    over: Array

    @property
    def excess(self) -> float:
        """`over`, as the sum of shares of the limits."""
        return float((self.over / np.maximum(self.learner.contract.limits, 1.0)).sum())

    @property
    def reward_return(self) -> float:
        """Mean return."""
        return float(self.evaluation.returns.mean())


def improve(
    parent: Path,
    profile: Parameters,
    logs: Sequence[Path],
    out: Path,
    settings: ImproveSettings,
    task: TaskSpec | None = None,
    anyway: bool = False,
    say: Callable[[str], None] = lambda text: None,
    where: str = "profile",
) -> dict[str, Any]:
    """Train `parent` on in the identified simulator, write the child bundle, and return the
    child's provenance.

    Args:
        profile: the parameters of the simulated robots. What it is silent on stays as the parent
            was trained.
        logs: the runs that the profile is from, for the provenance.
        task: see `settings_from`.
        anyway: write the child also if it does not meet a limit.
        where: names the profile in a refusal.

    Raises:
        BundleError, ConfigError, LogError, TrainingError: a file is missing, damaged or of another
            bundle; the robot lacks what the profile names; or the child does not meet a limit.
    """
    torch.set_num_threads(1)
    if out.resolve() == parent.resolve():
        raise TrainingError(f"{out}: the child should not overwrite its parent")
    held, _, _, before = opened(parent, task)
    if limits_of(held.contract):
        raise TrainingError(
            f"{parent}: improve trains for one limit, and this policy has a range; train on with "
            "holdfast train --limit-range LOW HIGH --randomise PROFILE --start-from CHECKPOINT"
        )
    require_fit(profile, before.task.make().robot, held.contract, where)
    source = checkpoint_of(parent)
    origin = [{"run": run.info.run, "sha256": run.sha256()} for run in runs(logs, held.contract)]
    robots = profile.wider(settings.wider).completed(before.randomise or Parameters())
    trained = dataclasses.replace(
        before, seed=settings.seed, randomise=robots, shards=0, pessimism=0.0
    )
    first = _begun(trained, source, settings.iterations)
    worth = evaluate(first.networks, first.settings, settings.episodes, settings.seed)
    told = _told(worth, held.contract, settings)
    say(f"parent in the identified simulator, where no monitor stops it: {told}")
    with torch.no_grad():
        first.networks.policy.log_std.clamp_(min=math.log(settings.least_std))
    tried = [_train(first, "parent", settings, say)]
    low = settings.least_return * float(worth.returns.mean())
    if settings.anew and (tried[0].excess > 0.0 or tried[0].reward_return < low):
        tried.append(_train(_begun(trained, None, settings.anew), "random weights", settings, say))
    best = min(tried, key=lambda each: (each.excess, -each.reward_return))
    state = out.with_suffix(".training.safetensors")
    best.learner.save(state)
    for each in tried:
        each.learner.close()
    extra = {
        "parent": held.hash,
        "logs": origin,
        "profile": profile.to_plain(),
        "improve": {
            "settings": to_plain(settings),
            "start": best.start,
            "parent_measured": worth.summary(),
            "tried": {each.start: each.evaluation.summary() for each in tried},
        },
    }
    try:
        episodes = held.provenance["evaluation_episodes"]
        made = export(state, out, episodes, extra, task, require_met=not anyway)
    except FileError as error:  # a full disk should not cost the training
        raise FileError(f"{error}; what was trained is kept in {state}") from None
    except BaseException:
        state.unlink()
        raise
    state.unlink()
    return made


def _begun(settings: TrainSettings, parent: Path | None, iterations: int) -> Learner:
    learner = Learner(dataclasses.replace(settings, iterations=iterations))
    if parent is not None:
        learner.started_from = checkpoint.start_from(parent, learner.networks)
    return learner


def _train(
    learner: Learner, start: str, settings: ImproveSettings, say: Callable[[str], None]
) -> Trained:
    """Train below the limits d, until held-out robots keep below them or the rounds are used up."""
    limit, first = learner.contract.limits, learner.settings.iterations
    learner.limit = settings.aim * limit
    for number in range(1 + settings.rounds):
        while learner.iteration < first + number * max(settings.iterations // 3, 1):
            learner.iterate()
        seed = settings.seed + 1 + number
        found = evaluate(learner.networks, learner.settings, settings.episodes, seed)
        told = _told(found, learner.networks.contract, settings)
        say(f"{plain.counted(learner.iteration, 'iteration')} from {start}: {told}")
        over = np.maximum(_upper(found, settings.bound) - settings.proven * limit, 0.0)
        if not over.any():
            break
        learner.limit = np.maximum(learner.limit - over, 0.0)
    return Trained(start, learner, found, over)


def _upper(evaluation: Evaluation, bound: float) -> Array:
    """Return the mean costs (costs,) plus so many standard errors."""
    costs = evaluation.cost_returns
    upper: Array = costs.mean(axis=0) + bound * costs.std(axis=0, ddof=1) / math.sqrt(len(costs))
    return upper


def _told(evaluation: Evaluation, contract: Contract, settings: ImproveSettings) -> str:
    means = evaluation.cost_returns.mean(axis=0).tolist()
    each = zip(contract.costs, means, _upper(evaluation, settings.bound).tolist(), strict=True)
    costs = ", ".join(
        f"{cost.name} {mean:.2f} (upper bound {upper:.2f}, should be at most "
        f"{settings.proven * cost.limit:g}; d = {cost.limit:g})"
        for cost, mean, upper in each
    )
    return f"return {evaluation.returns.mean():.1f}, {costs}"


def command(
    policy: Path,
    profile: Path,
    out: Path,
    log: tuple[Path, ...] = (),
    anyway: bool = False,
    settings: ImproveSettings = ImproveSettings(),
    task: TaskOption = None,
) -> None:
    """Train a policy on in the simulator that was identified from its logs; write a child bundle.

    The child's predictions, familiarity and measured costs are those of the identified simulator.

    Args:
        policy: bundle that ran; the training state lies beside the bundle.
        profile: what `holdfast identify` found.
        out: path of the child bundle, which must not exist yet.
        log: the runs that the profile is from, for the child's provenance.
        anyway: write the child also if it does not meet a limit.
        settings: settings of training.
        task: a task that is no part of Holdfast, as FILE.py:NAME or gym:MODULE:ID. Code that a
            file names is not run, so such a task has to be given. The file may have moved.
    """
    require_new(out)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    parameters = catalogue.load_profile(profile)
    where = str(profile)
    provenance = improve(policy, parameters, log, out, settings, task, anyway, console.print, where)
    chosen = provenance["improve"]["start"]
    console.print(f"{out}: child of {provenance['parent'][:16]}, trained from {chosen}")
    if log:
        own = ("--task", task.id) if task else ()
        ran = {run.info.bundle_hash for run in runs(log)}
        maker = ("--policy", policy) if bundles.load(policy).hash in ran else ()
        following = plain.command_line(
            "holdfast", "gate", out, *maker, "--profile", profile, "--log", *log, *own
        )
        console.print(f"next: {following}")
