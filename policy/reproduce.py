"""`holdfast reproduce`: repeats the CPO paper's comparison over tasks, algorithms and seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from holdfast import files, plain
from holdfast.contract import Cost
from holdfast.errors import ConfigError, TrainingError
from holdfast.log.format import PROGRESS
from holdfast.policy.algorithms.penalty import TRPOPenaltySettings
from holdfast.policy.figures import Curves, comparison
from holdfast.policy.learn.settings import AlgorithmName, TrainSettings, contract_of, defaults
from holdfast.policy.models import checkpoint
from holdfast.policy.train import CHECKPOINT, train
from holdfast.signals import Array
from holdfast.sim.registry import registered, resolve

PAGE = "results.md"
CHECKPOINT_EVERY = 10
LAST_SHARE = 0.2
"""Last share of training, whose mean a table shows."""


@dataclass(frozen=True)
class Study:
    """The runs of a task.

    Attributes:
        iterations: iterations of each run.
        prices: prices of the fixed penalties, too low and too high, in reward per unit of cost.
        batch: steps per iteration; None: the paper's.
        algorithms: algorithms beside the fixed penalties.
    """

    iterations: int
    prices: tuple[float, ...] = ()
    batch: int | None = None
    algorithms: tuple[AlgorithmName, ...] = (
        "cpo",
        "pcpo",
        "focops",
        "trpo",
        "pdo",
        "ppo-lagrangian",
    )

    def runs(self, task: str) -> dict[str, TrainSettings]:
        """Return the settings of each run, by the run's name."""

        def usual(algorithm: str) -> TrainSettings:
            settings = defaults("paper", registered(task), algorithm)
            batch = settings.batch if self.batch is None else self.batch
            return dataclasses.replace(settings, iterations=self.iterations, batch=batch)

        made = {name: usual(name) for name in self.algorithms}
        for price in self.prices:
            own = dataclasses.replace(TRPOPenaltySettings.paper(), penalty=(price,))
            made[f"trpo-penalty-{price:g}"] = dataclasses.replace(usual("trpo-penalty"), own=own)
        return made


STUDIES: Mapping[str, Study] = {
    "holdfast/PointCircle-v0": Study(iterations=60, prices=(0.3, 30.0)),
    "holdfast/PointGather-v0": Study(iterations=60, prices=(1.0, 100.0)),
    "holdfast/AntCircle-v0": Study(iterations=30, batch=50_000, algorithms=("cpo", "trpo")),
    "holdfast/AntGather-v0": Study(iterations=30, batch=50_000, algorithms=("cpo", "trpo")),
    "holdfast/HumanoidCircle-v0": Study(iterations=30, algorithms=("cpo", "trpo")),
}
"""The point tasks have the paper's settings, the legged tasks a small part of its steps."""


def command(
    tasks: tuple[str, ...] = tuple(STUDIES),
    seeds: int = 5,
    algorithms: tuple[str, ...] = (),
    out: Path = Path("runs/reproduce"),
) -> None:
    """Train with CPO, PCPO, FOCOPS, TRPO, primal-dual methods and fixed penalties; draw the curves.

    Runs lie in `out`/task/algorithm/seed. A finished run is not repeated, and an interrupted run
    is resumed, so that the command with more seeds adds runs. What is left is printed first, and
    after each run.

    Args:
        tasks: tasks to train on, among the five of the default.
        seeds: runs of each algorithm, with the seeds 0, 1, ...
        algorithms: algorithms to train with, as the tables name them (trpo-penalty-0.3 is one).
            Default: all of each task.
        out: folder for the runs, the page and its pictures.
    """
    tasks = tuple(resolve(task).id for task in tasks)
    for task in tasks:
        if task not in STUDIES:
            raise ConfigError(f"tasks should be of {', '.join(STUDIES)}, received '{task}'")
    if seeds < 1:
        raise ConfigError(f"seeds should be at least 1, received {seeds}")
    chosen = {task: _chosen(task, algorithms) for task in tasks}
    console = Console(soft_wrap=True, highlight=False, markup=False)
    runs = [
        (dataclasses.replace(settings, seed=seed), folder(out, task, name, seed))
        for seed in range(seeds)  # outermost, so that algorithms can be compared early
        for task, made in chosen.items()
        for name, settings in made.items()
    ]
    unfinished = [run for run in runs if done(*run) < run[0].iterations]
    console.print(left(runs))
    for settings, place in unfinished:
        complete(settings, place, console)
        console.print(left(runs))
    console.print(f"{write(out, chosen, seeds)}")


