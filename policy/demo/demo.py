"""`holdfast demo`: runs the whole loop with the user's programs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Column, Table

from holdfast import files, plain, share, yaml_file
from holdfast.bundle import reader as bundle
from holdfast.errors import ConfigError, RunError, TrainingError
from holdfast.log import reader as log
from holdfast.log.evidence import CERTIFIED
from holdfast.log.format import PROGRESS
from holdfast.policy import figures
from holdfast.policy import identify as identification
from holdfast.policy.demo import evidence, report
from holdfast.policy.demo.robot import DemoRobot, claimed, demo_robot, truth_of
from holdfast.policy.identification.identify import identify
from holdfast.policy.identification.search import SearchSettings
from holdfast.policy.identification.tracks import from_logs
from holdfast.policy.improve import gate
from holdfast.policy.improve.finetune import opened
from holdfast.policy.improve.improve import ImproveSettings, improve
from holdfast.policy.learn.settings import TASK_ID, TrainSettings, contract_of
from holdfast.policy.ship import verify
from holdfast.policy.ship.evaluate import evaluate
from holdfast.policy.ship.export import EPISODES, export
from holdfast.policy.train import CHECKPOINT, train
from holdfast.schema import NOT_NEGATIVE, SEED, Range, check
from holdfast.sim.check import told_in_a_sentence
from holdfast.sim.parameters import catalogue
from holdfast.sim.registry import is_program, registered
from holdfast.sim.task_spec import TaskSpec
from holdfast.sim.twin.board import TwinBoard
from holdfast.sim.twin.serve import require_config
from holdfast.sim.twin.truth import Truth

PARAMETERS = (
    "delay", "gain:each", "size:left_tyre+right_tyre", "size:caster", "mass", "friction",
)  # fmt: skip
"""What identification searches for on robot `drive`: few numbers, which a log tells apart."""

SEARCH = SearchSettings(fit_s=120.0)
"""Two minutes of the log are fitted."""


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
        episodes: episodes of each run on the twin, except the trial.
        allowance: most episodes of the trial.
        gap: YAML file with the differences between twin and simulator. Default:
            config/gap_late.yaml.
        parameters: what identification searches for, as in `holdfast identify`. Default: six
            numbers of robot `drive`; all that apply to another robot.
        generations: generations of the identification's search.
        retraining: training iterations in the identified simulator.
    """

    out: Path = Path("runs/demo")
    seed: Annotated[int, SEED] = 0
    task: Annotated[TaskSpec, TASK_ID] = field(
        default_factory=lambda: registered("holdfast/DriveCircle-v0")
    )
    config: Path | None = None
    limit: tuple[Annotated[float, NOT_NEGATIVE], ...] = ()
    iterations: Annotated[int, Range(1)] = 65
    episodes: Annotated[int, Range(2)] = 40
    allowance: Annotated[int, Range(1)] = 100
    gap: Path | None = None
    parameters: tuple[str, ...] = ()
    generations: Annotated[int, Range(1)] = SEARCH.generations
    retraining: Annotated[int, Range(1)] = 30

    def __post_init__(self) -> None:
        check(self, ConfigError)


def command(settings: DemoSettings) -> None:
    """Train, ship, break the limit on a twin, identify the twin, retrain, try and promote.

    The results are a table, and summary.json and report.html in the output folder.
    """
    Demo(settings).run()


