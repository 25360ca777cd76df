"""How long a training takes to a policy that is worth having, from the records of `limits_met`.

    python -m benchmarks.limits_met --out runs/limits_met
    python -m benchmarks.time_to_solution --runs runs/limits_met

A run has its solution at the first iteration up to which the mean cost of five iterations is at or
under d and their mean return at least 90 % of the final one, the mean of the last ten iterations.
Prints a row per task: iterations, steps and wall time, the median over seeds with the range. Wall
time is that of the machine as it was: trainings that shared it took longer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.policy.reproduce import records

SMOOTHED, LAST = 5, 10
"""Iterations of a moving mean, and those of the final return."""

SHARE = 0.9
"""Share of the final return that a solution has."""


def solved(run: Sequence[dict[str, Any]]) -> int | None:
    """Return the number of the iteration at which a run has its solution, or None."""
    returns = np.array([each["return"] for each in run])
    (name,) = run[0]["costs"]
    costs = np.array([each["costs"][name] for each in run])
    mean = np.ones(SMOOTHED) / SMOOTHED
    good = np.convolve(returns, mean, "valid") >= SHARE * returns[-LAST:].mean()
    kept = np.convolve(costs, mean, "valid") <= run[0]["limits"][name]
    found = np.flatnonzero(good & kept)
    return int(found[0]) + SMOOTHED if len(found) else None


def told(values: Sequence[float], unit: float = 1.0) -> str:
    """Return the median of values with their range, in a unit."""
    low, middle, high = (f(values) / unit for f in (np.min, np.median, np.max))
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/limits_met"))
    given = parser.parse_args()
    print("| task | solved | iterations | million steps | wall time, s |")
    print("| --- | --- | --- | --- | --- |")
    for task in sorted(each for each in given.runs.iterdir() if each.is_dir()):
        runs = [records(place) for place in sorted(task.iterdir())]
        ends = [(run, at) for run in runs if (at := solved(run)) is not None]
        spent = [sum(sum(each["seconds"].values()) for each in run[:at]) for run, at in ends]
        row = [
            f"{len(ends)} of {len(runs)}",
            told([at for _, at in ends]) if ends else "-",
            told([run[at - 1]["steps"] for run, at in ends], 1e6) if ends else "-",
            told(spent) if ends else "-",
        ]
        print(f"| {task.name} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
