"""A base on four mecanum wheels: what its driver says, and what the safety monitor makes of it."""

from __future__ import annotations

import math
import select
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

pytest.importorskip("cyclonedds", reason="without Cyclone DDS: pip install 'holdfast-robot[dds]'")

from holdfast.contract import ActionChannel, Contract, Cost, ObservationChannel
from holdfast.errors import ConfigError
from holdfast.robot import config as configs
from holdfast.robot.base import Identity
from holdfast.robot.dds.types import message_class
from holdfast.robot.run.assembly import assemble, require_fit
from holdfast.robot.topics.config import ActionTopic, RosSection
from holdfast.robot.topics.driver import Driver, HardwareState, MessageOptions
from holdfast.robot.topics.fields import ActionCodec, SourceReader
from holdfast.robot.topics.graph import SENSOR
from holdfast.safety_monitor import Proposal, Reading, State
from holdfast.schema import build, to_plain
from tests.helpers.robots.topic_rig import ODOMETRY, call
from tests.helpers.ros import graphs

pytestmark = pytest.mark.alone

COMMANDS = ("forward_speed", "lateral_speed", "yaw_rate")
FIELDS = dict(zip(COMMANDS, ("linear.x", "linear.y", "angular.z"), strict=True))
CONTRACT = Contract(
    robot="mecanum",
    task="guard/mecanum",
    period_s=0.05,
    episode_steps=12000,
    observation=(
        ObservationChannel("position", 2, "m", "position"),
        ObservationChannel("heading", 1, "rad", "heading"),
        ObservationChannel("forward_speed", 1, "m/s", "forward_speed"),
        ObservationChannel("yaw_rate", 1, "rad/s", "yaw_rate"),
        ObservationChannel("scan", 36, "m", "scan"),
    ),
    action=(
        ActionChannel("forward_speed", "m/s", -0.5, 0.5, 2.0),
        ActionChannel("lateral_speed", "m/s", -0.5, 0.5, 2.0),
        ActionChannel("yaw_rate", "rad/s", -1.5, 1.5, 6.0),
    ),
    costs=(Cost("too_near", "scan.min < 0.2", 200.0, 600.0, 1.0, 0.95),),
)
LATERAL = {"unit": "m/s", "fields": ["twist.twist.linear.y"]}


def assembled(tmp_path, lateral=LATERAL):
    """Return the parts of a run of a TurtleBot3 that has other wheels."""
    base = yaml.safe_load(configs.find("turtlebot3").read_text())
    base["robot"] = "mecanum"
    for key in ("command", "proposal"):
        base["ros"][key]["fields"] = {name: f"twist.{path}" for name, path in FIELDS.items()}
    base["monitor"]["envelope"]["forward_speed_m_s"] = {"limited": 0.55, "stopped": 0.8}
    if lateral:
        base["ros"]["sources"]["odom"]["signals"]["lateral_speed"] = lateral
    robot, guard = tmp_path / "mecanum.yaml", tmp_path / "guard_mecanum.yaml"
    robot.write_text(yaml.safe_dump(base))
    guard.write_text(yaml.safe_dump(to_plain(CONTRACT)))
    return assemble(guard, robot, (), None)


UNMEASURED = (
    "contract of task 'guard/mecanum': the robot should measure its velocity, by linear_velocity, "
    "or forward_speed, lateral_speed and heading; nothing measures lateral_speed"
)


def test_a_motion_that_is_commanded_and_that_nothing_measures_is_refused(tmp_path):
    parts = assembled(tmp_path, lateral=None)
    with pytest.raises(ConfigError) as caught:
        parts.config.topics().require_fit(parts.contract, parts.monitor.required)
    assert str(caught.value) == UNMEASURED
    parts = assembled(tmp_path)
    parts.config.topics().require_fit(parts.contract, parts.monitor.required)


def test_so_is_a_device_on_a_line(tmp_path):
    needed = assembled(tmp_path).monitor.required
    sizes = {"position": 2, "heading": 1, "forward_speed": 1, "yaw_rate": 1, "scan": 36, "tilt": 2}
    for also in ({}, {"lateral_speed": 1}, {"linear_velocity": 2}):
        identity = Identity(
            robot="mecanum",
            hardware_id="unit-7",
            actions=COMMANDS,
            action_low=(-0.5, -0.5, -1.5),
            action_high=(0.5, 0.5, 1.5),
            watchdog_s=0.2,
            sources={"robot": {**sizes, **also}},
            lockstep=False,
            self_placing=False,
        )
        if also:
            require_fit(CONTRACT, identity, needed, 0.1)
            continue
        with pytest.raises(ConfigError) as caught:
            require_fit(CONTRACT, identity, needed, 0.1)
        assert str(caught.value) == UNMEASURED


class Base:
    """The base before a wall, with messages of ROS's own types. It does at once what it is told."""

    def __init__(self, parts, sideways):
        self.monitor, self.contract = parts.monitor, parts.contract
        types = SimpleNamespace(message_class=message_class)
        self.reader = SourceReader("odom", parts.config.ros.sources["odom"], types)
        self.now_s, self.sequence = 100.0, 1
        self.way_m, self.speed = 0.0, 0.0
        self.wall_m = 1.5
        self.axis, self.sector = ("y", 9) if sideways else ("x", 0)

    def look(self, speed=None):
        odometry = message_class(ODOMETRY)()
        odometry.header.frame_id, odometry.child_frame_id = "odom", "base_footprint"
        odometry.pose.pose.orientation.w = 1.0
        setattr(odometry.pose.pose.position, self.axis, self.way_m)
        moves = self.speed if speed is None else speed
        setattr(odometry.twist.twist.linear, self.axis, moves)
        scan = np.full(36, 3.5)
        scan[self.sector] = self.wall_m - self.way_m
        said = {"odom": self.reader.read(odometry), "imu": {"tilt": np.zeros(2)}}
        said["scan"] = {"scan": scan}
        sources = {
            name: Reading(self.now_s, self.sequence, signals) for name, signals in said.items()
        }
        return self.monitor.look(self.now_s, sources)

    def step(self, speed=0.0):
        self.now_s += self.contract.period_s
        self.sequence += 1
        self.way_m += self.speed * self.contract.period_s
        forward, lateral = (0.0, speed) if self.axis == "y" else (speed, 0.0)
        action = np.array([forward, lateral, 0.0])
        proposal = Proposal(self.now_s, self.sequence, action, self.contract.hash)
        verdict = self.monitor.step(self.look(), proposal)
        self.speed = float(verdict.action["xy".index(self.axis)])
        return verdict


