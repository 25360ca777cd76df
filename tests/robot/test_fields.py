"""Signals and actions in messages: values worked out by hand, and what messages may lack."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="without Cyclone DDS: pip install 'holdfast-robot[dds]'")

from holdfast.errors import ConfigError
from holdfast.robot.dds.types import message_class
from holdfast.robot.topics import fields
from holdfast.robot.topics.config import ActionTopic, Ranges, Source
from holdfast.robot.topics.fields import ActionCodec, SourceReader
from holdfast.schema import build


class Types:
    """Of a graph, what fields need: its message types."""

    message_class = staticmethod(message_class)


def reader(type_name, signals, **settings):
    source = {"topic": "topic", "type": type_name, "signals": signals, **settings}
    return SourceReader("source", build(Source, source), Types())


def message(type_name, **values):
    made = message_class(type_name)()
    for path, value in values.items():
        node, *rest = path.split("__")
        target = made
        for part in [node, *rest][:-1]:
            target = getattr(target, part)
        setattr(target, [node, *rest][-1], value)
    return made


ODOMETRY, IMU = "nav_msgs/msg/Odometry", "sensor_msgs/msg/Imu"


def quarter_turn(axis):
    """A quaternion's fields: 90 degrees about an axis."""
    half = math.sqrt(0.5)
    return {f"orientation__{axis}": half, "orientation__w": half}


def test_plain_fields():
    read = reader(
        ODOMETRY,
        {"position": {"unit": "m", "fields": ["pose.pose.position.x", "pose.pose.position.y"]}},
    )
    odometry = message(ODOMETRY, pose__pose__position__x=1.5, pose__pose__position__y=-2.0)
    np.testing.assert_array_equal(read.read(odometry)["position"], [1.5, -2.0])


def test_a_message_without_a_header_has_no_frame_to_be_wrong():
    signals = {"bombs_taken": {"unit": "1", "fields": ["data[0]"]}}
    read = reader("std_msgs/msg/Float64MultiArray", signals, frame="base_link")
    numbers = message("std_msgs/msg/Float64MultiArray", data=[1.0])
    assert read.wrong_frame(numbers) == ""
    np.testing.assert_array_equal(read.read(numbers)["bombs_taken"], [1.0])


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("x", (0.0, [math.pi / 2, 0.0])),
        ("y", (None, [0.0, math.pi / 2])),
        ("z", (math.pi / 2, [0.0, 0.0])),
    ],
)
def test_angles_of_a_quaternion(axis, expected):
    signals = {
        "heading": {"unit": "rad", "yaw": "orientation"},
        "tilt": {"unit": "rad", "roll_pitch": "orientation"},
        "orientation": {"unit": "1", "wxyz": "orientation"},
    }
    found = reader(IMU, signals).read(message(IMU, **quarter_turn(axis)))
    yaw, roll_pitch = expected
    if yaw is not None:  # straight up there is none
        np.testing.assert_allclose(found["heading"], [yaw], atol=1e-12)
        np.testing.assert_allclose(found["tilt"], roll_pitch, atol=1e-12)
    else:
        np.testing.assert_allclose(found["tilt"][1], roll_pitch[1], atol=1e-6)
    half = math.sqrt(0.5)
    wxyz = [half, *(half if name == axis else 0.0 for name in "xyz")]
    np.testing.assert_allclose(found["orientation"], wxyz, atol=1e-12)


@pytest.mark.parametrize("w", [0.0, 0.5, 2.0, math.nan])
def test_a_quaternion_that_is_none_is_not_a_number(w):
    """Many drivers send zeros where they know no orientation."""
    read = reader(IMU, {"tilt": {"unit": "rad", "roll_pitch": "orientation"}})
    assert np.isnan(read.read(message(IMU, orientation__w=w))["tilt"]).all()


def test_joints_by_name_in_any_order():
    how = {"field": "position", "names": ["hip", "knee", "ankle"]}
    read = reader("sensor_msgs/msg/JointState", {"joint_position": {"unit": "rad", "joints": how}})
    state = message("sensor_msgs/msg/JointState", name=["knee", "hip"], position=[2.0, 1.0])
    np.testing.assert_array_equal(read.read(state)["joint_position"], [1.0, 2.0, math.nan])


