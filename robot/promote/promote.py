"""`holdfast promote`, `hold` and `rollback`: change what may run on a robot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from holdfast import files
from holdfast.bundle import reader as bundles
from holdfast.bundle.reader import Bundle
from holdfast.contract import Contract
from holdfast.errors import BundleError, ConfigError, FileError, RegistryError
from holdfast.log.evidence import CERTIFIED, decision
from holdfast.plain import counted, shown
from holdfast.registry import signing
from holdfast.registry.registry import Registry
from holdfast.registry.signing import CANARY, PROMOTED, Purpose, Signed
from holdfast.registry.state import Action, Entry, Slot, State
from holdfast.robot import config as configs
from holdfast.robot.config import RobotConfig
from holdfast.robot.run.assembly import parse_budget
from holdfast.robot.run.deployment import Deployment, require_no_alarm
from holdfast.safety_monitor.costs import CostModel
from holdfast.safety_monitor.evidence import Evidence
from holdfast.safety_monitor.look import require_a_robot

ALLOWANCE = 100
"""Most episodes of a trial, by default; benchmarks/canary.py shows how many trials need."""

MOST_ALLOWANCE = 1_000_000

TIGHTENED = 2.0
"""A canary's episode cap, as a multiple of the limit d, where the contract's is not lower."""


def promote(
    policy: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")],
    config: Path,
    canary: bool = False,
    limit: tuple[float, ...] = (),
    episode_cap: tuple[str, ...] = (),
    allowance: int = ALLOWANCE,
    explore: bool = False,
    anyway: str = "",
    by: str = "",
) -> None:
    """Promote a policy whose trial as canary certified that it keeps its limits.

    With --canary, begin such a trial: `holdfast deploy --canary` then runs its episodes. The
    promoted policy becomes the previous one, to which `holdfast rollback` goes back.

    Args:
        policy: the bundle, an .onnx file. On a robot with trusted keys its signature lies beside
            it.
        config: the robot's configuration file, with a section `registry`.
        canary: place the policy as canary, in place of an earlier canary.
        limit: limit d in force, for each cost that the policy was trained for a range of limits
            of. The promoted policy keeps the limit of its trial. Default: the contract's own.
        episode_cap: NAME=VALUE for each cost whose episode cap is tightened, in cost units. The
            promoted policy keeps the caps of its trial. Default: twice the limit d, if the
            contract's episode cap is not lower.
        allowance: most episodes of the trial.
        explore: the policy runs with sampled actions, in its trial and when it is promoted.
        anyway: a reason for which the policy is promoted without a certificate; the receipt has
            it.
        by: name of the person who does this. Default: the name of the account.
    """
    robot, registry = opened(config)
    if not 1 <= allowance <= MOST_ALLOWANCE:
        raise ConfigError(
            f"allowance should be at least 1 and at most {MOST_ALLOWANCE}, received "
            f"{shown(str(allowance)) if allowance.bit_length() < 256 else 'a longer number'}"
        )
    if anyway:
        _require_reason("anyway", anyway)
    held, data, signed = _admitted(policy, robot, registry, CANARY if canary else PROMOTED)
    placed = registry.state.canary
    if canary or placed is None or placed.bundle != held.hash:
        held = held.under(limit)
        caps = tightened(held.contract) | parse_budget(episode_cap)
        slot = Slot(held.hash, signed, caps, explore, allowance if canary else 0, limit)
    else:
        if episode_cap or explore or limit:
            raise ConfigError(
                f"{held.hash[:12]} is promoted as it was tried; give neither --limit, "
                "--episode-cap nor --explore"
            )
        held, slot = held.under(placed.limit), replace(placed, signed=signed)
    evidence = _evidence(registry, slot, held.contract)
    if canary and evidence.episodes >= allowance:
        raise ConfigError(
            f"allowance should be more than the {counted(evidence.episodes, 'episode')} already "
            f"counted of {held.hash[:12]}, received {allowance}"
        )
    require_no_alarm(registry, held)
    why = anyway
    if not (canary or anyway):
        why = _certificate(evidence, slot)
    purpose = CANARY if canary else PROMOTED

    def change(state: State) -> State:
        registry.allow(state, held.hash, signed, purpose, policy)
        require_no_alarm(registry, held)
        return state.tried(slot) if canary else state.promote(slot)

    registry.keep(data, _lineage(held))
    action: Action = "canary" if canary else "promote"
    entry = registry.add(action, held.hash, change, by=by, signed=signed, why=why)
    _tell_new(registry, entry)
    caps_text = ", ".join(f"{name} {value:g}" for name, value in slot.episode_cap.items())
    limits_text = "".join(f"limit {limit:g} and " for limit in slot.limit)
    print(
        f"{registry.hardware_id}: {purpose} is {held.hash[:12]}, with {limits_text}episode caps "
        f"{caps_text} (receipt {entry.number})"
    )


def hold(
    policy: tyro.conf.Positional[str],
    config: Path,
    why: str,
    release: bool = False,
    by: str = "",
) -> None:
    """Hold a policy: it does not run any more, in any slot, until it is released.

    Args:
        policy: `promoted` or `canary`, the bundle's file, or the first 8 or more digits of its
            SHA-256.
        config: the robot's configuration file, with a section `registry`.
        why: the reason; whoever tries to run the policy reads it.
        release: let a held policy run again.
        by: name of the person who does this. Default: the name of the account.
    """
    _require_reason("why", why)
    _, registry = opened(config)
    sha256 = _named(policy, registry)
    if release:
        registry.add("release", sha256, lambda s: s.released(sha256), by=by, why=why)
        print(f"{registry.hardware_id}: {sha256[:12]} may run again")
    else:
        _tell_new(
            registry, registry.add("hold", sha256, lambda s: s.hold(sha256, why), by=by, why=why)
        )
        print(f"{registry.hardware_id}: {sha256[:12]} is held")


def rollback(config: Path, why: str, by: str = "") -> None:
    """Promote the previous policy again, and hold the policy that was promoted.

    Args:
        config: the robot's configuration file, with a section `registry`.
        why: the reason.
        by: name of the person who does this. Default: the name of the account.
    """
    _require_reason("why", why)
    _, registry = opened(config)
    bad = registry.state.slot(PROMOTED).bundle

    def change(state: State) -> State:
        back = state.rolled_back(why)
        sha256 = back.slot(PROMOTED).bundle
        bundles.from_bytes(registry.read(sha256), registry.bundle(sha256))
        return back

    state = registry.add("rollback", bad, change, by=by, why=why).state
    print(
        f"{registry.hardware_id}: promoted is {state.slot(PROMOTED).bundle[:12]} again; "
        f"{bad[:12]} is held"
    )


def _require_reason(name: str, text: str) -> None:
    if not text.strip():
        raise ConfigError(f"{name} should be a reason, received '{shown(text)}'")


def _tell_new(registry: Registry, entry: Entry) -> None:
    if entry.number == 0:
        print(registry.begun_text)


def tightened(contract: Contract) -> dict[str, float]:
    """Return the default episode caps of a canary, by cost name."""
    largest = CostModel(contract).largest
    return {
        cost.name: min(cost.episode_cap, max(TIGHTENED * cost.limit, most))
        for cost, most in zip(contract.costs, largest, strict=True)
    }


def opened(config: Path) -> tuple[RobotConfig, Registry]:
    """Read a robot's file, and open the registry that it names.

    Raises:
        ConfigError: the file is wrong, or names no registry.
    """
    robot = configs.load(config)
    registry = robot.open_registry()
    if registry is None:
        raise ConfigError(
            f"{config}: should have a section registry, with folder and hardware_id; see "
            "docs/guides/PROMOTE.md"
        )
    return robot, registry


def _admitted(
    policy: Path, robot: RobotConfig, registry: Registry, purpose: Purpose
) -> tuple[Bundle, bytes, Signed | None]:
    """Read a bundle and its signature; the signature is checked before the bundle is parsed."""
    try:
        data = files.read(policy, bundles.LARGEST)
    except FileError as error:
        raise BundleError(str(error)) from None
    signed = signing.find(policy) if registry.trusted else None
    registry.allow(registry.state, signing.digest(data), signed, purpose, policy)
    held = bundles.from_bytes(data, policy)
    require_a_robot(held.contract)
    robot.require_fit(held.contract)
    return held, data, signed


def _evidence(registry: Registry, slot: Slot, contract: Contract) -> Evidence:
    """Return what the episodes of a policy on this robot say so far."""
    try:
        held = Deployment(registry.evidence(slot), Evidence(contract, slot.episode_cap))
        held.require_robot(registry.hardware_id)
    except ConfigError as error:
        raise RegistryError(
            f"what was counted of {slot.bundle[:12]} on {registry.hardware_id} tells nothing of it "
            f"under these episode caps: {error}"
        ) from None
    return held.evidence


def _certificate(evidence: Evidence, slot: Slot) -> str:
    """Return what certifies a policy.

    Raises:
        RegistryError: nothing does.
    """
    episodes = counted(evidence.episodes, "episode")
    if decision(evidence) == CERTIFIED:
        return f"certified after {episodes}"
    said = f"nothing is certified after {episodes}"
    if not slot.allowance:
        advice = "begin its trial with --canary"
    elif evidence.episodes < slot.allowance:
        advice = "run its trial with `holdfast deploy --canary`"
    else:
        advice = f"go on with --canary and an --allowance of more than {episodes}"
    raise RegistryError(f"{slot.bundle[:12]} should be certified: {said}; {advice}")


def _lineage(held: Bundle) -> dict[str, object]:
    """Return where a bundle comes from."""
    wanted = ("parent", "logs", "checkpoint", "adopted")
    known = {key: held.provenance[key] for key in wanted if key in held.provenance}
    contract = held.contract
    return {"contract": contract.hash, "robot": contract.robot, "task": contract.task, **known}


def _named(policy: str, registry: Registry) -> str:
    """Return the SHA-256 of a bundle that a person named."""
    if policy in (CANARY, PROMOTED):
        return registry.state.slot(policy).bundle
    path = Path(policy)
    if path.is_file():
        return signing.digest(files.read(path, bundles.LARGEST))
    if signing.DIGEST.allows(policy):
        return policy
    found = [each for each in registry.known() if len(policy) >= 8 and each.startswith(policy)]
    if len(found) != 1:
        raise RegistryError(
            f"policy should be {PROMOTED}, {CANARY}, a file, or the SHA-256 of a bundle that "
            f"{registry.hardware_id} knows, received '{shown(policy)}'"
        )
    return found[0]
