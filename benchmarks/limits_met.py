"""Does CPO meet its limits? Trains it on several tasks over seeds, at Holdfast's settings.

Prints a row per task: return and cost of the last 20 iterations, the mean over seeds with the 95 %
interval that Student's t gives, and whether the interval includes d or lies below it. Runs lie in
--out/task/seed; a finished run is not repeated, and an interrupted one is resumed.

    python -m benchmarks.limits_met [--tasks DriveCircle-v0] [--seeds 5] [--iterations 70]
    python -m benchmarks.limits_met --tasks DriveCircle-v0 --iterations 150 --randomise FILE.yaml
"""

from __future__ import annotations

import argparse
import dataclasses
import io
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from scipy.stats import t as student

from holdfast.policy.algorithms.cpo import CPOSettings
from holdfast.policy.learn.settings import TrainSettings, contract_of
from holdfast.policy.reproduce import complete, records
from holdfast.policy.train import last_means
from holdfast.sim.parameters import catalogue
from holdfast.sim.registry import resolve

TASKS = ("DriveCircle-v0", "DriveGoal-v0", "DriveGather-v0", "PointCircle-v0", "PointGather-v0")


def train(job: tuple[TrainSettings, Path]) -> None:
    settings, place = job
    complete(settings, place, Console(file=io.StringIO()))


def interval(values: list[float]) -> tuple[float, float, float]:
    """Return the mean of one value per seed, with its 95 % interval (Student's t)."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, mean, mean
    arm = student.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count)
    return mean, mean - float(arm), mean + float(arm)


def row(settings: TrainSettings, places: list[Path]) -> str:
    (cost,) = contract_of(settings).costs
    means = [last_means(records(place)) for place in places]
    reward = interval([reward for reward, _ in means])
    found = [costs[cost.name] for _, costs in means]
    mean, low, high = interval(found)
    digits = 1 if cost.limit >= 1.0 else 3
    each = ", ".join(f"{value:.{digits}f}" for value in found)
    return (
        f"| {settings.task.id.rpartition('/')[2]} | {cost.limit:g} "
        f"| {reward[0]:.1f} [{reward[1]:.1f}, {reward[2]:.1f}] "
        f"| {mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}] | {each} "
        f"| {'yes' if low <= cost.limit else 'no'} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=70)
    parser.add_argument("--correction", type=float, default=CPOSettings().correction)
    parser.add_argument("--randomise", type=lambda text: catalogue.load(Path(text)))
    parser.add_argument("--out", type=Path, default=Path("runs/limits_met"))
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    jobs: dict[str, list[tuple[TrainSettings, Path]]] = {}
    for name in arguments.tasks:
        base = TrainSettings(
            task=resolve(name),
            iterations=arguments.iterations,
            randomise=arguments.randomise,
            own=CPOSettings(correction=arguments.correction),
        )
        jobs[name] = [
            (dataclasses.replace(base, seed=seed), arguments.out / name / str(seed))
            for seed in range(arguments.seeds)
        ]
    with ProcessPoolExecutor(arguments.workers) as pool:
        list(pool.map(train, [job for each in jobs.values() for job in each]))
    print("| task | d | return | cost | each seed's cost | met |")
    print("| --- | --- | --- | --- | --- | --- |")
    for each in jobs.values():
        print(row(each[0][0], [place for _, place in each]))


if __name__ == "__main__":
    main()
