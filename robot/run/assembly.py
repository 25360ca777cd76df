"""Putting a run together: what a contract, a robot's configuration and its records make of it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import platform
import re
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from holdfast import __version__, plain, yaml_file
from holdfast.bundle import reader as bundles
from holdfast.bundle.reader import Bundle
from holdfast.contract import Contract, strict
from holdfast.errors import ConfigError, ContractError, RunError
from holdfast.log.format import RunInfo
from holdfast.robot import config as configs
from holdfast.robot.base import Identity, Robot
from holdfast.robot.config import RobotConfig
from holdfast.robot.run.deployment import Deployment
from holdfast.safety_monitor.evidence import Evidence
from holdfast.safety_monitor.familiarity import Familiarity
from holdfast.safety_monitor.look import require_a_robot
from holdfast.safety_monitor.monitor import Monitor
from holdfast.safety_monitor.prediction import Prediction

BUNDLE_SUFFIX = ".onnx"


@dataclass(frozen=True)
class Assembly:
    """What a run is made of, checked against one another.

    Attributes:
        bundle: None where proposals come from elsewhere; then only a contract was given.
        deployment: None where no evidence is kept.
        familiarity, prediction: what the monitor was given of the bundle's.
        run_budget: by cost name, as in force.
    """

    contract: Contract
    bundle: Bundle | None
    config: RobotConfig
    monitor: Monitor
    deployment: Deployment | None
    familiarity: Familiarity | None
    prediction: Prediction | None
    run_budget: Mapping[str, float]

    def info(self, run: str, robot: Robot, seed: int, exploring: bool) -> RunInfo:
        """Return what the log says once, at its start."""
        deployment, familiarity, prediction = self.deployment, self.familiarity, self.prediction
        return RunInfo(
            run=run,
            contract=self.contract,
            bundle_hash="" if self.bundle is None else self.bundle.hash,
            seed=seed,
            exploring=exploring,
            sources=robot.identity.sources,
            limits=self.config.monitor.to_mapping(),
            run_budget=self.run_budget,
            familiarity=None if familiarity is None else familiarity.to_mapping(),
            prediction=None if prediction is None else prediction.to_mapping(),
            evidence=None if deployment is None else deployment.evidence.to_mapping(),
            identity=dataclasses.asdict(robot.identity),
            versions=versions(),
            clock_offset_s=robot.clock_offset_s(),
        )


def assemble(
    policy: Path,
    config: Path | None,
    run_budget: Sequence[str],
    evidence: Path | None,
    dry: bool = False,
) -> Assembly:
    """Load and check what a run is made of.

    Args:
        policy: a bundle, or a contract's YAML file where proposals come from elsewhere.
        config: the robot's configuration file; None: the installed one of the contract's robot.
        run_budget: NAME=VALUE for each cost whose run budget is tightened.
        evidence: the file that keeps it; None: none is kept.
        dry: nothing will be sent, so the robot will not follow, and is not expected to.

    Raises:
        BundleError, ContractError, ConfigError: something is wrong, or does not fit another.
    """
    bundle = bundles.load(policy) if policy.suffix == BUNDLE_SUFFIX else None
    contract = load_contract(policy) if bundle is None else bundle.contract
    require_a_robot(contract)
    robot_config = configs.load(config or configs.find(contract.robot))
    robot_config.require_fit(contract)
    if dry:
        limits = robot_config.monitor.without("tracking", "frozen", "coasting")
        robot_config = robot_config.model_copy(update={"monitor": limits})
    tightened = parse_budget(run_budget)
    familiarity, prediction = knowledge(bundle, robot_config)
    deployment = None if evidence is None else Deployment(evidence, Evidence(contract, tightened))
    return Assembly(
        contract=contract,
        bundle=bundle,
        config=robot_config,
        monitor=Monitor(
            contract,
            robot_config.monitor,
            tightened,
            familiarity,
            None if deployment is None else deployment.evidence,
            prediction,
        ),
        deployment=deployment,
        familiarity=familiarity,
        prediction=prediction,
        run_budget={cost.name: cost.run_budget for cost in contract.costs} | tightened,
    )


def knowledge(
    bundle: Bundle | None, config: RobotConfig
) -> tuple[Familiarity | None, Prediction | None]:
    """Return what the monitor of this robot is to know of this bundle.

    Raises:
        BundleError: it is malformed.
    """
    familiarity = prediction = None
    if bundle is not None and bundle.familiarity is not None:
        familiarity = Familiarity.from_mapping(bundle.familiarity)
        if config.familiarity == "never" or (
            config.familiarity == "logged" and not familiarity.logged
        ):
            familiarity = None
    if bundle is not None and bundle.prediction is not None:
        prediction = Prediction.from_mapping(bundle.prediction)
    return familiarity, prediction


def load_contract(path: Path) -> Contract:
    """Read a contract that no bundle carries, from a YAML file.

    Raises:
        ContractError: it cannot be read, or is no contract.
    """
    data = yaml_file.read(path, ContractError).data
    try:
        return strict(Contract, data, "contract")
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from None


def require_fit(contract: Contract, identity: Identity, required: Set[str]) -> None:
    """Raise unless a robot can do what a contract wants.

    Args:
        required: signals without which the monitor lets nothing move.

    Raises:
        RunError: its action channels are others, or in another order; it allows less than the
            contract, measures less, or stops itself too soon.
    """
    if identity.actions != contract.action_names:
        raise RunError(
            f"{identity.hardware_id} takes the action channels {', '.join(identity.actions)}, in "
            f"this order; the contract has {', '.join(contract.action_names)}"
        )
    limits = zip(contract.action, identity.action_low, identity.action_high, strict=True)
    for channel, low, high in limits:
        if not (low <= channel.low and channel.high <= high):  # a limit may be NaN
            raise RunError(
                f"{identity.hardware_id} allows {channel.name} in [{low}, {high}] {channel.unit}; "
                f"the contract needs [{channel.low}, {channel.high}]"
            )
    missing = sorted(required - set(identity.signals))
    if missing:
        raise RunError(
            f"{identity.hardware_id} does not measure {', '.join(missing)}; the contract or the "
            "monitor's limits need it"
        )
    if identity.watchdog_s <= contract.period_s:
        raise RunError(
            f"{identity.hardware_id} stops after {identity.watchdog_s} s without a command; "
            f"that should be more than the contract's period of {contract.period_s} s"
        )


def parse_budget(texts: Sequence[str]) -> dict[str, float]:
    """Read NAME=VALUE texts.

    Raises:
        ConfigError: one is written otherwise, or a name is given twice.
    """
    budget: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            if not name or name in budget:
                raise ValueError
            budget[name] = plain.finite(value)
        except ValueError:
            raise ConfigError(
                f"run-budget should be NAME=VALUE, once for each cost, received '{text}'"
            ) from None
    return budget


def versions() -> Mapping[str, str]:
    """Return the versions of what runs here."""
    packages = ("numpy", "onnxruntime", "pyserial", "mcap")
    return {
        "holdfast": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def default_directory(contract: Contract) -> Path:
    """Return where a run is logged that nobody named a place for: a directory not there yet."""
    task = re.sub(r"[^A-Za-z0-9_-]", "-", contract.task.rpartition("/")[2])
    name = f"{task}-{time.strftime('%Y%m%d-%H%M%S')}"
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(
        Path("runs") / free
        for free in itertools.chain((name,), numbered)
        if not (Path("runs") / free).exists()
    )
