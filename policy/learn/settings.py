"""Settings of training: common settings, and the chosen algorithm's own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from holdfast import plain
from holdfast.bundle.limit_range import covers, limits_of, ranged, with_limit
from holdfast.contract import Contract, Cost, ObservationChannel
from holdfast.errors import ContractError, HoldfastError, TrainingError
from holdfast.policy.algorithms import ALGORITHMS
from holdfast.policy.algorithms.algorithm import OwnSettings
from holdfast.policy.learn.knots import WIDEST
from holdfast.policy.learn.pessimism import ALTERNATIVES, LARGEST
from holdfast.policy.learn.shaping import ShapingSettings
from holdfast.schema import (
    ASCENDING,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    SHARE,
    Range,
    check,
    later,
    read,
    to_plain,
)
from holdfast.signals import BUDGET_LEFT
from holdfast.sim.batch.physics import PhysicsName
from holdfast.sim.file_task_spec import moved
from holdfast.sim.parameters import catalogue
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.registry import is_program, registered, resolve, trained_on
from holdfast.sim.task_spec import TaskSpec

WIDEST_LAYER = 4096
"""Most units of a layer: no bundle holds a wider row (policy/adopt/rows.py)."""

if TYPE_CHECKING:
    AlgorithmName = str
else:
    AlgorithmName = Literal[tuple(ALGORITHMS)]
Preset = Literal["holdfast", "paper"]

RANDOMISATION_FILE = PrimitiveConstructorSpec[Parameters | None](
    nargs=1,
    metavar="FILE",
    instance_from_str=lambda text: catalogue.load(Path(text[0])),
    is_instance=lambda value: value is None or isinstance(value, Parameters),
    str_from_instance=lambda value: [str(value)],
)
"""On the command line a file; in settings the file's content, so that the file may change or go."""

TASK_ID = PrimitiveConstructorSpec[TaskSpec | None](
    nargs=1,
    metavar="TASK",
    instance_from_str=lambda text: resolve(text[0]),
    is_instance=lambda value: value is None or isinstance(value, TaskSpec),
    str_from_instance=lambda value: [str(value)],
)
"""On the command line an id; in settings the task, resolved once."""

TASK_FLAGS = tyro.conf.arg(aliases=("--task-file",))
"""The option of a task where the task may be a file that moved: --task or --task-file."""

TaskOption = Annotated[TaskSpec | None, TASK_ID, TASK_FLAGS]
"""An option --task, or --task-file, that may be left out."""


LimitRange = Annotated[tuple[Annotated[float, POSITIVE], Annotated[float, POSITIVE]], ASCENDING]


