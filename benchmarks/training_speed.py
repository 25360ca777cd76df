"""How fast training is: against bare physics, by size of batch, and how much memory it takes.

Ratios come from figures taken in turn in one run, for the machine's speed drifts; each is the
median of several. Prints the tables of docs/SPEED.md.

    python benchmarks/training_speed.py            # all of it, about ten minutes
    python benchmarks/training_speed.py whole      # one table: whole, update, memory or growth
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable

import mujoco
import numpy as np
import torch
from batch_speed import PERIODS, open_loop, spread, times

from holdfast.policy.learner import Learner
from holdfast.policy.rollout import Rollout
from holdfast.policy.settings import TrainSettings, defaults

REPEATS = 5
ROUNDS = 9
BETWEEN_S = 2.0


def whole() -> None:
    """Whole training, updates included, and the physics alone on as many threads."""
    print(
        "\n| task, settings | physics alone | training | share | best | share of CPU time |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    for name in ("PointCircle-v0", "DriveCircle-v0"):
        for preset in ("paper", "holdfast"):
            learner = Learner(defaults(preset, name))
            size = learner.iterate()["steps"]
            bare = open_loop(name, learner.batch.copies)
            bare()
            rounds = [neighbours(learner, bare) for _ in range(ROUNDS)]
            learner.close()
            bare_s, bare_cpu, train_s, train_cpu = np.array(rounds).T
            share = bare_s / train_s
            print(
                f"| {name}, {preset}: {size:,} steps a batch | {1 / np.median(bare_s):,.0f}/s "
                f"| {1 / np.median(train_s):,.0f}/s | {spread(share)} | {share.max():.2f} "
                f"| {spread(bare_cpu / train_cpu)} |",
                flush=True,
            )


def neighbours(learner: Learner, bare: Callable[[], None]) -> tuple[float, float, float, float]:
    """Return wall and CPU seconds per step, of the physics alone and of training: the first
    before and after some seconds of the second."""
    steps = 0

    def train() -> None:
        nonlocal steps
        before, until = learner.iteration, time.perf_counter() + BETWEEN_S
        while time.perf_counter() < until:
            record = learner.iterate()
        learner.fitting.wait()
        steps = (learner.iteration - before) * record["steps"] // record["iteration"]

    before, trained, after = times(bare), times(train), times(bare)
    periods = 2 * PERIODS * learner.batch.copies
    return (
        (before[0] + after[0]) / periods,
        sum(before[1:] + after[1:]) / periods,
        trained[0] / steps,
        sum(trained[1:]) / steps,
    )


def update() -> None:
    """One CPO update on 20,000 samples, one after the other on one thread."""
    settings = TrainSettings(task="DriveCircle-v0")  # 64×64 networks, 9 observations, 2 actions
    learner = Learner(settings)
    steps = learner.contract.episode_steps
    learner.iterate()
    seconds: dict[str, list[float]] = {"estimate": [], "step": [], "critics": [], "all": []}
    for _ in range(REPEATS):
        made = learner.collector.collect(learner.policy, learner.normaliser, steps)
        learner.fitting.wait()
        laps = alone(learner, made)
        for name, value in laps.items():
            seconds[name].append(value)
    learner.close()
    print("\n| part of an update on 20,000 samples | seconds |\n| --- | --- |")
    for name, values in seconds.items():
        print(
            f"| {name} | {statistics.median(values):.3f} [{min(values):.3f}, {max(values):.3f}] |"
        )


def alone(learner: Learner, made: Rollout) -> dict[str, float]:
    """Do what `Learner.iterate` does after its rollout, but in turn; return seconds."""
    started = time.perf_counter()
    judged = learner.judge(made)
    estimated = time.perf_counter()
    learner.step(judged)
    stepped = time.perf_counter()
    learner.fit(judged)
    learner.fitting.wait()
    fitted = time.perf_counter()
    return {
        "estimate": estimated - started,
        "step": stepped - estimated,
        "critics": fitted - stepped,
        "all": fitted - started,
    }


def in_a_process(job: Callable[..., object], *arguments: object) -> object:
    """Return what the job returns in a fresh process: memory is a process's."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(job, arguments)


def peaks(settings: TrainSettings, iterations: int) -> list[float]:
    """Return the largest resident memory of this process after each iteration, MiB."""
    torch.set_num_threads(1)
    learner, found = Learner(settings), []
    for _ in range(iterations):
        learner.iterate()
        learner.fitting.wait()
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0)
    learner.close()
    return found


def memory() -> None:
    """Memory over iterations, at 100,000 samples a batch."""
    print("\n| task, 100,000 samples a batch | after 2 iterations | 20 |\n| --- | --- | --- |")
    for name in ("PointCircle-v0", "DriveCircle-v0"):
        settings = TrainSettings(task=name, batch=100_000)
        found = in_a_process(peaks, settings, 20)
        print(f"| {name} | {found[1]:.0f} MiB | {found[-1]:.0f} MiB |", flush=True)


def timed(settings: TrainSettings, iterations: int) -> tuple[float, float]:
    """Return the seconds of an iteration, and of its rollout, per 1,000 steps: medians."""
    torch.set_num_threads(1)
    learner, whole, alone = Learner(settings), [], []
    for i in range(1 + iterations):
        started = time.perf_counter()
        record = learner.iterate()
        size = record["steps"] / learner.iteration
        if i:
            whole.append((time.perf_counter() - started) / size * 1000.0)
            alone.append(record["seconds"]["rollout"] / size * 1000.0)
    learner.close()
    return statistics.median(whole), statistics.median(alone)


def growth() -> None:
    """Time per step by batch, at a fixed number of copies; and by the number of copies."""
    print("\n| PointCircle | ms per 1,000 steps | of it rollout |\n| --- | --- | --- |")
    base = TrainSettings(task="PointCircle-v0")
    for batch in (20_000, 50_000, 100_000, 200_000):
        whole, alone = timed(dataclasses.replace(base, batch=batch), 5)
        print(f"| batch {batch:,} | {1e3 * whole:.1f} | {1e3 * alone:.1f} |", flush=True)
    for copies in (64, 128, 256, 512, 1024):
        settings = dataclasses.replace(base, batch=copies * 65 * 4, episodes=4)
        whole, alone = timed(settings, 5)
        print(
            f"| {copies} copies of 4 episodes | {1e3 * whole:.1f} | {1e3 * alone:.1f} |", flush=True
        )


TABLES = {"whole": whole, "update": update, "memory": memory, "growth": growth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(TABLES)}; all if none is named")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, MuJoCo {mujoco.__version__}, "
          f"torch {torch.__version__}")  # fmt: skip
    for name in arguments.tables or TABLES:
        TABLES[name]()


if __name__ == "__main__":
    main()
