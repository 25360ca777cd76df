"""Who proposes over a topic: an answer belongs to one observation, and silence means zero."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="without Cyclone DDS: pip install 'holdfast-robot[dds]'")

from holdfast.bundle.reader import load, log_prob
from holdfast.errors import ConfigError
from holdfast.robot.topics.fields import ActionCodec
from holdfast.robot.topics.graph import COMMAND, STATUS
from holdfast.robot.topics.message_types import ARRAY, TEXT
from holdfast.robot.topics.proposers import (
    OBSERVATION,
    OLD_IN_TURN,
    POLICY,
    ExternalProposer,
    PolicyTopic,
    Question,
    introduction,
)
from tests.helpers.data.bundles import write_bundle
from tests.helpers.robots.topic_rig import CONTRACT, section
from tests.helpers.ros import graphs

pytestmark = pytest.mark.alone

OBSERVED = np.linspace(-1.0, 1.0, CONTRACT.observation_size)
HOLD_S = 0.25


@pytest.fixture
def here():
    with graphs.graph("here") as made:
        yield made


@pytest.fixture
def there():
    with graphs.graph("there") as made:
        yield made


@pytest.fixture
def bundle(tmp_path):
    return load(write_bundle(tmp_path / "policy.onnx", gain=0.1))


class Policy:
    """Answers observations, as the policy node does, with whatever it is told to."""

    def __init__(self, graph, bundle):
        self.graph, self.questions, self.delay_s, self.shift_s = graph, [], 0.0, 0.0
        self.action = np.array([0.25, -0.5])
        topic = section().proposal
        self.codec = ActionCodec("proposal", topic, graph, CONTRACT.action_names)
        self.publish = graph.advertise(topic.topic, topic.type, COMMAND)
        self.introduce = graph.advertise(POLICY, TEXT, STATUS)
        graph.subscribe(OBSERVATION, ARRAY, COMMAND, self.answer)

    def answer(self, message):
        question = Question.of(message, CONTRACT.observation_size)
        self.questions.append(question)
        time.sleep(self.delay_s)
        self.publish(self.codec.message(self.action, question.stamp_s + self.shift_s))

    def say(self, text):
        message = self.graph.message_class(TEXT)()
        message.data = text
        self.introduce(message)


def ask(proposer, may_move=True, limit_s=0.5, now_s=None):
    ask.sequence = getattr(ask, "sequence", -1) + 1
    now_s = time.time() if now_s is None else now_s
    proposer.ask(ask.sequence, now_s, may_move, OBSERVED)
    return now_s, proposer.answer(limit_s)


def test_a_question_survives_its_message(here):
    question = Question(1234567890.123456, True, OBSERVED)
    again = Question.of(question.message(here), len(OBSERVED))
    assert abs(again.stamp_s - question.stamp_s) < 1e-6
    assert again.may_move
    np.testing.assert_array_equal(again.observation, OBSERVED)
    assert Question.of(question.message(here), 3) is None
    other = question.message(here)
    other.layout.data_offset = 0
    assert Question.of(other, len(OBSERVED)) is None


@pytest.mark.parametrize("stamp_s", [math.nan, math.inf, -math.inf, -1.0, 1e300, 2.0**31])
def test_a_stamp_that_is_no_time_is_no_question(here, stamp_s):
    """ROS has no stamp to answer it with."""
    message = Question(1.0, True, OBSERVED).message(here)
    message.data[0] = stamp_s
    assert Question.of(message, len(OBSERVED)) is None


def test_an_answer_is_the_observations(here, there, bundle):
    policy = Policy(there, bundle)
    proposer = PolicyTopic(here, section(), bundle, explore=True)
    graphs.until(lambda: ask(proposer)[1])
    now_s, (proposal, density) = ask(proposer)
    assert (proposal.stamp_s, proposal.sequence) == (now_s, ask.sequence)
    assert proposal.contract_hash == CONTRACT.hash
    np.testing.assert_array_equal(proposal.action, policy.action)
    assert not proposer.late
    mean, log_std = bundle.act(OBSERVED)
    assert density == log_prob(policy.action, mean, log_std, CONTRACT)
    np.testing.assert_array_equal(policy.questions[-1].observation, OBSERVED)
    assert math.isnan(ask(proposer, may_move=False)[1][1]), "nothing is learned while it stands"


def test_what_was_not_sampled_has_no_probability(here, there, bundle):
    Policy(there, bundle)
    proposer = PolicyTopic(here, section(), bundle, explore=False)
    _, (_, density) = graphs.until(lambda: (a := ask(proposer))[1] and a)
    assert math.isnan(density)


def test_an_answer_that_is_late_is_dropped(here, there, bundle):
    policy = Policy(there, bundle)
    proposer = PolicyTopic(here, section(), bundle, explore=False)
    graphs.until(lambda: ask(proposer)[1])
    policy.delay_s = 0.3
    assert ask(proposer, limit_s=0.05)[1] is None
    assert proposer.late
    assert proposer.status_text() == "the policy node does not answer"
    policy.delay_s = 0.0
    time.sleep(0.5)  # the late one has come by now
    policy.shift_s = 10.0  # and no other answers
    assert ask(proposer, limit_s=0.2)[1] is None


def test_a_policy_that_runs_something_else(here, there, bundle, tmp_path):
    policy = Policy(there, bundle)
    proposer = PolicyTopic(here, section(), bundle, explore=True)
    assert proposer.faults() == (), "it has not said anything yet; then nothing is proposed either"
    policy.say(introduction(bundle, explore=True))
    time.sleep(0.2)
    assert proposer.faults() == ()
    other = load(write_bundle(tmp_path / "other.onnx", gain=0.2))
    for said in (introduction(other, explore=True), introduction(bundle, explore=False)):
        policy.say(said)
        (fault,) = graphs.until(proposer.faults)
        assert f"the policy node runs {said}, the monitor was made for" in fault
        policy.say(introduction(bundle, explore=True))
        graphs.until(lambda: not proposer.faults())


def test_two_monitors_that_ask(here, there, bundle):
    proposer = PolicyTopic(here, section(), bundle, explore=False)
    assert proposer.faults() == ()
    with graphs.graph("second") as second:
        PolicyTopic(second, section(), bundle, explore=False)
        said = "another safety monitor asks the policy node too: /second"
        graphs.until(lambda: proposer.faults() == (said,))
    graphs.until(lambda: proposer.faults() == ())


def test_answers_need_a_stamp(here, bundle):
    topic = {"type": "geometry_msgs/msg/Twist", "fields": {}}
    topic["fields"] = {"forward_speed": "linear.x", "yaw_rate": "angular.z"}
    proposal = dataclasses.replace(section().proposal, **topic)
    with pytest.raises(ConfigError, match=r"geometry_msgs/msg/Twist has none"):
        PolicyTopic(here, section(proposal=proposal), bundle, explore=False)


# Anybody else.


class Teleoperation:
    def __init__(self, graph):
        topic = section().proposal
        self.codec = ActionCodec("proposal", topic, graph, CONTRACT.action_names)
        self.publish = graph.advertise(topic.topic, topic.type, COMMAND)

    def say(self, speed, stamp_s):
        self.publish(self.codec.message(np.array([speed, 0.0]), stamp_s))


def heard(teleoperation, proposer, speed, stamp_s):
    """Say it until the newest proposal is that."""

    def there():
        teleoperation.say(speed, stamp_s)
        _, (proposal, _) = ask(proposer, now_s=100.0)
        return proposal if proposal.action[0] == speed else None

    return graphs.until(there)


def test_proposals_come_by_themselves(here, there):
    teleoperation, proposer = (
        Teleoperation(there),
        ExternalProposer(here, section(), CONTRACT, HOLD_S),
    )
    proposal = heard(teleoperation, proposer, 0.5, 99.9)
    assert proposal.stamp_s == pytest.approx(99.9)
    assert proposal.contract_hash == CONTRACT.hash
    assert heard(teleoperation, proposer, 0.75, 101.0).stamp_s == pytest.approx(101.0), (
        "from the future: the monitor is told, and stops"
    )


def test_who_is_silent_wants_zero(here, there):
    teleoperation, proposer = (
        Teleoperation(there),
        ExternalProposer(here, section(), CONTRACT, HOLD_S),
    )
    assert proposer.faults() == ()
    _, (nothing, density) = ask(proposer, now_s=50.0)
    assert not nothing.action.any()
    assert math.isnan(density)
    heard(teleoperation, proposer, 0.5, 100.0)
    for later_s, speed in ((0.2, 0.5), (0.3, 0.0)):
        _, (proposal, _) = ask(proposer, now_s=100.0 + later_s)
        assert proposal.action[0] == speed


def test_what_was_delayed_does_not_come_before_what_was_taken_for_it(here, there):
    """Else the monitor would stop each time somebody begins to steer over a slow network."""
    teleoperation, proposer = (
        Teleoperation(there),
        ExternalProposer(here, section(), CONTRACT, HOLD_S),
    )
    _, (zero, _) = ask(proposer, now_s=99.95)
    assert 99.95 - zero.stamp_s <= HOLD_S
    proposal = heard(teleoperation, proposer, 0.5, 100.0 - 0.9 * HOLD_S)
    assert proposal.stamp_s >= zero.stamp_s
    assert proposal.sequence > zero.sequence


def test_nan_is_passed_on_to_be_judged(here, there):
    teleoperation, proposer = (
        Teleoperation(there),
        ExternalProposer(here, section(), CONTRACT, HOLD_S),
    )

    def arrived():
        teleoperation.say(math.nan, 100.0)
        _, (proposal, _) = ask(proposer, now_s=100.0)
        return np.isnan(proposal.action[0])

    graphs.until(arrived)


def test_nobody_waits_for_them(here):
    proposer = ExternalProposer(here, section(), CONTRACT, HOLD_S)
    began_s = time.monotonic()
    ask(proposer, limit_s=10.0)
    assert time.monotonic() - began_s < 5.0


def test_a_clock_that_is_behind_is_said(here, there):
    """Its proposals are dropped: safe, but somebody has to be told why nothing moves."""
    teleoperation, proposer = (
        Teleoperation(there),
        ExternalProposer(here, section(), CONTRACT, HOLD_S),
    )
    graphs.until(
        lambda: teleoperation.say(0.5, time.time() - 2.0) or time.sleep(0.05) or proposer.faults()
    )
    _, (proposal, _) = ask(proposer, now_s=time.time())
    assert not proposal.action.any()
    (fault,) = proposer.faults()
    assert "cmd_vel_proposed should be stamped within" in fault
    assert "stamps are 2.0" in fault
    graphs.until(
        lambda: teleoperation.say(0.5, time.time()) or time.sleep(0.05) or not proposer.faults()
    )


def test_a_few_that_were_delayed_are_no_fault(here, there):
    teleoperation, proposer = (
        Teleoperation(there),
        ExternalProposer(here, section(), CONTRACT, HOLD_S),
    )
    heard(teleoperation, proposer, 0.5, time.time())
    for _ in range(OLD_IN_TURN - 1):
        teleoperation.say(0.25, time.time() - 2.0)
    time.sleep(0.3)
    assert proposer.faults() == ()