def _chosen(task: str, algorithms: Sequence[str]) -> dict[str, TrainSettings]:
    """Return the settings of a task's runs, by name: of all algorithms, or of those named.

    Raises:
        ConfigError: the task has no run of such a name.
    """
    runs = STUDIES[task].runs(task)
    for name in algorithms:
        if name not in runs:
            guess = plain.meant(name, runs) or f"; known are {', '.join(runs)}"
            raise ConfigError(f"algorithms: {task} has no runs of '{plain.shown(name)}'{guess}")
    return {name: runs[name] for name in algorithms or runs}


def left(runs: Sequence[tuple[TrainSettings, Path]]) -> str:
    """Return a sentence with the numbers of runs and of iterations that are left."""
    iterations = [settings.iterations - done(settings, place) for settings, place in runs]
    return (
        f"left: {np.count_nonzero(iterations)} of {len(runs)} runs, {sum(iterations)} of "
        f"{sum(settings.iterations for settings, _ in runs)} iterations"
    )


def folder(out: Path, task: str, name: str, seed: int) -> Path:
    """Return the folder of a run."""
    return out / task.rpartition("/")[2] / name / str(seed)


def complete(settings: TrainSettings, place: Path, console: Console) -> None:
    """Run the remaining iterations of a run."""
    if done(settings, place) < settings.iterations:
        resume = (place / CHECKPOINT).exists()
        learner, _ = train(
            settings, place, resume, CHECKPOINT_EVERY, console, again="the same command"
        )
        learner.close()


def done(settings: TrainSettings, place: Path) -> int:
    """Return the iterations of a run that are not run again: those before its checkpoint."""
    if len(records(place)) >= settings.iterations:
        return settings.iterations
    path = place / CHECKPOINT
    return int(checkpoint.load(path)[1]["iteration"]) if path.exists() else 0


def records(place: Path) -> list[dict[str, Any]]:
    """Return the records of a run so far."""
    path = place / PROGRESS
    return plain.read_json_lines(path, TrainingError) if path.exists() else []


def read(places: Sequence[Path], cost: Cost) -> Curves:
    """Return the curves of runs that differ in their seeds alone."""
    runs = [records(place) for place in places]

    def values(of: Callable[[dict[str, Any]], float]) -> Array:
        return np.array([[of(record) for record in run] for run in runs])

    return Curves(
        np.array([record["steps"] for record in runs[0]]),
        values(lambda record: record["return"]),
        values(lambda record: record["costs"][cost.name]),
        values(lambda record: record.get("shaped_costs", record["costs"])[cost.name]),
    )


def last(values: Array) -> Array:
    """Return the means (seeds,) of values (seeds, iterations) over the last share of training."""
    count = max(1, round(LAST_SHARE * values.shape[1]))
    return np.asarray(values[:, -count:].mean(axis=1))


def write(out: Path, chosen: Mapping[str, Mapping[str, TrainSettings]], seeds: int) -> Path:
    """Draw the curves and write the tables of runs, by task and name; return the page."""
    parts = [
        f"Means over the last fifth of training, ± standard deviation over {seeds} seeds. Shaped: "
        "the cost with the failure predictor's part, where there is a predictor. Limits are put on "
        "the shaped cost."
    ]
    for task, runs in chosen.items():
        (cost,) = contract_of(next(iter(runs.values()))).costs
        curves = {
            name: read([folder(out, task, name, seed) for seed in range(seeds)], cost)
            for name in runs
        }
        drawn = f"{task.rpartition('/')[2]}.svg"
        files.write(out / drawn, comparison(curves, cost))
        parts += [f"## {task}", table(runs, curves, cost), f"![{task}]({drawn})"]
    page = out / PAGE
    files.write(page, "\n\n".join(parts) + "\n")
    return page


def table(runs: Mapping[str, TrainSettings], curves: Mapping[str, Curves], cost: Cost) -> str:
    """Return a Markdown table with a row per algorithm."""
    first = next(iter(runs.values()))
    rows = [
        f"{first.iterations} iterations of {first.batch:,} steps; limit d = {cost.limit:g} "
        f"{cost.name} per episode.",
        "",
        f"| algorithm | return | {cost.name} | share of d | each seed's | shaped |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, each in curves.items():
        rewards, costs, shaped = map(last, (each.returns, each.costs, each.shaped))
        own = ", ".join(f"{value:.3g}" for value in costs)
        rows.append(
            f"| {name} | {rewards.mean():.1f} ± {rewards.std():.1f} | "
            f"{costs.mean():.3g} ± {costs.std():.2g} | {costs.mean() / cost.limit:.0%} | {own} | "
            f"{shaped.mean():.3g} ± {shaped.std():.2g} |"
        )
    return "\n".join(rows)
