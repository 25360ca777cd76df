"""Proposers over topics: the policy node, which answers observations, and external proposers."""

from __future__ import annotations

import json
import math
import threading
import time
from dataclasses import dataclass

import numpy as np

from holdfast.bundle import reader as bundles
from holdfast.contract import Contract
from holdfast.errors import BundleError, ConfigError
from holdfast.robot.topics.config import RosSection
from holdfast.robot.topics.fields import ActionCodec
from holdfast.robot.topics.graph import COMMAND, PLAIN, STATUS, Graph, names
from holdfast.robot.topics.message_types import ARRAY, TEXT, Float64MultiArray, Message, String
from holdfast.safety_monitor.messages import Proposal
from holdfast.signals import Array

OBSERVATION = "observation"
"""The topic of `Question`s, std_msgs/Float64MultiArray."""

POLICY = "policy"
"""The latched topic on which the policy node says, in JSON, which bundle it runs."""

SAME_STAMP_S = 1e-6
"""Stamps closer than this are equal, s: one message has nanoseconds, another has seconds."""

LAST_STAMP_S = 2.0**31
"""Upper bound of a ROS stamp, s: its seconds are an int32."""

OLD_IN_TURN = 5
"""So many late proposals in turn are a fault: a clock is behind, which is no mere delay."""


@dataclass(frozen=True)
class Question:
    """A question to the policy node: the observation that the log holds too.

    The message has stamp and permission before the observation, as `layout.data_offset` says.

    Attributes:
        stamp_s: stamp of the period, which the answer repeats.
        may_move: the policy may propose motion.
        observation: shape (n,).
    """

    stamp_s: float
    may_move: bool
    observation: Array

    def message(self, graph: Graph) -> Float64MultiArray:
        """Return the question as a message."""
        message = graph.message_class(ARRAY)()
        message.layout.data_offset = 2
        message.data = [self.stamp_s, float(self.may_move), *self.observation.tolist()]
        return message

    @staticmethod
    def of(message: Float64MultiArray, size: int) -> Question | None:
        """Read a question from a message.

        Returns:
            None if the observation has another size, or the stamp is no time.
        """
        data = np.array(message.data, dtype=np.float64)
        if message.layout.data_offset != 2 or len(data) != 2 + size:
            return None
        if not 0.0 <= data[0] < LAST_STAMP_S:
            return None
        return Question(float(data[0]), bool(data[1]), data[2:])


def introduction(bundle: bundles.Bundle, explore: bool) -> str:
    """Return the text by which the policy node says which bundle it runs, and how.

    Raises:
        BundleError: explore, and the policy has no density or is recurrent.
    """
    if explore:
        bundle.require_density()
        if bundle.state_size:
            raise BundleError(
                f"{bundle.path}: a recurrent policy explores with holdfast deploy alone: over "
                "topics a lost question would change what it remembers unnoticed"
            )
    contract_hash = bundle.contract.hash
    return json.dumps({"contract": contract_hash, "bundle": bundle.hash, "explore": explore})


