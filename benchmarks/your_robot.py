"""How long each command of docs/start/YOUR_ROBOT.md takes, with the page's own numbers.

    python -m benchmarks.your_robot [--folder runs/hour]

Each command's wall time depends on what else the computer does; its CPU time, that of its children
too, much less. The twin is a process of the second terminal, whose CPU time is not counted.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import tyro

from tests.helpers.robots.walk import Taken, Walk


def command(folder: Path | None = None) -> None:
    """Walk through the page, and print a table of its commands' times.

    Args:
        folder: an empty place for the files, to be kept. Default: a temporary folder.
    """
    with tempfile.TemporaryDirectory() as temporary:
        Walk(folder or Path(temporary) / "walk", done=show)()


def show(taken: Taken) -> None:
    """Print what a command said, and its row of the table."""
    load = os.getloadavg()[0]
    print(taken.output)
    row = " ".join(taken.command.replace("\\\n", "").split())
    print(f"| `{row}` | {taken.wall_s:.0f} | {taken.cpu_s:.0f} | load {load:.1f} |", flush=True)


if __name__ == "__main__":
    tyro.cli(command)
