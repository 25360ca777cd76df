"""Assembling a run from a policy, a robot's configuration and a deployment's evidence."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import math
import platform
import re
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from holdfast import __version__, plain
from holdfast.bundle.reader import Bundle
from holdfast.contract import Contract
from holdfast.errors import ConfigError, RunError
from holdfast.log.format import RunInfo
from holdfast.robot.base import Identity, Robot
from holdfast.robot.config import RobotConfig
from holdfast.robot.run.admission import Admission, admit
from holdfast.robot.run.deployment import Deployment
from holdfast.safety_monitor.evidence import Evidence
from holdfast.safety_monitor.familiarity import Familiarity
from holdfast.safety_monitor.look import require_a_robot, require_velocity
from holdfast.safety_monitor.monitor import Monitor
from holdfast.safety_monitor.prediction import Prediction
from holdfast.schema import to_plain


@dataclass(frozen=True)
class Assembly:
    """The parts of a run, checked against one another.

    Attributes:
        admission: how the policy was admitted to the robot.
        bundle: None for external proposals, for which only a contract is given.
        deployment: the evidence in its file; None: no evidence is kept.
        familiarity, prediction: those of the bundle that the monitor uses; None: not used.
        episode_cap: episode cap in force, by cost name.
    """

    admission: Admission
    contract: Contract
    bundle: Bundle | None
    config: RobotConfig
    monitor: Monitor
    deployment: Deployment | None
    familiarity: Familiarity | None
    prediction: Prediction | None
    episode_cap: Mapping[str, float]

    def info(self, run: str, robot: Robot, seed: int, exploring: bool) -> RunInfo:
        """Return the information that the log has once, at its start."""
        deployment = self.deployment
        return RunInfo(
            run=run,
            contract=self.contract,
            bundle_hash="" if self.bundle is None else self.bundle.hash,
            critics=self.bundle is not None and self.bundle.has_critics,
            seed=seed,
            exploring=exploring,
            sources=robot.identity.sources,
            limits=self.config.monitor.to_plain(),
            episode_cap=self.episode_cap,
            familiarity=self.familiarity,
            prediction=self.prediction,
            evidence=None if deployment is None else deployment.evidence.to_mapping(),
            identity=to_plain(robot.identity),
            versions=versions(),
            clock_offset_s=robot.clock_offset_s(),
        )


def assemble(
    policy: Path,
    config: Path | None,
    episode_cap: Sequence[str],
    evidence: Path | None,
    dry: bool = False,
    limit: Sequence[float] = (),
) -> Assembly:
    """Load and check the parts of a run.

    Args:
        policy: a bundle; `promoted` or `canary`, whose bundle, episode caps and evidence are the
            robot's registry's; or the YAML file of a contract for external proposals.
        config: the robot's configuration file; None: the installed file of the contract's robot.
        episode_cap: NAME=VALUE for each cost whose episode cap is tightened.
        evidence: the file of the evidence; None: no evidence is kept.
        dry: no command will be sent, so the robot is not expected to follow any.
        limit: d in force, for each cost with a range; empty: the contract's own.

    Raises:
        BundleError, ContractError, ConfigError: a part is wrong, or does not fit another part.
        RegistryError: nothing is in the slot.
    """
    admission = admit(policy, config, limit)
    bundle, contract, robot_config = admission.bundle, admission.contract, admission.config
    require_a_robot(contract)
    robot_config.require_fit(contract)
    if dry:
        limits = robot_config.monitor.without("tracking", "following", "frozen", "coasting")
        robot_config = dataclasses.replace(robot_config, monitor=limits)
    tightened = parse_budget(episode_cap)
    if admission.slot is not None:
        if tightened or evidence is not None:
            raise ConfigError(
                f"the {admission.name} policy has its episode caps and its evidence in the robot's "
                "registry; give neither --episode-cap nor --evidence"
            )
        tightened, evidence = dict(admission.slot.episode_cap), admission.evidence
    familiarity, prediction = knowledge(bundle, robot_config)
    deployment = None if evidence is None else Deployment(evidence, Evidence(contract, tightened))
    return Assembly(
        admission=admission,
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
        episode_cap={cost.name: cost.episode_cap for cost in contract.costs} | tightened,
    )


def knowledge(
    bundle: Bundle | None, config: RobotConfig
) -> tuple[Familiarity | None, Prediction | None]:
    """Return the familiarity and the prediction of a bundle that a robot's monitor uses."""
    if bundle is None:
        return None, None
    familiarity = bundle.familiarity
    if config.familiarity == "never" or (
        config.familiarity == "logged" and familiarity and not familiarity.logged
    ):
        familiarity = None
    return familiarity, bundle.prediction


def require_fit(
    contract: Contract, identity: Identity, required: Set[str], command_valid_for_s: float
) -> None:
    """Check that a robot can run under a contract.

    Args:
        required: signals that the monitor needs before it lets a robot move.
        command_valid_for_s: the configuration's time for which the device obeys a command.

    Raises:
        RunError: the robot has other action channels, or another order of them; its limits are
            tighter than the contract's; a signal is missing; its watchdog is too short, or is
            shorter than a command is valid; it measures more rarely than the contract's period;
            or its lockstep has another period.
        ConfigError: the robot does not measure its velocity.
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
    require_velocity(contract, identity.signals)
    if identity.watchdog_s <= contract.period_s:
        raise RunError(
            f"{identity.hardware_id} stops after {identity.watchdog_s} s without a command; "
            f"that should be more than the contract's period of {contract.period_s} s"
        )
    _require_period(contract, identity)
    if command_valid_for_s > identity.watchdog_s:
        raise RunError(
            f"command_valid_for_s {command_valid_for_s:g} should be at most the "
            f"{identity.watchdog_s:g} s after which {identity.hardware_id} stops without a command"
        )


def _require_period(contract: Contract, identity: Identity) -> None:
    """Check how often a robot measures, as far as it is known."""
    measured_s, period_s = identity.state_period_s, contract.period_s
    if measured_s is None or math.isclose(measured_s, period_s, abs_tol=1e-6):
        return
    if identity.lockstep:
        raise RunError(
            f"{identity.hardware_id} advances by {measured_s:g} s with each command; that should "
            f"be the contract's period of {period_s:g} s"
        )
    if measured_s > period_s:
        raise RunError(
            f"{identity.hardware_id} measures every {measured_s:g} s; that should be at most the "
            f"contract's period of {period_s:g} s"
        )


def parse_budget(texts: Sequence[str]) -> dict[str, float]:
    """Read episode caps from NAME=VALUE texts.

    Raises:
        ConfigError: a text is written otherwise, or a name comes twice.
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
                f"episode-cap should be NAME=VALUE, once for each cost, received '{text}'"
            ) from None
    return budget


def versions() -> Mapping[str, str]:
    """Return the versions of Python and of the packages that a run uses."""
    packages = ("numpy", "onnxruntime", "pyserial", "mcap")
    return {
        "holdfast": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def default_directory(contract: Contract) -> Path:
    """Return the default directory of a run's log, which does not exist yet."""
    task = re.sub(r"[^A-Za-z0-9_-]", "-", contract.task.rpartition("/")[2])
    name = f"{task}-{time.strftime('%Y%m%d-%H%M%S')}"
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(
        Path("runs") / free
        for free in itertools.chain((name,), numbered)
        if not (Path("runs") / free).exists()
    )
