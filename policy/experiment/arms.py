"""What is done with one robot of the experiment: each arm ends in a policy, which is measured."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console

from holdfast import files, plain
from holdfast.errors import FileError, HoldfastError, TrainingError
from holdfast.log import reader as log
from holdfast.log.evidence import CERTIFIED
from holdfast.policy import identify as identification
from holdfast.policy.demo import evidence
from holdfast.policy.demo.demo import SEARCH
from holdfast.policy.demo.report import row
from holdfast.policy.demo.robot import DemoRobot, demo_robot, truth_of
from holdfast.policy.experiment.settings import FORMAT, ExperimentSettings
from holdfast.policy.identification.identify import identify
from holdfast.policy.identification.tracks import from_logs
from holdfast.policy.improve import gate
from holdfast.policy.improve.finetune import FinetuneSettings, finetune, opened
from holdfast.policy.improve.improve import ImproveSettings, improve
from holdfast.policy.learn.learner import Learner
from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.models.networks import Networks
from holdfast.policy.ship.evaluate import MET_WITHIN, Evaluation, evaluate
from holdfast.policy.ship.export import checkpoint_of
from holdfast.signals import Array
from holdfast.sim.parameters import catalogue
from holdfast.sim.parameters.catalogue import Parameters

EPISODES = 200
"""Simulated episodes on the true robot, without a monitor, that measure a policy."""

YARDSTICK = "yardstick.json"
"""File with what the yardstick is worth."""

STEP = 50
"""Training iterations of the yardstick between two measurements."""

GAIN = 0.02
"""Share of its return by which the yardstick has to improve to be trained on."""

PATIENCE = 2
"""Measurements without an improvement after which the yardstick is not trained on."""

ARMS: Mapping[str, str] = {
    "nominal": "trained in the nominal simulator",
    "randomised": "trained in randomised simulators",
    "pessimistic": "trained in randomised simulators, with pessimism",
    "logs": "randomised, fine-tuned on its own log",
    "identified": "retrained in the simulator identified from this log",
    "both": "retrained, then fine-tuned on the log of its trial",
    "yardstick": "trained on the true robot",
}
"""The arms, in order: what is done before the policy is measured."""


class Bench:
    """One robot of the experiment, with its folder.

    Args:
        gap: how the robot differs.
        parameters: what identification searches for.
        policies: the bundles of the arms "nominal", "randomised" and "pessimistic".
    """

    def __init__(
        self,
        settings: ExperimentSettings,
        folder: Path,
        gap: Parameters,
        parameters: Sequence[str],
        policies: Mapping[str, Path],
    ) -> None:
        self.settings, self.folder, self.gap = settings, folder, gap
        self.parameters, self.policies = parameters, policies
        self.parent = policies["randomised"]
        self.task = settings.own_task
        self.failed: dict[str, str] = {}

    def run(self) -> dict[str, Any]:
        """Run all arms; return what each one's policy is worth on the true robot, and more.

        An arm that ends in an error has no policy; `failed` says why.
        """
        s, folder = self.settings, self.folder
        folder.mkdir(parents=True, exist_ok=True)
        yardstick = self._kept()
        gap = folder / "gap.yaml"
        files.write(gap, yaml.safe_dump(self.gap.to_plain()))
        # A run that was cut short left these. Its registry and logs stay: each run has its own.
        for name in ARMS:
            for left in (folder / f"{name}.onnx", checkpoint_of(folder / f"{name}.onnx")):
                left.unlink(missing_ok=True)
        homes = (folder / f"robot_{number}" for number in itertools.count())
        home = next(each for each in homes if not each.exists())
        home.mkdir()
        twin = ["--gap", gap, "--task", s.task.id]
        quiet = Console(quiet=True)
        with demo_robot(home, s.task.contract.robot, s.config, twin, s.seed, quiet) as robot:
            logs = {"before": home / "before"}
            robot.deploy(logs["before"], ["--policy", self.parent], s.episodes, s.seed * 1000)
            monitored = {"before": self._monitored(logs["before"])}
            children = {
                "logs": self._try("logs", lambda out: self._tuned(out, self.parent, logs["before"]))
            }
            children["identified"] = self._try(
                "identified", lambda out: self._improved(out, logs["before"])
            )
            outcome, answer = "", ""
            if child := children["identified"]:
                answer = self._gate(child, logs["before"])
                if answer != str(gate.Answer.REJECT):
                    logs["trial"] = home / "trial"
                    outcome = self._trial(robot, child, logs["trial"])
                    monitored["trial"] = self._monitored(logs["trial"])
                    children["both"] = self._try(
                        "both", lambda out: self._tuned(out, child, logs["trial"])
                    )
        yardstick = yardstick or self._yardstick()
        worth = {
            name: self._worth(path) for name, path in {**self.policies, **children}.items() if path
        }
        return {
            "format": FORMAT,
            "arms": worth | {"yardstick": yardstick["worth"]},
            "failed": self.failed,
            "monitored": monitored,
            "gate": answer,
            "trial": outcome,
            "certified": outcome == CERTIFIED,
            "yardstick_iterations": yardstick["iterations"],
        }

    def _try(self, name: str, make: Callable[[Path], Any]) -> Path | None:
        """Let an arm make its child; return the child's path, or None if that failed."""
        out = self.folder / f"{name}.onnx"
        try:
            make(out)
        except FileError:  # a full disk says nothing of the arm
            raise
        except HoldfastError as error:
            self.failed[name] = str(error)
            return None
        return out

    def _tuned(self, out: Path, parent: Path, run: Path) -> None:
        finetune(parent, [run], out, FinetuneSettings(seed=self.settings.seed), self.task)

    def _improved(self, out: Path, run: Path) -> None:
        s, path = self.settings, self.folder / "profile.yaml"
        recorded = from_logs((run,), self.task, False)
        search = replace(SEARCH, seed=s.seed)
        found = identify(recorded, self.parameters, (), self.gap.pose, None, search)
        identification.write(path, recorded, found, search)
        profile = catalogue.load_profile(path)
        improving = ImproveSettings(seed=s.seed, iterations=s.retraining)
        improve(self.parent, profile, [run], out, improving, self.task, anyway=True)

    def _gate(self, child: Path, run: Path) -> str:
        path = self.folder / "gate.json"
        profile = self.folder / "profile.yaml"
        gate.command(child, (run,), (self.parent,), profile, task=self.task, json_out=path)
        return str(plain.read_json(path, TrainingError)["answer"])

    def _trial(self, robot: DemoRobot, child: Path, run: Path) -> str:
        s = self.settings
        robot.promote(child, "--canary", "--explore", "--allowance", s.allowance)
        robot.deploy(run, ["--canary"], s.allowance, s.seed * 1000 + 1)
        return evidence.decided(log.read(run))

    def _monitored(self, run: Path) -> dict[str, Any]:
        """Return what a run behind the monitor was worth, by the twin's truth."""
        read = log.read(run)
        caps = [read.info.episode_cap[cost.name] for cost in read.info.contract.costs]
        costs = np.array([each.result.costs for each in read.episodes])
        over = int((costs > caps).any(axis=1).sum())
        return row(read, truth_of(run), self.task) | {"over_cap": over}

    def _worth(self, policy: Path) -> dict[str, Any]:
        _, networks, _, trained = opened(policy, self.task)
        return self._measured(networks, trained).summary()

    def _measured(self, networks: Networks, trained: TrainSettings) -> Evaluation:
        settings = replace(trained, randomise=self.gap)
        return evaluate(networks, settings, EPISODES, self.settings.seed + 1)

    def _kept(self) -> dict[str, Any] | None:
        """Return what a run that was cut short found of the yardstick: half of a robot's time."""
        path = self.folder / YARDSTICK
        if not path.exists():
            return None
        made = plain.read_json(path, TrainingError)
        with plain.well_formed(path, TrainingError):
            worth = made["worth"]
            names = [cost.name for cost in self.settings.task.contract.costs]
            told = [made["iterations"], worth["return"]["mean"]]
            told += [worth["costs"][name]["mean"] for name in names]
            if not all(isinstance(each, (int, float)) for each in told):
                raise TrainingError(f"{path}: means and iterations should be numbers")
        return {"worth": worth, "iterations": made["iterations"]}

    def _yardstick(self) -> dict[str, Any]:
        """Train on the true robot until its policy no longer improves; return the best policy's
        worth, and the iterations, and keep them."""
        s = self.settings
        settings = TrainSettings(
            task=s.task, seed=s.seed, iterations=s.yardstick, randomise=self.gap
        )
        learner = Learner(settings)
        limit = (1.0 + MET_WITHIN) * learner.contract.limits
        best, since = self._measured(learner.networks, settings), 0
        while learner.iteration < s.yardstick and since < PATIENCE:
            for _ in range(min(STEP, s.yardstick - learner.iteration)):
                learner.iterate()
            found = self._measured(learner.networks, settings)
            best, since = (found, 0) if _better(found, best, limit) else (best, since + 1)
        learner.close()
        made = {"worth": best.summary(), "iterations": learner.iteration}
        files.write(self.folder / YARDSTICK, json.dumps(made, indent=1) + "\n")
        return made


def _better(found: Evaluation, best: Evaluation, limit: Array) -> bool:
    """Return whether a policy's costs are nearer to the limits, or as near and its return larger
    by `GAIN`."""
    over, least = (
        float(np.maximum(each.cost_returns.mean(axis=0) - limit, 0.0).sum())
        for each in (found, best)
    )
    gained = float(found.returns.mean() - best.returns.mean())
    return over < least or (over == least and gained > GAIN * abs(float(best.returns.mean())))