def test_a_list_that_is_too_short():
    paths = ["data[0]", "data[2]"]
    read = reader("std_msgs/msg/Float64MultiArray", {"position": {"unit": "m", "fields": paths}})
    array = message("std_msgs/msg/Float64MultiArray", data=[7.0, 8.0])
    np.testing.assert_array_equal(read.read(array)["position"], [7.0, math.nan])


COVARIANCES = {
    "position": (ODOMETRY, {"unit": "m", "fields": ["pose.pose.position.x"]}, "pose", [0]),
    "heading": (ODOMETRY, {"unit": "rad", "yaw": "pose.pose.orientation"}, "pose", [35]),
    "forward_speed": (ODOMETRY, {"unit": "m/s", "fields": ["twist.twist.linear.x"]}, "twist", [0]),
    "lateral_speed": (ODOMETRY, {"unit": "m/s", "fields": ["twist.twist.linear.y"]}, "twist", [7]),
    "yaw_rate": (ODOMETRY, {"unit": "rad/s", "fields": ["twist.twist.angular.z"]}, "twist", [35]),
    "tilt": (IMU, {"unit": "rad", "roll_pitch": "orientation"}, "orientation", [0, 4]),
    "orientation": (IMU, {"unit": "1", "wxyz": "orientation"}, "orientation", [0, 4, 8]),
    "turning": (
        IMU,
        {"unit": "rad/s", "fields": ["angular_velocity.z"]},
        "angular_velocity",
        [8],
    ),
}
"""Of each signal: type, field, whose covariance it is, and its own entries."""


@pytest.mark.parametrize("signal", COVARIANCES)
@pytest.mark.parametrize("variance", [math.nan, math.inf, 1e9, -0.5])
def test_a_variance_that_says_not_measured(signal, variance):
    type_name, field, whose, entries = COVARIANCES[signal]
    read = reader(type_name, {signal: field})
    said = message(type_name)
    (said.orientation if type_name == IMU else said.pose.pose.orientation).w = 1.0
    covariance = said
    for part in [whose, "covariance"] if type_name == ODOMETRY else [f"{whose}_covariance"]:
        covariance = getattr(covariance, part)
    assert np.isfinite(read.read(said)[signal]).all()
    side = 7 if type_name == ODOMETRY else 4
    others = [side * i for i in range(side - 1) if side * i not in {0, *entries}]
    for entry in others:
        covariance[entry] = 1e6  # an axis that the robot does not have
    assert read.problem(said) == ""
    for entry in entries:
        covariance[entry] = variance
        assert f"covariance[{entry}] should be a variance from 0 to 10000" in read.problem(said)
        assert read.problem(said).endswith(f"so it does not measure {signal}")
        assert np.isnan(read.read(said)[signal]).all()
        covariance[entry] = 0.01
    assert read.problem(said) == ""
    covariance[0] = -1.0
    assert "covariance[0] is -1, which means not measured" in read.problem(said)
    assert np.isnan(read.read(said)[signal]).all()


def test_stamps():
    read = reader(IMU, {}, frame="imu_link")
    assert read.stamp_s(message(IMU, header__stamp__sec=3, header__stamp__nanosec=500), 9.0) == (
        pytest.approx(3.0000005)
    )
    assert read.stamp_s(message(IMU), 9.0) == 9.0, "a zero stamp means now"
    unstamped = reader("std_msgs/msg/Float64MultiArray", {})
    assert unstamped.stamp_s(message("std_msgs/msg/Float64MultiArray"), 9.0) == 9.0


