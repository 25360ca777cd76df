"""Episodes by request, over a real graph: others arm, reset and stop; a failure stops the robot."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="without Cyclone DDS: pip install 'holdfast-robot[dds]'")

from holdfast.errors import LogError
from holdfast.log.reader import read
from holdfast.log.writer import Recorder
from holdfast.robot import config as configs
from holdfast.robot.run.admission import Admission
from holdfast.robot.run.assembly import Assembly
from holdfast.robot.run.by_request import EpisodesByRequest
from holdfast.robot.run.deployment import Deployment
from holdfast.robot.run.loop import Loop
from holdfast.robot.run.replay import replay
from holdfast.robot.run.session import Session
from holdfast.robot.topics.fields import ActionCodec
from holdfast.robot.topics.graph import COMMAND, PLAIN
from holdfast.robot.topics.proposers import ExternalProposer
from holdfast.robot.topics.robot import TopicRobot
from holdfast.safety_monitor import Monitor
from holdfast.safety_monitor.evidence import Evidence
from holdfast.safety_monitor.messages import State
from tests.helpers.data.bundles import drive_contract
from tests.helpers.robots.topic_rig import Body, call, section
from tests.helpers.ros import graphs

pytestmark = pytest.mark.alone

SPEED = 0.4


class Rig:
    """A session over a robot whose body and whose steering are the test's."""

    def __init__(self, here, there, folder, contract, episodes, episode_cap, evidence=None):
        config = configs.load(configs.find("drive"))
        # The rig's robot does not really move, which would be noticed.
        limits = config.monitor.without("tracking", "following", "consistency", "frozen")
        config = dataclasses.replace(config, monitor=limits)
        self.here, self.body = here, Body(there)
        topic = section().proposal
        self.codec = ActionCodec("proposal", topic, there, contract.action_names)
        self.propose = there.advertise(topic.topic, topic.type, COMMAND)
        self.steering = self.speaking = True
        self.speed, self.x, self.stamp_ahead_s = 0.0, 0.0, 0.0
        self.robot = TopicRobot(here, section(stop_topics={}), contract, "drive", "unit-7")
        monitor = Monitor(contract, config.monitor, episode_cap)
        budget = {c.name: c.episode_cap for c in contract.costs} | (episode_cap or {})
        deployment = None
        if evidence is not None:
            deployment = Deployment(evidence, Evidence(contract, episode_cap))
            deployment.claim("unit-7")
        admission = Admission(contract, None, config)
        assembly = Assembly(
            admission, contract, None, config, monitor, deployment, None, None, budget
        )
        info = assembly.info(folder.name, self.robot, 0, exploring=False)
        self.recorder = Recorder(folder, info, self.robot.now_s())
        proposer = ExternalProposer(
            here, section(), contract, config.monitor.freshness.proposal_max_age_s
        )
        self.verdicts, self.results = [], []
        loop = Loop(self.robot, monitor, proposer, None, self.recorder, config)
        self.loop = loop
        session = Session(loop, 1.0, self.results.append, deployment)
        self.episodes = EpisodesByRequest(
            session, episodes, lambda n, v: self.verdicts.append((n, v))
        )
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._live, daemon=True)

    def _live(self):
        while not self.ending.wait(0.02):
            if self.speaking:
                self.body.say(x=self.x)
            if self.steering:
                stamp_s = time.time() + self.stamp_ahead_s
                self.propose(self.codec.message(np.array([self.speed, 0.0]), stamp_s))

    @property
    def state(self):
        return self.verdicts[-1][1].state if self.verdicts else None

    def codes(self):
        return {reason.code for reason in self.verdicts[-1][1].reasons}

    def until(self, *states):
        graphs.until(lambda: self.state in states)

    def ready(self):
        """Reset, as soon as the monitor lets us."""
        graphs.until(lambda: self.episodes.reset()[0])
        self.until(State.READY)

    def armed(self):
        self.ready()
        done, sentence = self.episodes.arm()
        assert done, sentence
        self.until(State.ACTIVE)

    def drives(self):
        self.speed = SPEED
        self.body.until_moved(SPEED)

    def stands(self):
        """Zero is what is commanded now."""
        count = len(self.body.commands)
        graphs.until(lambda: len(self.body.commands) > count + 2)
        return not np.any(self.body.commands[-2:])


