"""What a policy costs on a robot that nobody has measured, with and without pessimism.

    python -m benchmarks.pessimism --out runs/pessimism [--seeds 5] [--factors 0 5]

Trains on robots drawn from ranges, for each factor and seed, and runs each policy for --episodes
episodes on robots that no training saw, behind no monitor. Prints a row per robot and factor, with
the values of all seeds. A run in the work folder that is finished is not repeated, and an
interrupted one is resumed.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from holdfast.policy.learn.settings import TrainSettings, settings_of
from holdfast.policy.models import checkpoint
from holdfast.policy.reproduce import complete
from holdfast.policy.ship.evaluate import evaluate
from holdfast.policy.train import CHECKPOINT
from holdfast.sim.parameters import catalogue
from holdfast.sim.registry import resolve

STARTS = 20_000
"""First seed of the evaluations, which no training has."""

HEAD = (
    "| robot | factor | cost [least, most] | of each seed | keeps d | return [least, most] |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


def worth(path: Path, gap: Path, episodes: int, seed: int) -> tuple[float, float]:
    """Return a checkpoint's mean cost and return on a robot."""
    networks, data = checkpoint.load_networks(path)
    settings = settings_of(path, data)
    settings = dataclasses.replace(settings, randomise=catalogue.load_gap(gap))
    found = evaluate(networks, settings, episodes, STARTS + seed)
    return float(found.cost_returns[:, 0].mean()), float(found.returns.mean())


def spread(values: Sequence[float], digits: int) -> str:
    """Return the mean, and the range."""
    mean, low, high = np.mean(values), min(values), max(values)
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="DriveCircle-v0")
    parser.add_argument("--randomise", type=Path, default=Path("config/randomise_drive.yaml"))
    parser.add_argument(
        "--gaps", type=Path, nargs="*",
        default=[Path("config/gap_demo.yaml"), Path("config/gap_late.yaml")],
    )  # fmt: skip
    parser.add_argument("--factors", type=float, nargs="*", default=[0.0, 5.0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=65)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("runs/pessimism"))
    arguments = parser.parse_args()
    task, ranges = resolve(arguments.task), catalogue.load(arguments.randomise)
    found: dict[tuple[str, float], list[tuple[float, float]]] = {}
    limit = 0.0
    for seed in range(arguments.seeds):
        for factor in arguments.factors:
            settings = TrainSettings(
                task=task, seed=seed, iterations=arguments.iterations, randomise=ranges,
                pessimism=factor,
            )  # fmt: skip
            place = arguments.out / f"{factor:g}" / str(seed)
            complete(settings, place, Console(file=io.StringIO()))
            limit = settings.task.contract.costs[0].limit
            for gap in arguments.gaps:
                each = worth(place / CHECKPOINT, gap, arguments.episodes, seed)
                found.setdefault((gap.stem, factor), []).append(each)
                print(f"{gap.stem}, factor {factor:g}, seed {seed}: {each}", flush=True)
    print(HEAD)
    for (name, factor), rows in sorted(found.items()):
        costs, returns = zip(*rows, strict=True)
        met = sum(cost <= limit for cost in costs)
        told = ", ".join(f"{cost:.1f}" for cost in costs)
        print(
            f"| `{name}` | {factor:g} | {spread(costs, 1)} | {told} | {met} of {len(costs)} "
            f"| {spread(returns, 0)} |"
        )


if __name__ == "__main__":
    main()