@dataclass(frozen=True)
class TrainSettings:
    """Settings of training.

    Attributes:
        task: a task by its id, FILE.py:NAME or gym:MODULE:ID. A file's only task class needs no
            NAME.
        algorithm: cpo, pcpo, focops, pdo and ppo-lagrangian aim to meet the limit. trpo,
            trpo-vine, ppo, ppo-kl and off-policy ignore the limit. trpo-penalty and ppo-penalty
            subtract the cost times a fixed price from the reward.
        preset: source of the other defaults: holdfast, or paper for the CPO paper's settings.
        seed: seed of start states, actions and weights.
        iterations: number of policy updates.
        batch: least number of simulated steps per iteration, rounded up to whole episodes.
        episodes: episodes that each simulated copy runs per iteration. The batch size determines
            the number of copies.
        shards: number of equal parts of the copies, which have seeds of their own and can run on
            different machines (see --ray). 0: one batch, which is faster on one machine.
        limit: d, expected cost per episode, for each cost in the contract's order. Default: the
            task's own.
        limit_range: lowest and highest limit, for each cost in the contract's order. The policy
            observes the cost that it may still have, and is trained for all limits of the range,
            one of which `deploy --limit` puts in force. Default: the one limit d.
        randomise: YAML file with ranges of mass, friction, gains, delay, noise and bias, which
            each simulated robot draws at an episode's start. Default: no randomisation.
        pessimism: factor on the disagreement of randomised robots about the next state, which is
            added to the cost that the limit bounds, as a share of the limit. The policy keeps away
            from what the ranges of --randomise leave open, so that it keeps its limit on a robot
            that nobody has measured. 0: none. Reports and bundles contain the cost without it.
        physics: mujoco: MuJoCo on this machine's cores. warp: MuJoCo Warp on its GPU, for
            thousands of copies. Policies are always evaluated in MuJoCo.
        hidden: units per hidden layer of the policy and of the critics.
        initial_std: initial standard deviation of actions, in units of half the action range.
        gamma: discount of the reward.
        lam: GAE λ of the reward.
        cost_gamma: discount of all costs. Default: each cost's own, from the task.
        cost_lam: GAE λ of all costs. Default: each cost's own, from the task.
        critic_steps: Adam steps per iteration on the critics.
        critic_minibatch: samples per Adam step on the critics.
        critic_rate: Adam's learning rate for the critics.
        shaping: options of cost shaping, which adds the predicted probability of a coming cost to
            the cost that the limit bounds.
        own: options of the chosen algorithm.
    """

    task: Annotated[TaskSpec, TASK_ID, TASK_FLAGS] = field(
        default_factory=lambda: registered("holdfast/DriveCircle-v0")
    )
    algorithm: AlgorithmName = "cpo"
    preset: Preset = "holdfast"
    seed: Annotated[int, SEED] = 0
    iterations: Annotated[int, Range(1)] = 70
    batch: int = 20_000
    episodes: Annotated[int, Range(1)] = 1
    shards: Annotated[int, Range(0)] = 0
    limit: tuple[Annotated[float, NOT_NEGATIVE], ...] = ()
    limit_range: tuple[LimitRange, ...] = later(())
    randomise: Annotated[Parameters | None, RANDOMISATION_FILE] = None
    pessimism: Annotated[float, Range(0.0, LARGEST)] = later(0.0)
    physics: PhysicsName = "mujoco"
    hidden: tuple[Annotated[int, Range(1, WIDEST_LAYER)], ...] = (64, 64)
    initial_std: Annotated[float, POSITIVE] = 1.0
    gamma: Annotated[float, SHARE] = 0.99
    lam: Annotated[float, SHARE] = 0.95
    cost_gamma: Annotated[float, SHARE] | None = None
    cost_lam: Annotated[float, SHARE] | None = None
    critic_steps: Annotated[int, Range(1)] = 160
    critic_minibatch: Annotated[int, Range(1)] = 256
    critic_rate: Annotated[float, POSITIVE] = 1e-3
    shaping: ShapingSettings = field(default_factory=ShapingSettings)
    own: OwnSettings = field(default_factory=OwnSettings)

    def __post_init__(self) -> None:
        check(self, TrainingError)
        if self.shards and self.physics == "warp":
            raise TrainingError(
                "physics warp runs one batch on a GPU, and shards are for cores; "
                "leave --physics or --ray and --shards out"
            )
        kind = ALGORITHMS[self.algorithm].Settings
        if type(self.own) is OwnSettings:
            object.__setattr__(self, "own", kind())
        elif type(self.own) is not kind:
            raise TrainingError(
                f"own should be {kind.__name__} for {self.algorithm}, "
                f"received {type(self.own).__name__}"
            )

    @property
    def alternatives(self) -> int:
        """Number of other robots in which each step of a copy is simulated too."""
        return ALTERNATIVES if self.pessimism else 0

    def to_data(self) -> dict[str, Any]:
        """Return the settings as JSON data, the task as its id; `settings_from` reads them."""
        return {**to_plain(self), "task": self.task.id}

    def copies(self, contract: Contract) -> int:
        """Return the number of simulated copies of a batch, a multiple of the shards.

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


def placed(data: Mapping[str, Any], start: Path, to: Path) -> dict[str, Any]:
    """Return a checkpoint's data for another folder: its task's file by the path from there."""
    settings = data["settings"]
    task = settings.get("task")
    if not isinstance(task, str):  # `settings_from` says what is wrong
        return dict(data)
    return {**data, "settings": {**settings, "task": moved(task, start, to)}}


def under_limits(data: Mapping[str, Any], contract: Contract) -> dict[str, Any]:
    """Return a checkpoint's data whose policy is one for a contract's limits alone.

    Args:
        contract: the checkpoint's, under limits of its ranges; without ranges nothing changes.
    """
    if not limits_of(contract):
        return dict(data)
    limits = contract.limits.tolist()
    ranges = [[limit, limit] for limit in limits]
    settings = {**data["settings"], "limit": limits, "limit_range": ranges}
    return {**data, "settings": settings, "contract": contract.to_json()}


def settings_of(path: Path, data: Mapping[str, Any], task: TaskSpec | None = None) -> TrainSettings:
    """Return the settings of a checkpoint that was read from `path`; see `settings_from`.

    A task's file is named in errors by its path from the working directory.
    """
    try:
        return settings_from(placed(data, path.parent, Path())["settings"], task)
    except HoldfastError as error:
        raise TrainingError(f"checkpoint {path}: {error}") from None


def settings_from(data: Mapping[str, Any], task: TaskSpec | None = None) -> TrainSettings:
    """Return the settings that `TrainSettings.to_data` wrote and JSON carried.

    Args:
        task: the task that a person named; see `trained_on`.

    Raises:
        ConfigError, TrainingError: the data are no settings; or the task has to be given; or an
            off-policy run of an earlier version, whose settings cannot be converted.
    """
    try:
        data = data if "own" in data else _converted(data)
        if not isinstance(data["task"], str):
            said = f"should be text, received {plain.shown(repr(data['task']))}"
            raise TrainingError(f"settings.task {said}")
        known = {**data, "own": {}, "task": trained_on(data["task"], task)}
    except (KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"its settings are not as holdfast train writes them ({error})"
        ) from None
    settings = read(TrainSettings, known, "settings", TrainingError, complete=True)
    kind = ALGORITHMS[settings.algorithm].Settings
    own = read(kind, data["own"], "settings.own", TrainingError, complete=True)
    return dataclasses.replace(settings, own=own)


GROUPS_OF_FORMAT_2 = ("step", "cpo", "vine", "ppo", "multiplier", "penalty", "off_policy")
"""Groups of settings in checkpoints of format 2, which held the settings of all algorithms."""


def _converted(data: Mapping[str, Any]) -> dict[str, Any]:
    """Convert settings of checkpoint format 2 to the present format."""
    algorithm = data["algorithm"]
    if algorithm == "off-policy":
        raise TrainingError("an off-policy run of checkpoint format 2 cannot be used; train anew")
    known = {name: value for name, value in data.items() if name not in GROUPS_OF_FORMAT_2}
    known.setdefault("physics", "mujoco")  # there was no choice at first
    flat = {name: data[name] for name in ("step", "multiplier", "penalty")}
    flat |= data["cpo"] | data["vine"] | data["ppo"]
    names = (field.name for field in dataclasses.fields(ALGORITHMS[algorithm].Settings))
    return {**known, "own": {name: flat[name] for name in names}}


INITIAL_STD = {"ant": 0.3, "humanoid": 0.2}
"""Initial standard deviations of robots that larger ones throw over (docs/measured/RESULTS.md)."""


def defaults(preset: Preset, task: TaskSpec, algorithm: AlgorithmName = "cpo") -> TrainSettings:
    """Return a preset's settings for a task and an algorithm.

    Raises:
        ConfigError, TrainingError: see `TaskSpec`.
    """
    if preset != "paper":
        # A person's own task would run here once more, only to say that its robot is not ours.
        std = 1.0 if is_program(task.id) else INITIAL_STD.get(task.contract.robot, 1.0)
        return TrainSettings(task=task, preset=preset, algorithm=algorithm, initial_std=std)
    contract = task.contract
    ant, gather = contract.robot == "ant", contract.task.endswith("AntGather-v0")
    legged = contract.robot in ("ant", "humanoid")
    # The authors' experiment CPO_point_gather.py has no failure predictor.
    shaping = ShapingSettings(
        horizon=20 if legged else 5,
        shaping=0.01 if gather else 1.0,
        predictor_steps=10 if gather else 25,
    )
    if contract.task.endswith("PointGather-v0"):
        shaping = ShapingSettings()
    return TrainSettings(
        task=task,
        preset="paper",
        algorithm=algorithm,
        iterations=100,
        batch=100_000 if ant else 50_000,
        hidden=(64, 32),
        gamma=0.995,
        lam=0.95,
        cost_gamma=0.995,
        cost_lam=0.5 if legged else 1.0,
        own=ALGORITHMS[algorithm].Settings.paper(),
        shaping=shaping,
    )


def contract_of(settings: TrainSettings) -> Contract:
    """Return the task's contract with the settings' limits, discounts and λ.

    Raises:
        ConfigError, TrainingError: the number of limits is not the number of costs, or no limit
            is given for a task without limits of its own; see also `TaskSpec`.
    """
    contract = settings.task.contract
    names = [cost.name for cost in contract.costs]
    for option, given, what in (
        ("limit", settings.limit, "a value"),
        ("limit-range", settings.limit_range, "two values"),
    ):
        if len(given) not in (0, len(names)):
            raise TrainingError(
                f"{option} should have {what} for each cost of {contract.task}, "
                f"{', '.join(names)}; received {len(given)}"
            )
    algorithm = ALGORITHMS[settings.algorithm]
    if settings.limit_range and not algorithm.meets_limit:
        raise TrainingError(f"{settings.algorithm} ignores limits; leave --limit-range out")
    for low, high in settings.limit_range:
        if high / WIDEST > low:
            raise TrainingError(
                f"limit-range should end at most {WIDEST:g} times as high as it begins, received "
                f"{low:g} {high:g}"
            )
    if settings.pessimism and not algorithm.meets_limit:
        raise TrainingError(f"{settings.algorithm} ignores limits; leave --pessimism out")
    unlimited = not (settings.task.has_limits or settings.limit)
    if unlimited and algorithm.meets_limit:
        raise TrainingError(f"{settings.task}: has no limit of its own; give one with --limit")
    both = {"gamma": settings.cost_gamma, "lam": settings.cost_lam}
    changes: dict[str, Any] = {name: value for name, value in both.items() if value is not None}
    try:
        costs = tuple(
            dataclasses.replace(_limited(cost, i, settings), **changes)
            for i, cost in enumerate(contract.costs)
        )
        observation = contract.observation
        if settings.limit_range:
            left = ObservationChannel(BUDGET_LEFT, len(costs), "1", BUDGET_LEFT)
            observation = (*observation, left)
        limited = dataclasses.replace(contract, costs=costs, observation=observation)
    except ContractError as error:
        raise TrainingError(str(error)) from None
    if settings.pessimism and not limited.limits.all():
        raise TrainingError("pessimism adds a share of the limit; give a --limit above 0")
    return limited


def _limited(cost: Cost, i: int, settings: TrainSettings) -> Cost:
    """Return the i-th cost under the settings' limit and range."""
    if settings.limit:
        cost = with_limit(cost, settings.limit[i])
    return ranged(cost, cost.limit, settings.limit_range[i]) if settings.limit_range else cost


def require_same(settings: TrainSettings, contract: Contract) -> None:
    """Raise TrainingError unless a task has the contract that a policy was trained under.

    The contract may be under limits of its ranges.
    """
    own = contract_of(settings)
    if covers(own, contract):
        return
    now, then = (json.loads(c.to_json()) for c in (own, contract))
    if changed := [name for name in then if now[name] != then[name]]:
        raise TrainingError(
            f"{settings.task}: its contract is not the one that the policy was trained under; "
            f"what differs is {', '.join(changed)}"
        )
