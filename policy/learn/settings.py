"""How a policy is trained: what all algorithms share, and what each has of its own."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from tyro.constructors import PrimitiveConstructorSpec

from holdfast.contract import Contract
from holdfast.errors import TrainingError
from holdfast.safety_monitor.costs import Bill
from holdfast.sim.batch.physics import PhysicsName
from holdfast.sim.batch.randomise import Randomisation, load_randomisation
from holdfast.sim.registry import FOREIGN, own_contract, trained_on

AlgorithmName = Literal[
    "cpo",
    "trpo",
    "trpo-vine",
    "ppo",
    "ppo-kl",
    "pdo",
    "ppo-lagrangian",
    "trpo-penalty",
    "ppo-penalty",
    "off-policy",
]
Preset = Literal["holdfast", "paper"]
Weighting = Literal["trajectory", "per-decision", "surrogate"]
Wide = Literal["refuse", "clip"]

OWN: Mapping[str, tuple[AlgorithmName, ...]] = {
    "step": ("cpo", "trpo", "trpo-vine", "pdo", "trpo-penalty"),
    "cpo": ("cpo",),
    "vine": ("trpo-vine",),
    "ppo": ("ppo", "ppo-kl", "ppo-lagrangian", "ppo-penalty"),
    "multiplier": ("pdo", "ppo-lagrangian"),
    "penalty": ("trpo-penalty", "ppo-penalty"),
    "off_policy": ("off-policy",),
}
"""Which algorithms read which group of settings; what is not listed, all of them read."""

RANDOMISATION_FILE = PrimitiveConstructorSpec[Randomisation | None](
    nargs=1,
    metavar="FILE",
    instance_from_str=lambda text: load_randomisation(Path(text[0])),
    is_instance=lambda value: value is None or isinstance(value, Randomisation),
    str_from_instance=lambda value: [str(value)],
)
"""On the command line a file; in settings what was in it, so that the file may change or go."""

MEETS_LIMIT: tuple[AlgorithmName, ...] = ("cpo", "pdo", "ppo-lagrangian")
"""Algorithms that know the limit and aim to meet it."""


def _one_of(kind: Any, settings: object, name: str) -> None:
    if getattr(settings, name) not in get_args(kind):
        raise TrainingError(
            f"{name} should be one of {', '.join(get_args(kind))}, "
            f"received '{getattr(settings, name)}'"
        )


def _at_least(least: float, settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not value >= least:  # NaN too
            raise TrainingError(f"{name} should be at least {least:g}, received {value}")


def _above_zero(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not value > 0.0:
            raise TrainingError(f"{name} should be above 0, received {value}")


def _share(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not 0.0 <= value <= 1.0:
            raise TrainingError(f"{name} should be in [0, 1], received {value}")


@dataclass(frozen=True)
class StepSettings:
    """How one step in a trust region is taken (cpo, trpo, trpo-vine, pdo, trpo-penalty).

    Attributes:
        delta: trust region, mean KL(old ‖ new) in nats, summed over action dimensions.
        damping: added to the Fisher matrix's diagonal.
        cg_iterations: conjugate-gradient iterations, at most.
        fisher_rows: samples that Fisher products are taken on, at most.
        backtrack: each try of the line search is this times the one before.
        backtracks: tries, at most.
    """

    delta: float = 0.02
    damping: float = 0.1
    cg_iterations: int = 10
    fisher_rows: int = 4000
    backtrack: float = 0.8
    backtracks: int = 12

    def __post_init__(self) -> None:
        _above_zero(self, "delta", "backtrack")
        _at_least(0, self, "damping")
        _at_least(1, self, "cg_iterations", "fisher_rows", "backtracks")


@dataclass(frozen=True)
class CPOSettings:
    """What CPO does beyond the paper (cpo). 0 and 0 is the paper's own rule.

    Attributes:
        slack: of the line search's cost check, as a share of the limit d. The paper's exact
            check may make steps at the boundary shrink or fail.
        correction: rate of the running mean of (realised − predicted) cost change that is
            added to the excess J_C − d.
    """

    slack: float = 0.1
    correction: float = 0.1

    def __post_init__(self) -> None:
        _at_least(0, self, "slack")
        _share(self, "correction")


@dataclass(frozen=True)
class VineSettings:
    """Where and how TRPO's vine branches (trpo-vine).

    Attributes:
        states: N, drawn from a batch's steps, that branches start from.
        branches: K, actions sampled at each of them.
        branch_steps: of each branch, at most; the critic says what follows. 0: to the episode's
            end.
    """

    states: int = 200
    branches: int = 4
    branch_steps: int = 25

    def __post_init__(self) -> None:
        _at_least(1, self, "states")
        _at_least(2, self, "branches")
        _at_least(0, self, "branch_steps")


@dataclass(frozen=True)
class PPOSettings:
    """How PPO updates (ppo, ppo-kl, ppo-lagrangian, ppo-penalty).

    Attributes:
        clip: ε, of the importance ratio (ppo, ppo-lagrangian, ppo-penalty).
        kl_limit: mean KL(old ‖ new) in nats: ppo-kl's constraint; where clipped, the epochs end
            when it is passed.
        kl_rate: α of ppo-kl's dual ascent, λ ← (λ + α (KL/kl_limit − 1))₊.
        epochs: passes over a batch, at most.
        policy_minibatch: samples per Adam step on the policy.
        policy_rate: Adam's learning rate.
    """

    clip: float = 0.2
    kl_limit: float = 0.03
    kl_rate: float = 0.5
    epochs: int = 10
    policy_minibatch: int = 1000
    policy_rate: float = 1e-3

    def __post_init__(self) -> None:
        _above_zero(self, "clip", "kl_limit", "policy_rate")
        _at_least(0, self, "kl_rate")
        _at_least(1, self, "epochs", "policy_minibatch")


@dataclass(frozen=True)
class MultiplierSettings:
    """How the multiplier of each limit follows its excess (pdo, ppo-lagrangian).

    Gains are without units: for an excess as large as the limit itself, they say what the
    multiplier becomes, where at 1 a cost of d weighs as much as one standard deviation of the
    reward's advantage. Proportional and derivative gains of 0 leave plain dual ascent.

    Attributes:
        kp: gain on the excess.
        ki: gain on its sum over iterations.
        kd: gain on its rise from one iteration to the next.
    """

    kp: float = 0.1
    ki: float = 0.02
    kd: float = 0.1

    def __post_init__(self) -> None:
        _at_least(0, self, "kp", "ki", "kd")


@dataclass(frozen=True)
class OffPolicySettings:
    """How a policy learns from what another did (off-policy).

    Attributes:
        behaviour: checkpoint of the policy that acts; training starts from it. None: the policy's
            own of up to `refresh` iterations before.
        refresh: iterations between the copies that then act.
        weights: the product of an episode's importance ratios, of those up to each reward, or
            each step's ratio alone.
        wide: what happens to a batch whose weights are too wide: it is refused, or one step is
            taken with clipped weights.
        min_share: least effective sample size, (Σw)²/Σw², as a share of the sample size: of
            episodes (trajectory), or of steps.
        max_weight: what weights are clipped to (clip).
        gradient_steps: per batch, at most; they end when the weights become too wide.
        gradient_rate: Adam's learning rate.
    """

    behaviour: str = ""
    refresh: int = 3
    weights: Weighting = "per-decision"
    wide: Wide = "refuse"
    min_share: float = 0.3
    max_weight: float = 10.0
    gradient_steps: int = 10
    gradient_rate: float = 3e-3

    def __post_init__(self) -> None:
        _one_of(Weighting, self, "weights")
        _one_of(Wide, self, "wide")
        _at_least(1, self, "refresh", "gradient_steps")
        _above_zero(self, "max_weight", "gradient_rate")
        _share(self, "min_share")


@dataclass(frozen=True)
class ShapingSettings:
    """Cost shaping: α · P(a cost in the next T steps) is added to what the limit is held to.

    What is reported and exported stays the true cost.

    Attributes:
        horizon: T, steps; 0 is no shaping.
        shaping: α, the predictor's weight, in cost units.
        predictor_steps: the predictor's fitting steps per iteration.
        predictor_hidden: its hidden units.
    """

    horizon: int = 0
    shaping: float = 1.0
    predictor_steps: int = 25
    predictor_hidden: int = 32

    def __post_init__(self) -> None:
        _at_least(0, self, "horizon", "shaping")
        _at_least(1, self, "predictor_steps", "predictor_hidden")


@dataclass(frozen=True)
class TrainSettings:
    """How a policy is trained.

    Attributes:
        task: task id.
        algorithm: cpo, pdo and ppo-lagrangian aim to meet the limit; trpo, trpo-vine, ppo, ppo-kl
            and off-policy ignore it; with a penalty, the reward is less by a fixed price of the
            cost.
        preset: where the other defaults come from: Holdfast's own, or the CPO paper's.
        seed: of start states, actions and weights.
        iterations: policy updates.
        batch: simulated steps per iteration, at least; in whole episodes.
        episodes: that each simulated copy runs per iteration; there are as many copies as a
            batch then takes.
        shards: equal parts of the copies, each with seeds of its own, that can be run apart
            from the others (see --ray); 0 is one batch, which is faster on one machine.
        limit: d, expected cost per episode, for each cost in the contract's order. Default: the
            task's own.
        randomise: YAML file of what each simulated robot has of its own, drawn at each episode's
            start: mass, friction, gains, delay, noise, bias. Default: nothing.
        physics: mujoco, on this machine's cores; or warp, MuJoCo Warp on its GPU, for thousands of
            copies. What is measured of a policy afterwards is always MuJoCo's.
        hidden: units per hidden layer, of policy and critics.
        initial_std: of actions, where 1 is half of the range.
        gamma: discount of the reward.
        lam: GAE λ of the reward.
        cost_gamma: discount of every cost. Default: the task's own for each.
        cost_lam: GAE λ of every cost. Default: the task's own for each.
        critic_steps: Adam steps per iteration on the critics.
        critic_minibatch: samples per such step.
        critic_rate: Adam's learning rate.
        penalty: price of each cost in units of reward, in the contract's order (trpo-penalty,
            ppo-penalty).
        step: a step in a trust region.
        cpo: what CPO does beyond the paper.
        vine: TRPO's branches.
        ppo: PPO's update.
        multiplier: of the limits.
        off_policy: learning from what another policy did.
        shaping: of the costs.
    """

    task: str = "holdfast/DriveCircle-v0"
    algorithm: AlgorithmName = "cpo"
    preset: Preset = "holdfast"
    seed: int = 0
    iterations: int = 70
    batch: int = 20_000
    episodes: int = 1
    shards: int = 0
    limit: tuple[float, ...] = ()
    randomise: Annotated[Randomisation | None, RANDOMISATION_FILE] = None
    physics: PhysicsName = "mujoco"
    hidden: tuple[int, ...] = (64, 64)
    initial_std: float = 1.0
    gamma: float = 0.99
    lam: float = 0.95
    cost_gamma: float | None = None
    cost_lam: float | None = None
    critic_steps: int = 160
    critic_minibatch: int = 256
    critic_rate: float = 1e-3
    penalty: tuple[float, ...] = ()
    step: StepSettings = field(default_factory=StepSettings)
    cpo: CPOSettings = field(default_factory=CPOSettings)
    vine: VineSettings = field(default_factory=VineSettings)
    ppo: PPOSettings = field(default_factory=PPOSettings)
    multiplier: MultiplierSettings = field(default_factory=MultiplierSettings)
    off_policy: OffPolicySettings = field(default_factory=OffPolicySettings)
    shaping: ShapingSettings = field(default_factory=ShapingSettings)

    def __post_init__(self) -> None:
        _one_of(AlgorithmName, self, "algorithm")
        _one_of(Preset, self, "preset")
        _one_of(PhysicsName, self, "physics")
        _at_least(0, self, "seed", "shards")
        if self.shards and self.physics == "warp":
            raise TrainingError(
                "physics warp runs one batch on a GPU, and shards are for cores; "
                "leave --physics or --ray and --shards out"
            )
        _at_least(1, self, "iterations", "episodes", "critic_steps", "critic_minibatch")
        _above_zero(self, "initial_std", "critic_rate")
        _share(self, "gamma", "lam")
        if not all(units >= 1 for units in self.hidden):
            raise TrainingError(f"hidden should list units of at least 1, received {self.hidden}")
        for name in ("limit", "penalty"):
            if not all(value >= 0.0 for value in getattr(self, name)):
                raise TrainingError(f"{name} should be at least 0, received {getattr(self, name)}")

    def copies(self, contract: Contract) -> int:
        """Return how many simulated copies a batch takes, as many in each shard.

        Raises:
            TrainingError: the batch is smaller than an episode.
        """
        steps = contract.episode_steps * self.episodes
        if self.batch < contract.episode_steps:
            raise TrainingError(
                f"batch should be at least an episode of {contract.task}, "
                f"{contract.episode_steps} steps, received {self.batch}"
            )
        shards = max(self.shards, 1)
        return -(-self.batch // (steps * shards)) * shards

    def check_own(self) -> None:
        """Raise TrainingError where a setting was changed that the algorithm does not read."""
        default = defaults(self.preset, self.task)
        for name, readers in OWN.items():
            held, usual = getattr(self, name), getattr(default, name)
            if self.algorithm in readers or held == usual:
                continue
            changed = name
            if dataclasses.is_dataclass(held):
                fields = (f.name for f in dataclasses.fields(held))
                changed = next(f for f in fields if getattr(held, f) != getattr(usual, f))
            raise TrainingError(
                f"{changed} is for {', '.join(readers)}; {self.algorithm} does not read it"
            )


def settings_from(data: Mapping[str, Any], task: str = "") -> TrainSettings:
    """Return settings from what `dataclasses.asdict` made of them and JSON carried.

    Args:
        task: the task as a person gave it, "" if none was given; see `trained_on`.

    Raises:
        ConfigError, TrainingError: they are no such settings, or of a task that must be given.
    """
    try:
        return _settings_from({**data, "task": trained_on(data["task"], task)})
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TrainingError(
            f"its settings are not as holdfast train writes them ({error})"
        ) from None


def _settings_from(data: Mapping[str, Any]) -> TrainSettings:
    groups = {
        "step": StepSettings,
        "cpo": CPOSettings,
        "vine": VineSettings,
        "ppo": PPOSettings,
        "multiplier": MultiplierSettings,
        "off_policy": OffPolicySettings,
        "shaping": ShapingSettings,
    }
    made: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in data.items()}
    made |= {name: cls(**data[name]) for name, cls in groups.items()}
    if data["randomise"] is not None:
        made["randomise"] = Randomisation(**data["randomise"])
    return TrainSettings(**made)


def defaults(preset: Preset, task: str) -> TrainSettings:
    """Return the settings that a preset has for a task.

    Raises:
        ConfigError, TrainingError: there is no such task.
    """
    if preset != "paper":
        return TrainSettings(task=task, preset=preset)
    contract = own_contract(task)
    ant, gather = contract.robot == "ant", contract.task.endswith("AntGather-v0")
    legged = contract.robot in ("ant", "humanoid")
    return TrainSettings(
        task=task,
        preset="paper",
        iterations=100,
        batch=100_000 if ant else 50_000,
        hidden=(64, 32),
        gamma=0.995,
        lam=0.95,
        cost_gamma=0.995,
        cost_lam=0.5 if legged else 1.0,
        step=StepSettings(delta=0.01),
        cpo=CPOSettings(slack=0.0, correction=0.0),
        shaping=ShapingSettings(
            horizon=20 if legged else 5,
            shaping=0.01 if gather else 1.0,
            predictor_steps=10 if gather else 25,
        ),
    )


def contract_of(settings: TrainSettings) -> Contract:
    """Return the task's contract with the settings' limits, discounts and λ in it.

    Raises:
        ConfigError, TrainingError: there is no such task, it has another number of costs, or
            nobody says its limits.
    """
    contract = own_contract(settings.task)
    names = [cost.name for cost in contract.costs]
    for name in ("limit", "penalty"):
        count = len(getattr(settings, name))
        if count not in (0, len(names)):
            raise TrainingError(
                f"{name} should have a value for each cost of {contract.task}, "
                f"{', '.join(names)}; received {count}"
            )
    nobody_says = settings.task.startswith(FOREIGN) and not settings.limit
    if nobody_says and settings.algorithm in MEETS_LIMIT:
        raise TrainingError(f"{settings.task}: has no limit of its own; give one with --limit")
    costs = list(contract.costs)
    for i, cost in enumerate(costs):
        changes: dict[str, Any] = {"gamma": settings.cost_gamma, "lam": settings.cost_lam}
        if settings.limit:
            # The hard stop keeps its distance from the limit, but one step must be affordable.
            limit = settings.limit[i]
            changes["limit"] = limit
            budget = limit * cost.run_budget / cost.limit if cost.limit else cost.run_budget
            dearest = Bill(contract).largest[i]
            affordable = dearest if math.isfinite(dearest) else 0.0
            changes["run_budget"] = max(budget, limit, affordable)
        costs[i] = dataclasses.replace(
            cost, **{name: value for name, value in changes.items() if value is not None}
        )
    return dataclasses.replace(contract, costs=tuple(costs))


def require_same(settings: TrainSettings, contract: Contract) -> None:
    """Raise TrainingError unless a task has the contract that a policy was trained under."""
    now, then = (json.loads(c.to_json()) for c in (contract_of(settings), contract))
    if changed := [name for name in then if now[name] != then[name]]:
        raise TrainingError(
            f"{settings.task}: its contract is not the one that the policy was trained under; "
            f"what differs is {', '.join(changed)}"
        )
