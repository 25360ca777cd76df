"""`safety_monitor_node`: nothing reaches the robot but what the safety monitor lets through.

It has the only publisher of the command, runs on a timer thread of its own, starts stopped, and
publishes zero when it is deactivated, shut down or interrupted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdfast.errors import ConfigError, LogError
from holdfast.log.format import EpisodeResult
from holdfast.log.writer import Recorder
from holdfast.robot.ros.node import Health, ManagedNode, Option, run
from holdfast.robot.run.assembly import Assembly, assemble, default_directory, require_fit
from holdfast.robot.run.loop import Loop, Proposer
from holdfast.robot.run.watch import Watch
from holdfast.robot.topics.graph import STATUS
from holdfast.robot.topics.proposers import ExternalProposer, PolicyTopic
from holdfast.robot.topics.robot import TopicRobot
from holdfast.safety_monitor.messages import State, Verdict
from holdfast.safety_monitor.reasons import POWER_ON

STATUS_TYPE = "diagnostic_msgs/msg/DiagnosticStatus"
POLICY, ANYBODY = "policy", "anybody"

INACTIVE = Health(1, "INACTIVE: the safety monitor is not active", {"state": "INACTIVE"})
LEVELS = {
    State.STOPPED: 2,
    State.READY: 0,
    State.FALLBACK: 2,
    State.LIMITED: 1,
    State.ACTIVE: 0,
}

OPTIONS = (
    Option("policy", "", "the bundle (.onnx), or a contract (.yaml) where others propose"),
    Option("robot_config", "", "the robot's configuration file; empty: the installed one"),
    Option("proposals", POLICY, "who proposes: 'policy', our node; 'anybody', by themselves"),
    Option("explore", False, "the policy node samples its actions: log their probabilities"),
    Option("seed", 0, "the policy node's, for the log", 0, 2**31 - 1),
    Option("enable_motion", False, "publish commands; otherwise everything runs but that"),
    Option("episodes", 1, "how many follow one another after an arming", 1, 1_000_000),
    Option("run_budget", [""], "NAME=VALUE for each cost whose run budget is tightened"),
    Option("evidence", "", "file that keeps what episodes say of the mean cost; empty: none"),
    Option("record", True, "write the run's log"),
    Option("log_dir", "", "the run's directory; empty: runs/<task>-<date>-<time>"),
    Option("hardware_id", "", "this very unit; empty: the robot's name and namespace"),
)


class SafetyMonitorNode(ManagedNode):
    """The monitor in a process of its own."""

    def __init__(self) -> None:
        super().__init__("safety_monitor_node", OPTIONS)
        self._watch: Watch | None = None
        self._recorder: Recorder | None = None
        self._newest = super().health()
        self._published: tuple[State, str] | None = None
        self._directory: Path | None = None  # of the last log

    # The lifecycle.

    def configure(self) -> None:
        """Load and check everything, and find the topics."""
        assembly = self._assemble()
        contract, config = assembly.contract, assembly.config
        section = config.topics()
        section.require_fit(contract, assembly.monitor.required)
        hardware_id = self.option("hardware_id") or f"{config.robot}@{self.get_namespace()}"
        self.name_hardware(hardware_id)
        self._robot = TopicRobot(
            self.graph, section, contract, config.robot, hardware_id, self.option("enable_motion")
        )
        require_fit(contract, self._robot.identity, assembly.monitor.required)
        if assembly.deployment is not None:
            assembly.deployment.claim(hardware_id)
        self._proposer = self._find_proposer(assembly)
        self._assembly = assembly
        self._publish_status = self.graph.advertise("~/status", STATUS_TYPE, STATUS)
        self.graph.serve("~/arm", lambda: self._ask("arm"))
        self.graph.serve("~/disarm", lambda: self._ask("disarm"))
        self.graph.serve("~/reset", lambda: self._ask("reset"))

    def _assemble(self) -> Assembly:
        path, config, evidence = map(self.option, ("policy", "robot_config", "evidence"))
        if not path:
            raise ConfigError("parameter policy should name a bundle or a contract, it is empty")
        return assemble(
            Path(path),
            Path(config) if config else None,
            self.texts("run_budget"),
            Path(evidence) if evidence else None,
            dry=not self.option("enable_motion"),
        )

    def _find_proposer(self, assembly: Assembly) -> Proposer:
        who, section = self.option("proposals"), assembly.config.topics()
        if who == ANYBODY:
            hold_s = assembly.config.monitor.freshness.proposal_max_age_s
            return ExternalProposer(self.graph, section, assembly.contract, hold_s)
        if who != POLICY:
            raise ConfigError(
                f"parameter proposals should be '{POLICY}' or '{ANYBODY}', received '{who}'"
            )
        if assembly.bundle is None:
            raise ConfigError(
                f"parameter proposals is '{POLICY}', so policy should name a bundle, an .onnx file"
            )
        return PolicyTopic(self.graph, section, assembly.bundle, self.option("explore"))

    def activate(self) -> None:
        """Begin to watch: stopped, as ever."""
        assembly = self._assembly = self._assemble()  # nothing of an earlier run lives on
        if self.option("record"):
            directory = self._log_directory(assembly)
            name, seed, explore = directory.resolve().name, *map(self.option, ("seed", "explore"))
            info = assembly.info(name, self._robot, seed, explore)
            self._recorder = Recorder(directory, info, self._robot.now_s())
            self._directory = directory
            self.get_logger().info(f"log: {self._recorder.path}")
        loop = Loop(
            self._robot,
            assembly.monitor,
            self._proposer,
            assembly.bundle,
            self._recorder,
            assembly.config,
        )
        self._watch = Watch(
            loop, assembly.config.ready_wait_s, self.option("episodes"), self._said, self._report
        )
        self._watch.start()

    def _log_directory(self, assembly: Assembly) -> Path:
        """Return where to log: each activation of one process has a directory of its own."""
        given = self.option("log_dir")
        if not given:
            return default_directory(assembly.contract)
        directory, number = Path(given), 1
        while self._directory is not None and directory.exists():
            number += 1
            directory = Path(f"{given}-{number}")
        return directory

    def halt(self) -> None:
        """Publish zero, and end the log."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._robot.close()
        self._newest, self._published = INACTIVE, None
        self._publish_status(self._status())
        self.graph.flush()
        if self._recorder is not None:
            recorder, self._recorder = self._recorder, None
            try:
                recorder.close()
            except LogError as error:  # it must not keep the node from stopping
                self.get_logger().error(str(error))

    def _ask(self, what: str) -> tuple[bool, str]:
        if self._watch is None:
            return False, "the safety monitor is not active"
        done, sentence = getattr(self._watch, what)()
        self.get_logger().info(f"{what}: {sentence}")
        return done, sentence

    # What the watch says.

    def _said(self, number: int, verdict: Verdict) -> None:
        state, budget = verdict.state, verdict.budget
        codes = "; ".join(reason.code for reason in verdict.reasons)
        values = {"state": state.name, "reasons": codes, "episode": str(number)}
        for i, cost in enumerate(self._assembly.contract.costs):
            values[f"{cost.name} spent"] = f"{budget.spent[i]:g}"
            values[f"{cost.name} predicted"] = f"{budget.predicted[i]:g}"
            values[f"{cost.name} run budget"] = f"{budget.run_budget[i]:g}"
        why = f": {verdict.reasons[0].text}" if verdict.reasons else ""
        # A reason in READY, as motion that nobody commanded, is worth a look as well.
        level = max(LEVELS[state], int(bool(verdict.reasons)))
        self._newest = Health(level, state.name + why, values)
        if (state, codes) != self._published:
            if self._published is None or state is not self._published[0]:
                self._log_change(self._newest, codes)
            self._published = state, codes
            self._publish_status(self._status())
            self.say_health()

    def _log_change(self, health: Health, codes: str) -> None:
        logger = self.get_logger()
        if health.level == 0 or codes == POWER_ON.code:
            logger.info(health.sentence)
        elif health.level == 1:
            logger.warning(health.sentence)
        else:
            logger.error(health.sentence)

    def _status(self) -> Any:
        name = f"{self.get_fully_qualified_name().lstrip('/')}: state"
        return self._newest.status(name, self._robot.identity.hardware_id)

    def _report(self, result: EpisodeResult) -> None:
        names = (cost.name for cost in self._assembly.contract.costs)
        costs = ", ".join(f"{n} {v:g}" for n, v in zip(names, result.costs, strict=True))
        ended = result.ended + (f": {result.text}" if result.text else "")
        self.get_logger().info(
            f"episode {result.episode}: {result.steps} steps, {costs}, "
            f"{result.interventions} interventions, {result.deadline_misses} deadline misses, "
            f"{ended}"
        )
        if self._assembly.deployment is not None:
            self._assembly.deployment.add(result)

    def health(self) -> Health:
        """Return what the monitor last said, and whether nobody is there to propose."""
        if self._watch is None:
            return super().health()
        topic = self._assembly.config.topics().proposal.topic
        if self.option("proposals") == POLICY or self.count_publishers(topic):
            return self._newest
        health = self._newest
        sentence = f"{health.sentence} (nobody publishes {self.resolve_topic_name(topic)})"
        return Health(max(health.level, 1), sentence, health.values)


def main() -> int:
    """Run the node."""
    return run(SafetyMonitorNode)
