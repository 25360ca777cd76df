"""A robot's file with a registry, and the commands that change what may run on it."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from holdfast.cli import main
from holdfast.log.format import COMPLETED, EpisodeResult
from holdfast.registry import signing
from holdfast.registry.registry import Registry
from holdfast.registry.signing import PrivateKey
from holdfast.registry.state import Slot
from holdfast.robot import config as configs
from holdfast.robot.run.deployment import Deployment
from holdfast.safety_monitor.evidence import Evidence
from tests.helpers.data.bundles import drive_contract

ALICE = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))


def robot_file(folder: Path, keys: bool = False, unit: str = "drive-7") -> Path:
    path = folder / "robot.yaml"
    text = f"extends: drive\nregistry:\n  folder: registry\n  hardware_id: {unit}\n"
    path.write_text(text + f"  trusted_keys: {{alice: '{ALICE.public}'}}\n" * keys)
    return path


def registry(config: Path) -> Registry:
    opened = configs.load(config).open_registry()
    assert opened is not None
    return opened


def run(*arguments: object) -> int:
    return main([str(each) for each in arguments])


def anyway(policy: Path, config: Path, *more: object) -> int:
    return run("promote", policy, "--config", config, "--anyway", "the first", *more)


def sign(path: Path, purpose: str = "promoted", counter: int = 1) -> None:
    signing.save(ALICE.sign(path.read_bytes(), "drive", purpose, counter), path)


def experience(config: Path, costs: list[float]) -> Deployment:
    """Count episodes for the canary, as `holdfast deploy --canary` does."""
    opened = registry(config)
    slot = opened.state.slot("canary")
    evidence = Evidence(drive_contract(), slot.episode_cap)
    deployment = Deployment(opened.evidence(slot), evidence)
    deployment.claim(opened.hardware_id)
    for cost in costs:
        deployment.add(EpisodeResult(0, 250, (cost,), 0, 0, COMPLETED))
    return deployment


def slots(config: Path) -> tuple[str | None, str | None, str | None]:
    state = registry(config).state

    def bundle(slot: Slot | None) -> str | None:
        return None if slot is None else slot.bundle

    return bundle(state.promoted), bundle(state.previous), bundle(state.canary)
