"""The `ros` section: what does not fit is found when it is read, and said in one sentence."""

from __future__ import annotations

import copy

import pytest
import yaml

from holdfast import share
from holdfast.contract import ActionChannel, ObservationChannel
from holdfast.errors import ConfigError
from holdfast.robot import config as configs
from holdfast.robot.topics.config import RosSection
from holdfast.schema import MismatchError, build
from tests.helpers.data.bundles import drive_contract

DRIVE = yaml.safe_load(configs.find("drive").read_text())["ros"]
ROBOTS = sorted(
    path for path in (share.folder() / "config").glob("*.yaml") if "\nros:" in path.read_text()
)


def section(*path_and_value):
    """Return drive's section with one value put in its place."""
    data = copy.deepcopy(DRIVE)
    *path, last, value = path_and_value
    node = data
    for key in path:
        node = node[key]
    node[last] = value
    return build(RosSection, data)


def test_the_drive_robots_section_fits_its_contract():
    fits = build(RosSection, DRIVE)
    fits.require_fit(drive_contract(), ("position",))
    assert fits.signals() == {
        "odom": {"position": 2, "heading": 1, "forward_speed": 1, "yaw_rate": 1},
        "imu": {"tilt": 2},
    }


@pytest.mark.parametrize("path", ROBOTS, ids=lambda path: path.stem)
def test_every_robots_section_is_read(path):
    loaded = configs.load(path)
    assert loaded.topics().sources
    assert path.stem in (loaded.robot, f"{loaded.robot}_lidar")


ODOM = ("sources", "odom")
POSITION = (*ODOM, "signals", "position")
WRONG = [
    (
        (*POSITION, "unit", "cm"),
        "ros.sources.odom.signals.position: unit should be 'm', received 'cm'",
    ),
    (
        (*POSITION, "fields", ["pose.pose.position.x"]),
        "position: should give 2 values, received 1",
    ),
    ((*ODOM, "frame", "map"), "position: is along the odom frame, so its source's frame should"),
    (
        (*ODOM, "child_frame", "laser"),
        "forward_speed: is along the base frame, so its source's child_frame should be base_link",
    ),
    (
        ("sources", "imu", "frame", "tilted_imu"),
        "tilt: is along the base frame, so its source's frame should be base_link or imu_link",
    ),
    (
        (*ODOM, "signals", "altitude", {"unit": "m", "fields": ["pose.pose.position.z"]}),
        "altitude: signal should be one of position, heading",
    ),
    (
        ("sources", "imu", "signals", "yaw_rate", {"unit": "rad/s", "fields": ["a"]}),
        "yaw_rate should come from one source alone",
    ),
    (
        (*ODOM, "signals", "yaw_rate", {"unit": "rad/s", "ranges": {}}),
        "yaw_rate: ranges are for the signal scan",
    ),
    (("command", "fields", {"forward_speed": "twist.linear.x"}), "ros.command.fields: should name"),
    (("proposal", "fields", {}), "ros.proposal.fields: should name the contract's action channels"),
    (("command_timeout_s", 0.05), "command_timeout_s 0.05 should be above the contract's period_s"),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG, ids=lambda value: str(value)[:40])
def test_what_does_not_fit_is_said(change, sentence):
    with pytest.raises(ConfigError) as caught:
        section(*change).require_fit(drive_contract())
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_driver_that_leaves_its_frames_empty():
    """An empty frame takes any; one that is not said is refused, and the sentence says both."""
    any_frame = section("sources", "odom", "frame", "")
    any_frame.require_fit(drive_contract())
    for key, what in (("frame", "odom"), ("child_frame", "base_link")):
        with pytest.raises(ConfigError) as caught:
            section("sources", "odom", key, None).require_fit(drive_contract())
        assert f"source's {key} should be {what}" in str(caught.value)
        assert "or '' for a driver that leaves it empty; received nothing" in str(caught.value)


def test_a_signal_that_nothing_carries():
    tilt = ObservationChannel("tilt", 2, "rad", "tilt")
    without = section("sources", "imu", "signals", {})
    without.require_fit(drive_contract())
    with pytest.raises(ConfigError, match="nothing carries tilt, which is needed"):
        without.require_fit(drive_contract(observation=(tilt,)))
    with pytest.raises(ConfigError, match="nothing carries scan, which is needed"):
        without.require_fit(drive_contract(), ("scan",))


def test_several_lidars_are_one_more_source():
    """Each keeps its own age; other signals still come from one source alone."""
    lidar = {
        "topic": "scan_front",
        "type": "sensor_msgs/msg/LaserScan",
        "frame": "base_link",
        "signals": {"scan": {"unit": "m", "ranges": {}}},
    }
    both = {**DRIVE["sources"], "front": lidar, "rear": {**lidar, "topic": "scan_rear"}}
    fits = section("sources", both)
    fits.require_fit(drive_contract(), ("scan",))
    found = fits.signals()
    assert (found["front"], found["rear"], found["front+rear"]) == ({}, {}, {"scan": 36})
    one = section("sources", {**DRIVE["sources"], "front": lidar}).signals()
    assert one["front"] == {"scan": 36}
    assert "front+rear" not in one


def test_joints_are_as_many_as_the_contract_says():
    joints = ObservationChannel("joints", 3, "rad", "joint_position")
    contract = drive_contract(observation=(joints,))
    source = {
        "topic": "joint_states",
        "type": "sensor_msgs/msg/JointState",
        "signals": {
            "joint_position": {"unit": "rad", "joints": {"field": "position", "names": ["a", "b"]}}
        },
    }
    two = section("sources", "joints", source)
    with pytest.raises(ConfigError, match="joint_position: should give 3 values, received 2"):
        two.require_fit(contract)
    names = source["signals"]["joint_position"]["joints"]["names"]
    names.append("c")
    section("sources", "joints", source).require_fit(contract)


def test_other_actions_are_other_fields():
    legs = ActionChannel("hip", "rad", -1.0, 1.0, 10.0)
    with pytest.raises(ConfigError, match="action channels, hip; received forward_speed, yaw_rate"):
        build(RosSection, DRIVE).require_fit(
            drive_contract(action=(legs,), observation=drive_contract().observation[:1])
        )


@pytest.mark.parametrize(
    "change",
    [
        (*POSITION, "yaw", "pose.pose.orientation"),
        (*POSITION, "fields", None),
        (*ODOM, "topic", "no good"),
        (*ODOM, "type", "nav_msgs/Odometry"),
        ("stop_topics", {"e_stop": "sometimes"}),
        ("command_timeout_s", float("inf")),
        ("colour", "red"),
    ],
    ids=str,
)
def test_a_section_that_is_malformed(change):
    with pytest.raises(MismatchError):
        section(*change)


def test_a_mistake_in_the_file_is_one_sentence(tmp_path):
    text = configs.find("drive").read_text()
    path = tmp_path / "drive.yaml"
    path.write_text(text.replace("unit: rad/s, fields", "fields"))
    with pytest.raises(ConfigError) as caught:
        configs.load(path)
    assert "ros.sources.odom.signals.yaw_rate: missing unit" in str(caught.value)


def test_a_robot_without_topics_says_so(tmp_path):
    path = tmp_path / "drive.yaml"
    path.write_text(configs.find("drive").read_text().partition("\nros:")[0])
    with pytest.raises(ConfigError, match="of robot 'drive' has no section ros"):
        configs.load(path).topics()
