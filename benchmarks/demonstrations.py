"""From unsafe demonstrations to a policy under its limit, beside training from random weights.

Policies that are unsafe under the task's limit are trained and logged in simulation: CPO's under a
looser limit, and TRPO's under none. Each is cloned from its log, and CPO goes on from the clone.
Prints a table: mean over seeds, and range, of return and cost per episode.

    python -m benchmarks.demonstrations --seeds 3
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.cpo_rules import spread
from holdfast.policy.improve.demonstrations import clone, read
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings, contract_of
from holdfast.sim.registry import resolve
from tests.helpers.data.demonstrators import record_policy

TASK = "PointCircle-v0"
LOOSE = 3.0
"""How many times the task's limit the first kind of demonstrator was allowed."""

AFTER = (5, 10, 15, 30)
"""Iterations at which the mean of the last three is shown."""

Figures = tuple[float, float]


def figures(records: list[dict]) -> Figures:
    """Return the mean return and cost of a few iterations."""
    costs = [cost for record in records for cost in record["costs"].values()]
    return float(np.mean([record["return"] for record in records])), float(np.mean(costs))


def demonstrators(base: TrainSettings) -> dict[str, TrainSettings]:
    (cost,) = contract_of(base).costs
    loose = LOOSE * cost.limit
    return {
        f"CPO, d = {loose:g}": dataclasses.replace(base, limit=(loose,)),
        "TRPO, no limit": dataclasses.replace(base, algorithm="trpo"),
    }


def learn(job: tuple[str, int, argparse.Namespace]) -> tuple[str, int, dict[str, Figures]]:
    name, seed, arguments = job
    torch.set_num_threads(1)
    base = TrainSettings(task=resolve(TASK), batch=arguments.batch, seed=seed)
    teacher = Learner(demonstrators(base)[name])
    for _ in range(arguments.demonstrator_iterations):
        teacher.iterate()
    pupil, scratch = Learner(base), Learner(base)
    with tempfile.TemporaryDirectory() as folder:
        run = record_policy(Path(folder) / "run", teacher.networks, arguments.episodes, 1000 + seed)
        shown = clone(pupil.networks, read([run], pupil.contract, pupil.settings.task.make()), seed)
    records = [pupil.iterate() for _ in range(max(AFTER))]
    others = [scratch.iterate() for _ in range(max(AFTER))]
    rows = {"demonstrations": figures([shown]), "clone": figures(records[:1])}
    for after in AFTER:
        rows[f"{after} iterations from the clone"] = figures(records[after - 3 : after])
        rows[f"{after} iterations from random weights"] = figures(others[after - 3 : after])
    for learner in (teacher, pupil, scratch):
        learner.close()
    return name, seed, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=6500)
    parser.add_argument("--demonstrator-iterations", type=int, default=25)
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    base = TrainSettings(task=resolve(TASK), batch=arguments.batch)
    jobs = [
        (name, seed, arguments) for name in demonstrators(base) for seed in range(arguments.seeds)
    ]
    results: dict[str, list[dict[str, Figures]]] = {name: [] for name in demonstrators(base)}
    with ProcessPoolExecutor(arguments.workers) as pool:
        for name, seed, rows in pool.map(learn, jobs):
            print(f"{name}, seed {seed}: {rows}", flush=True)
            results[name].append(rows)
    (cost,) = contract_of(base).costs
    print(
        f"\n{TASK}, d = {cost.limit:g}, {arguments.episodes} episodes logged, iterations of "
        f"{arguments.batch} steps, mean of the last 3, seeds 0 to {arguments.seeds - 1}\n"
    )
    print("| demonstrated by | | return | cost |\n| --- | --- | --- | --- |")
    for name, seeds in results.items():
        for row in seeds[0]:
            returns, costs = zip(*(rows[row] for rows in seeds), strict=True)
            print(f"| {name} | {row} | {spread(list(returns), 0)} | {spread(list(costs), 1)} |")


if __name__ == "__main__":
    main()
