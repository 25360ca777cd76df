"""`holdfast verify`: checks a bundle, also against its training state."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape

from holdfast import files
from holdfast.bundle import reader as bundle
from holdfast.bundle.reader import Bundle
from holdfast.contract import Contract
from holdfast.errors import BundleError, FileError, HoldfastError
from holdfast.policy.learn.settings import TASK_FLAGS, settings_of
from holdfast.policy.models import checkpoint
from holdfast.policy.ship.export import Exported, checkpoint_of, export, file_hash
from holdfast.signals import Array
from holdfast.sim.registry import is_program, resolve
from holdfast.sim.task_spec import TaskSpec

OBSERVATIONS = 10_000
TOLERANCE = 1e-5

OF_A_CHILD = ("parent", "logs", "finetune", "profile", "improve")
"""Entries that a child's export adds to the provenance."""


def command(
    policy: Path,
    robot: str | None = None,
    task: Annotated[str | None, TASK_FLAGS] = None,
) -> int:
    """Check a bundle: digest, golden pairs, parity with torch, limits, reproducible export.

    Args:
        policy: the bundle; the training state should lie beside the bundle, unless `holdfast adopt`
            made it.
        robot: the robot that the bundle should be for.
        task: the task that the bundle should be for. A task that is no part of Holdfast is given
            as FILE.py:NAME or gym:MODULE:ID, as the task runs to export the bundle again. The
            file may have moved.
    """
    console = Console(soft_wrap=True, highlight=False)
    held = bundle.load(policy)  # digest, graph and golden pairs are checked by loading
    program = resolve(task) if task is not None and is_program(task) else None
    held.expect(robot, task if program is None else program.contract.task)
    console.print(
        escape(
            f"{policy}: digest, graph and golden pairs hold; contract {held.contract.hash[:16]}; "
            f"an observation takes {1e3 * held.row_s:.2g} ms of a period of "
            f"{1e3 * held.contract.period_s:g} ms"
        )
    )
    state = b""

    def training_state() -> str:
        nonlocal state
        state = training_state_of(held)
        return f"{checkpoint_of(held.path).name} is what the bundle was exported from"

    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("training state", training_state),
        ("parity", lambda: check_parity(held, state)),
        ("reproducible", lambda: check_reproducible(held, state, program)),
    )
    if "adopted" in held.provenance:
        checks = (("adopted", lambda: check_adopted(held)),)
    failed = 0
    for name, check in checks:
        try:
            console.print(f"[green]ok[/green]      {name}: {escape(check())}")
        except HoldfastError as error:
            failed += 1
            console.print(f"[red]refused[/red] {name}: {escape(str(error))}")
    return 1 if failed else 0


def training_state_of(held: Bundle) -> bytes:
    """Return the bytes of the checkpoint that the bundle was exported from, beside the bundle.

    Raises:
        BundleError, TrainingError: there is no checkpoint, or another one.
    """
    source = checkpoint_of(held.path)
    if not source.exists():
        raise BundleError(f"{source} should lie beside the bundle; it is not there")
    state, named = checkpoint.read(source), held.provenance.get("checkpoint")
    wanted = named.get("sha256") if isinstance(named, dict) else None
    if hashlib.sha256(state).hexdigest() != wanted:
        raise BundleError(f"{source} is not the training state that the bundle was exported from")
    return state


def observations(held: Bundle, count: int = OBSERVATIONS) -> Array:
    """Return observations (count, n), from near the golden ones to 10⁶ times their size."""
    rng = np.random.default_rng(0)
    known = held.golden.observation
    near = known[rng.integers(len(known), size=count)]
    scale = np.where(rng.random(count) < 0.5, 0.3, 10.0 ** rng.uniform(-3.0, 6.0, count))
    return near + scale[:, None] * rng.standard_normal(near.shape)


def check_adopted(held: Bundle) -> str:
    """Check that an adopted policy's outputs are finite and its actions inside the limits."""
    x = observations(held)
    found = dict(zip(held.names, held.outputs(x), strict=True))
    if not all(np.isfinite(values).all() for values in found.values()):
        raise BundleError("an output is not finite")
    _require_limits(held.contract, found["action"])
    return (
        "the policy was trained elsewhere, so there is no training state to compare; over "
        f"{len(x)} observations its actions are inside the limits"
    )


def check_parity(held: Bundle, state: bytes) -> str:
    """Check that ONNX Runtime and torch agree, and that every action is inside the limits."""
    _require_state(state)
    source = checkpoint_of(held.path)
    networks = checkpoint.networks_of(source, *checkpoint.parse(source, state))
    if networks.contract != held.contract:
        raise BundleError("the training state has another contract than the bundle")
    x = observations(held).astype(np.float32)
    with torch.no_grad():
        expected = Exported(networks)(torch.from_numpy(x))
    found = held.outputs(x.astype(np.float64))
    worst = 0.0
    for name, a, b in zip(bundle.OUTPUTS, found, expected, strict=True):
        scaled = np.abs(a - b.detach().double().numpy()) / np.maximum(1.0, np.abs(a))
        worst = max(worst, float(scaled.max()))
        if not worst <= TOLERANCE:
            raise BundleError(
                f"'{name}' differs from torch by {worst:.3g}; {TOLERANCE:g} is allowed"
            )
    _require_limits(held.contract, found[0])
    return f"torch and ONNX Runtime differ by at most {worst:.2g} over {len(x)} observations"


def _require_limits(contract: Contract, action: Array) -> None:
    slack = 1e-6 * contract.action_half_range
    if (action < contract.action_low - slack).any() or (
        action > contract.action_high + slack
    ).any():
        raise BundleError("an action lies outside the contract's limits")


def check_reproducible(held: Bundle, state: bytes, task: TaskSpec | None = None) -> str:
    """Check that a second export of the training state gives exactly this file."""
    _require_state(state)
    source = checkpoint_of(held.path)
    settings_of(source, checkpoint.parse(source, state)[1], task)  # a refusal names this file
    episodes = held.provenance.get("evaluation_episodes")
    if not isinstance(episodes, int):
        raise BundleError("its provenance should say its evaluation_episodes")
    extra = {key: held.provenance[key] for key in OF_A_CHILD if key in held.provenance}
    try:
        with tempfile.TemporaryDirectory() as folder:
            again = Path(folder) / held.path.name
            files.write(checkpoint_of(again), state)
            export(checkpoint_of(again), again, episodes, extra, task)
            found = file_hash(again)
    except OSError as error:  # the temporary folder cannot be used
        raise FileError(f"{tempfile.gettempdir()}: cannot be used ({error.strerror})") from None
    if found != held.hash:
        raise BundleError("a second export differs from this file (other library versions?)")
    return "a second export is byte-identical"


def _require_state(state: bytes) -> None:
    if not state:
        raise BundleError("needs the training state that the bundle was exported from")
