"""A twin among things: what its topics say, read as a robot's file says, is what training saw."""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="without Cyclone DDS: pip install 'holdfast-robot[dds]'")

from holdfast.errors import ConfigError
from holdfast.robot import config as configs
from holdfast.robot.dds.types import message_class
from holdfast.robot.topics.config import Source
from holdfast.robot.topics.driver import Driver, MessageOptions
from holdfast.robot.topics.fields import SourceReader
from holdfast.schema import build, to_plain
from holdfast.sim.parameters.catalogue import Parameters
from holdfast.sim.registry import resolve
from holdfast.sim.twin.board import TwinBoard
from holdfast.sim.twin.hardware import LIDAR_LEAST_M, LIDAR_RAYS, TwinHardware, other_sources
from holdfast.sim.twin.serve import require_measured
from holdfast.sim.twin.truth import Truth

SECTION = configs.load(configs.find("drive_lidar")).topics()


class Wire:
    """Of a graph, what a driver needs: what it publishes is kept."""

    message_class = staticmethod(message_class)

    def __init__(self):
        self.said = {}

    def now_s(self):
        return 0.0

    def advertise(self, topic, type_name, qos):
        return self.said.setdefault(topic, []).append

    def subscribe(self, *_):
        pass

    def serve(self, *_):
        pass


