"""`safety_monitor_node`: only commands that the safety monitor lets through reach the robot.

The node has the only publisher of the command, runs its periods on a thread of their own, starts
stopped, and publishes zero when it is deactivated, shut down or interrupted.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus

from holdfast.errors import ConfigError, FileError, LogError, RegistryError
from holdfast.log.format import EpisodeResult
from holdfast.log.writer import Recorder
from holdfast.registry.signing import CANARY
from holdfast.robot.ros.markers import Markers
from holdfast.robot.ros.node import Health, ManagedNode, Option, run
from holdfast.robot.run.admission import parse_limits
from holdfast.robot.run.assembly import Assembly, assemble, default_directory, require_fit
from holdfast.robot.run.by_request import EpisodesByRequest
from holdfast.robot.run.loop import Loop, Proposer
from holdfast.robot.run.session import Session, episode_text
from holdfast.robot.topics.graph import STATUS
from holdfast.robot.topics.message_types import MessageType
from holdfast.robot.topics.proposers import ExternalProposer, PolicyTopic
from holdfast.robot.topics.robot import TopicRobot
from holdfast.safety_monitor.messages import State, Verdict
from holdfast.safety_monitor.reasons import POWER_ON

STATUS_TYPE = MessageType[DiagnosticStatus]("diagnostic_msgs/msg/DiagnosticStatus")
POLICY, EXTERNAL = "policy", "external"

INACTIVE = Health(1, "INACTIVE: the safety monitor is not active", {"state": "INACTIVE"})
LEVELS = {
    State.STOPPED: 2,
    State.READY: 0,
    State.FALLBACK: 2,
    State.LIMITED: 1,
    State.ACTIVE: 0,
}

OPTIONS = (
    Option("policy", "", "bundle (.onnx) to run, or contract (.yaml) for external proposals"),
    Option("robot_config", "", "configuration file of the robot; empty: the installed file"),
    Option(
        "proposals",
        POLICY,
        "source of proposals: 'policy', Holdfast's policy node; 'external', a teleoperation or a "
        "navigation",
    ),
    Option("explore", False, "the policy node samples its actions; logs their probabilities"),
    Option("seed", 0, "random seed of the policy node, for the log", 0, 2**31 - 1),
    Option("enable_motion", False, "publish commands; false: everything else runs"),
    Option(
        "episodes",
        1,
        "number of episodes that follow one another after an arming",
        1,
        1_000_000,
    ),
    Option("limit", "", "limit d in force, for each cost with a range; empty: the contract's own"),
    Option("episode_cap", [""], "NAME=VALUE for each cost whose episode cap is tightened"),
    Option("evidence", "", "file with the evidence of all runs on the mean cost; empty: none"),
    Option("record", True, "write the log of the run"),
    Option("log_dir", "", "directory of the log; empty: runs/<task>-<date>-<time>"),
    Option("hardware_id", "", "name of this unit; empty: the robot's name and namespace"),
)


class SafetyMonitorNode(ManagedNode):
    """The safety monitor, in a process of its own."""

    def __init__(self) -> None:
        super().__init__("safety_monitor_node", OPTIONS)
        self._episodes: EpisodesByRequest | None = None
        self._recorder: Recorder | None = None
        self._newest = super().health()
        self._published: tuple[State, str] | None = None
        self._directory: Path | None = None  # of the last log
        self._receipts = ExitStack()  # of the run under way
        self._ended: list[str] = []  # what its last receipt says

    # The lifecycle.

    def configure(self) -> None:
        """Load and check policy, configuration and evidence, and find the topics."""
        assembly = self._assemble()
        contract, config = assembly.contract, assembly.config
        section = config.topics()
        section.require_fit(contract, assembly.monitor.required)
        hardware_id = self.text("hardware_id") or f"{config.robot}@{self.get_namespace()}"
        self.name_hardware(hardware_id)
        self._robot = TopicRobot(
            self.graph, section, contract, config.robot, hardware_id, self.flag("enable_motion")
        )
        require_fit(
            contract,
            self._robot.identity,
            assembly.monitor.required,
            assembly.config.command_valid_for_s,
        )
        assembly.admission.require_fit(hardware_id, self.flag("explore"))
        if assembly.deployment is not None:
            with assembly.deployment.claimed(hardware_id):
                pass  # it is free; each run claims it anew
        self._proposer = self._find_proposer(assembly)
        self._assembly = assembly
        self._publish_status = self.graph.advertise("~/status", STATUS_TYPE, STATUS)
        self._markers = self._find_markers(section.frames.odom)
        self.graph.serve("~/arm", lambda: self._ask("arm"))
        self.graph.serve("~/disarm", lambda: self._ask("disarm"))
        self.graph.serve("~/reset", lambda: self._ask("reset"))

    def _assemble(self) -> Assembly:
        policy = self.path("policy")
        if policy is None:
            raise ConfigError("parameter policy should name a bundle or a contract, it is empty")
        if str(policy) == CANARY:
            raise ConfigError("a canary runs its trial with `holdfast deploy --canary` alone")
        return assemble(
            policy,
            self.path("robot_config"),
            self.texts("episode_cap"),
            self.path("evidence"),
            dry=not self.flag("enable_motion"),
            limit=parse_limits(self.text("limit")),
        )

    def _find_proposer(self, assembly: Assembly) -> Proposer:
        who, section = self.text("proposals"), assembly.config.topics()
        if who == EXTERNAL:
            hold_s = assembly.config.monitor.freshness.proposal_max_age_s
            return ExternalProposer(self.graph, section, assembly.contract, hold_s)
        if who != POLICY:
            raise ConfigError(
                f"parameter proposals should be '{POLICY}' or '{EXTERNAL}', received '{who}'"
            )
        if assembly.bundle is None:
            raise ConfigError(
                f"parameter proposals is '{POLICY}', so policy should name a bundle, an .onnx file"
            )
        return PolicyTopic(self.graph, section, assembly.bundle, self.flag("explore"))

    def _find_markers(self, frame: str) -> Markers | None:
        """Return what publishes markers; None, with a warning, without visualization_msgs."""
        try:
            return Markers(self.graph, frame)
        except ConfigError as error:
            self.get_logger().warning(f"no markers are published for RViz; {error}")
            return None

    def activate(self) -> None:
        """Begin a run, with the monitor stopped."""
        configured, assembly = self._assembly, self._assemble()  # a new monitor for each run
        if assembly.admission.sha256 != configured.admission.sha256:
            raise ConfigError("the policy is another than at configuration; configure both nodes")
        assembly.admission.require_fit(self._robot.identity.hardware_id, self.flag("explore"))
        self._assembly = assembly
        directory = self._log_directory(assembly)
        written = str(directory) if self.flag("record") else ""
        if assembly.deployment is not None:
            self._receipts.enter_context(
                assembly.deployment.claimed(self._robot.identity.hardware_id)
            )
        self._ended = self._receipts.enter_context(assembly.admission.run(written))
        if self.flag("record"):
            name, seed = directory.resolve().name, self.whole("seed")
            info = assembly.info(name, self._robot, seed, self.flag("explore"))
            self._recorder = Recorder(directory, info, self._robot.now_s())
            self._directory = directory
            self.get_logger().info(f"log: {self._recorder.path}")
        if self._markers is not None:
            self._markers.begin(assembly.contract, assembly.config.monitor)
        loop = self._loop = Loop(
            self._robot,
            assembly.monitor,
            self._proposer,
            assembly.bundle,
            self._recorder,
            assembly.config,
        )
        session = Session(loop, assembly.config.ready_wait_s, self._report, assembly.deployment)
        self._episodes = EpisodesByRequest(session, self.whole("episodes"), self._said)
        self._episodes.begin()

    def _log_directory(self, assembly: Assembly) -> Path:
        """Return the directory of the log; each activation of a process has another one."""
        given = self.path("log_dir")
        if given is None:
            return default_directory(assembly.contract)
        directory, number = given, 1
        while self._directory is not None and directory.exists():
            number += 1
            directory = Path(f"{given}-{number}")
        return directory

    def halt(self) -> None:
        """Publish zero, and close the log."""
        if self._episodes is not None:
            self._episodes.close()
            self._episodes = None
        self._robot.close()
        self._ended.append("the node was deactivated, shut down or interrupted")
        try:
            self._receipts.close()
        except (FileError, RegistryError) as error:  # the node has to stop all the same
            self.get_logger().error(str(error))
        self._newest, self._published = INACTIVE, None
        self._publish_status(self._status())
        if self._markers is not None:
            self._markers.clear()
        self.graph.flush()
        if self._recorder is not None:
            recorder, self._recorder = self._recorder, None
            try:
                recorder.close()
            except LogError as error:  # the node has to stop all the same
                self.get_logger().error(str(error))

    def _ask(self, what: str) -> tuple[bool, str]:
        if self._episodes is None:
            return False, "the safety monitor is not active"
        done, sentence = getattr(self._episodes, what)()
        self.get_logger().info(f"{what}: {sentence}")
        return done, sentence

    # What the session says.

    def _said(self, number: int, verdict: Verdict) -> None:
        state, budget = verdict.state, verdict.budget
        codes = "; ".join(reason.code for reason in verdict.reasons)
        values = {"state": state.name, "reasons": codes, "episode": str(number)}
        for i, cost in enumerate(self._assembly.contract.costs):
            values[f"{cost.name} spent"] = f"{budget.spent[i]:g}"
            values[f"{cost.name} predicted"] = f"{budget.predicted[i]:g}"
            values[f"{cost.name} episode cap"] = f"{budget.episode_cap[i]:g}"
        if self._assembly.contract.reward is not None:
            values["return"] = f"{self._loop.account.reward:g}"
        why = f": {verdict.reasons[0].text}" if verdict.reasons else ""
        # A reason in READY, such as motion without a command, is a warning too.
        level = max(LEVELS[state], int(bool(verdict.reasons)))
        self._newest = Health(level, state.name + why, values)
        if self._markers is not None:
            self._markers.show(self._loop.look, verdict)
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

    def _status(self) -> DiagnosticStatus:
        name = f"{self.get_fully_qualified_name().lstrip('/')}: state"
        return self._newest.status(name, self._robot.identity.hardware_id)

    def _report(self, result: EpisodeResult) -> None:
        assembly = self._assembly
        self.get_logger().info(episode_text(result, assembly.contract, assembly.episode_cap))

    def health(self) -> Health:
        """Return the monitor's newest status, with a warning if nobody publishes proposals."""
        if self._episodes is None:
            return super().health()
        topic = self._assembly.config.topics().proposal.topic
        if self.text("proposals") == POLICY or self.count_publishers(topic):
            return self._newest
        health = self._newest
        sentence = f"{health.sentence} (nobody publishes {self.resolve_topic_name(topic)})"
        return Health(max(health.level, 1), sentence, health.values)


def main() -> int:
    """Run the node."""
    return run(SafetyMonitorNode)
