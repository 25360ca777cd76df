"""`holdfast export`: writes policy, cost critics and contract into one ONNX file."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import torch
import tyro
from onnx import helper
from rich.console import Console
from torch import Tensor, nn

import holdfast
from holdfast import files
from holdfast.bundle import reader as bundle
from holdfast.contract import Contract
from holdfast.errors import ConfigError, FileError, TrainingError
from holdfast.plain import written
from holdfast.policy.learn.knots import along
from holdfast.policy.learn.settings import TaskOption, placed, settings_of
from holdfast.policy.models import checkpoint
from holdfast.policy.models.networks import Networks
from holdfast.policy.ship.evaluate import (
    evaluate,
    is_met,
    predict_costs,
    prediction_errors,
)
from holdfast.policy.ship.graph import graph
from holdfast.safety_monitor.familiarity import Familiarity, fit_familiarity
from holdfast.safety_monitor.prediction import Prediction, fit_prediction
from holdfast.schema import to_plain
from holdfast.signals import Array
from holdfast.sim.task_spec import TaskSpec

GOLDEN_PAIRS = 8

MOST_EPISODES = 20_000
EPISODES = 200
"""Default number of simulated episodes; half of them calibrate prediction and familiarity."""

LEAST_FALSE_ALARM_RATE = 0.01
"""Least false-alarm rate of familiarity per episode: a lower rate would only detect later."""

LEAST_LOGGED = 20
"""Least number of a robot's logged episodes at which familiarity is fitted on them too."""


class Exported(nn.Module):
    """What an exported graph has to compute, by PyTorch; see `graph`."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        contract = networks.contract
        self.policy = copy.deepcopy(networks.policy).double()
        self.critic = copy.deepcopy(networks.critic).double()
        self.normaliser = copy.deepcopy(networks.normaliser)
        self.costs = len(contract.costs)
        self.register_buffer("center", torch.from_numpy(contract.action_center))
        self.register_buffer("half_range", torch.from_numpy(contract.action_half_range))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the graph's three outputs for raw observations (B, n)."""
        x = self.normaliser(observation.double())
        mean = self.center + self.half_range * self.policy(x)
        log_std, costs = self.policy.log_std.expand_as(mean), self.critic(x)
        costs = costs[:, 1 + self.costs :]
        return mean.float(), log_std.float(), costs.float()


def checkpoint_of(path: Path) -> Path:
    """Return the path of a bundle's training state, which lies beside the bundle."""
    return path.with_suffix(".checkpoint.safetensors")


def file_hash(path: Path) -> str:
    """Return a file's SHA-256 in hex.

    Raises:
        FileError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(2**20):
                digest.update(part)
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def command(
    source: Annotated[Path, tyro.conf.arg(name="checkpoint")] = Path(
        "runs/train/checkpoint.safetensors"
    ),
    out: Path = Path("runs/train/policy.onnx"),
    episodes: int = EPISODES,
    anyway: bool = False,
    task: TaskOption = None,
) -> None:
    """Write a trained policy as a bundle: one ONNX file with cost critics and contract.

    Args:
        source: checkpoint that `holdfast train` wrote. A copy is written beside the bundle, for
            fine-tuning.
        out: path of the bundle.
        episodes: number of simulated episodes, at least 8. They measure return and costs for the
            provenance, the error of the predicted cost, and the familiar observations. Half of
            them calibrate, so the false-alarm rate of familiarity is at least 2 / episodes.
        anyway: write the bundle also if a cost does not meet its limit. A mean of up to a tenth
            above the limit meets it, as in training.
        task: a task that is no part of Holdfast, as FILE.py:NAME or gym:MODULE:ID. Code that a
            file names is not run, so such a task has to be given. The file may have moved.
    """
    files.require_output(out, (".onnx",), [source])
    _require_episodes(episodes)
    print(f"{source}: is measured over {episodes} simulated episodes, which may take a minute")
    provenance = export(source, out, episodes, task=task, require_met=not anyway)
    steps = zip(along(bundle.load(out).contract), _along(provenance), strict=True)
    lines = [
        f"{out}: return {measured['return']['mean']:.1f}, {_beside_limits(measured, contract)} "
        "per episode in simulation"
        for contract, measured in steps
    ]
    lines[-1] += f"; SHA-256 {file_hash(out)[:16]}"
    Console(soft_wrap=True, highlight=False, markup=False).print("\n".join(lines))


def _along(provenance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what was measured under each contract of `along`."""
    found: list[Mapping[str, Any]] = provenance.get("measured_along", [provenance["measured"]])
    return found


def _beside_limits(measured: Mapping[str, Any], contract: Contract) -> str:
    """Return each mean cost beside its limit, and whether it is not met."""
    means = {cost.name: measured["costs"][cost.name]["mean"] for cost in contract.costs}
    return ", ".join(
        f"{cost.name} {means[cost.name]:.2f} (limit d = {cost.limit:g}"
        f"{'' if is_met(means[cost.name], cost.limit) else ', limit not met'})"
        for cost in contract.costs
    )


