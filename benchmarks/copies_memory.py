"""Memory of randomised copies of a robot with meshes.

    python -m benchmarks.copies_memory [--model turtlebot3_burger.xml] [--copies 2 200 1000]

Each row is a process of its own, which steps a batch and tells the largest memory that it had
resident. Per copy: what it had more than the process of the first row, by the number of copies
that it had more. Masses, inertias, frictions and joints' damping are drawn for each copy. The
model has two wheels with velocity actuators; without --model, it is a cart with meshes of
TurtleBot3's size, written to a folder that is removed again.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import mujoco
import numpy as np

from holdfast.sim.batch.mujoco_batch import MujocoBatch
from tests.helpers.robots.carts import Cart, Laps
from tests.helpers.robots.meshes import write_cart
from tests.helpers.robots.parameters import parameters

SIDES = (186, 93, 93, 93)
"""Points along the edge of each mesh: 119,000 triangles in all. TurtleBot3 Waffle Pi: 121,000."""


def stepped(model: Path, copies: int) -> None:
    """Step a batch, and print the model's size and the process's largest memory, MB."""
    task = Laps(Cart(model, None))
    drawn = parameters(mass=[0.8, 1.2], friction=[0.6, 1.2], friction_loss=[0.0, 0.01])
    batch = MujocoBatch(task, copies, seed=0, threads=2, randomise=drawn)
    for _ in range(5):
        batch.step(np.zeros((copies, 2)))
    most_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(mujoco.mj_sizeModel(task.robot.load_model()) / 1e6, most_mb)


def rows(model: Path, counts: list[int]) -> None:
    """Print a row for each number of copies."""
    print(f"MuJoCo {mujoco.__version__}\n\n| copies | model, MB | memory, MB | per copy, MB |")
    print("| --- | --- | --- | --- |")
    first = 0.0
    for copies in counts:
        command = [sys.executable, "-m", "benchmarks.copies_memory", "--one", str(copies)]
        command += ["--model", str(model)]
        ended = subprocess.run(command, check=True, capture_output=True, text=True)
        model_mb, most_mb = map(float, ended.stdout.split())
        first = first or most_mb
        more = copies - counts[0]
        each = f"{round((most_mb - first) / more, 3) + 0.0:.3f}" if more else "-"
        print(f"| {copies} | {model_mb:.1f} | {most_mb:.0f} | {each} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="an MJCF file")
    parser.add_argument("--copies", nargs="+", type=int, default=[2, 200, 1000])
    parser.add_argument("--one", type=int, help="this number of copies, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        stepped(arguments.model, arguments.one)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows(arguments.model or write_cart(Path(folder), SIDES), arguments.copies)


if __name__ == "__main__":
    main()
