"""`holdfast experiment sim2real`: each part of the loop on many twins that differ."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from tyro.conf import Positional

from holdfast import files, plain, share
from holdfast.errors import ConfigError, TrainingError
from holdfast.policy.experiment import report
from holdfast.policy.experiment.arms import ARMS, Bench
from holdfast.policy.experiment.settings import FORMAT, ExperimentSettings
from holdfast.policy.identification.free import chosen
from holdfast.policy.improve.finetune import opened
from holdfast.policy.learn.settings import TrainSettings, contract_of
from holdfast.policy.ship.evaluate import evaluate
from holdfast.policy.ship.export import EPISODES, export
from holdfast.policy.train import CHECKPOINT, train
from holdfast.schema import to_plain
from holdfast.sim.parameters import catalogue
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.parameters.robots import require_fit
from holdfast.sim.twin.serve import require_config

SETTINGS = "settings.json"
RESULT = "result.json"
LOCK = "lock"
"""File that a process holds while it runs the experiment of the folder."""

FIRST = "nominal"
"""The policy that is made first."""

FIRST_ARMS = (FIRST, "randomised", "pessimistic", "yardstick")
"""Arms that no robot lacks."""

MOST = 1e12
"""Largest size of a cost or a return of a result."""

DRAWS = 40
"""Robots that are looked at, at most, for each robot of the experiment."""

POSED = (
    "drive_unmeasured.yaml", "randomise_demo.yaml", "gaps_drive.yaml", "gaps_drive_beyond.yaml",
)  # fmt: skip
UNPOSED = (
    "drive_goal_unmeasured.yaml", "randomise_goal.yaml", "gaps_goal.yaml", "gaps_goal_beyond.yaml",
)  # fmt: skip
"""Files of this installation: the configuration of robots `drive`, the ranges of the randomised
policy, and those of the robots; for such that measure their pose, and for such that measure goals
and posts about them alone."""

SHORT, LONG = 65, 200
"""Training iterations of the first policies, without --iterations: where robots `drive` measure
their pose, and where they do not, as on DriveGoal, which takes longer to learn."""

PARAMETERS = (
    "delay", "gain:each", "size:left_tyre", "size:right_tyre", "mass", "friction",
    "slope:x", "slope:y", "friction_loss:each", "scale:forward_speed",
)  # fmt: skip
"""What identification searches for on robot `drive`: nobody knows which of it differs. A slope
cannot be found where it is not measured which way the robot faces."""


def command(name: Positional[Literal["sim2real"]], settings: ExperimentSettings) -> None:
    """Measure what each part of the loop is worth, on twins that differ from the simulator.

    `holdfast experiment sim2real` draws robots, and compares on each: a policy of the nominal
    simulator, one of randomised simulators, one of these simulators with pessimism, the randomised
    one fine-tuned on its own log, the randomised one retrained in the simulator that was identified
    from the log, both, and a policy trained on the robot itself. Each robot takes about ten minutes
    of processor time on DriveCircle. The experiment may be broken off, and goes on with the next
    robot. The results are a table, sim2real.md, and sim2real.svg in the output folder.

    Args:
        name: the experiment.
        settings: settings of the experiment.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    experiment = Experiment(settings, console)
    with files.locked(settings.out / LOCK, 0.0):
        results = list(experiment.run())
    contract = contract_of(TrainSettings(task=settings.task))
    page, _ = report.write(settings.out, results, contract)
    console.print(page.read_text(encoding="utf-8"))
    console.print(f"{page}")