def drives_to_the_wall(base, speed):
    """Return its states and reasons on the way, after it was refused while it moved."""
    base.monitor.begin_episode(base.now_s)
    base.step()
    refused = [reason.code for reason in base.monitor.reset(base.look(speed))]
    assert base.monitor.reset(base.look()) == ()
    base.step()
    assert base.monitor.arm(base.look()) == ()
    found = []
    while base.monitor.state is not State.STOPPED:
        verdict = base.step(speed)
        found.append((verdict.state, [reason.code for reason in verdict.reasons], base.way_m))
        assert base.way_m < base.wall_m
    return refused, found


def test_to_a_wall_at_its_side_it_goes_as_to_one_ahead(tmp_path):
    """It is slowed, then stopped before the wall, and is not reset while it slides."""
    base = Base(assembled(tmp_path), sideways=True)
    refused, found = drives_to_the_wall(base, 0.4)
    assert refused == ["robot_moves"]
    codes = {code for _, each, _ in found for code in each}
    assert {"obstacle_near", "obstacle_not_stoppable"} <= codes
    assert base.wall_m - base.way_m > 0.12  # the footprint of the robot
    ahead = drives_to_the_wall(Base(assembled(tmp_path), sideways=False), 0.4)
    assert ahead == (refused, found)


class Bench:
    """A driver's hardware on a bench: it measures what the test says, and does nothing."""

    def __init__(self, actions, **signals):
        self.actions = actions
        self.signals = {name: np.array([value]) for name, value in signals.items()}
        self.resets = 0

    def wait(self, wake):
        select.select([wake], [], [], 0.02)
        return HardwareState.of(1.0, self.signals)

    def faults(self):
        return ()

    def obey(self, action, valid_for_s):
        pass

    def reset(self):
        self.resets += 1

    halt = stop = close = lambda self: None


@pytest.fixture
def said_by():
    """A function that runs a driver on a bench; it returns the driver's neighbour in the graph,
    and its odometry."""
    ending, threads = threading.Event(), []
    with graphs.graph("driver") as here, graphs.graph("there") as there:

        def run(hardware):
            topic = {"topic": "cmd_vel", "type": "geometry_msgs/msg/Twist"}
            fields = {name: FIELDS.get(name, "angular.x") for name in hardware.actions}
            command = build(ActionTopic, {**topic, "fields": fields})
            section = RosSection(
                sources={}, command=command, proposal=command, command_timeout_s=0.5
            )
            driver = Driver(here, hardware, section, MessageOptions())
            heard = graphs.Heard(there, "odom", ODOMETRY, SENSOR)

            def turn():
                while not ending.is_set():
                    driver.turn()

            threads.append(threading.Thread(target=turn))
            threads[-1].start()
            return there, graphs.until(lambda: heard)[-1].twist.twist

        yield run
        ending.set()
        for thread in threads:
            thread.join()


MEASURED = {"forward_speed": 0.01, "yaw_rate": 0.02}


def test_a_driver_says_both_speeds_and_is_not_reset_while_the_base_slides(said_by):
    hardware = Bench(COMMANDS, **MEASURED, lateral_speed=-0.3)
    there, twist = said_by(hardware)
    assert (twist.linear.x, twist.linear.y, twist.angular.z) == (0.01, -0.3, 0.02)
    assert call(there, "hardware/e_stop_reset") == (False, "the robot moves")
    hardware.signals = {**hardware.signals, "lateral_speed": np.array([0.04])}
    graphs.until(lambda: call(there, "hardware/e_stop_reset")[0])
    assert hardware.resets == 1


@pytest.mark.parametrize(
    ("actions", "lateral"),
    [
        (("forward_speed", "yaw_rate"), 0.0),  # two driven wheels: it does not slide
        (COMMANDS, math.nan),
        (("left_front", "right_front"), math.nan),
    ],
)
def test_a_lateral_speed_that_is_not_measured_is_zero_only_where_it_must_be(
    said_by, actions, lateral
):
    _, twist = said_by(Bench(actions, **MEASURED))
    assert (twist.linear.x, twist.angular.z) == (0.01, 0.02)
    np.testing.assert_equal(twist.linear.y, lateral)


def test_a_command_carries_both_speeds():
    fields = {name: f"twist.{path}" for name, path in FIELDS.items()}
    topic = {"topic": "cmd_vel", "type": "geometry_msgs/msg/TwistStamped", "fields": fields}
    types = SimpleNamespace(message_class=message_class)
    codec = ActionCodec("command", build(ActionTopic, topic), types, COMMANDS)
    twist = codec.message(np.array([0.1, -0.2, 0.3]), 1.0).twist
    assert (twist.linear.x, twist.linear.y, twist.angular.z) == (0.1, -0.2, 0.3)
