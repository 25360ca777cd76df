"""A robot of topics as the run loop sees it."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="without Cyclone DDS: pip install 'holdfast-robot[dds]'")

from holdfast.errors import ConfigError, LinkError
from holdfast.robot.topics.config import Ranges, SignalField, Source
from holdfast.robot.topics.fields import set_stamp
from holdfast.robot.topics.graph import SENSOR, STATUS
from holdfast.robot.topics.robot import STALL_S, TopicRobot
from tests.helpers.robots import topic_rig
from tests.helpers.robots.topic_rig import CONTRACT, Body, call, section
from tests.helpers.ros import graphs

pytestmark = pytest.mark.alone

SCAN = "sensor_msgs/msg/LaserScan"
FORWARD = np.array([0.5, 0.0])


@pytest.fixture
def here():
    with graphs.graph("here") as made:
        yield made


@pytest.fixture
def body():
    with graphs.graph("body") as made:
        yield Body(made)


def robot(graph, enable_motion=True, **changes):
    return TopicRobot(graph, section(**changes), CONTRACT, "drive", "unit-7", enable_motion)


def hear(body, the_robot, **said):
    """Let the body speak until everything of it was heard; return the newest readings."""
    before = {name: reading.sequence for name, reading in the_robot.readings().items()}

    def heard():
        body.say(**said)
        time.sleep(0.01)
        readings = the_robot.readings()
        grown = all(r.sequence > before.get(name, 0) for name, r in readings.items())
        return readings if len(readings) == 2 and grown else None

    return graphs.until(heard)


def test_readings_are_what_the_topics_say(here, body):
    the_robot = robot(here, stop_topics={})
    assert the_robot.readings() == {}
    readings = hear(body, the_robot, x=1.5)
    odom = readings["odom"]
    np.testing.assert_array_equal(odom.signals["position"], [1.5, 0.0])
    np.testing.assert_array_equal(odom.signals["heading"], [0.0])
    np.testing.assert_array_equal(readings["imu"].signals["tilt"], [0.0, 0.0])
    assert abs(time.time() - odom.stamp_s) < 1.0
    later = hear(body, the_robot, age_s=5.0)["odom"]
    assert later.sequence > odom.sequence
    assert 4.0 < time.time() - later.stamp_s < 6.0
    assert the_robot.identity.sources.keys() == {"odom", "imu"}
    assert the_robot.identity.watchdog_s == 0.15


class Lidar:
    """One that sees the half of the room ahead of it, whose walls are so far away."""

    def __init__(self, graph, topic):
        self.graph, self.publish = graph, graph.advertise(topic, SCAN, SENSOR)

    def say(self, range_m, age_s):
        message = self.graph.message_class(SCAN)()
        set_stamp(message.header.stamp, time.time() - age_s)
        message.header.frame_id = "base_link"
        message.angle_min, message.angle_increment = -math.pi / 2, math.pi / 180
        message.range_min, message.range_max = 0.1, 10.0
        message.ranges = [range_m] * 181
        self.publish(message)


def lidar_source(topic, yaw_rad):
    scan = SignalField(unit="m", ranges=Ranges(yaw_rad=yaw_rad))
    return Source(topic=topic, type=SCAN, frame="base_link", signals={"scan": scan})


def test_two_lidars(here):
    """One scan about the robot, as old as the oldest; each lidar's own age is told too."""
    sources = {"front": lidar_source("front", 0.0), "rear": lidar_source("rear", math.pi)}
    the_robot = robot(here, sources=sources, stop_topics={})
    assert the_robot.identity.sources == {"front": {}, "rear": {}, "front+rear": {"scan": 36}}
    with graphs.graph("lidars") as there:
        front, rear = Lidar(there, "front"), Lidar(there, "rear")
        graphs.until(lambda: front.say(3.0, 0.0) or the_robot.readings())
        assert the_robot.readings().keys() == {"front"}, "without the other there is no scan"
        assert the_robot.silent() == ("rear",)
        graphs.until(lambda: rear.say(2.0, 5.0) or "rear" in the_robot.readings())
        readings = the_robot.readings()
        both = readings["front+rear"]
        assert both.signals["scan"][[0, 18]] == pytest.approx([3.0, 2.0])
        assert both.stamp_s == readings["rear"].stamp_s < readings["front"].stamp_s - 4.0
        assert (readings["front"].signals, readings["rear"].signals) == ({}, {})

        def nearer():
            front.say(1.0, 0.0)
            newest = the_robot.readings()["front+rear"]
            return newest.signals["scan"][0] < 2.0 and newest.sequence > both.sequence

        graphs.until(nearer)
        rear.say(math.nan, 0.0)
        graphs.until(lambda: np.isnan(the_robot.readings()["front+rear"].signals["scan"]).all())


