"""`holdfast demo`: runs the whole loop with the user's programs."""

from __future__ import annotations

import fcntl
import json
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Column, Table

from holdfast import child, files, share, yaml_file
from holdfast.bundle import reader as bundle
from holdfast.errors import ConfigError, RunError
from holdfast.log import reader as log
from holdfast.log.format import PROGRESS
from holdfast.policy import report
from holdfast.policy.improve.finetune import FinetuneSettings, finetune
from holdfast.policy.learn.settings import TASK_ID, TrainSettings
from holdfast.policy.progress import progress
from holdfast.policy.ship import verify
from holdfast.policy.ship.export import EPISODES, export
from holdfast.policy.train import CHECKPOINT, train
from holdfast.schema import NOT_NEGATIVE, Range, check
from holdfast.sim.parameters import catalogue
from holdfast.sim.registry import is_program, registered
from holdfast.sim.task_spec import TaskSpec
from holdfast.sim.twin.serve import require_config

TWIN_START_S = 30.0
MARKER = ".holdfast-demo"
"""File that marks a folder as a demo's, finished or not, which a new demo may replace."""


@dataclass(frozen=True)
class DemoSettings:
    """Settings of the demo.

    Attributes:
        out: folder for all files; an earlier demo in the folder is replaced.
        seed: seed of training, of the twin and of the sampled actions.
        task: the task, also as FILE.py:NAME; for another robot than `drive` give its --gap too.
        config: the robot's configuration file. Default: config/<robot>.yaml.
        limit: d, expected cost per episode, for each cost in the contract's order. Default: the
            task's own.
        iterations: training iterations in simulation.
        episodes: episodes per run on the twin.
        rounds: maximum number of rounds of fine-tuning.
        gap: YAML file with the differences between twin and simulator. Default:
            config/gap_demo.yaml.
    """

    out: Path = Path("runs/demo")
    seed: Annotated[int, Range(0)] = 0
    task: Annotated[TaskSpec, TASK_ID] = field(
        default_factory=lambda: registered("holdfast/DriveCircle-v0")
    )
    config: Path | None = None
    limit: tuple[Annotated[float, NOT_NEGATIVE], ...] = ()
    iterations: Annotated[int, Range(1)] = 65
    episodes: Annotated[int, Range(2)] = 80
    rounds: Annotated[int, Range(0)] = 5
    gap: Path | None = None

    def __post_init__(self) -> None:
        check(self, ConfigError)


def command(settings: DemoSettings) -> None:
    """Train, export, run on a twin with a gap, fine-tune on the logs, and run again.

    The results are a table, and summary.json and report.html in the output folder.
    """
    Demo(settings).run()


