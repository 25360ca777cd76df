"""A robot's configuration file, `config/<robot>.yaml`: how it is run, and the monitor's limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf

from holdfast import plain, share, yaml_file
from holdfast.contract import Contract
from holdfast.errors import ConfigError
from holdfast.robot.topics.config import RosSection
from holdfast.safety_monitor.limits import Limits
from holdfast.yaml_file import Document

EXTENDS = "extends"
MOST_FILES = 8
"""How many files may extend one another."""

Seconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class RobotConfig(BaseModel):
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

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    robot: Annotated[str, Field(pattern=f"^{plain.NAME.pattern}$")]
    proposal_wait_s: Seconds
    lockstep_wait_s: Seconds
    command_valid_for_s: Seconds
    ready_wait_s: Seconds
    familiarity: Literal["never", "logged", "always"]
    monitor: Annotated[InstanceOf[Limits], BeforeValidator(Limits.from_mapping)]
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
    """Read a configuration file, and those that it extends.

    `extends: OTHER` names an installed file (`drive`), or one by its path from this file
    (`./mine.yaml`). What this file says is put over what that one says, as in RFC 7396: mappings
    are merged, anything else takes the other's place, and null takes it away.

    Raises:
        ConfigError: it cannot be read, extends itself, or a key is missing, unknown or wrong.
    """
    documents = _documents(path)
    data: Any = documents[-1][1].data
    for _, document in reversed(documents[:-1]):
        data = _merged(data, document.data)
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if key != EXTENDS}
    return yaml_file.build(data, RobotConfig, documents)


def _documents(path: Path) -> list[tuple[Path, Document]]:
    """Read a file and those that it extends, itself first."""
    documents = [(path, yaml_file.read(path))]
    while isinstance(data := documents[-1][1].data, dict) and EXTENDS in data:
        file, document = documents[-1]
        where = f"{file}: {document.where((EXTENDS,))}"
        other = _other(file, data[EXTENDS], where)
        if other.resolve() in [each.resolve() for each, _ in documents]:
            raise ConfigError(f"{where}: leads back to {other}; files should not form a circle")
        if len(documents) == MOST_FILES:
            raise ConfigError(f"{where}: should lead to at most {MOST_FILES} files")
        documents.append((other, yaml_file.read(other)))
        if not isinstance(documents[-1][1].data, dict):
            raise ConfigError(f"{other}: should be a mapping, because {file} extends it")
    return documents


def _other(file: Path, name: Any, where: str) -> Path:
    """Return the file that another extends."""
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where}: should name a file, received {plain.shown(repr(name))}")
    if not plain.is_name(name):
        return file.parent / name
    folder = share.folder() / "config"
    if not (folder / f"{name}.yaml").is_file():
        raise ConfigError(f"{where}: there is no {name}.yaml in {folder}; a path has a / or a .")
    return folder / f"{name}.yaml"


def _merged(target: Any, patch: Any) -> Any:
    """Return one put over another (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    made = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = _merged(made.get(key), value)
    return made
