"""`holdfast deploy`: run a policy on a robot, behind the safety monitor, and log the run.

This process is the monitor's, and has the only connection to the robot. The policy runs in another
process.
"""

from __future__ import annotations

import importlib
import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console

from holdfast import files
from holdfast.errors import ConfigError, FileError, HoldfastError
from holdfast.log.format import EpisodeResult, RunInfo
from holdfast.log.writer import Recorder
from holdfast.plain import counted
from holdfast.registry.signing import CANARY
from holdfast.robot.base import Robot
from holdfast.robot.run.assembly import Assembly, assemble, default_directory, require_fit
from holdfast.robot.run.by_count import EpisodesByCount
from holdfast.robot.run.deployment import Deployment
from holdfast.robot.run.loop import Loop
from holdfast.robot.run.policy_process import PolicyProcess
from holdfast.robot.run.session import (
    Interrupted,
    Session,
    cost_texts,
    episode_text,
    return_texts,
)
from holdfast.robot.run.trial import Trial
from holdfast.schema import SEED, Range, check, to_plain

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
    """The policy and the robot of a run, and the place of its log.

    Attributes:
        robot: address of the robot: "serial:PORT[?baud=N]" for a device on a port, or
            "dds:CONFIG[?namespace=NAME&node=NAME]" for a robot of a ROS graph, without ROS: CONFIG
            is the robot's configuration file, or the name of an installed one. `holdfast twin`
            prints the address of its robot.
        policy: the bundle, an ONNX file that `holdfast export` wrote; or `promoted`, which is the
            promoted policy of the registry that the robot's configuration file names.
        canary: run the registry's canary until its evidence is a certificate or an alarm, or its
            allowance of episodes is used up; see docs/guides/PROMOTE.md.
        episodes: number of episodes; each has the contract's number of steps. Default: 1; for a
            canary, as many as its trial needs.
        explore: sample actions from the policy, to learn from the log; otherwise the mean action
            is proposed.
        seed: random seed of the sampled actions.
        out: directory for log and summary; must hold no log yet. Default:
            runs/<task>-<date>-<time>.
        config: the robot's configuration file. Default: config/<robot>.yaml.
        limit: limit d in force, for each cost that the policy was trained for a range of limits
            of, in the contract's order. Episode caps keep their ratio to it. Default: the
            contract's own.
        episode_cap: NAME=VALUE for each cost whose episode cap is tightened, in cost units.
        evidence: file with the evidence of all runs of this robot under this contract on the mean
            cost; made if missing. Once it is evident that the mean is above its limit d, or that
            the episode cap is hit too often, the robot is not started any more. A policy that
            learned from the alarm needs a new file. Default: none.
        prompt: before each episode, ask a person to place a robot that cannot place itself;
            otherwise an episode starts where the last episode ended.
    """

    robot: str
    policy: Path | None = None
    canary: bool = False
    episodes: Annotated[int, Range(1)] | None = None
    explore: bool = False
    seed: Annotated[int, SEED] = 0
    out: Path | None = None
    config: Path | None = None
    limit: tuple[float, ...] = ()
    episode_cap: tuple[str, ...] = ()
    evidence: Path | None = None
    prompt: bool = True

    def __post_init__(self) -> None:
        check(self, ConfigError)
        if (self.policy is None) != self.canary:
            raise ConfigError("deploy should have one of --policy and --canary")
        if self.evidence is not None and self.evidence.suffix == ".mcap":
            raise ConfigError(
                f"evidence should be a JSON file, not a log, received {self.evidence}"
            )

    @property
    def wanted(self) -> Path:
        """The policy: a file, or the word for a slot of the registry."""
        return self.policy or Path(CANARY)


