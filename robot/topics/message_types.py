"""Message types by name, each with the fields that Holdfast reads and writes.

The classes of messages are found at run time, by rclpy or by `holdfast.robot.dds`. The protocols
here tell a type checker what such a class has; a message of which a configuration file names the
fields is a `Message`, and its fields are found by their names.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from typing import Generic, Protocol, TypeVar

M = TypeVar("M")


class MessageType(str, Generic[M]):
    """The name of a message type, "package/msg/Name"; its messages are of the type M."""


class Message(Protocol):
    """A message of any type."""


class Time(Protocol):
    """builtin_interfaces/Time."""

    sec: int
    nanosec: int


class Header(Protocol):
    """std_msgs/Header."""

    stamp: Time
    frame_id: str


class Stamped(Protocol):
    """A message with a header."""

    header: Header


class ChildFramed(Protocol):
    """A message that names a second frame."""

    child_frame_id: str


class Bool(Protocol):
    """std_msgs/Bool."""

    data: bool


class String(Protocol):
    """std_msgs/String."""

    data: str


class ArrayLayout(Protocol):
    """std_msgs/MultiArrayLayout."""

    data_offset: int


class Float64MultiArray(Protocol):
    """std_msgs/Float64MultiArray."""

    layout: ArrayLayout
    data: Sequence[float]


class Vector3(Protocol):
    """geometry_msgs/Vector3, or a Point."""

    x: float
    y: float
    z: float


class Quaternion(Protocol):
    """geometry_msgs/Quaternion."""

    w: float
    x: float
    y: float
    z: float


class Pose(Protocol):
    """geometry_msgs/Pose."""

    position: Vector3
    orientation: Quaternion


class Twist(Protocol):
    """geometry_msgs/Twist."""

    linear: Vector3
    angular: Vector3


class PoseWithCovariance(Protocol):
    """geometry_msgs/PoseWithCovariance; the covariance has 6 rows of 6."""

    pose: Pose
    covariance: MutableSequence[float]


class TwistWithCovariance(Protocol):
    """geometry_msgs/TwistWithCovariance; the covariance has 6 rows of 6."""

    twist: Twist
    covariance: MutableSequence[float]


class Odometry(Stamped, ChildFramed, Protocol):
    """nav_msgs/Odometry."""

    pose: PoseWithCovariance
    twist: TwistWithCovariance


class Imu(Stamped, Protocol):
    """sensor_msgs/Imu."""

    orientation: Quaternion
    angular_velocity: Vector3
    linear_acceleration: Vector3


class JointState(Stamped, Protocol):
    """sensor_msgs/JointState."""

    name: Sequence[str]
    position: Sequence[float]
    velocity: Sequence[float]
    effort: Sequence[float]


class LaserScan(Stamped, Protocol):
    """sensor_msgs/LaserScan."""

    angle_min: float
    angle_max: float
    angle_increment: float
    range_min: float
    range_max: float
    ranges: Sequence[float]


class Transform(Protocol):
    """geometry_msgs/Transform."""

    translation: Vector3
    rotation: Quaternion


class TransformStamped(Stamped, ChildFramed, Protocol):
    """geometry_msgs/TransformStamped."""

    transform: Transform


class TFMessage(Protocol):
    """tf2_msgs/TFMessage."""

    transforms: Sequence[TransformStamped]


class Colour(Protocol):
    """std_msgs/ColorRGBA; from 0 to 1."""

    r: float
    g: float
    b: float
    a: float


class Marker(Stamped, Protocol):
    """visualization_msgs/Marker; the lifetime is a builtin_interfaces/Duration."""

    ns: str
    id: int
    type: int
    action: int
    pose: Pose
    scale: Vector3
    color: Colour
    lifetime: Time
    frame_locked: bool
    points: Sequence[Vector3]
    text: str


class MarkerArray(Protocol):
    """visualization_msgs/MarkerArray."""

    markers: Sequence[Marker]


class Clock(Protocol):
    """rosgraph_msgs/Clock."""

    clock: Time


BOOL = MessageType[Bool]("std_msgs/msg/Bool")
TEXT = MessageType[String]("std_msgs/msg/String")
ARRAY = MessageType[Float64MultiArray]("std_msgs/msg/Float64MultiArray")
ODOMETRY = MessageType[Odometry]("nav_msgs/msg/Odometry")
IMU = MessageType[Imu]("sensor_msgs/msg/Imu")
JOINT_STATE = MessageType[JointState]("sensor_msgs/msg/JointState")
LASER_SCAN = MessageType[LaserScan]("sensor_msgs/msg/LaserScan")
TRANSFORM = MessageType[TransformStamped]("geometry_msgs/msg/TransformStamped")
TRANSFORMS = MessageType[TFMessage]("tf2_msgs/msg/TFMessage")
POINT = MessageType[Vector3]("geometry_msgs/msg/Point")
MARKER = MessageType[Marker]("visualization_msgs/msg/Marker")
MARKERS = MessageType[MarkerArray]("visualization_msgs/msg/MarkerArray")
CLOCK = MessageType[Clock]("rosgraph_msgs/msg/Clock")