class Demo:
    """One demo; `steps` holds what each step took and gave."""

    def __init__(self, settings: DemoSettings) -> None:
        self.settings = settings
        self.console = Console(soft_wrap=True, highlight=False, markup=False)
        self.ours = settings.task.contract.robot == "drive"
        self.gap = settings.gap or share.folder() / "config" / "gap_late.yaml"
        self.task = settings.task if is_program(settings.task.id) else None
        self.steps: list[dict[str, Any]] = []
        self.rows: dict[str, dict[str, Any]] = {}
        self.started = time.monotonic(), _cpu_s()

    def run(self) -> None:
        """Run all steps of the loop."""
        s = self.settings
        gap = self._checked()
        with claimed(s.out):
            parent = self._train()
            self._ship(parent)
            twin = ["--gap", self.gap, "--task", s.task.id]
            name = s.task.contract.robot
            with demo_robot(s.out, name, s.config, twin, s.seed, self.console) as robot:
                summary = self._loop(robot, parent, gap)
            summary["seconds"] = {
                "wall": time.monotonic() - self.started[0],
                "processor": _cpu_s() - self.started[1],  # the twin's too, which has ended
            }
            files.write(s.out / report.SUMMARY, json.dumps(summary, indent=2) + "\n")
            self._tell(summary, report.write(s.out, summary, self.task))

    def _checked(self) -> catalogue.Parameters:
        """Return the gap; refuse before minutes of training what would be refused after it."""
        s, gap = self.settings, catalogue.load_gap(self.gap)
        if not self.ours and s.gap is None:
            raise ConfigError(
                f"gap should be given for robot '{s.task.contract.robot}': the demo's own file is "
                "of robot 'drive'"
            )
        contract_of(self._training())
        task = s.task.make()
        if s.config:
            require_config(task, s.config)
        told = nullcontext() if self.task is None else told_in_a_sentence(s.task.id)
        try:
            with told:
                TwinBoard(task, gap, s.seed, True, Truth(task, s.seed, None))
        except ConfigError as error:
            raise ConfigError(f"{self.gap}: {error}") from None
        return gap

    def _training(self) -> TrainSettings:
        s, ranges = self.settings, share.folder() / "config" / "randomise_demo.yaml"
        return TrainSettings(
            task=s.task, seed=s.seed, iterations=s.iterations, limit=s.limit,
            randomise=catalogue.load(ranges) if self.ours else None,
        )  # fmt: skip

    def _loop(self, robot: DemoRobot, parent: Path, gap: catalogue.Parameters) -> dict[str, Any]:
        before = self._deploy(robot, "before", parent)
        found = self._identify(before, gap)
        child = self._improve(parent, before)
        answer = self._gate(child, parent, before)
        outcome, trial = self._try(robot, child, answer)
        after = self._after(robot, outcome, before, trial)
        control = self._deploy(robot, "control", parent)
        self._without_caps({"before": parent, "after": child}, gap)
        ran = {"before": before, "control": control, "trial": trial, "after": after}
        held = bundle.load(parent)
        return {
            "format": report.FORMAT,
            "seed": self.settings.seed,
            "limits": {cost.name: cost.limit for cost in held.contract.costs},
            "runs": {name: run.name for name, run in ran.items() if run},
            "outcome": outcome,
            "rows": self.rows,
            "identified": found,
            "gate": answer,
            "gap": yaml_file.read(self.gap).data,
            "bundles": {"before": held.hash, "after": bundle.load(child).hash},
            "progress": f"train/{PROGRESS}",
            "steps": self.steps,
        }

    @contextmanager
    def _step(self, name: str, text: str) -> Iterator[dict[str, Any]]:
        """Measure a step; the block says in `gave` what the step gave."""
        self.console.print(f"{len(self.steps) + 1}. {text}", style="bold")
        step: dict[str, Any] = {"step": name, "gave": ""}
        wall_s, cpu_s = time.monotonic(), _cpu_s()
        yield step
        step |= {"wall_s": time.monotonic() - wall_s, "cpu_s": _cpu_s() - cpu_s}
        self.steps.append(step)
        self.console.print(f"  {step['gave']} ({step['wall_s']:.0f} s)")

    def _train(self) -> Path:
        s, out = self.settings, self.settings.out
        name = s.task.contract.task
        with self._step("train", f"Train {name} under its limits, in simulation (CPO)") as step:
            train(self._training(), out / "train", False, 10, self.console)[0].close()
            step["gave"] = f"a policy, after {s.iterations} iterations"
        return out / "policy_0.onnx"

    def _ship(self, parent: Path) -> None:
        with self._step("ship", "Export to ONNX with the contract, and verify") as step:
            source = self.settings.out / "train" / CHECKPOINT
            made = export(source, parent, EPISODES, task=self.task)
            self._verify(parent)
            self.rows["simulator"] = made["measured"]
            step["gave"] = f"one file; in its simulator {report.told(made['measured'])}"

    def _verify(self, path: Path) -> None:
        robot = self.settings.task.contract.robot
        if verify.command(path, robot, None if self.task is None else self.task.id):
            raise RunError(f"{path}: was refused", "not_verified")

    def _deploy(self, robot: DemoRobot, name: str, policy: Path) -> Path:
        """Run a policy's episodes on the robot; return the run's folder."""
        s, run = self.settings, self.settings.out / name
        text = {
            "before": "Run it on a twin that differs from the simulator",
            "after": "Run the promoted policy, to judge it",
            "control": "Run the first policy once more, with other start poses and actions",
        }[name]
        with self._step(name, text) as step:
            robot.deploy(run, ["--policy", policy], s.episodes, s.seed * 1000 + len(self.steps))
            self._row(name, run)
            step["gave"] = report.told(self.rows[name])
        return run

    def _row(self, name: str, run: Path) -> None:
        self.rows[name] = report.row(log.read(run), truth_of(run), self.task)

    def _identify(self, run: Path, gap: catalogue.Parameters) -> dict[str, Any]:
        s, out = self.settings, self.settings.out / "profile.yaml"
        with self._step("identify", "Identify the robot from its log") as step:
            recorded = from_logs((run,), self.task, False)
            words = s.parameters or (PARAMETERS if self.ours else ())
            settings = replace(SEARCH, seed=s.seed, generations=s.generations)
            found = identify(recorded, words, (), gap.pose, None, settings)
            identification.write(out, recorded, found, settings)
            if "position" in found.held_out.names:
                sides = found.simulated_before, found.simulated_after
                drawn = figures.predicted(found.held_out, *sides)
                files.write(self.settings.out / report.PREDICTED, drawn)
            known = [each.free.name for each in found.found if each.known]
            step["gave"] = f"a profile from {found.seconds[0]:.0f} s of motion: {', '.join(known)}"
        return {
            "parameters": identification.parameter_table(found),
            "errors": identification.error_table(found),
            "remarks": identification.remarks(found),
            "seconds": found.seconds,
        }

    def _improve(self, parent: Path, run: Path) -> Path:
        s, child = self.settings, self.settings.out / "policy_1.onnx"
        with self._step("retrain", "Train on in the identified simulator") as step:
            profile = catalogue.load(s.out / "profile.yaml")
            settings = ImproveSettings(seed=s.seed, iterations=s.retraining, anew=0)
            say = lambda text: self.console.print(f"  {text}")  # noqa: E731
            made = improve(parent, profile, [run], child, settings, self.task, True, say)
            self._verify(child)
            step["gave"] = f"a child; in the identified simulator {report.told(made['measured'])}"
        return child

    def _gate(self, child: Path, parent: Path, run: Path) -> dict[str, Any]:
        path = self.settings.out / "gate.json"
        with self._step(
            "gate", "Ask the gate whether log or profile speak against the child"
        ) as step:
            profile = self.settings.out / "profile.yaml"
            gate.command(child, (run,), (parent,), profile, task=self.task, json_out=path)
            answer: dict[str, Any] = plain.read_json(path, TrainingError)
            step["gave"] = answer["answer"]
        return answer

    def _try(
        self, robot: DemoRobot, child: Path, answer: dict[str, Any]
    ) -> tuple[str, Path | None]:
        """Try the child as canary, and promote it if its trial certifies it.

        Returns:
            How it ended, and the folder of the trial; None without a trial.
        """
        s, run = self.settings, self.settings.out / "trial"
        if answer["answer"] == str(gate.Answer.REJECT):
            return report.REJECTED, None
        with self._step("canary", "Try the child as canary, under a tightened cap") as step:
            robot.promote(child, "--canary", "--explore", "--allowance", s.allowance)
            seed = s.seed * 1000 + len(self.steps)
            said = robot.deploy(run, ["--canary"], s.allowance, seed)
            self._row("trial", run)
            outcome = evidence.decided(log.read(run))
            step["gave"] = next(text for text in said if text.startswith("canary: "))
        if outcome != CERTIFIED:
            return outcome, run
        with self._step("promote", "Promote the child") as step:
            step["gave"] = robot.promote(child)
        return report.PROMOTED, run

    def _after(self, robot: DemoRobot, outcome: str, before: Path, trial: Path | None) -> Path:
        """Run the promoted policy; without one, the trial or the first run is what came out."""
        if outcome == report.PROMOTED:
            return self._deploy(robot, "after", Path("promoted"))
        name = "trial" if trial else "before"
        self.rows["after"] = self.rows[name]
        return trial or before

    def _without_caps(self, policies: dict[str, Path], gap: catalogue.Parameters) -> None:
        """Measure what policies cost on the twin's robot where nothing stops an episode."""
        with self._step("uncapped", "Simulate the twin's robot without the monitor") as step:
            told = []
            for name, policy in policies.items():
                _, networks, _, trained = opened(policy, self.task)
                settings = replace(trained, randomise=gap)
                found = evaluate(networks, settings, EPISODES, self.settings.seed).summary()
                self.rows[name] = {**self.rows[name], "uncapped": found}
                told.append(f"{name} {report.told(found)}")
            step["gave"] = "; ".join(told)

    def _tell(self, summary: dict[str, Any], page: Path) -> None:
        head, *rows = report.table_rows(summary)
        table = Table(head[0], *(Column(name, justify="right") for name in head[1:]))
        for cells in rows:
            table.add_row(*cells)
        self.console.print(table)
        colour = "green" if report.met(summary) else "red"
        self.console.print(report.verdict(summary), style=colour)
        took = summary["seconds"]
        self.console.print(
            f"{took['wall']:.0f} s in all, {took['processor']:.0f} s of processor time. {page}, "
            f"{page.with_name(report.SUMMARY)}"
        )


def _cpu_s() -> float:
    """Return the processor time of this process and of its children that have ended, s."""
    return sum(os.times()[:4])