def test_frames_are_those_that_were_said():
    read = reader(ODOMETRY, {}, frame="odom", child_frame="base_link")
    good = message(ODOMETRY, header__frame_id="odom", child_frame_id="/base_link")
    assert read.wrong_frame(good) == ""
    bad = message(ODOMETRY, header__frame_id="map", child_frame_id="base_link")
    assert "topic: frame_id should be 'odom'" in read.wrong_frame(bad)
    bad = message(ODOMETRY, header__frame_id="odom", child_frame_id="camera")
    assert "child_frame_id should be 'base_link'" in read.wrong_frame(bad)
    assert reader(ODOMETRY, {}).wrong_frame(bad) == "", "nothing was said, anything goes"
    assert read.problem(bad) == read.wrong_frame(bad)


def test_frames_left_empty():
    """What the sentence says to write works."""
    odometry = message(ODOMETRY)
    said = {"frame": "odom", "child_frame": "base_link"}
    for key, frame in tuple(said.items()):
        sentence = reader(ODOMETRY, {}, **said).wrong_frame(odometry)
        assert f"{key}_id should be '{frame}'" in sentence
        assert f"write ros.sources.source.{key}: ''" in sentence
        said[key] = ""
    assert reader(ODOMETRY, {}, **said).wrong_frame(odometry) == ""


