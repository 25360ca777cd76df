"""The learner: one object holding all that training changes, stepped iteration by iteration."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from tyro.constructors import PrimitiveConstructorSpec

from holdfast.contract import Contract
from holdfast.errors import TrainingError
from holdfast.policy import checkpoint
from holdfast.policy.cpo import Samples, StepReport, StepSettings, cpo_step
from holdfast.policy.networks import Networks
from holdfast.policy.rollout import (
    Collector,
    Estimates,
    Rollout,
    estimate,
    explained_variance,
    fit_critic,
)
from holdfast.safety_monitor.costs import Bill
from holdfast.sim.randomise import Randomisation, load_randomisation
from holdfast.sim.tasks import FOREIGN, make_batch, own_contract

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
        algorithm: cpo under the task's limit, or trpo, which ignores it.
        seed: of start states, actions and weights.
        iterations: policy updates.
        copies: simulated robots stepped together.
        episodes: full episodes per copy and iteration.
        limit: d, expected cost per episode; None for the task's own.
        randomise: YAML file of what each simulated robot has of its own, drawn at each episode's
            start: mass, friction, gains, delay, noise, bias. Default: nothing.
        hidden: units per hidden layer, of policy and critics.
        initial_std: of actions, where 1 is half of the range.
        gamma: discount of the reward; a cost's is in the contract.
        lam: GAE λ of the reward.
        critic_steps: Adam steps per iteration on the critics.
        critic_minibatch: samples per such step.
        critic_rate: Adam's learning rate.
        correction: rate of the running mean of (realised − predicted) cost change that is
            added to the excess; 0 for the paper's own rule, which settles above the limit.
        step: the constrained step.
    """

    task: str = "holdfast/DriveCircle-v0"
    algorithm: Literal["cpo", "trpo"] = "cpo"
    seed: int = 0
    iterations: int = 70
    copies: int = 80
    episodes: int = 1
    limit: float | None = None
    randomise: Annotated[Randomisation | None, RANDOMISATION_FILE] = None
    hidden: tuple[int, ...] = (64, 64)
    initial_std: float = 1.0
    gamma: float = 0.99
    lam: float = 0.95
    critic_steps: int = 160
    critic_minibatch: int = 512
    critic_rate: float = 1e-3
    correction: float = 0.1
    step: StepSettings = field(default_factory=StepSettings)

    def __post_init__(self) -> None:
        for name in ("iterations", "copies", "episodes", "critic_steps", "critic_minibatch"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} should be at least 1, received {getattr(self, name)}")
        if self.limit is not None and not self.limit >= 0.0:
            raise TrainingError(f"limit should be at least 0, received {self.limit}")
        if not self.initial_std > 0.0:
            raise TrainingError(f"initial_std should be above 0, received {self.initial_std}")


def contract_of(settings: TrainSettings) -> Contract:
    """Return the task's contract with the settings' limit in it.

    Raises:
        ConfigError, TrainingError: there is no such task, it has several costs (CPO here takes
            one), or nobody says its limit.
    """
    contract = own_contract(settings.task)
    if len(contract.costs) != 1:
        raise TrainingError(f"{contract.task}: should have one cost, has {len(contract.costs)}")
    if settings.limit is None:
        if settings.task.startswith(FOREIGN) and settings.algorithm == "cpo":
            raise TrainingError(f"{settings.task}: has no limit of its own; give one with --limit")
        return contract
    cost = contract.costs[0]
    # The hard stop keeps its distance from the limit, but one step must be affordable.
    scale = cost.run_budget / cost.limit if cost.limit else 1.0
    affordable = [most for most in Bill(contract).largest if math.isfinite(most)]
    budget = max([scale * settings.limit, *affordable])
    cost = dataclasses.replace(cost, limit=settings.limit, run_budget=budget)
    return dataclasses.replace(contract, costs=(cost,))


def require_same(settings: TrainSettings, contract: Contract) -> None:
    """Raise TrainingError unless a task has the contract that a policy was trained under."""
    now, then = (json.loads(c.to_json()) for c in (contract_of(settings), contract))
    if changed := [name for name in then if now[name] != then[name]]:
        raise TrainingError(
            f"{settings.task}: its contract is not the one that the policy was trained under; "
            f"what differs is {', '.join(changed)}"
        )


class CostTracker:
    """The excess J_C − d that a step is told, corrected by what steps did before.

    A step's surrogate underestimates the cost that it leads to: the states change too. The
    running mean of (realised − predicted) change is what the surrogate was short of lately;
    adding it to the excess makes the next step aim lower by as much.
    """

    def __init__(self, rate: float) -> None:
        self.rate, self.shortfall = rate, 0.0
        self.last: tuple[float, float] | None = None  # J_C and the predicted change of it

    def excess(self, cost: float, limit: float) -> float:
        """Return the excess to aim at, given the batch's mean cost return."""
        if self.last is not None:
            before, predicted = self.last
            self.shortfall += self.rate * (cost - before - predicted - self.shortfall)
        return cost - limit + self.shortfall

    def predicted(self, cost: float, change: float) -> None:
        """Remember what the step just taken was predicted to change."""
        self.last = (cost, change)