def test_commands_arrive(here, body):
    the_robot = robot(here, stop_topics={})
    graphs.until(lambda: the_robot.send(FORWARD, 0.1) or body.commands)
    body.until_moved(0.5)
    the_robot.disarm()
    graphs.until(lambda: not body.commands[-1].any())


def test_arming_says_zero(here, body):
    """A driver obeys nothing before a command to stand still."""
    the_robot = robot(here, stop_topics={})
    graphs.until(lambda: the_robot.send(FORWARD, 0.1) or body.commands)
    time.sleep(0.2)
    count = len(body.commands)
    the_robot.arm()
    graphs.until(lambda: len(body.commands) > count)
    assert not body.commands[-1].any()


def test_a_dry_run_sends_nothing(here, body):
    the_robot = robot(here, enable_motion=False, stop_topics={})
    hear(body, the_robot)
    for _ in range(20):
        the_robot.send(FORWARD, 0.1)
        time.sleep(0.01)
    the_robot.close()
    assert body.commands == []


def test_a_frame_that_is_another_forbids_motion(here, body):
    the_robot = robot(here, stop_topics={})
    hear(body, the_robot, frame="map")
    (fault,) = the_robot.faults()
    assert "odom: frame_id should be 'odom'" in fault
    with pytest.raises(LinkError, match="unit-7: may not move: odom: frame_id"):
        the_robot.arm()
    hear(body, the_robot)
    graphs.until(lambda: the_robot.faults() == ())
    the_robot.arm()


def test_stopped_means_zero_whatever_is_sent(here, body):
    the_robot = robot(here, stop_topics={})
    graphs.until(lambda: the_robot.send(FORWARD, 0.1) or body.commands)
    the_robot.stop()
    graphs.until(lambda: not body.commands[-1].any())
    body.commands.clear()
    for _ in range(5):
        the_robot.send(FORWARD, 0.1)
    graphs.until(lambda: len(body.commands) >= 1)
    assert not any(command.any() for command in body.commands)
    assert the_robot.faults() == ("the robot was stopped",)
    the_robot.reset()
    assert the_robot.faults() == ()


def test_a_robot_without_an_emergency_stop_is_given_one(here, body):
    the_robot = robot(here, stop_topics={})
    said = graphs.Heard(body.graph, "hardware/e_stop", topic_rig.BOOL, STATUS)
    graphs.until(lambda: the_robot.send(FORWARD, 0.1) or body.commands)
    assert call(body.graph, "hardware/e_stop_trigger")[0]
    graphs.until(lambda: not body.commands[-1].any())
    assert said[-1].data
    assert the_robot.faults() == ("somebody called hardware/e_stop_trigger",)
    the_robot.reset()
    assert the_robot.faults(), "a person pressed it, so only a person releases it"
    done, sentence = call(body.graph, "hardware/e_stop_reset")
    assert done
    assert "yet to be reset and armed" in sentence
    assert the_robot.faults() == ()
    graphs.until(lambda: not said[-1].data)


def test_a_driver_with_an_emergency_stop_keeps_it(here, body):
    the_robot = robot(here, stop_topics={"hardware/e_stop": "latched"})
    assert the_robot.faults() == ("hardware/e_stop has not said anything yet",)
    body.press(True)
    graphs.until(
        lambda: the_robot.faults() == ("hardware/e_stop says that the hardware is stopped",)
    )
    body.press(False)
    graphs.until(lambda: the_robot.faults() == ())


