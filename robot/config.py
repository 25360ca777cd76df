"""A robot's configuration file, `config/<robot>.yaml`: times of a run, and the monitor's limits."""

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
    """The configuration of a robot. All times are in seconds.

    Attributes:
        robot: name of the robot in contracts.
        proposal_wait_s: how long a period waits for the policy; a later answer is not used.
        lockstep_wait_s: how long a period in lockstep waits, on the wall clock: the device's time
            stands still meanwhile, so that only a policy that hangs takes so long.
        command_valid_for_s: longest time for which the device obeys a command.
        ready_wait_s: longest wait for the monitor's consent at the start of an episode.
        familiarity: when observations unlike those that the policy knows slow and stop the robot:
            "never"; "logged", if the policy was fine-tuned on logs of a robot, and so knows more
            than the simulation; or "always".
        monitor: limits of the safety monitor.
        ros: topics of a robot in a ROS graph; None: the robot has none.
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
        """Check robot and times against a contract.

        Raises:
            ConfigError: the contract is of another robot, or a time does not fit its period.
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
            ConfigError: the file has no such section.
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
        ConfigError: no such file is installed.
    """
    folder = share.folder() / "config"
    path = folder / f"{robot}.yaml"
    if not path.is_file():
        raise ConfigError(f"there is no {path.name} in {folder}; give one with --config")
    return path


def load(path: Path) -> RobotConfig:
    """Read a configuration file.

    Raises:
        ConfigError: the file cannot be read, or a key is missing, unknown or wrong.
    """
    return yaml_file.load(path, RobotConfig)
