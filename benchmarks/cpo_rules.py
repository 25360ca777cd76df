"""What CPO's two additions to the paper do: slack in the line search, correction of the excess.
And how the critics are fitted, and what is there without a limit.

Trains each combination over several seeds and prints a table: mean over seeds (and its range)
of the return and cost of the last 20 iterations, and the share of steps that were taken.

    python -m benchmarks.cpo_rules --task PointCircle-v0 --iterations 60 --seeds 5
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

from holdfast.policy.algorithms.cpo import CPOSettings
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings, contract_of
from holdfast.policy.train import last_means
from holdfast.sim.registry import resolve

RULES = {
    "both": {},
    "no slack": {"own": CPOSettings(slack=0.0)},
    "no correction": {"own": CPOSettings(correction=0.0)},
    "neither (the paper's)": {"own": CPOSettings(slack=0.0, correction=0.0)},
    "20 critic steps on 4,096": {"critic_steps": 20, "critic_minibatch": 4096},
    "TRPO, no limit": {"algorithm": "trpo"},
}


def train(job: tuple[str, TrainSettings]) -> tuple[str, int, float, float, float, float]:
    name, settings = job
    torch.set_num_threads(1)
    learner = Learner(settings)
    started = time.perf_counter()
    records = [learner.iterate() for _ in range(settings.iterations)]
    seconds = time.perf_counter() - started
    taken = float(np.mean([record["accepted"] is not None for record in records]))
    learner.close()
    reward, costs = last_means(records)
    (cost,) = costs.values()
    return name, settings.seed, reward, cost, taken, records[-1]["steps"] / seconds


def spread(values: list[float], digits: int) -> str:
    low, high = min(values), max(values)
    return f"{np.mean(values):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="PointCircle-v0")
    parser.add_argument("--batch", type=int, default=20_000)
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rules", nargs="*", default=list(RULES), choices=list(RULES))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    base = TrainSettings(
        task=resolve(arguments.task), batch=arguments.batch, iterations=arguments.iterations
    )
    jobs = []
    for name in arguments.rules:
        for seed in range(arguments.seeds):
            jobs.append((name, dataclasses.replace(base, seed=seed, **RULES[name])))
    results: dict[str, list[tuple[float, ...]]] = {name: [] for name in arguments.rules}
    with ProcessPoolExecutor(arguments.workers) as pool:
        for name, seed, *values in pool.map(train, jobs):
            print(f"{name}, seed {seed}: {np.round(values, 2)}", flush=True)
            results[name].append(tuple(values))
    (cost,) = contract_of(base).costs
    print(f"\n{arguments.task}, d = {cost.limit:g}, {arguments.iterations} iterations, "
          f"seeds 0 to {arguments.seeds - 1}\n")  # fmt: skip
    print("| rule | return | cost | steps taken |\n| --- | --- | --- | --- |")
    for name, rows in results.items():
        returns, costs, taken, _ = (list(column) for column in zip(*rows, strict=True))
        print(f"| {name} | {spread(returns, 0)} | {spread(costs, 1)} | {np.mean(taken):.0%} |")


if __name__ == "__main__":
    main()