@contextmanager
def rig(tmp_path, episodes=1, episode_cap=None, evidence=None, **changes):
    contract = drive_contract(
        observation=drive_contract().observation[:2], **{"episode_steps": 10_000, **changes}
    )
    folder = tmp_path / "run"
    with graphs.graph("monitor") as here, graphs.graph("others") as there:
        made = Rig(here, there, folder, contract, episodes, episode_cap, evidence)
        made.thread.start()
        made.episodes.begin()
        try:
            yield made
        finally:
            made.episodes.close()
            made.recorder.close()
            made.ending.set()
            made.thread.join()
    log = read(folder)
    assert not replay(log).differs(log).any(), "a fresh monitor that is told the same says the same"


def test_it_begins_stopped_and_says_zero(tmp_path):
    with rig(tmp_path) as r:
        r.until(State.STOPPED)
        assert "power_on" in r.codes()
        r.speed = SPEED
        time.sleep(0.3)
        assert r.stands()
        done, sentence = r.episodes.arm()
        assert (done, sentence) == (False, "the monitor is stopped; it should be reset first")


def test_reset_then_arm_then_it_moves(tmp_path):
    with rig(tmp_path) as r:
        r.ready()
        assert r.stands(), "a reset moves nothing"
        assert r.episodes.arm() == (True, "armed")
        r.speed = SPEED
        graphs.until(lambda: r.body.commands[-1][0] == pytest.approx(SPEED))
        assert r.episodes.arm() == (False, "it is armed already, or about to be")
        assert r.episodes.reset() == (False, "the robot is armed; it needs no reset")
        assert r.episodes.disarm() == (True, "disarmed")
        assert r.stands()
        r.until(State.READY)
    (result,) = r.results
    assert (result.ended, result.code) == ("stopped", "disarmed")


def test_a_reset_is_refused_while_somebody_steers(tmp_path):
    with rig(tmp_path) as r:
        r.until(State.STOPPED)
        r.speed = SPEED
        graphs.until(lambda: "not zero" in r.episodes.reset()[1])
        r.speed = 0.0
        r.ready()


def test_the_emergency_stop_latches(tmp_path):
    with rig(tmp_path) as r:
        r.armed()
        r.speed = SPEED
        graphs.until(lambda: r.body.commands[-1][0] == pytest.approx(SPEED))
        assert call(r.body.graph, "hardware/e_stop_trigger")[0]
        assert r.stands()
        r.until(State.STOPPED)
        assert "device_fault" in r.codes()
        r.speed = 0.0
        assert r.episodes.reset() == (False, "somebody called hardware/e_stop_trigger")
        assert call(r.body.graph, "hardware/e_stop_reset")[0]
        time.sleep(0.2)
        assert r.state is State.STOPPED, "released, and yet nothing moves"
        r.ready()
        assert r.stands()
    assert r.results[0].code == "device_fault"


def test_somebody_who_falls_silent_stops_the_robot_without_fault(tmp_path):
    with rig(tmp_path) as r:
        r.armed()
        r.speed = SPEED
        graphs.until(lambda: r.body.commands[-1][0] == pytest.approx(SPEED))
        r.steering = False
        graphs.until(r.stands)
        assert r.state is not State.STOPPED
        r.steering = True
        graphs.until(lambda: r.body.commands[-1][0] > 0.0)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"speed": float("nan")}, "proposal_not_finite"),
        ({"stamp_ahead_s": 5.0}, "proposal_future"),
        ({"speaking": False}, "source_stale"),
        ({"x": float("nan")}, "signal_not_finite"),
    ],
    ids=str,
)
def test_what_stops_it(tmp_path, fault, code):
    with rig(tmp_path) as r:
        r.armed()
        r.speed = SPEED
        graphs.until(lambda: r.body.commands[-1][0] == pytest.approx(SPEED))
        for name, value in fault.items():
            setattr(r, name, value)
        r.until(State.STOPPED)
        assert r.stands()
        for name in fault:
            setattr(r, name, {"speaking": True}.get(name, 0.0))
        r.speed = 0.0
        time.sleep(0.2)
        assert r.state is State.STOPPED, "nothing but a reset leads out of it"
    (result,) = r.results
    assert code in result.code
    assert result.text.startswith("the monitor stopped the robot: ")
    (episode,) = read(tmp_path / "run").episodes
    assert episode.result == result, "what is reported is what is logged"


