"""A robot's configuration file, `config/<robot>.yaml`: how it is run, and the monitor's limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from holdfast import share, yaml_file
from holdfast.contract import Contract
from holdfast.errors import ConfigError
from holdfast.robot.topics.config import RosSection
from holdfast.safety_monitor.limits import Limits
from holdfast.schema import NAME, POSITIVE

Seconds = Annotated[float, POSITIVE]


@dataclass(frozen=True)
class RobotConfig:
    """How a robot is run. All times in seconds.

    Attributes:
        robot: the name that contracts use.
        proposal_wait_s: how long a period waits for the policy; what comes later is not used.
        lockstep_wait_s: the same in lockstep, on the wall clock, where time stands still
            meanwhile: only a policy that hangs takes so long.
        command_valid_for_s: the device obeys a command for so long at the most.
        ready_wait_s: how long an episode's start may wait for the monitor to agree.
        familiarity: when observations unlike those that its policy knows slow and stop it:
            "never"; "logged", where the policy was fine-tuned on logs of a robot, and so knows
            more than the simulation; or "always".
        monitor: its limits.
        ros: its topics, where it is a robot of a ROS graph.
    """

    robot: Annotated[str, NAME]
    proposal_wait_s: Seconds
    lockstep_wait_s: Seconds
    command_valid_for_s: Seconds
    ready_wait_s: Seconds
    familiarity: Literal["never", "logged", "always"]
    monitor: Limits
    ros: RosSection | None = None

    def require_fit(self, contract: Contract) -> None:
        """Check these times against a contract's period.

        Raises:
            ConfigError: they cannot be kept with it.
        """
        period_s = contract.period_s
        if self.robot != contract.robot:
            raise ConfigError(
                f"the configuration is of robot '{self.robot}', the policy of '{contract.robot}'"
            )
        if self.proposal_wait_s >= period_s:
            raise ConfigError(
                f"proposal_wait_s {self.proposal_wait_s} should be below the contract's "
                f"period_s {period_s}"
            )
        if self.command_valid_for_s <= period_s:
            raise ConfigError(
                f"command_valid_for_s {self.command_valid_for_s} should be above the contract's "
                f"period_s {period_s}"
            )

    def topics(self) -> RosSection:
        """Return the `ros` section.

        Raises:
            ConfigError: there is none.
        """
        if self.ros is None:
            raise ConfigError(
                f"the configuration of robot '{self.robot}' has no section ros, which names its "
                "topics"
            )
        return self.ros


def find(robot: str) -> Path:
    """Return the installed configuration file of a robot.

    Raises:
        ConfigError: there is none.
    """
    folder = share.folder() / "config"
    path = folder / f"{robot}.yaml"
    if not path.is_file():
        raise ConfigError(f"there is no {path.name} in {folder}; give one with --config")
    return path


def load(path: Path) -> RobotConfig:
    """Read a configuration file.

    Raises:
        ConfigError: it cannot be read, or a key is missing, unknown or wrong.
    """
    return yaml_file.load(path, RobotConfig)
