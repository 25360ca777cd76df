"""How fast training is: against bare physics, by size of batch, and how much memory it takes.

Figures that are compared are taken in turn in one run, for the machine's speed drifts: the median,
in brackets the 10th and the 90th percentile, and the best, which other work on the machine
disturbed least. Beside wall time stands CPU time, of all threads, which other work hardly touches;
it leaves out that threads wait for each other. docs/measured/SPEED.md explains the tables.

    python -m benchmarks.training_speed [--tables whole update memory growth]
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
import torch

from benchmarks.batch_speed import PERIODS, open_loop, spread, times
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings, defaults
from holdfast.sim.registry import resolve

ROUNDS = 9
BATCHES = 10
BETWEEN_S = 2.0
"""Of training, between two runs of the physics alone."""


def whole() -> None:
    """Whole training, updates included, and the physics alone on as many threads."""
    print(
        "\n| task, settings | physics alone | training | share | best | share by CPU time |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    for name in ("PointCircle-v0", "DriveCircle-v0"):
        for preset in ("paper", "holdfast"):
            learner = Learner(defaults(preset, resolve(name)))
            size = learner.iterate()["steps"]
            bare = open_loop(name, learner.batch.copies, os.cpu_count() or 1)
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
    """One CPO update on 20,000 samples: one part after the other, on one thread."""
    learner = Learner(TrainSettings(task=resolve("DriveCircle-v0")))  # 64×64 units, 9 observations
    learner.iterate()
    laps = []
    for _ in range(ROUNDS):
        made = learner.collector.collect(
            learner.policy, learner.normaliser, learner.contract.episode_steps
        )
        learner.fitting.wait()
        clock = [now()]
        evaluated = learner.evaluate(made)
        clock.append(now())
        learner.step(evaluated)
        clock.append(now())
        learner.fit(evaluated)
        learner.fitting.wait()
        clock.append(now())
        laps.append([*np.diff(clock, axis=0), np.subtract(clock[-1], clock[0])])
    learner.close()
    print(
        "\n| of an update on 20,000 samples | s | best | s of CPU time |\n| --- | --- | --- | --- |"
    )
    for i, part in enumerate(("advantages", "step of the policy", "critics", "all")):
        wall, cpu = np.array(laps)[:, i].T
        print(f"| {part} | {spread(wall, 3)} | {wall.min():.3f} | {spread(cpu, 3)} |", flush=True)


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def memory() -> None:
    """Memory over iterations, at 100,000 samples a batch, in a process of its own."""
    print(f"\n| 100,000 samples a batch | after 2 batches | {BATCHES} |\n| --- | --- | --- |")
    for name in ("PointCircle-v0", "DriveCircle-v0", "AntCircle-v0"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(peaks, (TrainSettings(task=resolve(name), batch=100_000),))
        print(f"| {name} | {found[1]:.0f} MiB | {found[-1]:.0f} MiB |", flush=True)


def peaks(settings: TrainSettings) -> list[float]:
    """Return the most memory that this process has had resident after each batch, MiB."""
    torch.set_num_threads(1)
    learner, found = Learner(settings), []
    for _ in range(BATCHES):
        learner.iterate()
        learner.fitting.wait()
        # getrusage's peak is also that of the process that started this one.
        _, _, rest = Path("/proc/self/status").read_text().partition("VmHWM:")
        found.append(int(rest.split()[0]) / 1024)
    learner.close()
    return found


def growth() -> None:
    """Time per step by the size of the batch, and by the number of copies that share a batch."""
    base = TrainSettings(task=resolve("PointCircle-v0"))
    batches = {
        f"batch {batch:,}": dataclasses.replace(base, batch=batch)
        for batch in (20_000, 50_000, 100_000, 200_000)
    }
    copies = {
        f"batch 66,560, {n} copies": dataclasses.replace(base, batch=1024 * 65, episodes=1024 // n)
        for n in (64, 128, 256, 512, 1024)
    }
    for settings in (batches, copies):
        print("\n| PointCircle-v0 | µs per step | best | of CPU time |\n| --- | --- | --- | --- |")
        learners = {name: Learner(each) for name, each in settings.items()}
        for learner in learners.values():
            learner.iterate()
        rounds = np.array([[timed(each) for each in learners.values()] for _ in range(ROUNDS)])
        for i, (name, learner) in enumerate(learners.items()):
            learner.close()
            wall, cpu = 1e6 * rounds[:, i].T
            print(f"| {name} | {spread(wall, 1)} | {wall.min():.1f} | {spread(cpu, 1)} |")


def timed(learner: Learner) -> tuple[float, float]:
    """Return wall and CPU seconds per step of an iteration."""

    def iterate() -> None:
        learner.iterate()
        learner.fitting.wait()

    wall, mine, others = times(iterate)
    steps = learner.batch.copies * learner.settings.episodes * learner.contract.episode_steps
    return wall / steps, (mine + others) / steps


TABLES = {"whole": whole, "update": update, "memory": memory, "growth": growth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="*", default=list(TABLES), choices=list(TABLES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, MuJoCo {mujoco.__version__}, "
        f"torch {torch.__version__}"
    )
    for name in arguments.tables:
        TABLES[name]()


if __name__ == "__main__":
    main()
