"""How fast training is in shards: one batch, shards in turn, and shards on workers of a local Ray.

The four go on in turn, an iteration each, for the machine's speed drifts; medians, and quartiles of
the ratio to one batch. Prints the table of docs/guides/CLUSTER.md.

    python -m benchmarks.cluster_speed
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import os
import statistics
import time

import mujoco
import numpy as np
import ray
import torch

from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.train import SHARDS, spread
from holdfast.sim.registry import resolve

CASES = (("PointCircle-v0", 20_000), ("DriveCircle-v0", 20_000), ("PointCircle-v0", 100_000))


def row(settings: TrainSettings, rounds: int) -> str:
    """Train in the four ways in turn; return a line of the table."""
    whole = dataclasses.replace(settings, shards=0)
    with contextlib.ExitStack() as stack:
        learners = [Learner(whole), *(Learner(settings) for _ in range(3))]
        for learner in learners:
            stack.callback(learner.close)
        for workers, learner in ((1, learners[2]), (2, learners[3])):
            cluster = stack.enter_context(spread(learner, "local", workers))
            while cluster.workers < workers:
                learner.iterate()
        speeds = [[speed(learner) for learner in learners] for _ in range(1 + rounds)][1:]
    text = f"| {settings.task}, batch {settings.batch:,} | {median(speeds, 0):,.0f} "
    for i in range(1, 4):
        low, middle, high = np.percentile([s[i] / s[0] for s in speeds], (25, 50, 75))
        text += f"| {median(speeds, i):,.0f}: {middle:.2f} [{low:.2f}, {high:.2f}] "
    return text + "|"


def speed(learner: Learner) -> float:
    """Return steps per second of an iteration, the fitting of its critics included."""
    before, started = learner.iteration, time.perf_counter()
    record = learner.iterate()
    learner.fitting.wait()
    return record["steps"] / (before + 1) / (time.perf_counter() - started)


def median(speeds: list[list[float]], which: int) -> float:
    return statistics.median(s[which] for s in speeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="iterations of each way")
    parser.add_argument("--shards", type=int, default=SHARDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # Three places, so that the workers of both clusters may wait for their turn.
    ray.init(
        "local", num_cpus=3, include_dashboard=False,
        log_to_driver=False, logging_level=logging.CRITICAL,
    )  # fmt: skip
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {arguments.shards} shards, Ray "
          f"{ray.__version__}, MuJoCo {mujoco.__version__}\n")  # fmt: skip
    print("| steps/s | one batch | shards in turn | 1 worker | 2 workers |")
    print("| --- | --- | --- | --- | --- |")
    for task, batch in CASES:
        settings = TrainSettings(task=resolve(task), batch=batch, shards=arguments.shards)
        print(row(settings, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