def test_a_stop_of_the_hardware_is_followed_by_zero_at_once(here, body):
    """Nobody has to send the next command for it, and what is sent then is zero."""
    the_robot = robot(here, stop_topics={"hardware/e_stop": "latched"})
    body.press(False)
    graphs.until(lambda: the_robot.faults() == ())
    graphs.until(lambda: the_robot.send(FORWARD, 0.1) or body.commands)
    graphs.until(lambda: bool(body.commands[-1].any()))
    body.press(True)
    graphs.until(lambda: not body.commands[-1].any())
    body.commands.clear()
    graphs.until(lambda: the_robot.send(FORWARD, 0.1) or body.commands)
    assert not body.commands[-1].any()


def test_a_stop_that_was_taken_back_between_two_looks(here, body):
    the_robot = robot(here, stop_topics={"hardware/e_stop": "plain"})
    graphs.until(lambda: body.press(False) or the_robot.faults() == ())
    body.press(True)
    body.press(False)
    time.sleep(0.3)
    assert the_robot.faults() == ("hardware/e_stop says that the hardware is stopped",)
    assert the_robot.faults() == ()


def test_a_stop_topic_has_one_sender(here, body):
    """One's False must not hide another's True; and who is gone says nothing any more."""
    the_robot = robot(here, stop_topics={"hardware/e_stop": "latched"})
    body.press(False)
    graphs.until(lambda: the_robot.faults() == ())
    with graphs.graph("button") as other:
        button = Body(other)
        button.press(True)
        graphs.until(lambda: "stopped" in " ".join(the_robot.faults()))
        body.press(False)
        time.sleep(0.3)
        faults = the_robot.faults()
        assert "hardware/e_stop should have one publisher, it has /body, /button" in faults
    graphs.until(lambda: the_robot.faults() == ())
    body.graph.close()
    graphs.until(the_robot.faults)
    assert the_robot.faults() == ("the publisher of hardware/e_stop is gone",)


def test_two_monitors(here, body):
    """The second is refused with a sentence, and the first is not disturbed."""
    first = robot(here, stop_topics={})
    with graphs.graph("second") as second:
        graphs.until(lambda: second.publishers("cmd_vel"))
        with pytest.raises(LinkError, match="unit-7: cmd_vel is published by /here too; only the"):
            robot(second, stop_topics={})
        time.sleep(0.3)
        assert first.faults() == ()
        robot(second, enable_motion=False, stop_topics={})  # it commands nothing


def test_another_who_commands(here, body):
    the_robot = robot(here, stop_topics={})
    with graphs.graph("joystick") as joystick:
        joystick.advertise("cmd_vel", "geometry_msgs/msg/Twist", STATUS)
        (fault,) = graphs.until(the_robot.faults)
        assert fault.startswith("cmd_vel is published by")
        with pytest.raises(LinkError, match="may not move: cmd_vel is published by"):
            the_robot.arm()
    graphs.until(lambda: the_robot.faults() == ())


def test_waiting(here):
    the_robot = robot(here, stop_topics={})
    until_s = the_robot.now_s() + 0.05
    the_robot.wait(until_s)
    assert 0.0 <= the_robot.now_s() - until_s < 0.5
    the_robot.wait(until_s)  # is past
    assert the_robot.faults() == ()


def test_a_clock_that_stands_still(here):
    """Simulated time may: the robot must not wait for ever, and must not move meanwhile."""
    the_robot = robot(here, stop_topics={})
    began_s = time.monotonic()
    here.now_s = lambda: 5.0
    here.sleep = lambda until_s: time.sleep(0.001)
    the_robot.wait(6.0)
    assert STALL_S <= time.monotonic() - began_s < STALL_S + 1.0
    assert the_robot.faults() == (f"the clock stood still for {STALL_S:g} s",)
    here.now_s = lambda: 7.0
    the_robot.wait(6.0)
    assert the_robot.faults() == ()


def test_topics_that_do_not_exist(here):
    command = dataclasses.replace(section().command, type="some_msgs/msg/Thing")
    with pytest.raises(ConfigError, match="'some_msgs/msg/Thing' is not known without ROS"):
        robot(here, command=command)
