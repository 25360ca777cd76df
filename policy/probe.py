"""`holdfast train --probe`: measures a task's costs without a limit, to choose a limit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

from holdfast import files
from holdfast.contract import Contract
from holdfast.errors import TrainingError
from holdfast.policy.algorithms.trpo import TRPOSettings
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import (
    TrainSettings,
    contract_of,
    defaults,
)
from holdfast.policy.learn.shaping import ShapingSettings
from holdfast.policy.ship.evaluate import Evaluation, evaluate, evaluate_actions
from holdfast.signals import Array

PROBE = "probe.json"
FORMAT = 1
EPISODES = 200


def probe(settings: TrainSettings, out: Path, console: Console) -> dict[str, Any]:
    """Measure three policies in simulation, print a table and write probe.json.

    Doing nothing is the action 0; random actions are uniform within their limits; the
    unconstrained policy is TRPO's after `settings.iterations` batches.

    Raises:
        TrainingError: `out` holds a probe already.
    """
    path = out / PROBE
    if path.exists():
        raise TrainingError(f"{path}: exists; give another --out")
    settings = unconstrained(settings)
    contract, rng = contract_of(settings), np.random.default_rng(settings.seed)

    def nothing(count: int) -> Array:
        return np.zeros((count, contract.action_size))

    def at_random(count: int) -> Array:
        return rng.uniform(contract.action_low, contract.action_high, (count, contract.action_size))

    learner = Learner(settings)  # first, as it refuses impossible settings
    evaluations = {
        "doing nothing": evaluate_actions(contract, settings, nothing, EPISODES, settings.seed),
        "random actions": evaluate_actions(contract, settings, at_random, EPISODES, settings.seed),
    }
    for _ in track(range(settings.iterations), "training without a limit", console=console):
        steps = learner.iterate()["steps"]
    name = f"without a limit, after {steps:,} steps"
    evaluations[name] = evaluate(learner.networks, settings, EPISODES, settings.seed)
    learner.close()
    console.print(table(evaluations, contract))
    report = {
        "format": FORMAT,
        "settings": settings.to_data(),
        "contract": contract.to_json(),
        "policies": {name: evaluation.summary() for name, evaluation in evaluations.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    files.write(path, json.dumps(report, indent=2) + "\n")
    console.print(f"{path}")
    return report


def unconstrained(settings: TrainSettings) -> TrainSettings:
    """Return the settings for TRPO, without settings that TRPO does not read."""
    own = defaults(settings.preset, settings.task, "trpo").own
    if isinstance(settings.own, TRPOSettings):
        own = TRPOSettings(settings.own.step)
    return dataclasses.replace(settings, algorithm="trpo", own=own, shaping=ShapingSettings())


def table(evaluations: dict[str, Evaluation], contract: Contract) -> Table:
    """Return means with 95 % intervals, a row per policy."""
    heads = [f"{cost.name}, now d = {cost.limit:g}" for cost in contract.costs]
    result = Table(
        "per episode", *(Column(head, justify="right") for head in ("return", *heads)),
        title=f"{contract.task}, {EPISODES} episodes each",
    )  # fmt: skip
    for name, evaluation in evaluations.items():
        summary = evaluation.summary()
        spans = [summary["return"], *summary["costs"].values()]
        result.add_row(name, *(f"{s['mean']:.2f} [{s['low']:.2f}, {s['high']:.2f}]" for s in spans))
    return result
