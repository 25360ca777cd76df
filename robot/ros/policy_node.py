"""`policy_node`: answers the safety monitor's observations with a bundle's actions.

The node proposes motion only while the observation permits motion, and has no other way to the
robot.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from holdfast.bundle import reader as bundles
from holdfast.errors import BundleError
from holdfast.robot.ros.node import Health, ManagedNode, Option, run
from holdfast.robot.run.admission import admit, parse_limits
from holdfast.robot.topics.fields import ActionCodec
from holdfast.robot.topics.graph import COMMAND, STATUS
from holdfast.robot.topics.message_types import ARRAY, TEXT, Float64MultiArray
from holdfast.robot.topics.proposers import OBSERVATION, POLICY, Question, introduction

OPTIONS = (
    Option("policy", "", "bundle to run, an .onnx file"),
    Option("robot_config", "", "configuration file of the robot; empty: the installed file"),
    Option("limit", "", "limit d in force, for each cost with a range; empty: the contract's own"),
    Option("explore", False, "sample actions, to learn from the log; false: the mean action"),
    Option("seed", 0, "random seed of the sampled actions", 0, 2**31 - 1),
)


class PolicyNode(ManagedNode):
    """The policy, in a process of its own."""

    def __init__(self) -> None:
        super().__init__("policy_node", OPTIONS)
        self._answered = 0

    def configure(self) -> None:
        """Load the bundle and find the topics."""
        limits = parse_limits(self.text("limit"))
        admission = admit(Path(self.text("policy")), self.path("robot_config"), limits)
        if admission.bundle is None:
            raise BundleError(f"{self.text('policy')}: should be a bundle, an .onnx file")
        self._bundle = bundle = admission.bundle
        section = admission.config.topics()
        section.require_fit(bundle.contract)
        proposal = section.proposal
        names = bundle.contract.action_names
        self._codec = ActionCodec("ros.proposal.fields", proposal, self.graph, names)
        self._zero = np.zeros(bundle.contract.action_size)
        self._publish = self.graph.advertise(proposal.topic, proposal.message_type, COMMAND)
        self._introduce = self.graph.advertise(POLICY, TEXT, STATUS)
        self.graph.subscribe(OBSERVATION, ARRAY, COMMAND, self._hear)

    def activate(self) -> None:
        """Publish which bundle runs here, and begin to answer."""
        self._rng = np.random.default_rng(self.whole("seed"))
        explore = self.flag("explore")
        self._actor = bundles.Actor(self._bundle, explore)
        message = self.graph.message_class(TEXT)()
        message.data = introduction(self._bundle, explore)
        self._introduce(message)

    def _hear(self, message: Float64MultiArray) -> None:
        contract = self._bundle.contract
        question = Question.of(message, contract.observation_size)
        if not self._active:
            return
        if question is None:
            self.graph.warn(f"{OBSERVATION}: no observation of contract {contract.hash[:12]}")
            return
        action = self._zero
        if question.may_move:
            action, log_std = self._actor.act(question.observation)
            if log_std is not None:
                action, _ = bundles.sample(action, log_std, self._rng, contract)
        else:
            self._actor.reset()  # a question between two episodes, or an episode's last
        self._publish(self._codec.message(action, question.stamp_s))
        self._answered += 1

    def health(self) -> Health:
        """Return the node's state and the number of answered observations."""
        answered = {"observations answered": str(self._answered)}
        return dataclasses.replace(super().health(), values=answered)


def main() -> int:
    """Run the node."""
    return run(PolicyNode)
