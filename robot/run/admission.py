"""Admission of a policy to a robot: its registry is asked before anything reads a bundle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast import files, plain
from holdfast.bundle import reader as bundles
from holdfast.bundle.contract_file import load_contract
from holdfast.bundle.limit_range import under
from holdfast.bundle.reader import Bundle
from holdfast.contract import Contract
from holdfast.errors import (
    BundleError,
    ConfigError,
    FileError,
    HoldfastError,
    RegistryError,
    RunError,
)
from holdfast.registry import signing
from holdfast.registry.registry import MOST_TEXT, Registry
from holdfast.registry.signing import CANARY, PROMOTED, Purpose, Signed
from holdfast.registry.state import Action, Entry, Slot, SlotName, State
from holdfast.robot import config as configs
from holdfast.robot.config import RobotConfig
from holdfast.robot.run.deployment import require_no_alarm
from holdfast.safety_monitor.look import require_a_robot

BUNDLE_SUFFIX = ".onnx"
SLOTS: dict[str, Purpose] = {PROMOTED: PROMOTED, CANARY: CANARY}
"""Words that name a policy by its slot in the robot's registry, in place of a file."""


@dataclass(frozen=True)
class Admission:
    """A policy that may run on a robot.

    Attributes:
        bundle: None for external proposals, for which only a contract is given.
        slot, name: the registry's slot and its name; None and "" for a policy that was named by
            its file.
        signed: the bundle's signature, or None.
        registry: the robot's registry; None: the robot has none.
    """

    contract: Contract
    bundle: Bundle | None
    config: RobotConfig
    slot: Slot | None = None
    name: SlotName = ""
    signed: Signed | None = None
    registry: Registry | None = None

    @property
    def sha256(self) -> str:
        """SHA-256 of the bundle's file; "" without a bundle."""
        return "" if self.bundle is None else self.bundle.hash

    @property
    def evidence(self) -> Path:
        """The file with the evidence of a slot's policy."""
        assert self.slot is not None
        assert self.registry is not None
        return self.registry.evidence(self.slot)

    def require_fit(self, hardware_id: str, explore: bool) -> None:
        """Check that this robot, and this way to choose actions, is what the policy may run with.

        Raises:
            RunError: this is another robot than the registry's, or the policy was admitted with
                another way to choose its actions.
        """
        if self.registry is not None and hardware_id != self.registry.hardware_id:
            raise RunError(
                f"the configuration's registry is of {self.registry.hardware_id}, and this robot "
                f"says that it is {hardware_id}: give its own configuration, or write its name "
                "as registry.hardware_id and name a new registry.folder"
            )
        if self.slot is not None and explore != self.slot.explore:
            how = "with --explore" if self.slot.explore else "without --explore"
            raise RunError(
                f"the {self.name} policy {self.slot.bundle[:12]} was admitted {how}, and should "
                "run so: its evidence holds for nothing else"
            )

    @contextlib.contextmanager
    def run(self, run: str) -> Iterator[list[str]]:
        """Write the receipts of a run: of its begin, without which nothing runs, and of its end.

        Args:
            run: directory of the log.

        Yields:
            A list for texts that say how the run ended.

        Raises:
            BundleError, RegistryError: the policy was held or left its slot in the meantime.
            FileError: a receipt cannot be written.
        """
        said: list[str] = []
        if self.registry is None or self.bundle is None:
            yield said
            return
        if self._receipt("run", run, change=self._begun).number == 0:
            print(self.registry.begun_text)
        try:
            yield said
        except BaseException as error:
            with contextlib.suppress(FileError, RegistryError):  # the first error decides
                self._receipt("end", run, _ending(error))
            raise
        self._receipt("end", run, "; ".join(said))

    def _begun(self, state: State) -> State:
        """Return the state at a run's begin; a hold may have come since the policy was admitted."""
        assert self.registry is not None
        assert self.bundle is not None
        name = self.name or PROMOTED
        require_no_alarm(self.registry, self.bundle)
        self.registry.allow(state, self.sha256, self.signed, name, Path(self.name or self.sha256))
        if self.slot is not None and state.slot(name) != self.slot:
            raise RegistryError(
                f"{self.slot.bundle[:12]} left the slot {name} of {state.hardware_id} while the "
                "run began; start again"
            )
        return state.accepted(self.signed)

    def _receipt(
        self,
        action: Action,
        run: str,
        why: str = "",
        change: Callable[[State], State] = lambda state: state,
    ) -> Entry:
        assert self.registry is not None
        return self.registry.add(
            action,
            self.sha256,
            change,
            slot=self.name,
            signed=self.signed,
            why=plain.printable(why)[:MOST_TEXT],  # of an error, which may quote anything
            run=plain.printable(run),
        )


