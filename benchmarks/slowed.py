"""How often what is predicted, and what is unfamiliar, slows a robot: and whether that helps.

    python -m benchmarks.slowed --out docs/measured/SLOWED.md [--work runs/slowed] [--seeds 3]

Trains DriveCircle by the defaults, on robots that are all alike (the demo's differ), runs it on
twins with and without the demo's gap under other coverages of the prediction, fine-tunes it on a
log of the twin with the gap, and looks at what familiarity says before and after, and on twins that
were changed further. Everything is seeded; what is in the work folder already is not made again. An
hour and a half on one core.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console

from holdfast import child, share
from holdfast.bundle import reader as bundle
from holdfast.log import reader as log
from holdfast.log.reader import Log
from holdfast.policy.improve.finetune import FinetuneSettings, finetune
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.page import markdown_table
from holdfast.policy.ship.evaluate import COVERAGES
from holdfast.policy.ship.export import EPISODES, export
from holdfast.policy.train import CHECKPOINT, train
from holdfast.robot.run.deploy import SUMMARY_FILE

CONFIG = share.folder() / "config"
GAP = yaml.safe_load((CONFIG / "gap_demo.yaml").read_text())
TWINS: Mapping[str, Mapping[str, Any] | None] = {
    "no gap": None,
    "the demo's gap": GAP,
    "a left wheel at 0.7": GAP | {"gain": {"left_motor": 0.7}},
    "8 periods of delay": GAP | {"delay": 8},
    "wheels larger by 0.3": GAP | {"size": {"left_tyre": 1.3, "right_tyre": 1.3, "caster": 1.8}},
    "a tenth of the grip": GAP | {"friction": {"left_tyre": 0.1, "right_tyre": 0.1}},
}
FIRST, GAPPED = "no gap", "the demo's gap"
FURTHER = tuple(TWINS)[2:]
COVERED = (0.01, 0.5, 0.8, 0.9)
"""The first is next to the critics' expectation itself."""

LOGGED, RUN, CHANGED, PREDICTED = 80, 30, 15, 40
"""Episodes: to learn from, of each policy on each twin, on a changed twin, at each coverage."""


