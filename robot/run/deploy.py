"""`holdfast deploy`: run a policy on a robot, behind the monitor, into a log.

This process is the monitor's: it alone has the robot's port. The policy runs in another.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console

from holdfast import files
from holdfast.errors import ConfigError, FileError, HoldfastError
from holdfast.log.format import EpisodeResult, RunInfo
from holdfast.log.writer import Recorder
from holdfast.robot.base import Robot
from holdfast.robot.run.assembly import Assembly, assemble, default_directory, require_fit
from holdfast.robot.run.deployment import Deployment
from holdfast.robot.run.loop import Loop
from holdfast.robot.run.policy_process import PolicyProcess
from holdfast.robot.run.run import Interrupted, Run
from holdfast.schema import Range, check, to_plain

DDS = "dds:"
TRANSPORTS: Mapping[str, str] = {
    "serial": "holdfast.robot.serial.robot",
    "dds": "holdfast.robot.dds.robot",
}
"""By the scheme of a robot's address, the module whose `connect` reaches it. The module is imported
when it is needed: not every install has what it imports."""

INTERRUPTED = 130
SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Settings:
    """What to run, on what, and where to log it.

    Attributes:
        robot: its address: "serial:PORT[?baud=N]" for a device on a port, or
            "dds:CONFIG[?namespace=NAME&node=NAME]" for a robot of a ROS graph, without ROS: CONFIG
            is its configuration file or an installed one's name. `holdfast twin` prints one.
        policy: the bundle, an ONNX file that `holdfast export` wrote.
        episodes: how many; each has the contract's number of steps.
        explore: sample actions from the policy, to learn from the log; otherwise its mean.
        seed: of the sampled actions.
        out: the run's directory, for log and summary; must hold no log yet. Default:
            runs/<task>-<date>-<time>.
        config: the robot's configuration file. Default: config/<robot>.yaml.
        run_budget: NAME=VALUE for each cost whose run budget is tightened, in cost units.
        evidence: a file that keeps, over many runs, what the episodes of this robot under this
            contract say of its mean cost; made if missing. Once it is evident that the mean is
            above its limit d, or that the run budget is hit too often, the robot is not started
            any more. A policy that learned from the alarm needs a new file. Default: none.
        prompt: ask a person to place a robot that cannot place itself before each episode;
            otherwise an episode starts where the last one ended.
    """

    robot: str
    policy: Path
    episodes: Annotated[int, Range(1)] = 1
    explore: bool = False
    seed: Annotated[int, Range(0)] = 0
    out: Path | None = None
    config: Path | None = None
    run_budget: tuple[str, ...] = ()
    evidence: Path | None = None
    prompt: bool = True

    def __post_init__(self) -> None:
        check(self, ConfigError)


def command(settings: Settings) -> int:
    """Run a policy on a robot, behind the safety monitor, and log everything.

    Exit status: 0 when all episodes were run, also if the budget stopped some; 1 when a fault
    ended the run; 130 after Ctrl-C. The robot is stopped in each case.
    """
    assembly = assemble(
        settings.policy, _config_path(settings), settings.run_budget, settings.evidence
    )
    bundle, contract, config = assembly.bundle, assembly.contract, assembly.config
    if bundle is None:
        raise ConfigError(f"{settings.policy}: should be a bundle, an .onnx file")
    with ExitStack() as stack:
        policy = PolicyProcess(bundle, settings.explore, settings.seed)
        stack.callback(policy.close)
        robot = connect(settings.robot, assembly)
        stack.callback(robot.close)
        bundle.expect(robot=robot.identity.robot)
        require_fit(contract, robot.identity, assembly.monitor.required)
        if assembly.deployment is not None:
            assembly.deployment.claim(robot.identity.hardware_id)
        policy.wait_ready()
        directory = settings.out or default_directory(contract)
        info = assembly.info(directory.resolve().name, robot, settings.seed, settings.explore)
        recorder = Recorder(directory, info, robot.now_s())
        stack.callback(recorder.close)
        progress = Progress(info, settings.episodes, recorder, assembly.deployment)
        loop = Loop(robot, assembly.monitor, policy, bundle, recorder, config)
        return progress.follow(Run(loop, config, settings.prompt, progress.add))


def _config_path(settings: Settings) -> Path | None:
    """Return the configuration file that was named, one way or the other."""
    if not settings.robot.startswith(DDS):
        return settings.config
    if settings.config is not None:
        raise ConfigError(f"'{settings.robot}' names its configuration; --config names another")
    from holdfast.robot.dds import robot as dds  # not every install has it

    return dds.parse_address(settings.robot)[0]


def connect(address: str, assembly: Assembly) -> Robot:
    """Connect to a robot by its address.

    Raises:
        ConfigError: the address is written otherwise, or its topics lack something.
        LinkError: nothing answers.
    """
    scheme, colon, _ = address.partition(":")
    if not colon or scheme not in TRANSPORTS:
        known = " or ".join(f"{each}:" for each in TRANSPORTS)
        raise ConfigError(f"robot should begin with {known}, received '{address}'")
    transport = importlib.import_module(TRANSPORTS[scheme])
    robot: Robot = transport.connect(
        address, assembly.config, assembly.contract, assembly.monitor.required
    )
    return robot


class Progress:
    """Says between episodes how the run goes, and writes its summary in the end."""

    def __init__(
        self, info: RunInfo, episodes: int, recorder: Recorder, deployment: Deployment | None
    ) -> None:
        self._info, self._episodes, self._recorder = info, episodes, recorder
        self._deployment = deployment
        self._results: list[EpisodeResult] = []
        self._console = Console(highlight=False, soft_wrap=True, markup=False)
        self._began_s = time.monotonic()

    def follow(self, run: Run) -> int:
        """Run, write the summary whatever happens, and return the exit status."""
        task, robot = self._info.contract.task, self._info.identity["hardware_id"]
        self._console.print(f"{self._episodes} episodes of {task} on {robot}")
        status, error = 0, ""
        try:
            run.run(self._episodes)
        except Interrupted:
            status, error = INTERRUPTED, "interrupted"
        except HoldfastError as fault:
            error = str(fault)
            raise
        finally:
            self._write_summary(error)
        return status

    def add(self, result: EpisodeResult) -> None:
        """Say how an episode went, and count it for the deployment.

        Raises:
            RunError: the evidence cannot be written.
        """
        self._results.append(result)
        width = len(str(self._episodes))
        parts = [
            f"episode {result.episode + 1:{width}}/{self._episodes}",
            f"{result.steps} steps",
            *self._costs(result.costs),
            f"interventions {result.interventions}",
            f"deadline misses {result.deadline_misses}",
            result.ended + (f": {result.text}" if result.text else ""),
        ]
        self._console.print("  ".join(parts))
        if self._deployment is not None:
            self._deployment.add(result)

    def _costs(self, values: Sequence[float]) -> list[str]:
        budgets = self._info.run_budget
        return [
            f"{cost.name} {value:g} (d {cost.limit:g}, run budget {budgets[cost.name]:g})"
            for cost, value in zip(self._info.contract.costs, values, strict=True)
        ]

    def _write_summary(self, error: str) -> None:
        results, contract = self._results, self._info.contract
        seconds = time.monotonic() - self._began_s
        steps = sum(result.steps for result in results)
        costs = {
            cost.name: [result.costs[i] for result in results]
            for i, cost in enumerate(contract.costs)
        }
        summary: dict[str, Any] = {
            "run": self._info.run,
            "robot": contract.robot,
            "hardware_id": self._info.identity["hardware_id"],
            "task": contract.task,
            "contract_hash": contract.hash,
            "bundle_hash": self._info.bundle_hash,
            "seed": self._info.seed,
            "exploring": self._info.exploring,
            "log": self._recorder.path.name,
            "error": error,
            "wall_s": seconds,
            "steps": steps,
            "interventions": sum(result.interventions for result in results),
            "deadline_misses": sum(result.deadline_misses for result in results),
            "stopped_episodes": sum(bool(result.code) for result in results),
            "lost_records": self._recorder.lost,
            "limit": {cost.name: cost.limit for cost in contract.costs},
            "run_budget": dict(self._info.run_budget),
            "cost_mean": {
                name: sum(values) / len(values) if values else None
                for name, values in costs.items()
            },
            "evidence": None if self._deployment is None else self._deployment.summary(),
            "episodes": [to_plain(result) for result in results],
        }
        path = self._recorder.path.parent / SUMMARY_FILE
        try:
            files.write(path, json.dumps(summary, indent=2) + "\n")
        except FileError as unwritten:
            if not error:
                raise
            # The error that ended the run is said last, and decides the exit status.
            self._console.print(str(unwritten))
        means = [values for values in summary["cost_mean"].values() if values is not None]
        lost = f"  {self._recorder.lost} records lost" if self._recorder.lost else ""
        self._console.print(
            "  ".join(
                [
                    f"mean of {len(results)} episodes:",
                    *(self._costs(means) if results else []),
                    f"interventions {summary['interventions']}",
                    f"deadline misses {summary['deadline_misses']}",
                    f"stopped {summary['stopped_episodes']}",
                    f"{steps / seconds:.0f} steps/s{lost}",
                ]
            )
        )
        for sentence in self._deployment.sentences() if self._deployment is not None else ():
            self._console.print(sentence)
        self._console.print(f"log: {self._recorder.path}")
