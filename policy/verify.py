"""`holdfast verify`: is this bundle what it says, and what was trained?"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.text import Text

from holdfast.errors import BundleError, HoldfastError
from holdfast.policy import bundle, checkpoint
from holdfast.policy.bundle import Bundle
from holdfast.policy.export import Exported, checkpoint_of, export, file_hash
from holdfast.signals import Array

OBSERVATIONS = 10_000
TOLERANCE = 1e-5


def command(policy: Path, robot: str | None = None, task: str | None = None) -> int:
    """Check a bundle: digest, golden pairs, parity with torch, limits, reproducible export.

    Args:
        policy: the bundle; its training state should lie beside it.
        robot: the robot that it should be for.
        task: the task that it should be for.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    held = bundle.load(policy)  # digest, graph and golden pairs are checked by loading
    held.expect(robot, task)
    console.print(
        f"{policy}: digest, graph and golden pairs hold; contract {held.contract.hash[:16]}"
    )
    failed = 0
    checks: tuple[tuple[str, Callable[[Bundle], str]], ...] = (
        ("training state", check_training_state),
        ("parity", check_parity),
        ("reproducible", check_reproducible),
    )
    for name, check in checks:
        try:
            console.print(Text.assemble(("ok", "green"), f"      {name}: {check(held)}"))
        except HoldfastError as error:
            failed += 1
            console.print(Text.assemble(("refused", "red"), f" {name}: {error}"))
    return 1 if failed else 0


def check_training_state(held: Bundle) -> str:
    """The checkpoint beside the bundle is the one that it was exported from."""
    source = checkpoint_of(held.path)
    if not source.exists():
        raise BundleError(f"{source} should lie beside the bundle; it is not there")
    if file_hash(source) != held.provenance["checkpoint"]["sha256"]:
        raise BundleError(f"{source} is not the training state that the bundle was exported from")
    return f"{source.name} is what the bundle was exported from"


def observations(held: Bundle, count: int = OBSERVATIONS) -> Array:
    """Return observations (count, n): near the golden ones, and out to 10⁶ times their size."""
    rng = np.random.default_rng(0)
    known = held.golden.observation
    near = known[rng.integers(len(known), size=count)]
    scale = np.where(rng.random(count) < 0.5, 0.3, 10.0 ** rng.uniform(-3.0, 6.0, count))
    return near + scale[:, None] * rng.standard_normal(near.shape)


def check_parity(held: Bundle) -> str:
    """ONNX Runtime and torch agree, and every action is inside the limits."""
    networks, _ = checkpoint.load_networks(checkpoint_of(held.path))
    x = observations(held).astype(np.float32)
    with torch.no_grad():
        expected = Exported(networks, held.contract)(torch.from_numpy(x))
    found = held.outputs(x.astype(np.float64))
    worst = 0.0
    for name, a, b in zip(bundle.OUTPUTS, found, expected, strict=True):
        scaled = np.abs(a - b.detach().double().numpy()) / np.maximum(1.0, np.abs(a))
        worst = max(worst, float(scaled.max()))
        if not worst <= TOLERANCE:
            raise BundleError(
                f"'{name}' differs from torch by {worst:.3g}; {TOLERANCE:g} is allowed"
            )
    contract, action = held.contract, found[0]
    slack = 1e-6 * contract.action_half_range
    if (action < contract.action_low - slack).any() or (
        action > contract.action_high + slack
    ).any():
        raise BundleError("an action lies outside the contract's limits")
    return f"torch and ONNX Runtime differ by at most {worst:.2g} over {len(x)} observations"


def check_reproducible(held: Bundle) -> str:
    """Exporting the training state again gives this very file."""
    extra = {
        key: held.provenance[key]
        for key in ("parent", "logs", "finetune")
        if key in held.provenance
    }
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / held.path.name
        source = Path(folder) / "state.safetensors"
        shutil.copyfile(checkpoint_of(held.path), source)
        export(source, again, held.provenance["evaluation_episodes"], extra)
        if again.read_bytes() != held.path.read_bytes():
            raise BundleError("a second export differs from this file (other library versions?)")
    return "a second export is byte-identical"
