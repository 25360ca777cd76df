"""The driver of a robot behind a serial port: a twin's real pty on one side, DDS on the other."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
import pytest
from test_second_writer import Impostor

pytest.importorskip("cyclonedds", reason="without Cyclone DDS: pip install 'holdfast-robot[dds]'")

from holdfast.errors import LinkError
from holdfast.robot.serial import robot as serial_robot
from holdfast.robot.serial.hardware import SerialHardware
from holdfast.robot.serial.robot import SerialRobot
from holdfast.robot.topics.driver import Driver, MessageOptions
from holdfast.robot.topics.fields import ActionCodec
from holdfast.robot.topics.graph import COMMAND, PLAIN, SENSOR, STATUS
from tests.helpers.robots.topic_rig import BOOL, IMU, ODOMETRY, call, section
from tests.helpers.robots.twins import running_twin
from tests.helpers.ros import graphs

pytestmark = pytest.mark.alone

JOINTS, TF = "sensor_msgs/msg/JointState", "tf2_msgs/msg/TFMessage"
TIMEOUT_S = section().command_timeout_s


class Rig:
    def __init__(self, here, there, address):
        self.robot = SerialRobot.connect(address)
        self.hardware = SerialHardware(self.robot, here.now_s)
        covariance = (0.1, 0.2, 0.0, 0.0, 0.0, 0.3)
        options = MessageOptions(pose_covariance=covariance, mounts={"base_scan": (0.0, 0.0, 0.12)})
        self.driver = Driver(here, self.hardware, section(), options)
        self.there = there
        self.odometry = graphs.Heard(there, "odom", ODOMETRY, SENSOR)
        self.e_stops = graphs.Heard(there, "hardware/e_stop", BOOL, STATUS)
        command = section().command
        self.codec = ActionCodec("command", command, there, command.fields)
        self.publish = there.advertise(command.topic, command.type, COMMAND)
        self.speed, self.turn, self.ahead_s = None, 0.0, 0.0
        self.error = None
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=f) for f in (self.drive, self.steer)]

    def drive(self):
        try:
            while not self.ending.is_set():
                self.driver.turn()
        except LinkError as error:
            self.error = error

    def steer(self):
        """Command `speed` at 20 Hz, unless it is None."""
        while not self.ending.wait(0.05):
            if self.speed is not None:
                action = np.array([self.speed, self.turn])
                self.publish(self.codec.message(action, time.time() + self.ahead_s))

    def measured_speed(self):
        return self.odometry[-1].twist.twist.linear.x if self.odometry else math.nan

    def moves(self, speed=0.3):
        """Zero first, then motion."""
        self.speed = 0.0
        graphs.until(lambda: self.robot.armed)
        self.speed = speed
        graphs.until(lambda: self.measured_speed() > 0.8 * speed)

    def stands(self):
        graphs.until(lambda: abs(self.measured_speed()) < 0.01)
        return True


@pytest.fixture
def twin():
    with running_twin() as served:
        yield served


@pytest.fixture
def rig(twin):
    with graphs.graph("driver") as here, graphs.graph("there") as there:
        made = Rig(here, there, twin.address)
        for thread in made.threads:
            thread.start()
        yield made
        made.ending.set()
        for thread in made.threads:
            thread.join()
        if made.error is None:
            made.driver.close()


def test_it_says_what_the_device_measures(rig):
    joints = graphs.Heard(rig.there, "joint_states", JOINTS, PLAIN)
    imu = graphs.Heard(rig.there, "imu", IMU, SENSOR)
    transforms = graphs.Heard(rig.there, "tf", TF, PLAIN)
    mounts = graphs.Heard(rig.there, "tf_static", TF, STATUS)
    rig.moves()
    odometry = rig.odometry[-1]
    assert (odometry.header.frame_id, odometry.child_frame_id) == ("odom", "base_link")
    stamp_s = odometry.header.stamp.sec + odometry.header.stamp.nanosec * 1e-9
    assert abs(time.time() - stamp_s) < 1.0
    assert [odometry.pose.covariance[i] for i in (0, 7, 35)] == [0.1, 0.2, 0.3]
    (transform,) = graphs.until(lambda: transforms)[-1].transforms
    assert transform.child_frame_id == "base_link"
    (mount,) = graphs.until(lambda: mounts)[-1].transforms
    assert (mount.header.frame_id, mount.child_frame_id) == ("base_link", "base_scan")
    assert mount.transform.translation.z == 0.12
    assert graphs.until(lambda: imu)[-1].linear_acceleration.z == pytest.approx(9.8, abs=1.0)
    first = graphs.until(lambda: joints)[-1]
    assert first.name == ["left_wheel_joint", "right_wheel_joint"]
    graphs.until(lambda: joints[-1].position[0] > first.position[0] + 0.1)
    assert not rig.e_stops[-1].data


def test_motion_does_not_begin_by_arming(rig):
    rig.speed = 0.3
    time.sleep(0.5)
    assert not rig.robot.armed
    assert rig.stands()
    rig.moves()


def test_no_command_for_a_while_stops_it_without_fault(rig):
    rig.moves()
    rig.speed = None
    assert rig.stands()
    graphs.until(lambda: not rig.robot.armed)
    assert rig.driver.faults == (), "it stopped before the device had to"
    rig.moves()


@pytest.mark.parametrize(
    "wrong",
    [{"speed": math.nan}, {"ahead_s": 60.0}, {"ahead_s": -60.0}],
    ids=str,
)
def test_what_cannot_be_obeyed_stops_it(rig, wrong):
    rig.moves()
    for name, value in wrong.items():
        setattr(rig, name, value)
    assert rig.stands()
    rig.ahead_s = 0.0


def test_the_emergency_stop(rig):
    rig.moves()
    assert call(rig.there, "hardware/e_stop_trigger") == (
        True,
        "stopped; hardware/e_stop_reset releases it",
    )
    assert rig.stands()
    graphs.until(lambda: rig.e_stops[-1].data)
    assert rig.driver.faults
    done, sentence = call(rig.there, "hardware/e_stop_reset")
    assert (done, sentence) == (False, "the newest command is not zero")
    rig.speed = 0.0
    time.sleep(3 * TIMEOUT_S)
    assert not rig.robot.armed, "nothing arms it meanwhile"
    assert call(rig.there, "hardware/e_stop_reset")[0]
    graphs.until(lambda: not rig.e_stops[-1].data)
    rig.moves()


def test_two_who_command(rig):
    """It is stopped until a person releases it, also after one of the two has left."""
    rig.moves()
    with graphs.graph("joystick") as joystick:
        began_s = time.monotonic()
        joystick.advertise("cmd_vel", "geometry_msgs/msg/Twist", PLAIN)
        graphs.until(lambda: rig.e_stops[-1].data)
        assert time.monotonic() - began_s < 1.0
        assert rig.stands()
        contested = "cmd_vel should have one publisher, it has /joystick, /there"
        graphs.until(lambda: contested in rig.driver.faults)
        rig.speed = 0.0
        time.sleep(3 * TIMEOUT_S)
        assert call(rig.there, "hardware/e_stop_reset") == (False, contested)
    graphs.until(lambda: len(rig.driver._graph.publishers("cmd_vel")) == 1)
    time.sleep(3 * TIMEOUT_S)
    assert not rig.robot.armed, "it stays so"
    assert call(rig.there, "hardware/e_stop_reset")[0]
    graphs.until(lambda: not rig.e_stops[-1].data)
    rig.moves()


def test_who_comes_after_begins_anew(rig, caplog):
    """Its first command has to be to stand still, and somebody is told that it is another."""
    rig.moves()
    with graphs.graph("next") as other:
        rig.speed = None
        rig.there.close()
        graphs.until(lambda: not rig.driver._graph.publishers("cmd_vel"))
        command = section().command
        rig.publish, rig.speed = other.advertise(command.topic, command.type, COMMAND), 0.3
        rig.odometry = graphs.Heard(other, "odom", ODOMETRY, SENSOR)
        graphs.until(lambda: "cmd_vel has a new publisher" in caplog.text)
        time.sleep(0.5)
        assert rig.stands()
        assert not rig.driver._stood
        rig.moves()


def test_a_device_that_is_pulled(rig, twin):
    rig.moves()
    twin.process.kill()
    graphs.until(lambda: rig.error)
    assert "the port was lost" in str(rig.error)


def test_a_refused_arming_is_no_loss(caplog):
    """A slow line makes every ARM stale; once it is fast, the next command to stand arms."""
    with (
        Impostor() as impostor,
        graphs.graph("driver") as here,
        graphs.graph("there") as there,
    ):
        rig = Rig(here, there, impostor.address)
        impostor._late_s = 0.4
        for thread in rig.threads:
            thread.start()
        try:
            rig.speed = 0.0
            graphs.until(lambda: rig.driver.refused)
            assert "the device refused to arm" in rig.driver.refused
            assert "the next command to stand still asks again" in caplog.text
            assert not rig.robot.armed
            rig.speed = 0.3
            time.sleep(serial_robot.TRIES * serial_robot.ANSWER_LIMIT_S)  # of the last ARM
            impostor._late_s = 0.0
            time.sleep(0.5)
            assert not rig.robot.armed, "a command to move arms nothing"
            rig.speed = 0.0
            graphs.until(lambda: rig.robot.armed)
            graphs.until(lambda: not rig.driver.refused)
            assert rig.error is None
        finally:
            rig.ending.set()
            for thread in rig.threads:
                thread.join()
            rig.driver.close()


def test_at_rest_it_forgets_its_command(rig):
    rig.moves()
    rig.speed = None
    rig.ending.set()
    for thread in rig.threads:
        thread.join()
    rig.driver.rest()
    assert not rig.robot.armed
    rig.driver.turn()
    assert not rig.robot.armed