class Experiment:
    """One experiment; what its folder holds already is taken from there.

    Raises:
        ConfigError: a file is faulty, or belongs to another robot; or the folder holds an
            experiment with other settings.
    """

    def __init__(self, settings: ExperimentSettings, console: Console) -> None:
        self.settings, self.console = settings, console
        ours = settings.task.contract.robot == "drive"
        if not ours and not (settings.gaps and settings.randomise):
            raise ConfigError(
                f"gaps and randomise should be given for robot '{settings.task.contract.robot}': "
                "the files of this installation are of robot 'drive'"
            )
        folder = share.folder() / "config"
        posed = "heading" in settings.task.contract.observed_signals
        own, randomised, *robots = (folder / name for name in (POSED if posed else UNPOSED))
        self.iterations = settings.iterations or (LONG if ours and not posed else SHORT)
        self.files = settings.gaps or tuple(robots)
        self.ranges = [catalogue.load(path) for path in self.files]
        known = settings.randomise or randomised
        self.known = catalogue.load(known)
        tried = tuple(each for each in PARAMETERS if posed or not each.startswith("slope"))
        self.parameters = settings.parameters or (tried if ours else ())
        made = settings.task.make()
        given = zip((known, *self.files), (self.known, *self.ranges), strict=True)
        for path, parameters in given:
            if not any(parameters.given()):
                raise ConfigError(f"{path}: should hold a parameter, in which the robots differ")
            require_fit(parameters, made.robot, made.contract, str(path))
        observed = {n: made.contract.signal_size(n) or 0 for n in made.contract.observed_signals}
        chosen(self.parameters, made, observed, "known")
        self.config = settings.config or (own if ours else None)
        if self.config:
            require_config(made, self.config)
        self._claim()

    def _claim(self) -> None:
        """Write down the settings; the folder's own have to be the same, but for the count."""
        for folder in (self.settings.out, *map(self._folder, range(self.settings.count))):
            if os.path.lexists(folder) and not folder.is_dir():
                raise ConfigError(f"{folder}: should be a folder; give another --out")
        path = self.settings.out / SETTINGS
        told = {"format": FORMAT, **to_plain(self.settings), "task": self.settings.task.id}
        told |= {"iterations": self.iterations, "ranges": [each.to_plain() for each in self.ranges]}
        for name in ("out", "count", "gaps", "randomise"):
            del told[name]
        told["randomise"] = self.known.to_plain()
        told["config"] = self.config and plain.read_text(self.config, ConfigError)
        told = json.loads(json.dumps(told))
        if path.exists() and plain.read_json(path, ConfigError) != told:
            raise ConfigError(
                f"{path}: is of an experiment with other settings; give another --out"
            )
        if not path.exists() and (self.settings.out / f"{FIRST}.onnx").exists():
            raise ConfigError(
                f"{self.settings.out}: has policies of an experiment, but no {SETTINGS} that says "
                "how they were made; give another --out"
            )
        for name in (report.PAGE, report.PICTURE):
            files.require_output(self.settings.out / name, (".md", ".svg"))
        self.settings.out.mkdir(parents=True, exist_ok=True)
        files.write(path, json.dumps(told, indent=1) + "\n")

    def _folder(self, number: int) -> Path:
        """Return a robot's folder."""
        return self.settings.out / f"gap_{number:02d}"

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield the results of each robot."""
        policies = {
            FIRST: self._policy(FIRST, None),
            "randomised": self._policy("randomised", self.known),
            "pessimistic": self._policy("pessimistic", self.known, self.settings.pessimism),
        }
        own = replace(self.settings, config=self.config)
        for number in range(self.settings.count):
            folder = self._folder(number)
            path = folder / RESULT
            if not path.exists():
                begun = time.monotonic()
                gap = self._drawn(number, policies[FIRST])
                found = Bench(own, folder, gap, self.parameters, policies).run()
                found |= {"gap": number, "robot": gap.to_plain()}
                found["ranges"] = self.files[number % len(self.files)].name
                found["seconds"] = time.monotonic() - begun
                files.write(path, json.dumps(found, indent=1) + "\n")
            yield self._read(path, number)

    def _read(self, path: Path, number: int) -> dict[str, Any]:
        """Return a robot's results from its file, which holds all that the page needs."""
        found: dict[str, Any] = plain.read_json(path, TrainingError)
        with plain.well_formed(path, TrainingError):
            ranges = self.files[number % len(self.files)].name
            for name, own in (("format", FORMAT), ("gap", number), ("ranges", ranges)):
                if found[name] != own:
                    raise TrainingError(f"{path}: {name} should be {own}, received {found[name]}")
            costs = [cost.name for cost in self.settings.task.contract.costs]
            for name in (*FIRST_ARMS, *found["arms"]):
                if name not in ARMS or [*found["arms"][name]["costs"]] != costs:
                    raise TrainingError(
                        f"{path}: arm '{name}' should be one of {', '.join(ARMS)}, with the costs "
                        f"{', '.join(costs)}"
                    )
            for name, value, least in _told(found):
                if isinstance(value, bool) or not least <= value <= MOST:
                    raise TrainingError(
                        f"{path}: {name} should be a number in [{least:g}, {MOST:g}], received "
                        f"{plain.written(value)}"
                    )
            if not isinstance(found["certified"], bool):
                raise TrainingError(
                    f"{path}: certified should be true or false, received "
                    f"{plain.written(found['certified'])}"
                )
            self.console.print(report.line(found))
            report.text([found], self.settings.task.contract)
        return found

    def _policy(self, name: str, randomise: Parameters | None, pessimism: float = 0.0) -> Path:
        """Return a policy that was trained before anything was known of the robots."""
        s, out = self.settings, self.settings.out / f"{name}.onnx"
        if not out.exists():
            settings = TrainSettings(
                task=s.task, seed=s.seed, iterations=self.iterations, randomise=randomise,
                pessimism=pessimism,
            )  # fmt: skip
            folder = s.out / f"train_{name}"
            checkpoint = folder / CHECKPOINT
            train(settings, folder, checkpoint.exists(), 10, self.console)[0].close()
            export(checkpoint, out, EPISODES, task=s.own_task)
        return out

    def _drawn(self, number: int, nominal: Path) -> Parameters:
        """Return the first robot of this number's sequence on which the nominal policy costs more
        than `least` limits."""
        s, turn = self.settings, number % len(self.ranges)
        ranges = self.ranges[turn]
        _, networks, _, trained = opened(nominal, s.own_task)
        for draw in range(DRAWS):
            gap = ranges.drawn(np.random.default_rng((s.seed, number, draw)))
            found = evaluate(networks, replace(trained, randomise=gap), 50, s.seed)
            cost = found.cost_returns.mean(axis=0)
            if np.any(cost >= s.least * networks.contract.limits):
                return gap
        raise ConfigError(
            f"{self.files[turn]}: on {DRAWS} robots of these ranges the nominal policy costs less "
            f"than {s.least:g} limits; give wider ranges or a lower --least"
        )


def _told(found: Mapping[str, Any]) -> Iterator[tuple[str, Any, float]]:
    """Yield the numbers of a result that the page counts: name, value, and least value."""
    for arm, worth in found["arms"].items():
        yield f"{arm}: return", worth["return"]["mean"], -MOST
        for name, cost in worth["costs"].items():
            yield f"{arm}: {name}", cost["mean"], 0.0
    for run, told in found["monitored"].items():
        yield f"{run}: episodes", told["episodes"], 1.0
        yield f"{run}: over_cap", told["over_cap"], 0.0
        for name, cost in told["true_costs"].items():
            yield f"{run}: {name}", cost["mean"], 0.0