def test_episodes_follow_one_another(tmp_path):
    with rig(tmp_path, episodes=3, episode_steps=5) as r:
        r.armed()
        graphs.until(lambda: len(r.results) == 3)
        r.until(State.READY)
        assert [(x.episode, x.ended, x.steps) for x in r.results] == [
            (0, "completed", 5),
            (1, "completed", 5),
            (2, "completed", 5),
        ]
        assert r.stands()
        assert [v for n, v in r.verdicts if n == 2 and v.state is State.ACTIVE], "as in the status"
    log = read(tmp_path / "run")
    assert [episode.result for episode in log.episodes] == r.results


def test_a_stop_ends_what_an_arming_allowed(tmp_path):
    with rig(tmp_path, episodes=3, episode_cap={"outside_corridor": 12.0}) as r:
        r.armed()
        r.x = 2.0  # out of the corridor
        r.until(State.STOPPED)
        r.x = 0.0
        time.sleep(0.3)
        assert len(r.results) == 1
        assert r.results[0].code == "episode_cap_spent"
        assert r.results[0].costs == (12.0,)
        r.armed()  # a person's doing


def test_closing_it_stops_the_robot(tmp_path):
    with rig(tmp_path) as r:
        r.armed()
        r.speed = SPEED
        graphs.until(lambda: r.body.commands[-1][0] == pytest.approx(SPEED))
        r.episodes.close()
        graphs.until(lambda: not r.body.commands[-1].any())
    assert r.results[0].code == "interrupted"
    assert read(tmp_path / "run").events[-1].code == "interrupted"


def test_a_log_that_is_lost_stops_the_robot_for_good(tmp_path):
    with graphs.graph("monitor") as here, graphs.graph("others") as there:
        contract = drive_contract(observation=drive_contract().observation[:2])
        r = Rig(here, there, tmp_path / "run", contract, 1, None)
        r.thread.start()
        r.episodes.begin()
        r.armed()
        r.speed = SPEED
        graphs.until(lambda: r.body.commands[-1][0] == pytest.approx(SPEED))
        r.recorder._failure = OSError(28, "No space left on device")
        r.until(State.STOPPED)
        assert r.stands()
        assert "log_lost" in r.codes()
        r.speed = 0.0
        r.ready()
        done, sentence = r.episodes.arm()
        assert not done
        assert "No space left on device); deactivate and activate again" in sentence
        r.episodes.close()
        with pytest.raises(LogError):
            r.recorder.close()
        r.ending.set()
        r.thread.join()


def test_evidence_that_cannot_be_written_arms_nothing_more(tmp_path):
    """The episode is in the log and was reported all the same."""
    evidence = tmp_path / "evidence.json"
    with rig(tmp_path, episodes=2, evidence=evidence, episode_steps=5) as r:
        (tmp_path / "evidence.json.part").mkdir()
        r.armed()
        r.until(State.STOPPED)
        assert "evidence_lost" in r.codes()
        assert r.stands()
        r.ready()
        done, sentence = r.episodes.arm()
        assert not done
        assert sentence.startswith("the evidence cannot be written")
        assert sentence.endswith("; deactivate and activate again")
    (result,) = r.results
    assert (result.episode, result.ended) == (0, "completed")
    (episode,) = read(tmp_path / "run").episodes
    assert episode.result == result


