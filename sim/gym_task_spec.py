"""Environments of Gymnasium's kind that report a cost, as tasks: `gym:MODULE:ID`.

MODULE is an importable module, or a file FILE.py, which runs. The module's own `make` makes the
environment if there is one, as in safety_gymnasium; else Gymnasium's.

Without more, the contract follows from the spaces. Its observation and costs exist in the
simulation alone, so the safety monitor refuses the contract: such a policy never moves a robot. An
environment that describes its channels (`holdfast.sim.gym_description`) has a contract that a robot
can fulfil.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from holdfast.contract import ActionChannel, Contract, Cost, DeclaredSignal, ObservationChannel
from holdfast.errors import ConfigError, ContractError
from holdfast.signals import EPISODE_LEFT
from holdfast.sim import check
from holdfast.sim.batch.batch import Batch
from holdfast.sim.batch.gym_batch import GymBatch, GymCopy, told
from holdfast.sim.batch.physics import PhysicsName
from holdfast.sim.file_task_spec import run_file
from holdfast.sim.gym_description import check_costs, description_of, require_fit
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.task_spec import GYM_PREFIX, SUFFIX, TaskSpec

PERIOD_S = 1.0
"""A step counts as a second: environments of this kind do not say how long a step lasts."""


class GymTaskSpec(TaskSpec):
    """The spec of an environment of Gymnasium's kind.

    Args:
        task_id: gym:MODULE:ID.
    """

    has_limits = False

    @cached_property
    def _module(self) -> ModuleType:
        return _module(self._parts[0])

    @cached_property
    def _parts(self) -> tuple[str, str]:
        module_name, _, env_id = self.id.removeprefix(GYM_PREFIX).rpartition(":")
        if not module_name or not env_id:
            raise ConfigError(
                f"an environment should be given as gym:MODULE:ID, received '{self.id}'"
            )
        return module_name, env_id

    @cached_property
    def maker(self) -> Callable[[], Any]:
        """Makes a new environment at each call.

        Raises:
            ConfigError: there is no such module.
        """
        env_id = self._parts[1]
        own = getattr(self._module, "make", gymnasium.make)
        more = {"disable_env_checker": True} if own is gymnasium.make else {}

        def make() -> Any:
            try:
                return own(env_id, **more)
            except Exception as error:
                raise ConfigError(f"{self.id}: cannot be made ({told(error)})") from None

        return make

    @cached_property
    def contract(self) -> Contract:
        """The contract that the spaces or the description, the time limit and the costs make, with
        limits of 0.

        Only the user can say what an episode may cost.

        Raises:
            ConfigError, TrainingError: the environment lacks one of them, or breaks its own spaces.
        """
        env = self.maker()
        try:
            return _contract(self.id, self._module, env)
        finally:
            env.close()

    def make(self) -> NoReturn:
        """Raise ConfigError: see `TaskSpec`."""
        raise ConfigError(f"{self.id}: is an environment without a robot, which can only train")

    def batch(
        self,
        copies: int,
        seed: int,
        threads: int = 0,
        contract: Contract | None = None,
        randomise: Parameters | None = None,
        physics: PhysicsName = "mujoco",
        alternatives: int = 0,
    ) -> Batch:
        """See `TaskSpec`."""
        if randomise is not None:
            raise ConfigError(f"{self.id}: has no model that could be randomised")
        if alternatives:
            raise ConfigError(
                f"{self.id}: has no model that could be randomised, as pessimism needs; leave "
                "--pessimism out"
            )
        if physics != "mujoco":
            raise ConfigError(f"{self.id}: brings its own physics; leave --physics out")
        return GymBatch(self.id, self.maker, contract or self.contract, copies, seed)

    def check(self) -> None:
        """See `TaskSpec`."""
        check.check_batch(self.batch)
        costs = self.contract.cost_expressions
        if all("reported_cost" not in expression.signals for expression in costs):
            env = self.maker()
            try:
                check_costs(self.id, env, self.contract)
            finally:
                env.close()


@cache
def _module(name: str) -> ModuleType:
    if name.endswith(SUFFIX):
        return run_file(Path(name))
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ConfigError(
            f"module {name} cannot be imported ({told(error)}); a file is given as FILE.py"
        ) from None


def _contract(where: str, module: ModuleType, env: Any) -> Contract:
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        if not isinstance(space, Box):
            raise ConfigError(f"{where}: {name} should be a Box, it is {space}")
    low, high = (np.float64(getattr(env.action_space, end)).ravel() for end in ("low", "high"))
    if not np.isfinite((low, high)).all():
        raise ConfigError(f"{where}: action_space should be bounded, it is {env.action_space}")
    steps = getattr(getattr(env, "spec", None), "max_episode_steps", None)
    if not steps:
        raise ConfigError(
            f"{where}: should be registered with max_episode_steps; a limit is of a whole episode"
        )
    copy = GymCopy(where, env)
    if not np.array_equal(copy.reset(0), copy.reset(0)):
        raise ConfigError(f"{where}: reset(seed=0) should give the same start each time")
    costs = copy.step(np.clip(0.0, low, high)).costs
    size = int(np.prod(env.observation_space.shape))
    described = description_of(where, module, env)
    task = GYM_PREFIX + where.rpartition(":")[2]
    left = ObservationChannel("episode_left", 1, "1", EPISODE_LEFT)
    try:
        if described is not None:
            require_fit(where, described, env, low, high, costs)
            return Contract(
                robot=described.robot,
                task=task,
                period_s=described.period_s,
                episode_steps=steps,
                observation=(*described.observation, left),
                action=described.action,
                signals=described.signals,
                costs=described.described_costs(),
            )
        return Contract(
            robot="simulation",
            task=task,
            period_s=PERIOD_S,
            episode_steps=steps,
            observation=(ObservationChannel("observation", size, "1", "observation"), left),
            action=tuple(
                # From one end to the other within a step: there is no rate to limit.
                ActionChannel(f"action_{i}", "1", least, most, (most - least) / PERIOD_S)
                for i, (least, most) in enumerate(zip(low.tolist(), high.tolist(), strict=True))
            ),
            signals=(DeclaredSignal("reported_cost", len(costs), "1"),),
            costs=tuple(
                Cost(name, f"reported_cost[{i}]", 0.0, 0.0, gamma=0.99, lam=0.95, at_most=None)
                for i, name in enumerate(costs)
            ),
        )
    except ContractError as error:
        raise ConfigError(f"{where}: {error}") from None
