"""The README's picture: a demo's paths before and after it learned from its log.

python -m benchmarks.demo_picture [--demo runs/demo] [--out docs/demo.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from holdfast import plain
from holdfast.errors import LogError
from holdfast.log import reader
from holdfast.policy import figures
from holdfast.policy.report import SUMMARY
from holdfast.sim.registry import registered


def main() -> None:
    """Draw the picture of a demo that has run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="the demo's folder")
    parser.add_argument("--out", type=Path, default=Path("docs/demo.png"), help="the picture")
    given = parser.parse_args()
    summary = plain.read_json(given.demo / SUMMARY, LogError)
    before, after = (reader.read(given.demo / summary[which]) for which in ("before", "after"))
    task = registered(before.info.contract.task).make()
    figure = figures.paths_figure(before, after, task)
    figure.savefig(given.out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
