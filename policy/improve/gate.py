"""`holdfast gate`: says whether logs speak against trying a child policy on the robot.

Off-policy estimates are biased where a child differs much from the policies that made the logs, so
they may only veto. A child is promoted after its own trial (docs/guides/PROMOTE.md). Each check
below gives reasons; the worst answer among all reasons is the gate's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from holdfast import files, plain
from holdfast.bundle import reader as bundles
from holdfast.bundle.reader import Bundle
from holdfast.errors import BundleError, TrainingError
from holdfast.policy.improve.experience import Experience, Trajectory, read
from holdfast.policy.improve.finetune import CostEstimate, Finetuner, FinetuneSettings, opened
from holdfast.policy.improve.reach import divergence, effective_share
from holdfast.policy.learn.settings import TaskOption
from holdfast.policy.models.networks import Networks
from holdfast.policy.ship.evaluate import evaluate
from holdfast.safety_monitor.familiarity import Drift, Familiarity
from holdfast.schema import NOT_NEGATIVE, POSITIVE, PROPER_SHARE, SEED, SHARE, Range, check
from holdfast.signals import Array
from holdfast.sim.parameters import catalogue
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.parameters.robots import require_fit

EPISODES = 100
"""Episodes of the child in the identified simulator."""


FAR = 10.0
"""KL, nats per step, above which the logs tell nothing of a child: what it does is not in them."""

_HARDLY = "the child would hardly ever take the logged actions"


class Answer(IntEnum):
    """What the gate says, the worst last."""

    CANARY = 0
    NOT_ENOUGH = 1
    REJECT = 2

    def __str__(self) -> str:
        return ("try as canary", "not enough evidence", "reject")[self]


@dataclass(frozen=True)
class GateSettings:
    """Settings of the gate.

    Attributes:
        max_kl: largest KL(behaviour ‖ child), nats per step, at which the logs tell of the child.
        min_share: least effective sample size, (Σρ)²/Σρ², as a share of the steps.
        min_episodes: least number of episodes.
        max_unfamiliar: largest share of episodes in which the child's familiarity would slow the
            robot.
        bound: standard errors between an estimated cost and the limit d.
        seed: seed of the critics' minibatches.
    """

    max_kl: Annotated[float, POSITIVE] = 0.15
    min_share: Annotated[float, PROPER_SHARE] = 0.3
    min_episodes: Annotated[int, Range(2)] = 10
    max_unfamiliar: Annotated[float, SHARE] = 0.2
    bound: Annotated[float, NOT_NEGATIVE] = 1.645
    seed: Annotated[int, SEED] = 0

    def __post_init__(self) -> None:
        check(self, TrainingError)


class About(Enum):
    """What a reason is about: the child, how far the logs reach, or the child in a simulator."""

    CHILD = "child"
    REACH = "reach"
    SIMULATOR = "simulator"


@dataclass(frozen=True)
class Reason:
    """One reason: what was looked at, what was found, and what that says."""

    what: str
    found: str
    wanted: str
    answer: Answer
    about: About = About.CHILD


@dataclass(frozen=True)
class Case:
    """What the checks look at.

    Attributes:
        names, limit: the costs' names, and their limits d (costs,).
        log_ratio: (steps,), ln ρ of the importance weights of the logged actions that are not
            masked.
        cost: the child's estimated costs.
        observations: of each episode, (K + 1, n).
        familiarity: the child's, or None.
        simulated: (episodes, costs), the child's cost returns in the identified simulator, in
            robots drawn about the profile; None without a profile.
    """

    settings: GateSettings
    names: tuple[str, ...]
    limit: Array
    log_ratio: Array
    cost: CostEstimate
    observations: tuple[Array, ...]
    familiarity: Familiarity | None
    simulated: Array | None = None

    @property
    def kl(self) -> float:
        """KL(behaviour ‖ child) over the logged actions."""
        return divergence(self.log_ratio)

    @property
    def share(self) -> float:
        """Effective sample size, as a share of the steps."""
        return effective_share(self.log_ratio)

    @property
    def near(self) -> bool:
        """Whether the child is so near to the behaviour policy that the logs tell of it."""
        return self.kl <= self.settings.max_kl and self.share >= self.settings.min_share


def distance(case: Case) -> Iterator[Reason]:
    """How far the child is from the policies that made the logs."""
    most = case.settings.max_kl
    answer = Answer.CANARY if case.kl <= most else Answer.NOT_ENOUGH  # NaN is not enough
    found = f"{case.kl:.3f} nats" if case.kl <= FAR else f"{case.kl:.3g} nats: {_HARDLY}"
    yield Reason("KL from the behaviour policy", found, f"at most {most:g}", answer, About.REACH)


def sample_size(case: Case) -> Iterator[Reason]:
    """Effective sample size, and the number of episodes."""
    least = case.settings.min_share
    answer = Answer.CANARY if case.share >= least else Answer.NOT_ENOUGH
    found, wanted = (
        f"{case.share:.0%} of {len(case.log_ratio)} steps whose actions the policy chose",
        f"at least {least:.0%}",
    )
    yield Reason("effective sample size", found, wanted, answer, About.REACH)
    count, fewest = len(case.observations), case.settings.min_episodes
    answer = Answer.CANARY if count >= fewest else Answer.NOT_ENOUGH
    yield Reason("episodes", str(count), f"at least {fewest}", answer)


def familiar_states(case: Case) -> Iterator[Reason]:
    """In how many logged episodes the child's familiarity would slow the robot.

    A child that is far from the logged policies does not visit their states.
    """
    what, most = "episodes with unfamiliar states", case.settings.max_unfamiliar
    if case.familiarity is None:
        yield Reason(what, "the bundle has no familiarity", "one", Answer.NOT_ENOUGH)
        return
    odd = 0
    for rows in case.observations:
        drift, worst = Drift(case.familiarity, ()), 0.0
        for row in rows:
            drift.add(row)
            worst = max(worst, drift.total)
        odd += worst > case.familiarity.threshold
    share = odd / len(case.observations)
    answer = Answer.CANARY if share <= most else Answer.NOT_ENOUGH
    about = About.CHILD if case.near else About.REACH
    yield Reason(what, f"{share:.0%}", f"at most {most:.0%}", answer, about)


def _bounded(mean: float, arm: float, limit: float) -> Answer:
    """Return what a mean cost, known to within ±arm, says; NaN is not enough."""
    if mean - arm > limit:
        return Answer.REJECT
    return Answer.CANARY if mean + arm <= limit else Answer.NOT_ENOUGH


def costs(case: Case) -> Iterator[Reason]:
    """The child's cost returns, estimated by critics that were fitted on the logs.

    The estimate of a child that is far from the logged policies is wrong in either direction, so it
    does not reject.
    """
    bound = case.settings.bound
    rows = zip(case.names, case.limit, case.cost.mean, case.cost.error, strict=True)
    for name, limit, mean, error in rows:
        answer = _bounded(mean, bound * error, limit)
        if answer is Answer.REJECT and not case.near:
            answer = Answer.NOT_ENOUGH
        yield Reason(
            f"estimated cost {name}",
            f"{mean:.3g} ± {error:.2g}",
            f"mean + {bound:g} standard errors at most d {limit:g}",
            answer,
            About.CHILD if case.near else About.REACH,
        )


def simulated_costs(case: Case) -> Iterator[Reason]:
    """The child's cost returns in the identified simulator, over the profile's spread."""
    if case.simulated is None:
        return
    bound, count = case.settings.bound, len(case.simulated)
    for name, limit, values in zip(case.names, case.limit, case.simulated.T, strict=True):
        mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(count)
        answer = _bounded(mean, bound * error, limit)
        yield Reason(
            f"cost {name} in the identified simulator",
            f"{mean:.3g} ± {error:.2g}",
            f"mean + {bound:g} standard errors at most d {limit:g}",
            answer,
            About.SIMULATOR,
        )


CHECKS: tuple[Callable[[Case], Iterator[Reason]], ...] = (
    distance,
    sample_size,
    familiar_states,
    costs,
    simulated_costs,
)
"""Each looks at a case and gives its reasons. A further check is a function, and its name here."""


def gate(
    networks: Networks,
    familiarity: Familiarity | None,
    trajectories: Sequence[Trajectory],
    settings: GateSettings,
    gamma: float,
    lam: float,
    simulated: Array | None = None,
) -> list[Reason]:
    """Return the reasons for and against trying a child.

    Args:
        networks: the child's policy and critics; the critics are fitted to the logs in place.
        familiarity: the child's, or None.
        trajectories: the logged episodes.
        gamma, lam: discount and GAE λ of the reward, as in training.
        simulated: see `Case`.

    Raises:
        LogError: there is nothing in the logs to learn from.
    """
    contract = networks.contract
    experience = Experience.of(trajectories, contract)
    tuner = Finetuner(networks, experience, FinetuneSettings(seed=settings.seed), gamma, lam)
    case = Case(
        settings=settings,
        names=tuple(cost.name for cost in contract.costs),
        limit=contract.limits,
        log_ratio=tuner.log_ratio(),
        cost=tuner.cost(),
        observations=tuple(t.observation.astype(np.float64) for t in trajectories),
        familiarity=familiarity,
        simulated=simulated,
    )
    return [reason for each in CHECKS for reason in each(case)]


def answer_of(reasons: Sequence[Reason]) -> Answer:
    """Return the worst answer of all reasons that count."""
    return max(reason.answer for reason in counted(reasons))


def counted(reasons: Sequence[Reason]) -> list[Reason]:
    """Return the reasons that count: where the identified simulator tells of the child, it does not
    matter that the logs do not."""
    simulated = any(reason.about is About.SIMULATOR for reason in reasons)
    return [reason for reason in reasons if not (simulated and reason.about is About.REACH)]


def command(
    child: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHILD")],
    log: tuple[Path, ...],
    policy: tuple[Path, ...] = (),
    profile: Path | None = None,
    settings: GateSettings = GateSettings(),
    task: TaskOption = None,
    json_out: Path | None = None,
) -> int:
    """Say whether logged runs speak against trying a child policy on the robot.

    The answer is "reject", "not enough evidence" or "try as canary", with the reasons. It may only
    veto: what promotes a policy is its own trial, see `holdfast promote`. Exit status: 0 for "try
    as canary", 1 otherwise.

    Args:
        child: the bundle of the child; its training state lies beside it.
        log: runs recorded with `holdfast deploy --explore`, of policies with the child's contract.
        policy: bundles that made the logs; log-probabilities and costs of their logs are
            recomputed and compared. Those of other logs are believed.
        profile: what `holdfast identify` found. The child then also runs in the identified
            simulator, in robots drawn about the profile, and it does not count that a child which
            was trained there is far from the policies that made the logs.
        settings: bounds of the checks.
        task: a task that is no part of Holdfast, as FILE.py:NAME or gym:MODULE:ID. Code that a
            file names is not run, so such a task has to be given.
        json_out: write the answer and its reasons to this JSON file too.
    """
    if json_out is not None:
        given = (child, *log, *policy, *([] if profile is None else [profile]))
        files.require_output(json_out, (".json",), given)
    torch.set_num_threads(1)
    if child.is_dir():  # of two logs, the second one is read as CHILD where that is missing
        raise BundleError(f"CHILD should be the child's bundle, a file; {child} is a folder")
    held, networks, _, trained = opened(child, task)
    makers: list[Bundle] = [bundles.load(each) for each in policy]
    parameters = None
    if profile is not None:
        parameters = catalogue.load_profile(profile)
        require_fit(parameters, trained.task.make().robot, held.contract, str(profile))
    made = read(log, held, trained.task.make(), makers, anybody=True)
    networks = replace(networks, contract=made.contract)  # under the limits in force
    simulated = None
    if parameters is not None:
        robots = parameters.completed(trained.randomise or Parameters())
        identified = replace(trained, randomise=robots)
        simulated = evaluate(networks, identified, EPISODES, settings.seed).cost_returns
    reasons = gate(
        networks,
        held.familiarity,
        made.trajectories,
        settings,
        trained.gamma,
        trained.lam,
        simulated,
    )
    answer = answer_of(reasons)
    if json_out is not None:
        told = {
            "child": held.hash,
            "answer": str(answer),
            "reasons": [
                {**vars(reason), "answer": str(reason.answer), "about": reason.about.value}
                for reason in reasons
            ],
            "logs": [dict(entry) for entry in made.logs],
        }
        files.write(json_out, json.dumps(told, indent=1) + "\n")
    table = Table(title=f"{child}: {answer}", title_justify="left")
    for heading in ("looked at", "found (± standard error)", "should be", "answer"):
        table.add_column(heading, overflow="fold")
    counts = counted(reasons)
    for reason in reasons:
        said = str(reason.answer) if reason in counts else f"({reason.answer})"
        table.add_row(reason.what, reason.found, reason.wanted, said)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(table)
    if len(counts) < len(reasons):
        console.print(
            "An answer in parentheses does not count: the child was trained far from the logs, and "
            "the identified simulator tells of it."
        )
    if answer is Answer.CANARY:
        trial = plain.command_line(
            "holdfast", "promote", child, "--config", "ROBOT.yaml", "--canary"
        )
        console.print(f"next: on the robot, {trial}")
    elif answer is Answer.NOT_ENOUGH:
        console.print(
            "next: record more with holdfast deploy --explore, or give --profile, so that the "
            "identified simulator tells of the child; a trial, holdfast promote --canary, decides "
            "whatever the logs tell"
        )
    return int(answer is not Answer.CANARY)