class Rig:
    """A twin, its driver, and who reads its topics as a file says."""

    def __init__(self, name, section=SECTION, rays=LIDAR_RAYS, seed=1):
        self.task, self.wire, self.section = resolve(name).make(), Wire(), section
        truth = Truth(self.task, seed, None)
        self.board = TwinBoard(self.task, Parameters(), seed, False, truth)
        others = other_sources(self.task, self.board, section)
        self.hardware = TwinHardware(self.board, scan_rays=rays, scan_every=1, extra_sources=others)
        options = MessageOptions(scan_range_m=self.hardware.scan_range_m)
        self.driver = Driver(self.wire, self.hardware, section, options, others)

    def put(self, x, y, yaw):
        """Place the robot, and let it say what it measures."""
        qpos = self.board.data.qpos
        qpos[:2], qpos[3:7] = (x, y), (np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
        mujoco.mj_forward(self.board.model, self.board.data)
        self.driver._say(self.hardware._measure())

    def read(self, name):
        source = self.section.sources[name]
        message = self.wire.said[source.topic][-1]
        reader = SourceReader(name, source, self.wire)
        assert reader.wrong_frame(message) == ""
        return reader.read(message)


def poses(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack((rng.uniform(-2.0, 2.0, (count, 2)), rng.uniform(-4.0, 4.0, count)))


@pytest.mark.parametrize("name", ["DriveGoal-v0", "DriveGather-v0"])
@pytest.mark.parametrize("rays", [36, LIDAR_RAYS, 324])
def test_the_scan_of_its_topic_is_the_one_of_training(name, rays):
    """To float32, in which a LaserScan is; nearer than a lidar sees is taken for contact."""
    rig, seen = Rig(name, rays=rays), 0
    for x, y, yaw in poses(60):
        rig.put(x, y, yaw)
        true = rig.board.true_signals()["scan"]
        seen_m = np.where(true < LIDAR_LEAST_M, 0.0, true)
        np.testing.assert_allclose(rig.read("lidar")["scan"], seen_m, rtol=2e-7)
        seen += (true < rig.task.lidar_range_m).sum()
    assert seen > 200


def test_beams_across_two_sectors_see_a_little_more():
    """72 are no odd multiple of 36: every second one lies on the edge of two sectors."""
    rig = Rig("DriveGoal-v0", rays=72)
    off = []
    for x, y, yaw in poses(40):
        rig.put(x, y, yaw)
        off.append(rig.read("lidar")["scan"] - rig.board.true_signals()["scan"])
    assert (np.abs(off) > 0.5).mean() < 0.05
    assert (np.abs(off) > 1e-3).any()


def test_the_goal_is_said_as_a_planner_would():
    rig = Rig("DriveGoal-v0")
    for x, y, yaw in poses(20):
        rig.put(x, y, yaw)
        goal = rig.read("planner")["goal"]
        (target,) = rig.board._world["goals"][0, rig.board._world["next"]]
        turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
        np.testing.assert_allclose(goal, turn @ (target - (x, y)), atol=1e-9)
    message = rig.wire.said["goal"][-1]
    assert message.header.frame_id == "base_link"
    assert message.point.z == 0.0


def test_a_goal_reached_gives_way_to_the_next_on_the_topic():
    rig = Rig("DriveGoal-v0")
    before = rig.board._world["goals"][0, 0]
    rig.put(*before, 0.0)
    np.testing.assert_allclose(rig.read("planner")["goal"], 0.0, atol=1e-9)
    rig.board.actuate((0.0, 0.0))
    for _ in range(5):
        rig.board.step()
    rig.put(*before, 0.0)
    after = rig.board._world["goals"][0, 1]
    np.testing.assert_allclose(rig.read("planner")["goal"], after - before, atol=1e-6)


def test_what_is_taken_is_not_seen_any_more():
    rig = Rig("DriveGather-v0")
    x, y = rig.board._world["bombs"][0, 0].tolist()
    rig.put(x - 0.5, y, 0.0)
    assert rig.read("lidar")["scan"][0] == pytest.approx(0.4, abs=1e-6)
    rig.put(x, y, 0.0)
    rig.board.actuate((0.0, 0.0))
    for _ in range(5):
        rig.board.step()
    rig.put(x - 0.5, y, 0.0)
    assert rig.read("lidar")["scan"][0] > 0.5


def camera():
    """Return what a robot's file may say of who sees apples and feels bombs."""
    sectors = [f"data[{i}]" for i in range(36)]
    numbers = {"type": "std_msgs/msg/Float64MultiArray", "frame": "base_link"}
    return {
        "camera": {
            **numbers,
            "topic": "apples",
            "signals": {"apple_proximity": {"unit": "1", "fields": sectors}},
        },
        "bumper": {
            **numbers,
            "topic": "bumper",
            "signals": {"bombs_taken": {"unit": "1", "fields": ["data[0]"]}},
        },
    }


def test_any_signal_of_a_task_can_be_given_a_topic():
    sources = {name: build(Source, source) for name, source in camera().items()}
    section = dataclasses.replace(SECTION, sources={**SECTION.sources, **sources})
    rig = Rig("DriveGather-v0", section)
    section.require_fit(rig.task.contract, ("bombs_taken",))
    require_measured(rig.task, rig.hardware.signals)
    rig.put(*rig.board._world["bombs"][0, 0], 1.0)
    rig.board.actuate((0.0, 0.0))
    for _ in range(5):
        rig.board.step()
    rig.put(0.3, 0.2, 1.0)
    true = rig.board.true_signals()
    np.testing.assert_array_equal(rig.read("camera")["apple_proximity"], true["apple_proximity"])
    np.testing.assert_array_equal(rig.read("bumper")["bombs_taken"], [1.0])


def test_what_nobody_says_is_missed_in_a_sentence():
    with pytest.raises(ConfigError, match="'holdfast/DriveGoal-v0' needs scan too"):
        require_measured(
            resolve("DriveGoal-v0").make(), Rig("DriveGoal-v0", rays=0).hardware.signals
        )
    plain = configs.load(configs.find("drive")).topics()
    with pytest.raises(ConfigError, match="'holdfast/DriveGoal-v0' needs goal too"):
        require_measured(
            resolve("DriveGoal-v0").make(), Rig("DriveGoal-v0", plain).hardware.signals
        )
    with pytest.raises(ConfigError, match="needs apple_proximity, bombs_taken too"):
        require_measured(resolve("DriveGather-v0").make(), Rig("DriveGather-v0").hardware.signals)


def test_a_source_that_cannot_be_written_is_refused():
    turned = build(
        Source,
        {
            "topic": "where",
            "type": "geometry_msgs/msg/PoseStamped",
            "frame": "odom",
            "signals": {"goals_reached": {"unit": "1", "yaw": "pose.orientation"}},
        },
    )
    section = dataclasses.replace(SECTION, sources={"where": turned})
    with pytest.raises(ConfigError, match="goals_reached: only fields can be written, not yaw"):
        Rig("DriveGoal-v0", section)


def test_a_source_of_another_size_or_unit_is_refused():
    few = camera()["camera"]
    few["signals"]["apple_proximity"]["fields"].pop()
    inches = to_plain(SECTION.sources["planner"])
    inches["signals"]["goal"]["unit"] = "in"
    for name, task, source, sentence in (
        ("camera", "DriveGather-v0", few, "apple_proximity: should give 36 values, received 35"),
        ("planner", "DriveGoal-v0", inches, "goal: unit should be 'm', received 'in'"),
    ):
        section = dataclasses.replace(SECTION, sources={name: build(Source, source)})
        with pytest.raises(ConfigError, match=sentence):
            Rig(task, section)


def test_a_lidar_alone_sees_nothing_and_as_far_as_it_does():
    rig = Rig("DriveCircle-v0")
    rig.put(0.0, 0.0, 0.5)
    assert rig.hardware.scan_range_m == (0.12, 10.0)
    assert (rig.read("lidar")["scan"] == 10.0).all()
    assert "goal" not in rig.wire.said


def test_the_file_with_a_lidar_is_the_drive_robot_s_own_with_two_topics_and_a_wider_fence():
    with_lidar, plain = (configs.load(configs.find(name)) for name in ("drive_lidar", "drive"))
    same = {"ros", "monitor"}
    for name in vars(plain).keys() - same:
        assert getattr(with_lidar, name) == getattr(plain, name)
    assert with_lidar.monitor.checks["obstacles"].footprint_radius_m == 0.23
    fence = np.array(with_lidar.monitor.checks["geofence"].keep_in_m)
    assert np.abs(fence).min() > 0.15 + 3 * 0.8 + 1.0  # beyond the farthest goals of DriveGoal
    own = with_lidar.monitor.without("obstacles", "geofence")
    assert own == plain.monitor.without("geofence")
    more = {name: with_lidar.ros.sources[name] for name in ("lidar", "planner")}
    frames = dataclasses.replace(plain.ros.frames, aligned=("imu_link", "base_scan"))
    sources = {**plain.ros.sources, **more}
    assert with_lidar.ros == dataclasses.replace(plain.ros, frames=frames, sources=sources)