class Demo:
    """One demo; `seconds` holds the duration of each stage."""

    def __init__(self, settings: DemoSettings) -> None:
        self.settings, self.console = (
            settings,
            Console(soft_wrap=True, highlight=False, markup=False),
        )
        self.ours = settings.task.contract.robot == "drive"
        self.gap = settings.gap or share.folder() / "config" / "gap_demo.yaml"
        self.task = settings.task if is_program(settings.task.id) else None
        self.seconds: dict[str, float] = {}
        self.runs = 0
        self.started = time.monotonic()

    @contextmanager
    def _stage(self, name: str, text: str) -> Iterator[None]:
        self.console.print(text, style="bold")
        started = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    def run(self) -> None:
        """Run all stages of the loop."""
        s = self.settings
        catalogue.load_gap(self.gap)  # a faulty file is refused before minutes of training
        if not self.ours and s.gap is None:
            raise ConfigError(
                f"gap should be given for robot '{s.task.contract.robot}': the demo's own file is "
                "of robot 'drive'"
            )
        if s.config:
            require_config(s.task.make(), s.config)
        with _claimed(s.out):
            self._run()

    def _run(self) -> None:
        out, s = self.settings.out, self.settings
        parent = out / "policy_0.onnx"
        name = s.task.contract.task
        with self._stage("train", f"1. Train {name} under its limits, in simulation (CPO)"):
            ranges = share.folder() / "config" / "randomise_demo.yaml"
            settings = TrainSettings(
                task=s.task, seed=s.seed, iterations=s.iterations, limit=s.limit,
                randomise=catalogue.load(ranges) if self.ours else None,
            )  # fmt: skip
            train(settings, out / "train", False, 10, self.console)[0].close()
        with self._stage("export", "2. Export to ONNX with the contract, and verify"):
            provenance = export(out / "train" / CHECKPOINT, parent, EPISODES, task=self.task)
            self._verify(parent)
        costs = bundle.load(parent).contract.costs
        limits = {cost.name: cost.limit for cost in costs}
        with self._stage("runs", "3. Run on a twin that differs from the simulator"):
            before = self._deploy(parent)
        rows = {"simulator": provenance["measured"], "twin before": self._row(before)}
        rounds, policy, latest = self._learn(parent, before, rows["twin before"], limits)
        after = latest
        if rounds:
            with self._stage("runs", "5. Run the last policy once more, to judge it"):
                after = self._deploy(policy)
        rows["twin after"] = self._row(after)
        summary = {
            "format": report.FORMAT,
            "seed": s.seed,
            "limits": limits,
            "episode_caps": {cost.name: cost.episode_cap for cost in costs},
            "rows": rows,
            "rounds": rounds,
            "gap": yaml_file.read(self.gap).data,
            "bundles": {"before": bundle.load(parent).hash, "after": bundle.load(policy).hash},
            "progress": f"train/{PROGRESS}",
            "before": before.name,
            "after": after.name,
            "seconds": dict(self.seconds),
        }
        self._finish(summary)

    def _learn(
        self, policy: Path, latest: Path, row: dict[str, Any], limits: Mapping[str, float]
    ) -> tuple[list[dict[str, Any]], Path, Path]:
        """Fine-tune and run until the limits are met, or the rounds are used up.

        A limit is met by a run whose whole 95 % interval lies within it. A rule that stops at the
        first mean within the limit would often stop at a lucky run.
        """
        rounds: list[dict[str, Any]] = []
        while len(rounds) < self.settings.rounds and any(
            row["costs"][name]["high"] > limit for name, limit in limits.items()
        ):
            number = len(rounds) + 1
            with self._stage(
                "finetune", f"4.{number} Not clearly in the limit: learn from the log"
            ):
                child = self.settings.out / f"policy_{number}.onnx"
                learned = finetune(
                    policy, [latest], child, FinetuneSettings(seed=number), self.task
                )
            with self._stage("runs", f"4.{number} Run the child on the twin"):
                latest = self._deploy(child)
            row, policy = self._row(latest), child
            rounds.append(
                {"finetune": learned["finetune"], "costs": row["costs"], "run": latest.name}
            )
        return rounds, policy, latest

    def _verify(self, path: Path) -> None:
        robot = self.settings.task.contract.robot
        if verify.command(path, robot, None if self.task is None else self.task.id):
            raise RunError(f"{path}: was refused", "not_verified")

    def _truth(self, run: Path) -> Path:
        return run.with_suffix(".truth.jsonl")

    def _row(self, run: Path) -> dict[str, Any]:
        row = report.row(log.read(run), self._truth(run), self.task)
        costs = "  ".join(f"{name} {report.span(cost)}" for name, cost in row["costs"].items())
        self.console.print(
            f"  return {report.span(row['return'])}  {costs}  "
            f"stopped {row['stopped']}  interventions {row['interventions']}"
        )
        return row

    def _deploy(self, policy: Path) -> Path:
        """Run episodes on a new twin, as two processes; return the run's folder."""
        s = self.settings
        run = s.out / f"run_{self.runs}"
        seed = s.seed * 1000 + self.runs  # each run has new start poses and noise
        self.runs += 1
        twin_line = ["twin", "--gap", self.gap, "--seed", seed, "--realtime-factor", 0,
                     "--task", s.task.id, "--truth", self._truth(run)]  # fmt: skip
        with _program(twin_line) as twin:
            address = _first_line(twin)
            line = ["deploy", "--robot", address, "--policy", policy, "--out", run,
                    "--episodes", s.episodes, "--explore", "--seed", seed,
                    *(("--config", s.config) if s.config else ())]  # fmt: skip
            with _program(line) as deploy:
                self._follow(deploy)
        return run

    def _follow(self, deploy: subprocess.Popen[str]) -> None:
        """Show how many episodes a running `deploy` has run."""
        assert deploy.stdout is not None
        said = []
        count, what = 0, "  episodes on the twin"
        with progress(self.console, what, self.settings.episodes) as show:
            for line in deploy.stdout:
                said.append(line)
                if line.startswith("episode "):
                    count += 1
                    show(count, "")
        if deploy.wait():
            raise RunError(
                f"deploy failed: {said[-1].strip() if said else 'it said nothing'}", "demo"
            )

    def _finish(self, summary: dict[str, Any]) -> None:
        out = self.settings.out
        files.write(out / report.SUMMARY, json.dumps(summary, indent=2) + "\n")
        self.console.print("6. Report", style="bold")
        page = report.write(out, summary, self.task)
        head, *rows = report.table_rows(summary)
        table = Table(head[0], *(Column(name, justify="right") for name in head[1:]))
        for cells in rows:
            table.add_row(*cells)
        self.console.print(table)
        colour = "green" if report.met(summary) else "red"
        self.console.print(report.verdict(summary), style=colour)
        total = time.monotonic() - self.started
        self.console.print(f"{total:.0f} s in all. {page}, {out / report.SUMMARY}")


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Empty a folder for a demo. No other demo can use the folder until the context ends.

    Raises:
        ConfigError: the folder holds something other than a demo, or another demo uses it.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ConfigError(f"{out}: should be a folder; give another --out")
    if out.exists() and any(out.iterdir()) and not (out / MARKER).exists():
        raise ConfigError(f"{out}: holds something other than a demo; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    with (out / MARKER).open("a", encoding="utf-8") as marker:
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{out}: another demo uses this folder; give another --out") from None
        for path in out.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != MARKER:
                path.unlink()
        yield


@contextmanager
def _program(line: list[object]) -> Iterator[subprocess.Popen[str]]:
    """Run `holdfast LINE...` as a child process, which ends with the context."""
    process = child.start(
        "holdfast",
        *map(str, line),
        at_end=signal.SIGTERM,  # which stops the robot properly
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if line[0] == "deploy" else subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()


def _first_line(twin: subprocess.Popen[str]) -> str:
    assert twin.stdout is not None
    ready, _, _ = select.select([twin.stdout], [], [], TWIN_START_S)
    line = twin.stdout.readline().strip() if ready else ""
    if not line.startswith("serial:"):
        raise RunError(f"the twin did not start within {TWIN_START_S:g} s", "demo")
    return line