@pytest.mark.parametrize(
    ("type_name", "signal", "sentence"),
    [
        (ODOMETRY, {"fields": ["pose.pose.position.q"]}, "there is no such field in Odometry"),
        (ODOMETRY, {"fields": ["pose.pose.position"]}, "should be a number with a fraction"),
        (ODOMETRY, {"fields": ["header.stamp.sec"]}, "should be a number with a fraction"),
        (ODOMETRY, {"fields": ["pose pose"]}, "should be a path like pose.pose.position.x"),
        (ODOMETRY, {"fields": ["child_frame_id[0]"]}, "there is no such field"),
        (ODOMETRY, {"yaw": "pose.pose.position"}, "there is no such field"),
        (ODOMETRY, {"ranges": {}}, "there is no such field"),
        (IMU, {"joints": {"field": "position", "names": []}}, "there is no such field in Imu"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_field_that_does_not_exist(type_name, signal, sentence):
    with pytest.raises(ConfigError, match=r"ros\.sources\.source\.signals\.position") as caught:
        reader(type_name, {"position": {"unit": "m", **signal}})
    assert sentence in str(caught.value)


def test_a_type_that_does_not_exist():
    with pytest.raises(ConfigError, match="'some_msgs/msg/Thing' is not known without ROS; known"):
        reader("some_msgs/msg/Thing", {})


# Scans.

ROUND = Ranges()


def scan(ranges, how=ROUND, angle_min=0.0, limits=(0.1, 10.0)):
    increment = math.tau / len(ranges)
    return fields.nearest([fields.sectors(np.array(ranges), angle_min, increment, limits, how)])


def test_a_scan_is_the_nearest_thing_in_each_sector():
    ranges = np.full(360, 5.0)
    ranges[4], ranges[356] = 2.0, 1.0  # both in the sector ahead: its half width is 5 degrees
    ranges[6] = 0.5  # in the next one to the left
    found = scan(ranges)
    assert found[[0, 1, 35]] == pytest.approx([1.0, 0.5, 5.0])
    assert found[2:35] == pytest.approx(5.0)


def test_a_scan_that_begins_elsewhere():
    ranges = np.full(360, 5.0)
    ranges[180] = 1.0
    assert scan(ranges, angle_min=-math.pi)[0] == pytest.approx(1.0)


def test_nothing_and_too_near():
    ranges = np.full(36, 3.0)
    ranges[0], ranges[9], ranges[18], ranges[27] = math.inf, -math.inf, 20.0, 0.03
    found = scan(ranges)
    assert (found[0], found[18]) == (10.0, 10.0), "nothing within the sensor's range"
    assert found[9] == 0.0, "nearer than it can tell"
    assert found[27] == pytest.approx(0.03), "below its least range is near, not invalid"


def test_the_nearer_a_wall_the_nearer_it_reads():
    """Down to contact: nothing gets freer as it comes nearer."""
    read = []
    for distance_m in (1.0, 0.2, 0.13, 0.12, 0.11, 0.05, 1e-6, -math.inf):
        ranges = np.full(360, 3.4)
        ranges[:5] = distance_m
        read.append(scan(ranges, limits=(0.12, 3.5))[0])
    assert read == sorted(read, reverse=True)
    assert read[4] == pytest.approx(0.11)


@pytest.mark.parametrize("invalid", [math.nan, -1.0, -1e-3])
@pytest.mark.parametrize("how", ["stop", "near", "far"])
def test_an_invalid_ray(invalid, how):
    """REP 117: it says nothing, whatever a reading of 0 means."""
    ranges = np.full(72, 3.0)
    ranges[[10, 30, 31]] = invalid  # half a sector, and a whole one
    found = scan(ranges, Ranges(no_return=how), angle_min=-math.radians(2.5))
    assert found[5] == pytest.approx(3.0), "the sector's other ray sees"
    assert np.isnan(found[15]), "blind"
    assert np.isfinite(np.delete(found, 15)).all()


@pytest.mark.parametrize(("how", "means"), [("stop", math.nan), ("near", 0.0), ("far", 10.0)])
def test_a_reading_of_zero(how, means):
    ranges = np.full(36, 3.0)
    ranges[5] = 0.0
    found = scan(ranges, Ranges(no_return=how))
    np.testing.assert_equal(found[5], means)
    assert np.isnan(scan(ranges)[5]), "by default it is invalid"


@pytest.mark.parametrize("how", ["stop", "near", "far"])
@pytest.mark.parametrize("unseen", ["stop", "far"])
@pytest.mark.parametrize("every", [0.0, math.nan, -1.0])
def test_a_scan_without_a_valid_ray_is_blind(how, unseen, every):
    """A lidar whose motor stands goes on to publish."""
    blind = Ranges(no_return=how, unseen=unseen)
    assert np.isnan(scan(np.full(360, every), blind)).all()
    assert np.isnan(scan(np.tile([0.0, math.nan, -2.0], 12), blind)).all()
    assert np.isnan(fields.sectors(np.empty(0), 0.0, 0.1, (0.1, 10.0), blind)).all()


def test_nothing_around_is_free():
    assert (scan(np.full(360, math.inf)) == 10.0).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("range_max", [math.inf, 3.4028234663852886e38])
def test_a_largest_range_that_is_none(range_max):
    """pointcloud_to_laserscan's as it comes."""
    ranges = np.full(360, math.inf)
    ranges[178:183] = 1.0
    found = scan(ranges, angle_min=-math.pi, limits=(0.0, range_max))
    assert found[0] == pytest.approx(1.0)
    assert (found[1:] == fields.FAR_M).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("angle_min", "increment", "range_max"),
    [(math.nan, 0.1, 10.0), (0.0, math.inf, 10.0), (0.0, 0.1, math.nan), (0.0, 0.1, 0.0)],
)
def test_a_scan_that_says_nothing_of_itself_is_blind(angle_min, increment, range_max):
    found = fields.sectors(np.full(60, 1.0), angle_min, increment, (0.1, range_max), ROUND)
    assert np.isnan(found).all()


def test_a_sensor_that_hangs_upside_down():
    """It counts clockwise as seen from above: what it has at -90 degrees is to the left."""
    ranges = np.full(360, 3.5)
    ranges[90] = 0.5
    left = scan(ranges, Ranges(upside_down=True), angle_min=-math.pi)
    assert (left[9], left[27]) == (pytest.approx(0.5), pytest.approx(3.5))
    turned = Ranges(upside_down=True, yaw_rad=math.pi / 2)
    assert scan(ranges, turned, angle_min=-math.pi)[18] == pytest.approx(0.5)


def test_a_sector_that_no_ray_looks_into():
    half = np.full(180, 3.0)
    ahead = fields.sectors(half, -math.pi / 2, math.pi / 180, (0.1, 10.0), ROUND)
    assert ahead[:9] == pytest.approx(3.0)
    assert (ahead[10:27] == fields.UNSEEN).all()
    assert np.isnan(fields.nearest([ahead])[10:27]).all(), "not seen is not free"
    free = fields.sectors(half, -math.pi / 2, math.pi / 180, (0.1, 10.0), Ranges(unseen="far"))
    assert (free[10:27] == 10.0).all()


def test_two_lidars_back_to_back():
    """Each sees its half of the room; the nearest counts where both look."""
    angles = (-math.pi / 2, math.pi / 180)
    ahead, behind = np.full(181, 3.0), np.full(181, 2.0)
    ahead[100] = math.nan  # the sector's other rays see
    found = [fields.sectors(ahead, *angles, (0.1, 10.0), ROUND)]
    back = Ranges(yaw_rad=math.pi)
    found.append(fields.sectors(behind, *angles, (0.1, 10.0), back))
    both = fields.nearest(found)
    assert both[[*range(9), *range(28, 36)]] == pytest.approx(3.0)
    assert both[9:28] == pytest.approx(2.0)
    behind[85:96] = math.nan
    found[1] = fields.sectors(behind, *angles, (0.1, 10.0), back)
    assert np.flatnonzero(np.isnan(fields.nearest(found))).tolist() == [18]
    behind[:] = math.nan
    found[1] = fields.sectors(behind, *angles, (0.1, 10.0), back)
    assert np.isnan(fields.nearest(found)).all(), "a lidar that stands does not say where it looks"


def test_a_sensor_that_is_not_in_the_middle():
    """Half a metre ahead of the base, and turned to the left."""
    how = Ranges(position_m=(0.5, 0.0), yaw_rad=math.pi / 2)
    ranges = np.full(36, 10.0)
    ranges[27] = 1.0  # a quarter turn to the sensor's right: straight ahead of the base
    ranges[9] = 2.0  # to its left: behind
    found = scan(ranges, how)
    assert found[0] == pytest.approx(1.5)
    assert found[18] == pytest.approx(1.5)


# Actions.


def codec(type_name, **paths):
    topic = ActionTopic(topic="cmd", type=type_name, frame="base_link", fields=paths)
    return ActionCodec("ros.command.fields", topic, Types(), paths)


def test_an_action_there_and_back():
    twist = codec("geometry_msgs/msg/TwistStamped", v="twist.linear.x", w="twist.angular.z")
    sent = twist.message(np.array([0.5, -1.0]), 12.25)
    assert (sent.twist.linear.x, sent.twist.angular.z) == (0.5, -1.0)
    assert (sent.header.stamp.sec, sent.header.stamp.nanosec) == (12, 250_000_000)
    assert sent.header.frame_id == "base_link"
    np.testing.assert_array_equal(twist.action(sent), [0.5, -1.0])
    assert twist.stamp_s(sent, 99.0) == 12.25
    assert isinstance(sent.twist.linear.x, float)


def test_an_action_without_a_stamp():
    twist = codec("geometry_msgs/msg/Twist", v="linear.x")
    assert not twist.stamped
    assert twist.stamp_s(twist.message(np.array([0.5]), 12.0), 99.0) == 99.0


def test_an_action_in_a_list():
    array = codec("std_msgs/msg/Float64MultiArray", a="data[1]", b="data[0]")
    sent = array.message(np.array([1.0, 2.0]), 0.0)
    assert list(sent.data) == [2.0, 1.0]
    np.testing.assert_array_equal(array.action(sent), [1.0, 2.0])
    sent.data = [3.0]
    np.testing.assert_array_equal(array.action(sent), [math.nan, 3.0])


def test_two_messages_share_nothing():
    array = codec("std_msgs/msg/Float64MultiArray", a="data[0]")
    first, second = (array.message(np.array([x]), 0.0) for x in (1.0, 2.0))
    assert (list(first.data), list(second.data)) == ([1.0], [2.0])


def test_an_action_field_that_does_not_exist():
    with pytest.raises(ConfigError, match=r"ros\.command\.fields\.linear\.x: there is no such"):
        codec("geometry_msgs/msg/TwistStamped", v="linear.x")