def _ending(error: BaseException) -> str:
    """Return what ended a run, in words."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, SystemExit):  # its text is a bare exit status
        return f"the program was told to exit, with status {error.code}"
    if isinstance(error, HoldfastError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def admit(policy: Path, config: Path | None, limits: Sequence[float] = ()) -> Admission:
    """Find a policy and the robot's configuration, and check that the policy may run there.

    Args:
        policy: `promoted` or `canary`; a bundle; or the YAML file of a contract.
        config: the robot's configuration file; None: the installed file of the contract's robot.
        limits: in force, for each cost with a range; empty: the contract's own.

    Raises:
        BundleError: the registry refuses the bundle, or it is missing, damaged or no bundle.
        RegistryError: nothing is in the slot.
        ContractError, ConfigError: a file is wrong.
    """
    robot = None if config is None else configs.load(config)
    if name := SLOTS.get(str(policy)):
        if limits:
            raise ConfigError(
                f"the {name} policy has its limit in the robot's registry; leave --limit out"
            )
        return _from_slot(name, robot)
    if policy.suffix != BUNDLE_SUFFIX:
        contract = under(load_contract(policy), limits)
        return Admission(contract, None, robot or _installed(contract))
    registry = None if robot is None else robot.open_registry()
    try:
        data = files.read(policy, bundles.LARGEST)
    except FileError as error:
        raise BundleError(str(error)) from None
    signed = None
    if registry is not None:
        signed = signing.find(policy) if registry.trusted else None
        registry.allow(registry.state, signing.digest(data), signed, PROMOTED, policy)
    bundle = bundles.from_bytes(data, policy).under(limits)
    if registry is not None:
        require_no_alarm(registry, bundle)
    if robot is None:
        robot = _installed(bundle.contract)
        if robot.registry is not None:
            raise ConfigError(
                f"the installed file of robot '{robot.robot}' names a registry; name the file with "
                "--config, since a bundle should not choose which registry is asked"
            )
    return Admission(bundle.contract, bundle, robot, signed=signed, registry=registry)


def _installed(contract: Contract) -> RobotConfig:
    """Return the installed file of a contract's robot."""
    require_a_robot(contract)  # a simulation has no file, which would hide why
    return configs.load(configs.find(contract.robot))


def _from_slot(name: Purpose, robot: RobotConfig | None) -> Admission:
    registry = None if robot is None else robot.open_registry()
    if robot is None or registry is None:
        raise ConfigError(
            f"policy '{name}' is that of a robot's registry; --config should name the robot's "
            "file, with a section registry"
        )
    state = registry.state
    slot = state.slot(name)
    data, path = registry.read(slot.bundle), registry.bundle(slot.bundle)
    registry.allow(state, slot.bundle, slot.signed, name, path)
    bundle = bundles.from_bytes(data, path).under(slot.limit)
    return Admission(bundle.contract, bundle, robot, slot, name, slot.signed, registry)


def parse_limits(text: str) -> tuple[float, ...]:
    """Read limits in force from a node's parameter: numbers with spaces between them.

    Raises:
        ConfigError: the text is something else.
    """
    try:
        return tuple(plain.finite(word) for word in text.split())
    except ValueError:
        raise ConfigError(
            f"parameter limit should be numbers with spaces between them, received '{text}'"
        ) from None
