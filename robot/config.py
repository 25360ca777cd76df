"""A robot's configuration file, `config/<robot>.yaml`: times of a run, and the monitor's limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from holdfast import plain, share, yaml_file
from holdfast.contract import Contract
from holdfast.errors import ConfigError
from holdfast.registry.registry import Registry
from holdfast.registry.signing import PUBLIC_KEY
from holdfast.robot import plausible
from holdfast.robot.topics.config import RosSection
from holdfast.safety_monitor.limits import Limits
from holdfast.schema import NAME, PATH, POSITIVE
from holdfast.yaml_file import Document

EXTENDS = "extends"
MOST_FILES = 8
"""How many files may extend one another."""

Seconds = Annotated[float, POSITIVE]


@dataclass(frozen=True)
class RegistrySection:
    """The registry of the one robot that a file is for; see docs/guides/PROMOTE.md.

    Attributes:
        folder: its path; one that is not absolute begins at the robot's file.
        hardware_id: this very robot, as its device names itself.
        trusted_keys: public keys by the signers' names. With one or more, a bundle without a
            signature by one of them is refused.
        receipts_key: file of a private key, as `holdfast key` writes, with which this robot signs
            its receipts; "": they are not signed. Its path is like that of the folder.
    """

    folder: Annotated[str, PATH]
    hardware_id: str
    trusted_keys: Mapping[Annotated[str, NAME], Annotated[str, PUBLIC_KEY]] = field(
        default_factory=dict
    )
    receipts_key: Annotated[str, PATH] = ""


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
        registry: what may run on this very robot; None: whatever bundle is named.
    """

    robot: Annotated[str, NAME]
    proposal_wait_s: Seconds
    lockstep_wait_s: Seconds
    command_valid_for_s: Seconds
    ready_wait_s: Seconds
    familiarity: Literal["never", "logged", "always"]
    monitor: Limits
    ros: RosSection | None = None
    registry: RegistrySection | None = None

    def __post_init__(self) -> None:
        plausible.check(self.monitor)

    def require_fit(self, contract: Contract) -> None:
        """Check robot and times against a contract.

        Raises:
            ConfigError: the contract is of another robot, a time does not fit its period, or no
                episode can reach a limit of the monitor.
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
        plausible.check_fit(self.monitor, contract)

    def open_registry(self) -> Registry | None:
        """Return the robot's registry, or None."""
        if self.registry is None:
            return None
        section = self.registry
        key = Path(section.receipts_key) if section.receipts_key else None
        return Registry(
            Path(section.folder), self.robot, section.hardware_id, section.trusted_keys, key
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
    """Read a configuration file, and those that it extends.

    `extends: OTHER` names an installed file (`drive`), or one by its path from this file
    (`./mine.yaml`). What this file says is put over what that one says, as in RFC 7396: mappings
    are merged, anything else takes the other's place, and null takes it away.

    Raises:
        ConfigError: a file cannot be read, extends itself, or a key is missing, unknown or wrong.
    """
    documents = _documents(path)
    data: Any = documents[-1][1].data
    for _, document in reversed(documents[:-1]):
        data = _merged(data, document.data)
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if key != EXTENDS}
    config = yaml_file.build(data, RobotConfig, documents)
    if config.registry is None:
        return config
    section = config.registry
    folder = str(path.parent / section.folder)  # an absolute one stays as it is
    key = str(path.parent / section.receipts_key) if section.receipts_key else ""
    return replace(config, registry=replace(section, folder=folder, receipts_key=key))


def _documents(path: Path) -> list[tuple[Path, Document]]:
    """Read a file and those that it extends, itself first."""
    documents = [(path, yaml_file.read(path))]
    while isinstance(data := documents[-1][1].data, dict) and _extends(data, *documents[-1]):
        file, document = documents[-1]
        where = f"{file}: {document.line((EXTENDS,))}{EXTENDS}"
        other = _other(file, data[EXTENDS], where)
        if other.resolve() in [each.resolve() for each, _ in documents]:
            raise ConfigError(f"{where}: leads back to {other}; files should not form a circle")
        if len(documents) == MOST_FILES:
            raise ConfigError(f"{where}: should lead to at most {MOST_FILES} files")
        documents.append((other, yaml_file.read(other)))
        if not isinstance(documents[-1][1].data, dict):
            raise ConfigError(f"{other}: should be a mapping, because {file} extends it")
    return documents


def _extends(data: dict[Any, Any], file: Path, document: Document) -> bool:
    """Return whether a file extends another.

    Raises:
        ConfigError: it seems to, by a key that is misspelt.
    """
    known = {field.name for field in fields(RobotConfig)}
    for key in data.keys() - known - {EXTENDS}:
        if isinstance(key, str) and (guess := plain.meant(key, (EXTENDS,))):
            where = f"{file}: {document.line((key,))}"
            raise ConfigError(f"{where}unknown {plain.shown(key)}{guess}")
    return EXTENDS in data


def _other(file: Path, name: Any, where: str) -> Path:
    """Return the file that another extends."""
    if not isinstance(name, str) or not name or not name.isprintable():
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
        if value is None and key in made:
            del made[key]  # a key that is not there is kept, so that it is refused if it is unknown
        else:
            made[key] = _merged(made.get(key), value)
    return made