class Learner:
    """CPO (or TRPO) in simulation.

    Args:
        settings: see there.

    Raises:
        TrainingError, ConfigError: the settings or the task do not fit.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.contract = contract_of(settings)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.networks = Networks.build(
            self.contract, settings.hidden, settings.initial_std, self.generator
        )
        self.policy, self.critic = self.networks.policy, self.networks.critic
        self.normaliser = self.networks.normaliser
        self.optimiser = torch.optim.Adam(
            self.critic.parameters(), lr=settings.critic_rate, fused=True
        )
        self.batch = make_batch(
            settings.task,
            settings.copies,
            settings.seed,
            contract=self.contract,
            randomise=settings.randomise,
        )
        self.collector = Collector(self.batch, self.generator)
        self.tracker = CostTracker(settings.correction)
        self.iteration = 0

    def iterate(self) -> dict[str, Any]:
        """Collect a batch, step the policy, fit the critics; return what happened, as JSON data."""
        started = time.perf_counter()
        steps = self.contract.episode_steps * self.settings.episodes
        rollout = self.collector.collect(self.policy, self.normaliser, steps)
        collected = time.perf_counter()
        flat = torch.from_numpy(rollout.observation.reshape(-1, rollout.observation.shape[-1]))
        if self.iteration == 0:
            self.normaliser.update(flat)
        s = self.settings
        estimates = estimate(rollout, self.critic, self.normaliser, self.contract, s.gamma, s.lam)
        x = self.normaliser(flat)
        report = self._step(x, rollout, estimates)
        stepped = time.perf_counter()
        targets = torch.from_numpy(estimates.target.reshape(len(x), -1)).float()
        fit_critic(
            self.critic, self.optimiser, x, targets,
            s.critic_steps, s.critic_minibatch, self.generator,
        )  # fmt: skip
        self.normaliser.update(flat)
        fitted = time.perf_counter()
        self.iteration += 1
        return {
            "iteration": self.iteration,
            "steps": self.iteration * len(x),
            "return": float(rollout.returns.mean()),
            "cost": float(rollout.cost_returns.mean()),
            "cost_spread": float(rollout.cost_returns.std()),
            "shortfall": self.tracker.shortfall,
            "std": torch.exp(self.policy.log_std).tolist(),
            "explained_variance": explained_variance(estimates.value, estimates.target),
            **dataclasses.asdict(report),
            "seconds": {
                "rollout": collected - started,
                "step": stepped - collected,
                "critics": fitted - stepped,
            },
        }

    def _step(self, x: torch.Tensor, rollout: Rollout, estimates: Estimates) -> StepReport:
        # Every batch starts with fresh episodes and lasts for whole ones, so some have finished.
        cost = float(rollout.cost_returns.mean())
        limit = self.contract.costs[0].limit
        u = torch.from_numpy(rollout.u.reshape(len(x), -1))
        with torch.no_grad():
            log_prob = self.policy.log_prob(self.policy(x), u)
        advantage = torch.from_numpy(estimates.advantage.reshape(len(x), -1)).float()
        # Centring changes no gradient in expectation. Only the reward may be scaled: the scale
        # of the cost advantage is what makes the step's b and c the same units.
        centred = advantage - advantage.mean(0)
        samples = Samples(
            x, u, log_prob, centred[:, 0] / (centred[:, 0].std() + 1e-8), centred[:, 1],
            torch.ones(len(x)),
        )  # fmt: skip
        length = float(rollout.lengths.mean())
        report = cpo_step(
            self.policy,
            samples,
            self.tracker.excess(cost, limit),
            limit,
            length,
            self.settings.step,
            constrained=self.settings.algorithm == "cpo",
        )
        self.tracker.predicted(cost, length * report.cost_change)
        return report

    # Checkpoints.

    def save(self, path: Path) -> None:
        """Write everything that the next iteration depends on."""
        tensors = checkpoint.module_tensors(self.networks.modules)
        tensors |= checkpoint.adam_tensors(self.optimiser, "adam")
        tensors["generator"] = self.generator.get_state()
        data = {
            "settings": dataclasses.asdict(self.settings),
            "contract": self.contract.to_json(),
            "iteration": self.iteration,
            "tracker": {"shortfall": self.tracker.shortfall, "last": self.tracker.last},
            "start_states": self.batch.rng.bit_generator.state,
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
        require_same(learner.settings, Contract.from_json(data["contract"]))
        checkpoint.restore_modules(learner.networks.modules, tensors)
        checkpoint.restore_adam(learner.optimiser, "adam", tensors)
        learner.generator.set_state(tensors["generator"])
        learner.iteration = data["iteration"]
        learner.tracker.shortfall = data["tracker"]["shortfall"]
        last = data["tracker"]["last"]
        learner.tracker.last = None if last is None else (last[0], last[1])
        # Each iteration begins with a reset, so of the batch only its generator lives on.
        learner.batch.rng.bit_generator.state = data["start_states"]
        return learner


def settings_from(data: dict[str, Any]) -> TrainSettings:
    """Return settings from what `dataclasses.asdict` made of them and JSON carried."""
    step = StepSettings(**data["step"])
    randomise = Randomisation(**data["randomise"]) if data.get("randomise") else None
    made = {"step": step, "randomise": randomise, "hidden": tuple(data["hidden"])}
    return TrainSettings(**{**data, **made})


def append_jsonl(path: Path, record: dict[str, Any]) -> None:
    """Add one line to a JSON Lines file."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def last_costs(records: list[dict[str, Any]], count: int = 20) -> tuple[float, float]:
    """Return the mean return and mean cost of the last iterations."""
    tail = records[-count:]
    return (
        float(np.mean([record["return"] for record in tail])),
        float(np.mean([record["cost"] for record in tail])),
    )