def test_an_arming_that_the_robot_refuses(tmp_path):
    """Between the monitor's consent and the arming, somebody presses the emergency stop."""
    with rig(tmp_path) as r:
        r.ready()
        consent = r.loop.arm
        trigger = r.robot._trigger  # what the service calls

        def arm():
            refusals = consent()
            if not refusals:
                trigger()
            return refusals

        r.loop.arm = arm
        done, sentence = r.episodes.arm()
        assert not done
        assert sentence == "unit-7: may not move: somebody called hardware/e_stop_trigger"
        r.until(State.STOPPED)
        assert "robot_refused" in r.codes()
        r.loop.arm = consent
        assert call(r.body.graph, "hardware/e_stop_reset")[0]
        r.armed()
    assert [result.episode for result in r.results] == [0], "the refused arming was no episode"


def test_nobody_waits_for_ever(tmp_path):
    with rig(tmp_path) as r:
        r.ready()
        r.speaking = False  # the robot is not heard any more, so it cannot be armed
        time.sleep(0.4)
        done, sentence = r.episodes.arm()
        assert not done
        assert "old" in sentence


# The clock, and others in the graph.


@pytest.mark.parametrize("shift_s", [-3600.0, -3.0, 3600.0], ids=str)
@pytest.mark.parametrize("everywhere", [True, False], ids=["everybody's", "the monitor's"])
def test_a_clock_that_is_set(tmp_path, monkeypatch, shift_s, everywhere):
    """Zero is commanded soon, the stop is latched, and the thread still answers."""
    with rig(tmp_path) as r:
        r.armed()
        r.drives()
        real = time.time
        if everywhere:
            monkeypatch.setattr(time, "time", lambda: real() + shift_s)
        else:
            r.here.now_s = lambda: real() + shift_s
        began_s = time.monotonic()
        graphs.until(lambda: r.state is State.STOPPED and not r.body.commands[-1].any())
        assert time.monotonic() - began_s < 1.0
        if shift_s < 0.0:
            assert "the clock went back by" in r.results[-1].text
        time.sleep(0.5)
        assert r.stands(), "it goes on to say zero"
        assert r.state is State.STOPPED
        assert r.episodes.disarm() == (True, "disarmed")
        if everywhere:
            r.speed = 0.0
            r.armed()
        else:
            assert not r.episodes.reset()[0], "everybody else's stamps are of another time"
        began_s = time.monotonic()
        r.episodes.close()
        assert time.monotonic() - began_s < 1.0


def test_another_who_commands(tmp_path):
    """A joystick on the command's topic: zero, and a latched stop that says who it is."""
    with rig(tmp_path) as r, graphs.graph("joystick") as joystick:
        r.armed()
        r.drives()
        topic = section().command
        began_s = time.monotonic()
        joystick.advertise(topic.topic, "geometry_msgs/msg/Twist", PLAIN)  # of whatever type
        graphs.until(lambda: r.state is State.STOPPED and not r.body.commands[-1].any())
        assert time.monotonic() - began_s < 1.0
        assert "cmd_vel is published by" in r.results[-1].text
        r.speed = 0.0
        done, sentence = r.episodes.reset()
        assert not done
        assert "cmd_vel is published by /joystick too" in sentence


def test_two_senders_of_a_sensor(tmp_path):
    with rig(tmp_path) as r, graphs.graph("rival") as rival:
        r.armed()
        rival.advertise("odom", "nav_msgs/msg/Odometry", PLAIN)
        r.until(State.STOPPED)
        assert "odom should have one publisher, it has" in r.results[-1].text
        assert "/others" in r.results[-1].text
        done, sentence = r.episodes.reset()
        assert not done
        assert sentence.endswith("it has /others, /rival")
        assert r.results[-1].code == "device_fault"


@pytest.mark.parametrize("wrong", [{"frame": "map"}, {"x": math.nan}], ids=str)
def test_one_message_between_two_periods(tmp_path, wrong):
    """Every message is judged, also one that a good one followed before the loop looked."""
    with rig(tmp_path) as r:
        r.armed()
        r.speaking = False
        time.sleep(0.05)
        r.body.say(**wrong)
        for _ in range(3):
            r.body.say()
        r.speaking = True
        r.until(State.STOPPED)
        text = r.results[-1].text
        assert "frame_id should be 'odom'" in text or "position is [nan, 0.0]" in text