@contextmanager
def twin(gap: Path | None, seed: int) -> Iterator[str]:
    line = ["twin", "--seed", seed, "--realtime-factor", 0, *(["--gap", gap] if gap else [])]
    process = child.start(
        "holdfast",
        *map(str, line),
        at_end=signal.SIGTERM,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Bench:
    """Where everything of one seed lies."""

    folder: Path
    seed: int

    def parent(self) -> Path:
        """Return a policy from the simulator."""
        checkpoint, parent = self.folder / "train" / CHECKPOINT, self.folder / "parent.onnx"
        if not parent.exists():
            settings = TrainSettings(seed=self.seed, iterations=65)
            train(settings, checkpoint.parent, checkpoint.exists(), 10, Console(quiet=True))
            export(checkpoint, parent, EPISODES)
        return parent

    def policies(self) -> tuple[Path, Path]:
        """Return a policy from the simulator and its child, which knows the twin with the gap."""
        parent, child = self.parent(), self.folder / "child.onnx"
        if not child.exists():
            self.run("log", parent, GAP, LOGGED)
            finetune(parent, [self.folder / "log"], child, FinetuneSettings(seed=1))
        return parent, child

    def run(
        self,
        name: str,
        policy: Path,
        gap: Mapping[str, Any] | None,
        episodes: int,
        recovery: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Log:
        """Run a policy on a twin; `changes` are of `familiarity` and of the block `budget`."""
        name = name.replace(" ", "_")
        out = self.folder / name
        if (out / SUMMARY_FILE).exists():
            return log.read(out)
        shutil.rmtree(out, ignore_errors=True)  # of a run that was cut short
        data = yaml.safe_load((CONFIG / "drive.yaml").read_text())
        data["familiarity"] = changes.pop("familiarity", data["familiarity"])
        data["monitor"]["budget"] |= {"on_prediction": "slow"} | changes
        if recovery is not None:
            data["monitor"]["recovery"] = dict(recovery)
        config, gap_file = self.folder / f"{name}.yaml", None
        config.write_text(yaml.safe_dump(data))
        if gap is not None:
            gap_file = self.folder / f"{name}.gap.yaml"
            gap_file.write_text(yaml.safe_dump(dict(gap)))
        seed = self.seed * 1000 + (0 if name == "log" else 7)
        with twin(gap_file, seed) as address:
            line = ["deploy", "--robot", address, "--policy", policy, "--out", out, "--explore",
                    "--episodes", episodes, "--seed", seed, "--config", config]  # fmt: skip
            subprocess.run(
                [sys.executable, "-m", "holdfast", *map(str, line)],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        print(f"seed {self.seed}, {name}: {episodes} episodes", flush=True)
        return log.read(out)


def said(run: Log, code: str) -> int:
    """Return in how many episodes a reason was given."""
    return sum(any(code in codes for codes in episode.reasons) for episode in run.episodes)


def share_of_steps(runs: Sequence[Log], code: str) -> float:
    rows = [code in codes for run in runs for e in run.episodes for codes in e.reasons]
    return float(np.mean(rows))


def stopped(run: Log, code: str) -> int:
    return sum(episode.result.code == code for episode in run.episodes)


def counts(values: Iterator[int], of: int) -> str:
    """Return a number for each seed."""
    return ", ".join(map(str, values)) + f" of {of}"


def worth(run: Log) -> dict[str, float]:
    """Return the mean cost and the mean return of an episode, as logged."""
    results = [episode.result for episode in run.episodes]
    return {
        "cost": float(np.mean([result.costs[0] for result in results])),
        "return": float(np.mean([result.reward_return for result in results])),
    }


def mean(runs: Sequence[Log], what: str) -> str:
    """Return the mean over seeds, and its range."""
    values = [worth(run)[what] for run in runs]
    return f"{np.mean(values):.1f} [{min(values):.1f}, {max(values):.1f}]"


def prediction(benches: Sequence[Bench]) -> list[str]:
    covered = []
    for bench in benches:
        held = bundle.load(bench.parent())
        (found,) = held.provenance["prediction"].values()
        covered.append([f"{bench.seed}", *(f"{found['covered'][f'{c:g}']:.2f}" for c in COVERAGES)])
    rows = []
    for where in (FIRST, GAPPED):
        for coverage in COVERED:
            runs = [
                bench.run(
                    f"covered {coverage} {where}",
                    bench.parent(),
                    TWINS[where],
                    PREDICTED,
                    episode_coverage=coverage,
                    familiarity="never",
                )
                for bench in benches
            ]
            rows.append(
                [
                    where,
                    f"{coverage:g}",
                    counts((said(run, "slowdown_budget") for run in runs), PREDICTED),
                    counts((stopped(run, "episode_cap_spent") for run in runs), PREDICTED),
                    mean(runs, "cost"),
                    mean(runs, "return"),
                ]
            )
    return [
        "## Prediction",
        "",
        "The share of 100 simulated episodes that cost no more than was predicted at any of their",
        "steps; the prediction was calibrated on 100 others:",
        "",
        *markdown_table(["seed", *(f"asked {c:g}" for c in COVERAGES)], covered),
        "What a robot is slowed by it that is left to itself otherwise. Slowed and stopped by",
        "seed; cost and return per episode, mean over seeds and its range:",
        "",
        *markdown_table(
            ["twin", "coverage", "slowed", "stopped by the episode cap", "cost", "return"], rows
        ),
        "On this task slowing does not help: at half its speed a robot is outside of the corridor",
        "for twice as long, and is billed by the period. At 0.8 and 0.9 more episodes are slowed",
        "and more reach the episode cap than at 0.5, for no less cost and less return; at 0.01",
        "only the critics' expectation itself slows a robot. So no robot is slowed by it unless",
        "its file says so. It is another matter where a cost is one of speed.",
        "",
    ]


def familiarity(benches: Sequence[Bench]) -> list[str]:
    rows = []
    for kind, index, setting in (("simulated", 0, "always"), ("fine-tuned", 1, "logged")):
        for where in (FIRST, GAPPED):
            runs = [
                bench.run(
                    f"{kind} {where}",
                    bench.policies()[index],
                    TWINS[where],
                    RUN,
                    familiarity=setting,
                )
                for bench in benches
            ]
            rows.append(
                [
                    kind,
                    where,
                    counts((said(run, "unfamiliar") for run in runs), RUN),
                    f"{share_of_steps(runs, 'unfamiliar'):.1%}",
                    counts((stopped(run, "unfamiliar") for run in runs), RUN),
                ]
            )
    changed = []
    for where in FURTHER:
        runs = [
            bench.run(f"changed {where}", bench.policies()[1], TWINS[where], CHANGED)
            for bench in benches
        ]
        changed.append(
            [
                where,
                counts((said(run, "unfamiliar") for run in runs), CHANGED),
                counts((stopped(run, "unfamiliar") for run in runs), CHANGED),
                counts((stopped(run, "episode_cap_spent") for run in runs), CHANGED),
                mean(runs, "cost"),
            ]
        )
    return [
        "## Familiarity",
        "",
        "Of a policy from the simulator, and of its child that was fine-tuned on 80 episodes of",
        "the twin with the demo's gap. By seed, but for the share of steps:",
        "",
        *markdown_table(["policy", "twin", "slowed", "of steps", "stopped"], rows),
        "So what a policy knows from the simulator alone may keep a robot that differs from going",
        "at all, and what it has learned of the robot lets it go: `config/drive.yaml` says",
        "`logged`.",
        "",
        "The child on twins that were changed further, beyond the demo's gap:",
        "",
        *markdown_table(
            ["twin", "slowed", "stopped by it", "stopped by the episode cap", "cost"], changed
        ),
        "Episodes that another check stops early leave less to notice. A change shows where it",
        "brings the robot to observations that are far from all it knew; one that only makes it",
        "miss the corridor is the budget's to notice.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the tables here (Markdown)")
    parser.add_argument("--work", type=Path, default=Path("runs/slowed"), help="(runs/slowed)")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 (3)")
    arguments = parser.parse_args()
    benches = [Bench(arguments.work / str(seed), seed) for seed in range(arguments.seeds)]
    lines = [
        "# What slows a robot, measured",
        "",
        f"Made by `benchmarks/slowed.py`: DriveCircle, trained by the defaults with {len(benches)} "
        "seeds, on",
        "robots that are all alike, and run on twins in lockstep, exploring. Seeded.",
        "",
        *prediction(benches),
        *familiarity(benches),
    ]
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