class PolicyTopic:
    """Holdfast's policy node as a proposer: each answer belongs to one observation.

    A late answer is dropped. The log-probability is computed here, from the observation of the
    question and the action of the answer: only the action is taken from the policy's process.

    Attributes:
        late: the newest question was not answered in time.
        ended: no answer will ever come; never true, since a topic cannot tell.

    Raises:
        ConfigError: a type or a field does not exist, or proposals have no stamp.
    """

    ended = False

    def __init__(
        self, graph: Graph, section: RosSection, bundle: bundles.Bundle, explore: bool
    ) -> None:
        self._graph, self._bundle, self._explore = graph, bundle, explore
        topic = section.proposal
        self._codec = ActionCodec("ros.proposal.fields", topic, graph, bundle.contract.action_names)
        if not self._codec.stamped:
            raise ConfigError(
                f"ros.proposal.type: should have a header, whose stamp tells what a policy answers "
                f"to; {topic.type} has none"
            )
        self._introduction = introduction(bundle, explore)
        self._introduced: str | None = None
        self._arrived = threading.Condition()
        self._newest: tuple[float, Array] | None = None
        self._asked = Question(-math.inf, False, np.empty(0))
        self._sequence = -1
        self.late = False
        self._publish = graph.advertise(OBSERVATION, ARRAY, COMMAND)
        graph.subscribe(topic.topic, topic.message_type, COMMAND, self._hear)
        graph.subscribe(POLICY, TEXT, STATUS, self._meet)

    def _hear(self, message: Message) -> None:
        proposed = self._codec.stamp_s(message, self._graph.now_s()), self._codec.action(message)
        with self._arrived:
            self._newest = proposed
            self._arrived.notify()

    def _meet(self, message: String) -> None:
        self._introduced = message.data

    def ask(self, sequence: int, now_s: float, may_move: bool, observation: Array) -> None:
        """Publish a question."""
        self._asked, self._sequence = Question(now_s, may_move, observation), sequence
        self._publish(self._asked.message(self._graph))

    def answer(self, limit_s: float) -> tuple[Proposal, float] | None:
        """Wait for the answer to the newest question, at most `limit_s` of wall time."""
        deadline_s = time.monotonic() + limit_s
        with self._arrived:
            while not self._is_answered():
                left_s = deadline_s - time.monotonic()
                if left_s <= 0.0 or not self._arrived.wait(left_s):
                    self.late = True
                    return None
            assert self._newest is not None
            _, action = self._newest
        self.late = False
        asked = self._asked
        contract = self._bundle.contract
        proposal = Proposal(asked.stamp_s, self._sequence, action, contract.hash)
        if not (self._explore and asked.may_move):
            return proposal, math.nan
        mean, log_std = self._bundle.act(asked.observation)
        return proposal, bundles.log_prob(action, mean, log_std, contract)

    def _is_answered(self) -> bool:
        return self._newest is not None and (
            abs(self._newest[0] - self._asked.stamp_s) <= SAME_STAMP_S
        )

    def status_text(self) -> str:
        """Return in words what is wrong with a proposer that is late."""
        return "the policy node does not answer"

    def faults(self) -> tuple[str, ...]:
        """Return a sentence if the policy node runs another bundle than the monitor, and one if
        another safety monitor asks it too."""
        found = []
        if self._introduced not in (None, self._introduction):
            found.append(
                f"the policy node runs {self._introduced}, the monitor was made for "
                f"{self._introduction}"
            )
        if others := self._graph.publishers(OBSERVATION):
            found.append(f"another safety monitor asks the policy node too: {names(others)}")
        return tuple(found)


class ExternalProposer:
    """A teleoperation or a navigation as a proposer: proposals come unasked, at their own rate.

    If no proposal arrives within `hold_s`, a zero command is assumed: most teleoperation programs
    publish nothing while idle. The robot then slows down as fast as the contract permits.

    Args:
        hold_s: how long a proposal holds, s.

    Raises:
        ConfigError: a type or a field does not exist.
    """

    late = ended = False

    def __init__(
        self, graph: Graph, section: RosSection, contract: Contract, hold_s: float
    ) -> None:
        self._graph, self._contract, self._hold_s = graph, contract, hold_s
        topic = section.proposal
        self._codec = ActionCodec("ros.proposal.fields", topic, graph, contract.action_names)
        self._zero = np.zeros(contract.action_size)
        self._lock = threading.Lock()
        self._newest: tuple[float, Array] | None = None
        self._asked_s, self._sequence = -math.inf, -1
        self._topic, self._age_s, self._old = topic.topic, 0.0, 0
        graph.subscribe(topic.topic, topic.message_type, PLAIN, self._hear)

    def _hear(self, message: Message) -> None:
        now_s = self._graph.now_s()
        proposed = self._codec.stamp_s(message, now_s), self._codec.action(message)
        with self._lock:
            self._newest = proposed
            self._age_s = now_s - proposed[0]
            self._old = self._old + 1 if self._age_s > self._hold_s else 0

    def ask(self, sequence: int, now_s: float, may_move: bool, observation: Array) -> None:
        """Remember the period; no question is published."""
        self._asked_s, self._sequence = now_s, sequence

    def answer(self, limit_s: float) -> tuple[Proposal, float]:
        """Return the newest proposal, or zero if that is too old; does not wait."""
        with self._lock:
            newest = self._newest
        stamp_s, action = newest or (-math.inf, self._zero)
        # Zero has the stamp of the oldest proposal that would hold, so that the stamp of a proposal
        # that was delayed on its way is later.
        oldest_s = self._asked_s - self._hold_s
        if stamp_s < oldest_s:
            stamp_s, action = oldest_s, self._zero
        return Proposal(stamp_s, self._sequence, action, self._contract.hash), math.nan

    def status_text(self) -> str:
        """Return in words that there is no proposal."""
        return "nobody proposes"

    def faults(self) -> tuple[str, ...]:
        """Return a sentence if proposal after proposal is dropped because of an old stamp."""
        with self._lock:
            if self._old < OLD_IN_TURN:
                return ()
            return (
                f"{self._topic} should be stamped within {self._hold_s:g} s of its arrival, its "
                f"stamps are {self._age_s:.2f} s old: is the clock of who proposes behind?",
            )
