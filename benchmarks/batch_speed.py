"""What a batch costs beside its physics: steps per second of the batch, actions given, as a share
of one open-loop `mujoco.rollout` of the same model over the same copies, on two threads.

Both are timed in turn and each share is of neighbours, so that a machine whose speed drifts
measures the same. Beside the share of wall time stands the one that CPU times give: half of the
open loop's, over half of the batch's threads' and all of what its one Python thread needs. It is
what a machine with two cores free would show; other work on the machine hardly touches it.
Start states and actions are seeded. Memory is how much the process grew. With --randomise the
batch's copies differ, the open loop's do not; a reset is in the time, once in PERIODS steps.
From MuJoCo 3.17 on, this thread then does a part of the batch's physics, which is counted as
Python's.

    python -m benchmarks.batch_speed [--tasks PointCircle-v0 ...] [--copies 64 256 1024]
        [--randomise config/randomise_drive.yaml]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
from mujoco import rollout

from holdfast.sim.parameters.catalogue import load
from holdfast.sim.registry import TASKS, resolve
from holdfast.sim.robots.robot import physics_steps

PERIODS, THREADS = 20, 2
FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS


def open_loop(name: str, copies: int, threads: int = THREADS) -> Callable[[], None]:
    """Return what runs PERIODS control periods in one call, as the physics alone would."""
    task, rng = resolve(name).make(), np.random.default_rng(0)
    model = task.robot.load_model()
    data = [mujoco.MjData(model) for _ in range(threads)]
    start = np.empty(mujoco.mj_stateSize(model, FULL))
    mujoco.mj_getState(model, data[0], start, FULL)
    states = np.tile(start, (copies, 1))
    qpos, qvel, _ = task.reset(rng, copies)
    states[:, 1 : 1 + model.nq + model.nv] = np.concatenate((qpos, qvel), axis=1)
    steps = physics_steps(model, task.contract.period_s)
    control = np.repeat(task.robot.control(actions(name, copies)), steps, axis=0)
    control = np.ascontiguousarray(np.swapaxes(control, 0, 1))
    pool = rollout.Rollout(nthread=threads)

    def run() -> None:
        pool.rollout([model] * copies, data, states, control)

    return run


def batched(name: str, copies: int, file: Path | None) -> Callable[[], None]:
    """Return what makes PERIODS steps of a batch, from fresh episodes."""
    drawn = load(file) if file else None
    batch = resolve(name).batch(copies, seed=0, threads=THREADS, randomise=drawn)
    given = actions(name, copies)

    def run() -> None:
        batch.reset()
        for action in given:
            batch.step(action)

    return run


def actions(name: str, copies: int) -> np.ndarray:
    """Return actions (PERIODS, copies, actions), a third of their range: little falls."""
    contract = resolve(name).make().contract
    drawn = np.random.default_rng(1).uniform(-1 / 3, 1 / 3, (PERIODS, copies, len(contract.action)))
    return contract.action_center + contract.action_half_range * drawn


def times(run: Callable[[], None]) -> tuple[float, float, float]:
    """Return wall time, CPU time of this thread, and CPU time of all the others, s."""
    wall, mine, all_of_us = time.perf_counter(), time.thread_time(), time.process_time()
    run()
    mine = time.thread_time() - mine
    return time.perf_counter() - wall, mine, time.process_time() - all_of_us - mine


def row(name: str, copies: int, rounds: int, file: Path | None) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    batch = batched(name, copies, file)
    batch()
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    raw = open_loop(name, copies)
    raw()
    pairs = np.array([(times(raw), times(batch)) for _ in range(rounds)])
    (raw_s, _, raw_cpu), (batch_s, python_s, batch_cpu) = np.moveaxis(pairs, (1, 2), (0, 1))
    wall = raw_s / batch_s
    cpu = (raw_cpu / THREADS) / (batch_cpu / THREADS + python_s)
    steps = copies * PERIODS
    return (
        f"| {name} | {copies} | {steps / np.median(raw_s):,.0f} | "
        f"{steps / np.median(batch_s):,.0f} | {spread(wall)} | {spread(cpu)} | "
        f"{1e6 * np.median(python_s) / steps:.2f} | {grown_mb:.0f} |"
    )


def spread(values: np.ndarray, digits: int = 2) -> str:
    low, middle, high = np.percentile(values, [10, 50, 90])
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [name.partition("/")[2] for name in TASKS]
    parser.add_argument("--tasks", nargs="*", default=names, choices=names)
    parser.add_argument("--copies", nargs="*", type=int, default=[64, 256, 1024])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--randomise", type=Path)
    parser.add_argument("--one", action="store_true", help="this task and number, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        given = (arguments.tasks[0], arguments.copies[0], arguments.rounds, arguments.randomise)
        print(row(*given))
        return
    print("| task | copies | open loop, steps/s | batch, steps/s | share | share by CPU time | "
          "Python, µs per step | memory, MB |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)  # fmt: skip
    for name in arguments.tasks:
        for copies in arguments.copies:
            # A process each: its memory is its own.
            command = [sys.executable, __file__, "--one", "--tasks", name, "--copies", str(copies)]
            command += ["--rounds", str(arguments.rounds)]
            if arguments.randomise:
                command += ["--randomise", str(arguments.randomise)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
