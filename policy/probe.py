"""`holdfast train --probe`: measures a task's costs without a limit, to choose a limit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from holdfast import files
from holdfast.contract import Contract
from holdfast.errors import TrainingError
from holdfast.policy.algorithms import ALGORITHMS
from holdfast.policy.algorithms.trpo import TRPOSettings
from holdfast.policy.figures import frontier
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import (
    TrainSettings,
    contract_of,
    defaults,
)
from holdfast.policy.learn.shaping import ShapingSettings
from holdfast.policy.progress import progress
from holdfast.policy.ship.evaluate import Evaluation, evaluate, evaluate_actions
from holdfast.signals import Array

PROBE = "probe.json"
PICTURE = "probe.svg"
FORMAT = 1
EPISODES = 200
SHARES = (0.1, 0.25, 0.5)
"""Limits in between, as shares of the cost without a limit."""


def probe(settings: TrainSettings, out: Path, console: Console) -> dict[str, Any]:
    """Measure policies in simulation, print a table, and write probe.json and probe.svg.

    Doing nothing is the action 0; random actions are uniform within their limits; the
    unconstrained policy is TRPO's after `settings.iterations` batches. Policies in between are
    trained as long under limits of `SHARES` of its costs, by the settings' algorithm if it aims to
    meet limits, otherwise by CPO.

    Raises:
        TrainingError: `out` holds a probe already.
    """
    path = out / PROBE
    if path.exists():
        raise TrainingError(f"{path}: exists; give another --out")
    given, settings = settings, unconstrained(settings)
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
    free = trained(learner, "without a limit", console)
    for limit in limits_between(free):
        name = f"limit d = {', '.join(f'{d:g}' for d in limit)}"
        learner = Learner(constrained(given, limit))
        evaluations[name] = trained(learner, name, console)
    evaluations["without a limit"] = free
    console.print(table(evaluations, contract))
    policies = {name: evaluation.summary() for name, evaluation in evaluations.items()}
    report = {
        "format": FORMAT,
        "settings": settings.to_data(),
        "contract": contract.to_json(),
        "policies": policies,
    }
    out.mkdir(parents=True, exist_ok=True)
    files.write(path, json.dumps(report, indent=2) + "\n")
    files.write(out / PICTURE, frontier(policies, contract))
    console.print(f"{path}")
    console.print(f"{out / PICTURE}")
    return report


def trained(learner: Learner, name: str, console: Console) -> Evaluation:
    """Return the evaluation of a learner's policy after all its iterations; close the learner."""
    settings = learner.settings
    with progress(console, f"training, {name}", settings.iterations) as show:
        for count in range(1, settings.iterations + 1):
            learner.iterate()
            show(count, "")
    evaluation = evaluate(learner.networks, settings, EPISODES, settings.seed)
    learner.close()
    return evaluation


def limits_between(free: Evaluation) -> list[tuple[float, ...]]:
    """Return limits that are shares of the costs of a policy without a limit, to two digits.

    There are none if that policy costs nothing: then no limit makes a difference.
    """
    cost = free.cost_returns.mean(axis=0)
    shares = SHARES if cost.any() else ()
    return [tuple(float(f"{share * each:.2g}") for each in cost) for share in shares]


def unconstrained(settings: TrainSettings) -> TrainSettings:
    """Return the settings for TRPO, without settings that TRPO does not read."""
    own = defaults(settings.preset, settings.task, "trpo").own
    if isinstance(settings.own, TRPOSettings):
        own = TRPOSettings(settings.own.step)
    free = ShapingSettings()
    return dataclasses.replace(settings, algorithm="trpo", own=own, shaping=free, pessimism=0.0)


def constrained(settings: TrainSettings, limit: tuple[float, ...]) -> TrainSettings:
    """Return the settings with other limits; for CPO, unless the algorithm aims to meet limits."""
    if not ALGORITHMS[settings.algorithm].meets_limit:
        own = defaults(settings.preset, settings.task, "cpo").own
        settings = dataclasses.replace(settings, algorithm="cpo", own=own)
    return dataclasses.replace(settings, limit=limit)


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