def command(settings: Settings) -> int:
    """Run a policy on a robot, behind the safety monitor, and log the run.

    Exit status: 0 when all episodes were run, also if a budget stopped some of them; 1 when a fault
    ended the run; 130 after Ctrl-C. The robot is stopped in each case.
    """
    assembly = assemble(
        settings.wanted,
        _config_path(settings),
        settings.episode_cap,
        settings.evidence,
        limit=settings.limit,
    )
    admission, trial = assembly.admission, Trial.of(assembly)
    bundle, contract, config = assembly.bundle, assembly.contract, assembly.config
    if bundle is None:
        raise ConfigError(f"{settings.wanted}: should be a bundle, an .onnx file")
    with ExitStack() as stack:
        policy = PolicyProcess(bundle, settings.explore, settings.seed)
        stack.callback(policy.close)
        robot = connect(settings.robot, assembly)
        stack.callback(robot.close)
        bundle.expect(robot=robot.identity.robot)
        require_fit(contract, robot.identity, assembly.monitor.required, config.command_valid_for_s)
        admission.require_fit(robot.identity.hardware_id, settings.explore)
        if assembly.deployment is not None:
            stack.enter_context(assembly.deployment.claimed(robot.identity.hardware_id))
        episodes = settings.episodes or (1 if trial is None else trial.left)
        if trial is not None:
            trial.settle()
            episodes = min(episodes, trial.left)
        policy.wait_ready()
        directory = settings.out or default_directory(contract)
        said = stack.enter_context(admission.run(str(directory)))
        info = assembly.info(directory.resolve().name, robot, settings.seed, settings.explore)
        recorder = Recorder(directory, info, robot.now_s())
        stack.callback(recorder.close)
        loop = Loop(robot, assembly.monitor, policy, bundle, recorder, config)
        progress = Progress(info, episodes, recorder, assembly.deployment, loop.changed_by)
        session = Session(loop, config.ready_wait_s, progress.add, assembly.deployment)
        status = progress.follow(EpisodesByCount(session, settings.prompt), trial)
        said.append(progress.ended)
    return status


def _config_path(settings: Settings) -> Path | None:
    """Return the configuration file that the settings name, or None."""
    if not settings.robot.startswith(DDS):
        return settings.config
    if settings.config is not None:
        raise ConfigError(f"'{settings.robot}' names its configuration; --config names another")
    from holdfast.robot.dds import robot as dds  # not every install has it

    return dds.parse_address(settings.robot)[0]