def export(
    source: Path,
    out: Path,
    episodes: int,
    extra: dict[str, Any] | None = None,
    task: TaskSpec | None = None,
    require_met: bool = False,
) -> dict[str, Any]:
    """Write bundle and checkpoint copy; return the provenance. Equal inputs give equal bytes.

    Args:
        source: the checkpoint.
        extra: further entries in a fine-tuned child's provenance (parent, logs).
        task: see `settings_from`.
        require_met: write nothing if a cost does not meet its limit. A policy of a task without
            limits, trained by an algorithm that ignores limits, has none to meet.

    Raises:
        ConfigError: too few or too many episodes.
        TrainingError: the source is no checkpoint, its task has to be given, or a limit is not met.
        FileError: a file cannot be written; earlier files are unchanged.
    """
    _require_episodes(episodes)
    state = checkpoint.read(source)  # once, as training may replace the file meanwhile
    tensors, data = checkpoint.parse(source, state)
    networks = checkpoint.networks_of(source, tensors, data)
    logged = checkpoint.known_episodes(tensors, networks.contract.observation_size)
    logged = logged if len(logged) >= LEAST_LOGGED else []
    settings = settings_of(source, data, task)
    there = placed(data, source.parent, out.parent)
    if there != data:  # the copy of the state names the task's file by its path from the bundle
        data, state = there, checkpoint.content(tensors, there)
    seed = settings.seed
    evaluation = evaluate(networks, settings, episodes, seed)
    steps = along(networks.contract)
    held = (
        [evaluation]
        if len(steps) == 1
        else [
            evaluate(dataclasses.replace(networks, contract=step), settings, episodes, seed)
            for step in steps
        ]
    )
    if require_met and (settings.task.has_limits or settings.limit):
        _require_met(
            source, [(step, found.summary()) for step, found in zip(steps, held, strict=True)]
        )
    cost_to_go, half, contract = (
        predict_costs(networks, evaluation),
        episodes // 2,
        networks.contract,
    )
    prediction = fit_prediction(cost_to_go[half:], evaluation.costs[half:], contract.episode_steps)
    provenance: dict[str, Any] = {
        "holdfast": holdfast.__version__,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "onnx": onnx.__version__,
        },
        "seed": seed,
        "settings": data["settings"],
        "iteration": data["iteration"],
        **{key: data[key] for key in ("demonstrations", "started_from") if key in data},
        "checkpoint": {
            "file": checkpoint_of(out).name,
            "sha256": hashlib.sha256(state).hexdigest(),
        },
        "evaluation_episodes": episodes,
        "measured": evaluation.summary(),
        **({"measured_along": [each.summary() for each in held]} if len(held) > 1 else {}),
        "prediction": prediction_errors(
            contract, cost_to_go[:half], evaluation.costs[:half], prediction
        ),
        **(extra or {}),
    }
    familiarity = fit_familiarity(evaluation.observations, _rate(episodes, logged), logged)
    content = serialise(networks, evaluation.observations, prediction, familiarity, provenance)
    bundle.from_bytes(content, out)  # a bundle that a robot would refuse is not written
    with files.replacing(out, content), files.replacing(checkpoint_of(out), state):
        pass  # both or neither
    return provenance


def _require_episodes(episodes: int) -> None:
    if episodes < GOLDEN_PAIRS:
        raise ConfigError(
            f"episodes should be at least {GOLDEN_PAIRS}, received {written(episodes)}"
        )
    if episodes > MOST_EPISODES:
        raise ConfigError(f"episodes should be at most {MOST_EPISODES}, received {episodes}")


def _require_met(source: Path, along: Sequence[tuple[Contract, Mapping[str, Any]]]) -> None:
    """Raise TrainingError unless each limit is met, for a range under each contract along it."""
    if not all(
        is_met(measured["costs"][cost.name]["mean"], cost.limit)
        for contract, measured in along
        for cost in contract.costs
    ):
        told = "; ".join(_beside_limits(measured, contract) for contract, measured in along)
        raise TrainingError(
            f"{source}: {told} per episode in simulation; nothing is written. Train on, or give "
            "--anyway to export such a policy"
        )


def serialise(
    networks: Networks,
    episodes: Sequence[Array],
    prediction: Prediction,
    familiarity: Familiarity,
    provenance: dict[str, Any],
) -> bytes:
    """Return the sealed bytes of a bundle.

    Args:
        episodes: observations (steps, n) of each simulated episode, also for golden pairs.
    """
    contract, model = networks.contract, graph(networks)
    entries = {
        "format": bundle.FORMAT,
        "contract": contract.to_json(),
        "golden": json.dumps(_golden(Exported(networks), np.concatenate(episodes))),
        "familiarity": json.dumps(to_plain(familiarity)),
        "prediction": json.dumps(to_plain(prediction)),
        "provenance": json.dumps(provenance, sort_keys=True),
        "digest": bundle.PLACEHOLDER,
    }
    helper.set_model_props(model, {f"holdfast_{key}": text for key, text in entries.items()})
    return bundle.seal(model.SerializeToString(deterministic=True))


def _rate(episodes: int, logged: Sequence[Array]) -> float:
    """Return the lowest false-alarm rate that both calibrations can show: 1 / half the episodes."""
    halves = (math.ceil(count / 2) for count in (episodes, len(logged)) if count)
    return max(LEAST_FALSE_ALARM_RATE, *(1.0 / half for half in halves))


@torch.no_grad()
def _golden(module: Exported, observations: Array) -> dict[str, list[list[float]]]:
    """Return simulated observations and two far outside, with the network's outputs."""
    rng = np.random.default_rng(0)
    rows = rng.choice(len(observations), GOLDEN_PAIRS - 2, replace=False)
    spread = observations.std(axis=0) + 1e-3
    far = observations.mean(axis=0) + spread * rng.choice([-50.0, 50.0], (2, len(spread)))
    chosen = np.concatenate((observations[rows], far)).astype(np.float32)
    outputs = module(torch.from_numpy(chosen))
    named = zip(bundle.OUTPUTS, outputs, strict=True)
    return {"observation": chosen.tolist(), **{name: value.tolist() for name, value in named}}
