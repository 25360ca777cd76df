"""Settings of training: those that all algorithms share, and those of the chosen one."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.constructors import PrimitiveConstructorSpec

from holdfast.contract import Contract
from holdfast.errors import HoldfastError, TrainingError
from holdfast.policy.algorithms import ALGORITHMS
from holdfast.policy.algorithms.algorithm import OwnSettings
from holdfast.policy.learn.shaping import ShapingSettings
from holdfast.safety_monitor.costs import CostModel
from holdfast.schema import NOT_NEGATIVE, POSITIVE, SHARE, Range, check, read
from holdfast.sim.batch.physics import PhysicsName
from holdfast.sim.batch.randomise import Randomisation, load_randomisation
from holdfast.sim.registry import own_contract, trained_on
from holdfast.sim.tasks.task_file import GYM_PREFIX

if TYPE_CHECKING:
    AlgorithmName = str
else:
    AlgorithmName = Literal[tuple(ALGORITHMS)]
Preset = Literal["holdfast", "paper"]

RANDOMISATION_FILE = PrimitiveConstructorSpec[Randomisation | None](
    nargs=1,
    metavar="FILE",
    instance_from_str=lambda text: load_randomisation(Path(text[0])),
    is_instance=lambda value: value is None or isinstance(value, Randomisation),
    str_from_instance=lambda value: [str(value)],
)
"""On the command line a file; in settings what was in it, so that the file may change or go."""


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
        shaping: cost shaping: adds the predicted probability of a coming cost to the cost that the
            limit is held to.
        own: options of the chosen algorithm.
    """

    task: str = "holdfast/DriveCircle-v0"
    algorithm: AlgorithmName = "cpo"
    preset: Preset = "holdfast"
    seed: Annotated[int, Range(0)] = 0
    iterations: Annotated[int, Range(1)] = 70
    batch: int = 20_000
    episodes: Annotated[int, Range(1)] = 1
    shards: Annotated[int, Range(0)] = 0
    limit: tuple[Annotated[float, NOT_NEGATIVE], ...] = ()
    randomise: Annotated[Randomisation | None, RANDOMISATION_FILE] = None
    physics: PhysicsName = "mujoco"
    hidden: tuple[Annotated[int, Range(1)], ...] = (64, 64)
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


def settings_of(path: Path, data: Mapping[str, Any], task: str = "") -> TrainSettings:
    """Return the settings of what `checkpoint.load` read from `path`; see `settings_from`."""
    try:
        return settings_from(data["settings"], task)
    except HoldfastError as error:
        raise TrainingError(f"checkpoint {path}: {error}") from None


def settings_from(data: Mapping[str, Any], task: str = "") -> TrainSettings:
    """Return the settings that `to_plain` wrote.

    Args:
        task: the task as a person gave it, "" if none was given; see `trained_on`.

    Raises:
        ConfigError, TrainingError: they are no such settings, or of a task that must be given; or
            of an off-policy run of an earlier version, whose settings cannot be converted.
    """
    if "own" not in data:
        try:
            data = _converted(data)
        except (KeyError, TypeError) as error:
            raise TrainingError(
                f"its settings are not as holdfast train writes them ({error})"
            ) from None
    settings = read(TrainSettings, {**data, "own": {}}, "settings", TrainingError, complete=True)
    kind = ALGORITHMS[settings.algorithm].Settings
    own = read(kind, data["own"], "settings.own", TrainingError, complete=True)
    return dataclasses.replace(settings, own=own, task=trained_on(settings.task, task))


GROUPS_OF_FORMAT_2 = ("step", "cpo", "vine", "ppo", "multiplier", "penalty", "off_policy")
"""Checkpoints of format 2 held the settings of all algorithms, in these groups."""


def _converted(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of checkpoint format 2 as those of today."""
    algorithm = data["algorithm"]
    if algorithm == "off-policy":
        raise TrainingError("an off-policy run of checkpoint format 2 cannot be used; train anew")
    known = {name: value for name, value in data.items() if name not in GROUPS_OF_FORMAT_2}
    known.setdefault("physics", "mujoco")  # there was no choice at first
    flat = {name: data[name] for name in ("step", "multiplier", "penalty")}
    flat |= data["cpo"] | data["vine"] | data["ppo"]
    names = (field.name for field in dataclasses.fields(ALGORITHMS[algorithm].Settings))
    return {**known, "own": {name: flat[name] for name in names}}


def defaults(preset: Preset, task: str, algorithm: AlgorithmName = "cpo") -> TrainSettings:
    """Return the settings that a preset has for a task and an algorithm.

    Raises:
        ConfigError, TrainingError: there is no such task.
    """
    if preset != "paper":
        return TrainSettings(task=task, preset=preset, algorithm=algorithm)
    contract = own_contract(task)
    ant, gather = contract.robot == "ant", contract.task.endswith("AntGather-v0")
    legged = contract.robot in ("ant", "humanoid")
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
    if len(settings.limit) not in (0, len(names)):
        raise TrainingError(
            f"limit should have a value for each cost of {contract.task}, "
            f"{', '.join(names)}; received {len(settings.limit)}"
        )
    nobody_says = settings.task.startswith(GYM_PREFIX) and not settings.limit
    if nobody_says and ALGORITHMS[settings.algorithm].meets_limit:
        raise TrainingError(f"{settings.task}: has no limit of its own; give one with --limit")
    costs = list(contract.costs)
    for i, cost in enumerate(costs):
        changes: dict[str, Any] = {"gamma": settings.cost_gamma, "lam": settings.cost_lam}
        if settings.limit:
            # The hard stop keeps its distance from the limit, but one step must be affordable.
            limit = settings.limit[i]
            changes["limit"] = limit
            budget = limit * cost.run_budget / cost.limit if cost.limit else cost.run_budget
            dearest = CostModel(contract).largest[i]
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
