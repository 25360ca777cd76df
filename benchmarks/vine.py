"""TRPO's vine beside TRPO, at the same number of simulated steps, branches counted.

Prints, over several seeds, the return at a quarter, a half and all of the steps: its mean over
seeds and its range.

    python -m benchmarks.vine --task PointCircle-v0 --steps 800000 --seeds 5
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

from holdfast.policy.algorithms.trpo_vine import VineSettings
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.sim.registry import resolve

SHARES = (0.25, 0.5, 1.0)
WAYS = {
    "TRPO, batch 20,000": {"algorithm": "trpo", "batch": 20_000},
    "TRPO, batch 10,000": {"algorithm": "trpo", "batch": 10_000},
    "TRPO, batch 5,000": {"algorithm": "trpo", "batch": 5_000},
    "vine, 200 states, 4 branches of 25": {"algorithm": "trpo-vine", "batch": 5_000},
    "vine, 400 states, 2 branches of 25": {
        "algorithm": "trpo-vine",
        "batch": 5_000,
        "own": VineSettings(states=400, branches=2),
    },
    "vine, 200 states, 4 branches to the end": {
        "algorithm": "trpo-vine",
        "batch": 5_000,
        "own": VineSettings(branch_steps=0),
    },
    "vine, 100 states, 2 branches of 10": {
        "algorithm": "trpo-vine",
        "batch": 3_000,
        "own": VineSettings(states=100, branches=2, branch_steps=10),
    },
}


def train(job: tuple[str, int, str, int]) -> tuple[str, list[float]]:
    """Train until the steps are used up; return the mean of three batches' returns at each
    share."""
    name, seed, task, steps = job
    torch.set_num_threads(1)
    learner = Learner(TrainSettings(task=resolve(task), seed=seed, **WAYS[name]))
    at, returns = [0], [0.0]
    while at[-1] < steps:
        record = learner.iterate()
        at.append(record["steps"])
        returns.append(record["return"])
    learner.close()
    ends = [int(np.searchsorted(at, share * steps)) + 1 for share in SHARES]
    return name, [float(np.mean(returns[end - 3 : end])) for end in ends]


def spread(values: list[float]) -> str:
    return f"{np.mean(values):.0f} [{min(values):.0f}, {max(values):.0f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="PointCircle-v0")
    parser.add_argument("--steps", type=int, default=800_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    jobs = [
        (name, seed, arguments.task, arguments.steps)
        for name in WAYS
        for seed in range(arguments.seeds)
    ]
    results: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    with ProcessPoolExecutor(arguments.workers) as pool:
        for name, returns in pool.map(train, jobs):
            print(f"{name}: {np.round(returns, 1)}", flush=True)
            results[name].append(returns)
    print(f"\n{arguments.task}, seeds 0 to {arguments.seeds - 1}\n")
    heads = " | ".join(f"at {share * arguments.steps:,.0f} steps" for share in SHARES)
    print(f"| | {heads} |\n| --- | {'--- | ' * len(SHARES)}")
    for name, rows in results.items():
        cells = (spread(list(column)) for column in zip(*rows, strict=True))
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