def connect(address: str, assembly: Assembly) -> Robot:
    """Connect to the robot at an address.

    Raises:
        ConfigError: the address is written otherwise, or a needed topic is missing.
        LinkError: no robot answers.
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
    """Prints how each episode went, and writes the summary of the run.

    Args:
        changed_by: the loop's counts of interventions by reason, which it goes on to add to.

    Attributes:
        ended: how the run ended, for its receipt.
    """

    def __init__(
        self,
        info: RunInfo,
        episodes: int,
        recorder: Recorder,
        deployment: Deployment | None,
        changed_by: Counter[str],
    ) -> None:
        self._info, self._episodes, self._recorder = info, episodes, recorder
        self._deployment, self._changed_by = deployment, changed_by
        self._results: list[EpisodeResult] = []
        self._console = Console(highlight=False, soft_wrap=True, markup=False)
        self._began_s = time.monotonic()
        self.ended = ""

    def follow(self, run: EpisodesByCount, trial: Trial | None) -> int:
        """Run the episodes, write the summary in any case, and return the exit status."""
        task, robot = self._info.contract.task, self._info.identity["hardware_id"]
        self._console.print(f"{counted(self._episodes, 'episode')} of {task} on {robot}")
        status, error = 0, ""
        try:
            run.run(self._episodes, (lambda: False) if trial is None else trial.decided)
        except Interrupted as ending:
            status, error = INTERRUPTED, str(ending)
        except HoldfastError as fault:
            error = str(fault)
            raise
        finally:
            self.ended = f"{counted(len(self._results), 'episode')}{f', {error}' if error else ''}"
            with ExitStack() as both:  # an alarm holds the policy, whatever else fails
                if trial is not None:
                    both.callback(self._conclude, trial, error)
                self._write_summary(error)
        return status

    def _conclude(self, trial: Trial, error: str) -> None:
        try:
            sentence = trial.conclude()
        except HoldfastError as second:
            if not error:
                raise
            sentence = str(second)  # the error that ended the run decides the exit status
        self.ended += f"; {sentence}"
        self._console.print(f"canary: {sentence}")

    def add(self, result: EpisodeResult) -> None:
        """Print how an episode went, and how many episodes of the run are done."""
        self._results.append(result)
        text = episode_text(result, self._info.contract, self._info.episode_cap)
        self._console.print(f"{text}  [{len(self._results)}/{self._episodes}]")

    def _write_summary(self, error: str) -> None:
        results, seconds = self._results, time.monotonic() - self._began_s
        summary = {**self._identity(), **self._account(), "error": error, "wall_s": seconds}
        path = self._recorder.path.parent / SUMMARY_FILE
        try:
            files.write(path, json.dumps(summary, indent=2) + "\n")
        except FileError as unwritten:
            if not error:
                raise
            # The error that ended the run is printed last, and decides the exit status.
            self._console.print(str(unwritten))
        contract, budgets = self._info.contract, self._info.episode_cap
        means = [mean for mean in self._cost_means().values() if mean is not None]
        parts = [
            *return_texts(self._return_mean()),
            *(cost_texts(means, contract, budgets) if results else ()),
            f"{counted(sum(r.interventions for r in results), 'intervention')}{self._reasons()}",
            f"{summary['deadline_misses']} deadline misses",
            f"{summary['stopped_episodes']} stopped",
            f"{sum(result.steps for result in results) / seconds:.0f} steps/s",
        ]
        if self._recorder.lost:
            parts.append(f"{self._recorder.lost} records lost")
        self._console.print(f"mean of {counted(len(results), 'episode')}: {', '.join(parts)}")
        for sentence in self._deployment.sentences() if self._deployment is not None else ():
            self._console.print(sentence)
        self._console.print(f"log: {self._recorder.path}")

    def _reasons(self) -> str:
        """Return the interventions' reasons with their counts, in parentheses; "" without one."""
        told = (f"{count} {code}" for code, count in self._changed_by.most_common())
        return f" ({', '.join(told)})" if self._changed_by else ""

    def _identity(self) -> dict[str, object]:
        """Return the part of the summary that is known before the first episode."""
        info, contract = self._info, self._info.contract
        return {
            "run": info.run,
            "robot": contract.robot,
            "hardware_id": info.identity["hardware_id"],
            "task": contract.task,
            "contract_hash": contract.hash,
            "bundle_hash": info.bundle_hash,
            "seed": info.seed,
            "exploring": info.exploring,
            "log": self._recorder.path.name,
            "limit": {cost.name: cost.limit for cost in contract.costs},
            "episode_cap": dict(info.episode_cap),
        }

    def _account(self) -> dict[str, object]:
        """Return the part of the summary that counts the episodes."""
        results = self._results
        return {
            "steps": sum(result.steps for result in results),
            "interventions": sum(result.interventions for result in results),
            "interventions_by_reason": dict(self._changed_by.most_common()),
            "deadline_misses": sum(result.deadline_misses for result in results),
            "stopped_episodes": sum(bool(result.code) for result in results),
            "lost_records": self._recorder.lost,
            "return_mean": self._return_mean(),
            "cost_mean": self._cost_means(),
            "evidence": None if self._deployment is None else self._deployment.summary(),
            "episodes": [to_plain(result) for result in results],
        }

    def _return_mean(self) -> float | None:
        """Return the mean reward return; None unless that of every episode is known."""
        returns = [r.reward_return for r in self._results if r.reward_return is not None]
        whole = returns and len(returns) == len(self._results)
        return sum(returns) / len(returns) if whole else None

    def _cost_means(self) -> dict[str, float | None]:
        """Return each cost's mean over the episodes, by name; None without an episode."""
        results = self._results
        return {
            cost.name: sum(r.costs[i] for r in results) / len(results) if results else None
            for i, cost in enumerate(self._info.contract.costs)
        }
